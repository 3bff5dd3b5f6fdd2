// SPDX-License-Identifier: Apache-2.0

package grouping

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
)

// The flags of a row.
const (
	rowArmed = 1 << iota
	rowWaking
)

// The flags of a cell.
const (
	cellFired = 1 << iota
	cellFresh
	cellEnded
	cellHeld
)

func (g *Grouper) appendRow(b []byte, r *row) []byte {
	at := len(b)
	b = append(b, 0)
	if r.armed.set {
		b[at] |= rowArmed
		b = binary.AppendVarint(binary.AppendVarint(b, int64(r.armed.due)), int64(r.armed.hold))
	}
	if r.waking.set {
		b[at] |= rowWaking
		b = binary.AppendVarint(b, int64(r.waking.at))
	}
	b = binary.AppendUvarint(b, uint64(len(r.closed)))
	for _, w := range r.closed {
		b = g.windowed.AppendWindow(b, w)
	}
	b = binary.AppendUvarint(b, uint64(len(r.cells)))
	for _, c := range r.cells {
		b = g.appendCell(b, c)
	}
	return b
}

func (g *Grouper) appendCell(b []byte, c *cell) []byte {
	b = g.windowed.AppendWindow(b, c.window)
	at := len(b)
	b = append(b, 0)
	if c.fresh {
		b[at] |= cellFresh
	}
	if c.ended {
		b[at] |= cellEnded
	}
	if c.fired {
		b[at] |= cellFired
		b = event.AppendPane(b, c.pane)
	}
	if c.held.set {
		b[at] |= cellHeld
		b = binary.AppendVarint(b, int64(c.held.at))
	}
	b = c.trigger.Append(b)
	b = binary.AppendUvarint(b, uint64(c.count))
	b = binary.AppendUvarint(b, uint64(c.size))
	b = appendSpills(b, c.spills)
	b = binary.AppendUvarint(b, uint64(len(c.values)))
	return append(b, c.values...)
}

var errShortRow = errors.New("row is cut short")

// reader reads the parts of a row; after the first failure it reads zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int, err error) {
	switch {
	case r.err != nil:
	case err != nil:
		r.b, r.err = nil, err
	case n <= 0 && len(r.b) == 0, n < 0, n > len(r.b):
		r.b, r.err = nil, errShortRow
	default:
		r.b = r.b[n:]
	}
}

func (r *reader) flags() byte {
	if len(r.b) == 0 {
		r.take(1, nil)
		return 0
	}
	b := r.b[0]
	r.take(1, nil)
	return b
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.take(-1, nil)
		return 0
	}
	r.take(n, nil)
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.take(-1, nil)
		return 0
	}
	r.take(n, nil)
	return v
}

// count reads the number of things that take at least size bytes each.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/max(size, 1)) {
		r.take(-1, nil)
		return 0
	}
	return int(n)
}

func (r *reader) bytes() []byte {
	n := r.count(1)
	// Appending to the values must not write into the table's memory.
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (g *Grouper) readWindow(r *reader) event.Window {
	if g.windowed.Global {
		return event.Global
	}
	w, n, err := g.windowed.ReadWindow(r.b)
	r.take(n, err)
	return w
}

func (g *Grouper) readRow(to *row, value []byte) error {
	r := &reader{b: value}
	flags := r.flags()
	if flags&rowArmed != 0 {
		to.armed = alarm{set: true, due: event.Timestamp(r.varint()), hold: event.Timestamp(r.varint())}
	}
	if flags&rowWaking != 0 {
		to.waking = stamp{true, event.Timestamp(r.varint())}
	}
	for n := r.count(0); n > 0 && r.err == nil; n-- {
		to.closed = append(to.closed, g.readWindow(r))
	}
	for n := r.count(4); n > 0 && r.err == nil; n-- {
		to.cells = append(to.cells, g.readCell(r))
	}
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("row has %d bytes too many", len(r.b))
	}
	return r.err
}

func (g *Grouper) readCell(r *reader) *cell {
	c := &cell{window: g.readWindow(r)}
	flags := r.flags()
	c.fresh, c.ended = flags&cellFresh != 0, flags&cellEnded != 0
	if flags&cellFired != 0 {
		pane, n, err := event.ReadPane(r.b)
		r.take(n, err)
		c.fired, c.pane = true, pane
	}
	if flags&cellHeld != 0 {
		c.held = stamp{true, event.Timestamp(r.varint())}
	}
	state, n, err := g.trigger.Read(r.b)
	if len(state) > 0 || err != nil {
		r.take(n, err)
	}
	c.trigger = state
	c.count, c.size = int64(r.uvarint()), int(r.uvarint())
	c.spills = readSpills(r)
	c.values = r.bytes()
	return c
}
