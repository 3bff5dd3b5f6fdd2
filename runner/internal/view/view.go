// SPDX-License-Identifier: Apache-2.0

// Package view keeps a PCollection for those who read it as side input: its elements by window,
// and by key where a reader asks for single keys. It does not know when a window is complete or
// expires; the engine does.
//
// A row's key is the last timestamp of the window (so that expired windows are a range), the
// encoded window, the encoded key (empty of an iterable) and the bundle that wrote it. Its value
// is what the SDK reads: encoded elements, or encoded values of the key, one after the other.
package view

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// Run does the work of a bundle of a View stage. Elements of windows that have expired are
// dropped and counted as late.
func Run(s *plan.Stage, in bundle.Work) (bundle.Result, error) {
	w, err := newWriter(s, in)
	if err != nil {
		return bundle.Result{}, err
	}
	result := bundle.Result{ID: in.ID}
	for _, input := range in.Inputs {
		clear(w.rows)
		for _, chunk := range input.Chunks {
			result.Counts.In += int64(chunk.Count)
			result.Counts.Bytes += int64(len(chunk.Bytes))
			if err := w.add(chunk.Bytes); err != nil {
				return bundle.Result{}, fmt.Errorf("view: stage %q: %w", s.Name, err)
			}
		}
		if len(w.rows) > 0 {
			result.State = append(result.State, bundle.GroupState{Group: input.Group, Writes: w.writes()})
		}
	}
	result.Counts.Late = w.late
	return result, nil
}

// Read returns what is kept for a window and key, both encoded; the key is empty of an iterable.
func Read(v kv.View, window, key []byte) ([]byte, error) {
	prefix, err := windowPrefix(nil, window)
	if err != nil {
		return nil, err
	}
	prefix = appendPart(prefix, key)
	var all []byte
	v.Scan(prefix, kv.PrefixEnd(prefix), func(_, value []byte) bool {
		all = append(all, value...)
		return true
	})
	return all, v.Err()
}

// Keys returns the keys for which something is kept in a window, in an order that stays the same.
func Keys(v kv.View, window []byte) ([][]byte, error) {
	prefix, err := windowPrefix(nil, window)
	if err != nil {
		return nil, err
	}
	var all [][]byte
	v.Scan(prefix, kv.PrefixEnd(prefix), func(row, _ []byte) bool {
		size, n := binary.Uvarint(row[len(prefix):])
		key := row[len(prefix)+n:][:size]
		if last := len(all) - 1; last < 0 || string(all[last]) != string(key) {
			all = append(all, slices.Clone(key))
		}
		return true
	})
	return all, v.Err()
}

// writer sorts the elements of a bundle into rows.
type writer struct {
	stage    *plan.Stage
	in       bundle.Work
	id       []byte
	windowed coder.Windowed
	element  coder.Skip
	key      coder.Skip // Of a multimap.
	rows     map[string][]byte
	late     int64

	header coder.Header
	row    []byte
	window []byte
}

func newWriter(s *plan.Stage, in bundle.Work) (*writer, error) {
	w := &writer{
		stage: s, in: in, id: in.ID.AppendOrdered(nil),
		windowed: coder.Windowed{Global: s.Windowing.Global()},
		rows:     make(map[string][]byte),
	}
	var err error
	if w.element, err = coder.Compile(s.Element); err != nil {
		return nil, err
	}
	if s.Access == plan.Multimap {
		if len(s.Element.Parts) != 2 {
			return nil, fmt.Errorf("view: stage %q is read by key but its elements have none", s.Name)
		}
		w.key, err = coder.Compile(s.Element.Parts[0])
	}
	return w, err
}

func (w *writer) add(b []byte) error {
	for len(b) > 0 {
		n, err := w.windowed.ReadHeader(b, &w.header)
		if err != nil {
			return err
		}
		size, err := w.element(b[n:])
		if err != nil {
			return err
		}
		if err := w.put(b[n : n+size]); err != nil {
			return err
		}
		b = b[n+size:]
	}
	return nil
}

func (w *writer) put(element []byte) error {
	var key []byte
	if w.key != nil {
		n, err := w.key(element)
		if err != nil {
			return err
		}
		key, element = element[:n], element[n:]
	}
	alive := false
	for _, window := range w.header.Windows {
		if w.stage.Windowing.Expired(window, w.in.Watermark) {
			continue
		}
		alive = true
		w.window = w.windowed.AppendWindow(w.window[:0], window)
		w.row = event.AppendTimestamp(w.row[:0], window.MaxTimestamp())
		w.row = append(appendPart(appendPart(w.row, w.window), key), w.id...)
		w.rows[string(w.row)] = append(w.rows[string(w.row)], element...)
	}
	if !alive {
		w.late++
	}
	return nil
}

func (w *writer) writes() []bundle.Write {
	keys := make([]string, 0, len(w.rows))
	for key := range w.rows {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	writes := make([]bundle.Write, len(keys))
	for i, key := range keys {
		writes[i] = bundle.Write{Key: []byte(key), Value: w.rows[key]}
	}
	return writes
}

func windowPrefix(b, window []byte) ([]byte, error) {
	w, n, err := coder.Windowed{Global: len(window) == 0}.ReadWindow(window)
	if err != nil {
		return nil, err
	}
	if n != len(window) {
		return nil, fmt.Errorf("view: %d bytes behind a window", len(window)-n)
	}
	return appendPart(event.AppendTimestamp(b, w.MaxTimestamp()), window), nil
}

func appendPart(b, part []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}
