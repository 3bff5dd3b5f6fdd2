// SPDX-License-Identifier: Apache-2.0

package grouping

import (
	"slices"

	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/grouping/trigger"
	"github.com/hornbeam-dev/hornbeam/runner/internal/grouping/window"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// cell is one key in one window.
type cell struct {
	window  event.Window
	trigger trigger.State

	fired bool       // There was a pane.
	pane  event.Pane // The last one.

	fresh bool // An element came since the last pane.
	ended bool // The end of the window was dealt with, or had passed before the first element.
	// held is the combined timestamp of those elements of the next pane that were not late.
	held stamp

	// The values not yet discarded: first those spilled to rows of their own, then the inline ones.
	count  int64 // Of all.
	size   int   // Of all, in bytes.
	spills []spill
	values []byte
}

// stamp is a timestamp that may be missing.
type stamp struct {
	set bool
	at  event.Timestamp
}

// combiner combines the timestamps of a pane's elements (Java: TimestampCombiner).
type combiner struct {
	output plan.OutputTime
}

func (c combiner) add(to *stamp, at event.Timestamp) {
	switch {
	case !to.set:
		to.set, to.at = true, at
	case c.output == plan.Earliest:
		to.at = min(to.at, at)
	case c.output == plan.Latest:
		to.at = max(to.at, at)
	}
}

func (g *Grouper) combine() combiner { return combiner{g.windowing.Output} }

// counts tells whether an element's timestamp counts for the timestamp of its pane. One that is
// behind the watermark must not: the pane would be behind what was already told downstream (Java:
// WatermarkHold.addElementHold).
func (p *pass) counts(w event.Window, e element) bool {
	return !window.Ended(w, p.at.Watermark) &&
		(p.g.windowing.Output == plan.EndOfWindow || e.timestamp >= p.at.Watermark)
}

func (p *pass) newCell(w event.Window) *cell {
	return &cell{window: w, trigger: p.g.trigger.Start(), ended: window.Ended(w, p.at.Watermark)}
}

// timestamp returns the timestamp of the cell's next pane.
func (c *cell) timestamp(output plan.OutputTime) event.Timestamp {
	if output == plan.EndOfWindow || !c.held.set {
		return c.window.MaxTimestamp()
	}
	return min(c.held.at, c.window.MaxTimestamp())
}

// add puts an element into an open cell and fires if that makes the pane ready.
func (p *pass) add(r *row, c *cell, e element) {
	c.fresh = true
	c.count++
	c.size += len(e.value)
	c.values = append(c.values, e.value...)
	at := p.moment(c)
	if p.counts(c.window, e) {
		p.g.combine().add(&c.held, e.timestamp)
	}
	p.g.trigger.Element(c.trigger, at)
	if p.g.trigger.ShouldFire(c.trigger, at) && p.fire(r, c) {
		r.closed = append(r.closed, c.window)
		r.cells = slices.DeleteFunc(r.cells, func(other *cell) bool { return other == c })
	}
}

// fire fires a cell that is ready, and tells whether its trigger has finished (Java:
// ReduceFnRunner.emit).
func (p *pass) fire(r *row, c *cell) (closed bool) {
	p.g.trigger.Fire(c.trigger, p.moment(c))
	closed = p.g.trigger.Closed(c.trigger)
	p.pane(r, c, closed)
	c.fresh, c.held = false, stamp{}
	return closed
}

// pane emits the cell's pane if it has to be seen (Java: ReduceFnRunner.onTrigger, needToEmit), and
// drops its values unless there are panes to come that have them, too.
func (p *pass) pane(r *row, c *cell, last bool) {
	drops := last || !p.g.windowing.Accumulating
	if p.emitPane(r, c, last, drops) {
		c.spills = nil // They are the pane's now.
	}
	if drops {
		p.drop(r, c)
	}
}

// emitPane tells whether the pane names the cell's spilled values.
func (p *pass) emitPane(r *row, c *cell, last, drops bool) (kept bool) {
	next := p.nextPane(c, last)
	always := next.Timing == event.OnTime && p.g.windowing.OnTime == plan.FireAlways ||
		last && p.g.windowing.Closing == plan.EmitAlways
	if !c.fresh && !always {
		return false
	}
	c.fired, c.pane = true, next
	h := head{
		key: r.key, timestamp: c.timestamp(p.g.windowing.Output), window: c.window,
		pane: next, count: c.count, size: c.size, spills: c.spills,
	}
	return p.give(h, drops, func(b []byte) []byte { return append(b, c.values...) })
}

// nextPane says what the cell's next pane is (Java: PaneInfoTracker.describePane). Where Java
// compares with the output watermark, it is enough to know whether we hold that: at or before the
// last moment of the window until the end was dealt with, and as long as elements are held.
func (p *pass) nextPane(c *cell, last bool) event.Pane {
	next := event.Pane{First: !c.fired, Last: last}
	early := true
	if c.fired {
		next.Index, next.NonSpeculative = c.pane.Index+1, c.pane.NonSpeculative+1
		early = c.pane.Timing == event.Early
	}
	switch {
	case !early:
		next.Timing = event.Late
	case !p.moment(c).Ended:
		next.Timing, next.NonSpeculative = event.Early, -1
	case !c.ended || c.held.set:
		next.Timing = event.OnTime
	default:
		next.Timing = event.Late
	}
	return next
}

// place returns the cell of a key with merging windows into which an element of w belongs, having
// merged what it joins. It returns nil if the trigger of w has finished.
func (p *pass) place(r *row, w event.Window) *cell {
	from := 0
	for from < len(r.cells) && !window.Overlap(r.cells[from].window, w) && r.cells[from].window.Start < w.Start {
		from++
	}
	to, span := from, w
	for to < len(r.cells) && window.Overlap(r.cells[to].window, w) {
		span = window.Span(span, r.cells[to].window)
		to++
	}
	switch {
	case from == to && slices.Contains(r.closed, w):
		return nil
	case from == to:
		r.cells = slices.Insert(r.cells, from, p.newCell(w))
	case to-from > 1 || r.cells[from].window != span:
		r.cells[from] = p.merge(r.cells[from:to], span)
		r.cells = slices.Delete(r.cells, from+1, to)
		// The window is open, whatever became of an earlier one with the same bounds.
		r.closed = slices.DeleteFunc(r.closed, func(w event.Window) bool { return w == span })
	}
	return r.cells[from]
}

// merge returns the cell of span, which takes the place of the cells and is larger than each of
// them. It starts a new sequence of panes (Java: ReduceFnRunner.OnMergeCallback), and gets the
// element that made it necessary next.
func (p *pass) merge(cells []*cell, span event.Window) *cell {
	merged := p.newCell(span)
	var states []trigger.State
	for i, c := range cells {
		states = append(states, c.trigger)
		if c.held.set {
			p.g.combine().add(&merged.held, c.held.at)
		}
		if i == 0 { // A session that grows has one cell: its values stay where they are.
			merged.spills, merged.values = c.spills, c.values
		} else {
			merged.spills = append(merged.spills, c.spills...)
			merged.values = append(merged.values, c.values...)
		}
		merged.count += c.count
		merged.size += c.size
	}
	p.g.trigger.Merge(merged.trigger, states, p.moment(merged))
	return merged
}
