// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"bufio"
	"bytes"
	"container/heap"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
)

// sorter orders lines with bounded memory: what exceeds the limit lies in unnamed sorted runs on disk.
type sorter struct {
	dir   string
	limit int
	count int64

	lines [][]byte
	size  int
	runs  []*os.File
}

// lineOverhead is what a line costs in memory beside its bytes.
const lineOverhead = 48

func (s *sorter) add(line []byte) error {
	s.lines = append(s.lines, bytes.Clone(line))
	s.size += len(line) + lineOverhead
	s.count++
	if s.size < s.limit {
		return nil
	}
	return s.spill()
}

func (s *sorter) spill() error {
	f, err := os.CreateTemp(s.dir, ".sort.*.tmp")
	if err != nil {
		return err
	}
	s.runs = append(s.runs, f)
	if err := os.Remove(f.Name()); err != nil { // Unnamed, a crash leaves nothing behind.
		return err
	}
	slices.SortFunc(s.lines, bytes.Compare)
	w := bufio.NewWriterSize(f, 1<<18)
	for _, line := range s.lines {
		if _, err := w.Write(binary.AppendUvarint(nil, uint64(len(line)))); err != nil {
			return err
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	s.lines, s.size = s.lines[:0], 0
	if err := w.Flush(); err != nil {
		return err
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

// writeTo writes all lines in order, each with a line end.
func (s *sorter) writeTo(out io.Writer) error {
	slices.SortFunc(s.lines, bytes.Compare)
	h := &runHeap{}
	if len(s.lines) > 0 {
		*h = append(*h, &run{line: s.lines[0], rest: s.lines[1:]})
	}
	for _, f := range s.runs {
		r := &run{file: bufio.NewReaderSize(f, 1<<16)}
		ok, err := r.next()
		if err != nil {
			return err
		}
		if ok {
			*h = append(*h, r)
		}
	}
	heap.Init(h)
	w := bufio.NewWriterSize(out, 1<<18)
	for h.Len() > 0 {
		r := (*h)[0]
		w.Write(r.line)
		if err := w.WriteByte('\n'); err != nil {
			return err
		}
		ok, err := r.next()
		if err != nil {
			return err
		}
		if ok {
			heap.Fix(h, 0)
		} else {
			heap.Pop(h)
		}
	}
	return w.Flush()
}

// close gives the space of the runs back; they are unnamed and read, so its errors lose nothing.
func (s *sorter) close() {
	for _, f := range s.runs {
		f.Close()
	}
}

// run is a sorted sequence of lines, in memory or on disk.
type run struct {
	line []byte
	rest [][]byte
	file *bufio.Reader
}

func (r *run) next() (bool, error) {
	if r.file == nil {
		if len(r.rest) == 0 {
			return false, nil
		}
		r.line, r.rest = r.rest[0], r.rest[1:]
		return true, nil
	}
	n, err := binary.ReadUvarint(r.file)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	r.line = slices.Grow(r.line[:0], int(n))[:n]
	_, err = io.ReadFull(r.file, r.line)
	return err == nil, err
}

type runHeap []*run

func (h runHeap) Len() int           { return len(h) }
func (h runHeap) Less(i, j int) bool { return bytes.Compare(h[i].line, h[j].line) < 0 }
func (h runHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *runHeap) Push(x any)        { *h = append(*h, x.(*run)) }
func (h *runHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
