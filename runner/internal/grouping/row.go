// SPDX-License-Identifier: Apache-2.0

package grouping

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/grouping/window"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// The first byte of a table key says what the row is.
const (
	tableRun    = 'r' // window, bundle: the elements of a window that a bundle added.
	tableHold   = 'h' // window: the earliest timestamp in the runs, where panes get such a one.
	tableKey    = 'k' // window, key: a row of a key in a window.
	tableMerged = 'm' // key: a row of a key in all its windows, which merge.
	tableSpill  = 's' // length of key, key, chain, number: values of a row that had grown large.
)

// spillSize is the size of the values of a cell above which they go to a row of their own. The
// values below it are written again whenever the key gets an element.
const spillSize = 16 << 10

// row is a row of the table: the cells of a key, of one window or of all that may merge.
type row struct {
	name   string // The table key.
	stored bool   // It is in the table.
	key    string
	window event.Window // If windows do not merge.

	cells  []*cell        // Open windows, by start.
	closed []event.Window // Windows whose trigger has finished and that are not gone yet.

	armed  alarm // The event-time timer.
	waking stamp // The processing-time timer.
}

// alarm is an event-time timer as it stands in the engine's table.
type alarm struct {
	set       bool
	due, hold event.Timestamp
}

// serves tells whether a timer that is set does for one that is wanted. It may be due earlier: it
// is set again when it fires. It may hold more than wanted only as long as that does not matter,
// which is when it is due before the watermark can reach what it holds.
func (a alarm) serves(want alarm) bool {
	return a.set && want.set && a.due <= want.due && a.hold <= want.hold &&
		(a.hold == want.hold || a.hold >= a.due-1)
}

func (p *pass) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

// row returns the row of a key, and of a window if windows do not merge.
func (p *pass) row(key string, w event.Window) *row {
	p.name = p.g.appendRowName(p.name[:0], key, w)
	if r, ok := p.rows[string(p.name)]; ok {
		return r
	}
	r := p.newRow(string(p.name), key, w)
	if value, ok := p.view.Get(p.name); ok {
		r.stored = true
		if err := p.g.readRow(r, value); err != nil {
			p.fail(fmt.Errorf("grouping: row %x: %w", p.name, err))
			r.cells, r.closed = nil, nil
		}
	}
	return r
}

func (p *pass) newRow(name, key string, w event.Window) *row {
	r := &row{name: name, key: key, window: w}
	p.rows[name] = r
	p.order = append(p.order, r)
	return r
}

func (g *Grouper) appendRowName(b []byte, key string, w event.Window) []byte {
	if g.windowing.Merges {
		return append(append(b, tableMerged), key...)
	}
	return append(g.appendName(b, tableKey, w), key...)
}

func (g *Grouper) appendName(b []byte, table byte, w event.Window) []byte {
	return g.windowed.AppendWindow(append(b, table), w)
}

// finishRow writes a row and brings its timers up to date.
func (p *pass) finishRow(r *row) {
	if len(r.cells)+len(r.closed) == 0 {
		if r.stored {
			p.delete([]byte(r.name))
		}
	} else if p.g.runs {
		p.window(r.window).late = true // One timer for all keys of the window.
	}
	p.arm(r)
	p.wake(r)
	if len(r.cells)+len(r.closed) == 0 {
		return
	}
	size := 64 + 16*len(r.closed)
	for _, c := range r.cells {
		if len(c.values) > spillSize {
			p.spill(r, c)
		}
		size += 64 + len(c.values) + 10*len(c.trigger)
	}
	p.set([]byte(r.name), p.g.appendRow(make([]byte, 0, size), r))
}

func (p *pass) arm(r *row) {
	s := &p.g.windowing
	want := alarm{due: event.MaxTimestamp, hold: event.MaxTimestamp}
	for _, c := range r.cells {
		due, hold := window.EndDue(c.window), c.window.MaxTimestamp()
		if c.ended {
			// The hold lets the last pane be in time for those downstream that wait as long as we.
			due, hold = window.GoneDue(s, c.window), s.Expiry(c.window)
		}
		if c.held.set {
			hold = min(hold, c.timestamp(s.Output))
		}
		want.set, want.due, want.hold = true, min(want.due, due), min(want.hold, hold)
	}
	for _, w := range r.closed {
		want.set, want.due = true, min(want.due, window.GoneDue(s, w))
	}
	t := bundle.Timer{Tag: tagKey, Key: []byte(r.key), Window: p.timerWindow(r), Domain: plan.EventTime}
	switch {
	case p.g.runs || r.armed.serves(want):
	case want.set:
		t.Due, t.Hold = want.due, want.hold
		p.setTimer(t)
		r.armed = want
	case r.armed.set:
		p.clearTimer(t)
	}
}

func (p *pass) wake(r *row) {
	var want stamp
	for _, c := range r.cells {
		if at, ok := p.g.trigger.Wake(c.trigger, p.at.Now); ok && (!want.set || at < want.at) {
			want = stamp{true, at}
		}
	}
	if want == r.waking || want.set && r.waking.set && r.waking.at < want.at {
		return // Early is good enough: it is set again when it fires.
	}
	t := bundle.Timer{
		Tag: tagProcessing, Key: []byte(r.key), Window: p.timerWindow(r),
		Domain: plan.ProcessingTime, Due: want.at, Hold: event.MaxTimestamp,
	}
	if want.set {
		p.setTimer(t)
	} else {
		p.clearTimer(t)
	}
	r.waking = want
}

func (p *pass) timerWindow(r *row) []byte {
	if p.g.windowing.Merges {
		return nil // Windows come and go; the timer is that of the key.
	}
	return p.g.windowed.AppendWindow(nil, r.window)
}

// spill names rows with values of a cell: those numbered below rows of the chain.
type spill struct {
	chain bundle.ID // The bundle that began the chain.
	n     uint32    // Its number in that bundle.
	rows  uint32
}

// spill moves the inline values of a cell to a row of their own.
func (p *pass) spill(r *row, c *cell) {
	if len(c.spills) == 0 {
		c.spills = append(c.spills, spill{chain: p.at.Bundle, n: p.chains})
		p.chains++
	}
	last := &c.spills[len(c.spills)-1]
	p.set(spillName(r, *last, last.rows), c.values)
	last.rows++
	c.values = nil
}

func spillName(r *row, s spill, n uint32) []byte {
	b := binary.AppendUvarint([]byte{tableSpill}, uint64(len(r.key)))
	b = append(b, r.key...)
	b = binary.BigEndian.AppendUint64(b, s.chain.Epoch)
	b = binary.BigEndian.AppendUint64(b, s.chain.N)
	b = binary.BigEndian.AppendUint32(b, s.n)
	return binary.BigEndian.AppendUint32(b, n)
}

func (p *pass) spilled(r *row, s spill, n uint32) []byte {
	value, ok := p.view.Get(spillName(r, s, n))
	if !ok && p.view.Err() == nil {
		p.fail(fmt.Errorf("grouping: values %v of row %x are missing", s, r.name))
	}
	return value
}

// drop removes all values of a cell.
func (p *pass) drop(r *row, c *cell) {
	for _, s := range c.spills {
		for n := range s.rows {
			p.delete(spillName(r, s, n))
		}
	}
	c.count, c.size, c.spills, c.values = 0, 0, nil, nil
}

const (
	rowArmed = 1 << iota
	rowWaking
)

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
	b = binary.AppendUvarint(b, uint64(len(c.spills)))
	for _, s := range c.spills {
		b = binary.AppendUvarint(binary.AppendUvarint(b, s.chain.Epoch), s.chain.N)
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(s.n)), uint64(s.rows))
	}
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
	for n := r.count(4); n > 0 && r.err == nil; n-- {
		c.spills = append(c.spills, spill{
			chain: bundle.ID{Epoch: r.uvarint(), N: r.uvarint()},
			n:     uint32(r.uvarint()), rows: uint32(r.uvarint()),
		})
	}
	c.values = r.bytes()
	return c
}
