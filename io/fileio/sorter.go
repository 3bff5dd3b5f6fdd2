// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"bufio"
	"bytes"
	"container/heap"
	"encoding/binary"
	"errors"
	"io"
	"slices"

	"github.com/hornbeam-dev/hornbeam/io/blob"
)

// sorter orders rows with bounded memory and files: what exceeds the limit lies in sorted runs on disk.
type sorter struct {
	spool func() (*blob.Spool, error) // Makes room for a run.
	limit int

	rows   [][]byte
	size   int
	levels [][]*blob.Spool // Runs; one of a level is made of fanIn runs of the level before.
}

// rowOverhead is what a row costs in memory beside its bytes.
const rowOverhead = 48

const (
	fanIn     = 64      // Runs that become one, and more than a level keeps.
	runBuffer = 1 << 16 // Bytes of a run that are written or read at once.
)

func (s *sorter) add(row []byte) error {
	s.rows = append(s.rows, bytes.Clone(row))
	s.size += len(row) + rowOverhead
	if s.size < s.limit {
		return nil
	}
	m, err := newMerge(s.inMemory())
	if err == nil {
		err = s.keep(0, m)
	}
	clear(s.rows)
	s.rows, s.size = s.rows[:0], 0
	return err
}

func (s *sorter) inMemory() *run {
	slices.SortFunc(s.rows, bytes.Compare)
	return &run{rest: s.rows}
}

// keep writes rows as a run of a level. A level that is full becomes a run of the next one.
func (s *sorter) keep(level int, rows *merge) error {
	if level == len(s.levels) {
		s.levels = append(s.levels, nil)
	}
	spool, err := s.spool()
	if err != nil {
		return err
	}
	s.levels[level] = append(s.levels[level], spool)
	if err := writeRun(spool, rows); err != nil || len(s.levels[level]) < fanIn {
		return err
	}
	m, err := newMerge(runsIn(s.levels[level])...)
	if err == nil {
		err = s.keep(level+1, m)
	}
	if err != nil {
		return err
	}
	full := s.levels[level]
	s.levels[level] = nil
	return discard(full)
}

func writeRun(spool *blob.Spool, rows *merge) error {
	w := bufio.NewWriterSize(spool, runBuffer)
	for row, ok := rows.row(); ok; row, ok = rows.row() {
		if _, err := w.Write(binary.AppendUvarint(nil, uint64(len(row)))); err != nil {
			return err
		}
		if _, err := w.Write(row); err != nil {
			return err
		}
		if err := rows.skip(); err != nil {
			return err
		}
	}
	return w.Flush()
}

func runsIn(spools []*blob.Spool) (runs []*run) {
	for _, spool := range spools {
		c := spool.Content("")
		runs = append(runs, &run{file: bufio.NewReaderSize(io.NewSectionReader(c.File, 0, c.Size), runBuffer)})
	}
	return runs
}

// sorted returns the rows in order. No row can be added after it.
func (s *sorter) sorted() (*merge, error) {
	return newMerge(append(runsIn(slices.Concat(s.levels...)), s.inMemory())...)
}

// close gives the space of the runs back.
func (s *sorter) close() error { return discard(slices.Concat(s.levels...)) }

func discard(spools []*blob.Spool) error {
	var errs []error
	for _, spool := range spools {
		errs = append(errs, spool.Discard())
	}
	return errors.Join(errs...)
}

// merge goes through runs in the order of their rows.
type merge struct {
	runs runHeap
}

func newMerge(runs ...*run) (*merge, error) {
	m := &merge{}
	for _, r := range runs {
		ok, err := r.next()
		if err != nil {
			return nil, err
		}
		if ok {
			m.runs = append(m.runs, r)
		}
	}
	heap.Init(&m.runs)
	return m, nil
}

// row is the next row, which is valid until skip; there is none at the end.
func (m *merge) row() (row []byte, ok bool) {
	if len(m.runs) == 0 {
		return nil, false
	}
	return m.runs[0].row, true
}

// skip goes on to the row after the next one.
func (m *merge) skip() error {
	ok, err := m.runs[0].next()
	if err != nil {
		return err
	}
	if ok {
		heap.Fix(&m.runs, 0)
	} else {
		heap.Pop(&m.runs)
	}
	return nil
}

// run is a sorted sequence of rows, in memory or on disk.
type run struct {
	row  []byte
	rest [][]byte
	file *bufio.Reader
}

func (r *run) next() (bool, error) {
	if r.file == nil {
		if len(r.rest) == 0 {
			return false, nil
		}
		r.row, r.rest = r.rest[0], r.rest[1:]
		return true, nil
	}
	n, err := binary.ReadUvarint(r.file)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	r.row = slices.Grow(r.row[:0], int(n))[:n]
	_, err = io.ReadFull(r.file, r.row)
	return err == nil, err
}

type runHeap []*run

func (h runHeap) Len() int           { return len(h) }
func (h runHeap) Less(i, j int) bool { return bytes.Compare(h[i].row, h[j].row) < 0 }
func (h runHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *runHeap) Push(x any)        { *h = append(*h, x.(*run)) }
func (h *runHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
