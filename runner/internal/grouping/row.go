// SPDX-License-Identifier: Apache-2.0

package grouping

import (
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
	tableSpill  = 's' // length of key, key, chain, number: values of a key that has many.
)

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
	if p.g.runs {
		state := p.window(w)
		state.rows = append(state.rows, r)
	}
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
		if len(c.values) > p.g.options.Spill {
			p.spillCell(r, c)
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
