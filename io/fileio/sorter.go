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

// sorter orders rows with bounded memory: what exceeds the limit lies in sorted runs on disk.
type sorter struct {
	spool func() (*blob.Spool, error) // Makes room for a run.
	limit int

	rows   [][]byte
	size   int
	spools []*blob.Spool
}

// rowOverhead is what a row costs in memory beside its bytes.
const rowOverhead = 48

func (s *sorter) add(row []byte) error {
	s.rows = append(s.rows, bytes.Clone(row))
	s.size += len(row) + rowOverhead
	if s.size < s.limit {
		return nil
	}
	return s.spill()
}

func (s *sorter) spill() error {
	spool, err := s.spool()
	if err != nil {
		return err
	}
	s.spools = append(s.spools, spool)
	slices.SortFunc(s.rows, bytes.Compare)
	w := bufio.NewWriterSize(spool, 1<<18)
	for _, row := range s.rows {
		if _, err := w.Write(binary.AppendUvarint(nil, uint64(len(row)))); err != nil {
			return err
		}
		if _, err := w.Write(row); err != nil {
			return err
		}
	}
	clear(s.rows)
	s.rows, s.size = s.rows[:0], 0
	return w.Flush()
}

// sorted returns the rows in order. No row can be added after it.
func (s *sorter) sorted() (*merge, error) {
	slices.SortFunc(s.rows, bytes.Compare)
	runs := []*run{{rest: s.rows}}
	for _, spool := range s.spools {
		c := spool.Content("")
		runs = append(runs, &run{file: bufio.NewReaderSize(io.NewSectionReader(c.File, 0, c.Size), 1<<16)})
	}
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

// close gives the space of the runs back.
func (s *sorter) close() error {
	var errs []error
	for _, spool := range s.spools {
		errs = append(errs, spool.Discard())
	}
	return errors.Join(errs...)
}

// merge goes through runs in the order of their rows.
type merge struct {
	runs runHeap
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
