// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"time"

	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// advance moves the watermarks of all stages as far as inputs, mailboxes and holds allow. Stages
// stand in topological order, so one pass is enough.
func (e *Engine) advance(tx kv.Tx) {
	for {
		for _, s := range e.stages {
			e.advanceStage(s)
		}
		if e.stream == nil || !e.quiescent() || !e.stream.next(e, tx) {
			break
		}
	}
	for _, s := range e.stages {
		if s.Kind == plan.View {
			e.collectView(tx, s)
		}
	}
}

func (e *Engine) advanceStage(s *stage) {
	if s.Kind == plan.TestStream {
		return // It is moved by its events.
	}
	in := s.pending.Min()
	for _, input := range s.Inputs {
		in = min(in, e.outputWatermark(input))
	}
	s.in = max(s.in, in)
	s.out = max(s.out, min(s.in, s.holds.Min(), e.unfired(s)))
}

// unfired returns the earliest timer in event time that is due and has not fired yet, or
// MaxTimestamp. What it will put out counts as input that is not processed yet, also if the timer
// itself holds nothing.
func (e *Engine) unfired(s *stage) event.Timestamp {
	first := event.MaxTimestamp
	if s.timers == 0 {
		return first
	}
	for _, g := range s.groups {
		if due := g.due[plan.EventTime]; due < first && e.isDue(s, plan.EventTime, due) {
			first = due
		}
	}
	return first
}

func (e *Engine) outputWatermark(input plan.Input) event.Timestamp {
	if from := e.stages[input.From]; from.Kind != plan.TestStream {
		return from.out
	}
	return e.stream.watermarks[input.Output]
}

// saveFloors makes durable the watermarks on which the decisions of this Step rely, so that none
// of them is ever contradicted after a restart.
func (e *Engine) saveFloors(tx kv.Tx) {
	for _, s := range e.stages {
		if now := [2]event.Timestamp{s.in, s.out}; now != s.saved {
			s.saved = now
			row := event.AppendTimestamp(event.AppendTimestamp(nil, s.in), s.out)
			tx.Set(stageKey(tableFloor, s.ID), row)
		}
	}
}

// sidesReady tells whether the side inputs of s are complete for main windows that end at or
// before maxWindow.
func (e *Engine) sidesReady(s *stage, maxWindow event.Timestamp) bool {
	for _, side := range s.Sides {
		view := e.stages[side.View]
		if view.in > sideWindowMax(view.Windowing.Fn, maxWindow) {
			continue
		}
		if view.Windowing.Global() && firesEarly(&view.Windowing.Trigger) && view.counts.In > 0 {
			continue // A side input that is updated for ever counts as ready once it has something.
		}
		return false
	}
	return true
}

// sideWindowMax returns the last moment of the side input window to which a main window that ends
// with max is mapped, by Beam's default window mapping: the last window of fn that contains max.
func sideWindowMax(fn plan.WindowFn, max event.Timestamp) event.Timestamp {
	switch fn.Kind {
	case plan.FixedWindows:
		return windowStart(max, fn.Size, fn.Offset).Add(fn.Size) - 1
	case plan.SlidingWindows:
		return windowStart(max, fn.Period, fn.Offset).Add(fn.Size) - 1
	}
	return event.EndOfGlobalWindow
}

// windowStart returns the greatest multiple of period, counted from offset, that is not after t.
func windowStart(t event.Timestamp, period, offset time.Duration) event.Timestamp {
	p := period.Milliseconds()
	d := (int64(t) - offset.Milliseconds()) % p
	if d < 0 {
		d += p
	}
	return t - event.Timestamp(d)
}

// firesEarly tells whether t can fire before the end of its window.
func firesEarly(t *plan.Trigger) bool {
	switch t.Kind {
	case plan.Default, plan.Never:
		return false
	case plan.AfterEndOfWindow:
		return t.Early != nil
	}
	return true
}

// collectView forgets the windows of a side input that no reader can ask for any more: those that
// ended before the main windows that are still open. A timer of a reader may still ask for a window
// that ended before the input watermark, as long as it holds the output watermark.
func (e *Engine) collectView(tx kv.Tx, v *stage) {
	if v.Windowing.Global() || len(v.readers) == 0 {
		return
	}
	low := event.MaxTimestamp
	for _, id := range v.readers {
		r := e.stages[id]
		low = min(low, r.out.Add(-r.Windowing.AllowedLateness))
	}
	if low <= v.collected {
		return
	}
	v.collected = low
	tx.DeleteRange(StatePrefix(v.ID, 0), event.AppendTimestamp(StatePrefix(v.ID, 0), low))
}

// wakeUp asks for the next ClockAdvanced, if the clock alone can make something happen.
func (e *Engine) wakeUp() {
	if e.stream != nil {
		return
	}
	at := e.nextClock()
	if at != e.wake && at != event.MaxTimestamp {
		e.do(WakeAt{At: at})
	}
	e.wake = at
}

// nextClock returns the earliest processing time after which there is more to do than now.
func (e *Engine) nextClock() event.Timestamp {
	at := event.MaxTimestamp
	later := func(t event.Timestamp) {
		if t > e.clock && t != noTimer {
			at = min(at, t)
		}
	}
	for _, s := range e.stages {
		for _, g := range s.groups {
			later(g.retryAt)
			later(g.due[plan.ProcessingTime])
			if !s.Splittable && s.suspects == 0 {
				continue
			}
			for _, entry := range g.entries {
				if !entry.taken {
					later(max(entry.notBefore, entry.retryAt))
				}
			}
		}
	}
	for _, b := range e.running {
		at = min(at, b.splitAt)
	}
	return at
}
