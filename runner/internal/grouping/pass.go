// SPDX-License-Identifier: Apache-2.0

package grouping

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/grouping/trigger"
	"github.com/hornbeam-dev/hornbeam/runner/internal/grouping/window"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// minElement is the size of the header of an element without windows.
const minElement = 13

// pass is the work of one Run.
type pass struct {
	g     *Grouper
	view  kv.View
	at    Clock
	group bundle.KeyGroup
	out   Output
	emit  emitter
	err   error // The first broken row; nothing is returned then.

	rows  map[string]*row // The rows in use, by table key.
	order []*row          // The same in the order of first use.

	windows     map[event.Window]*windowState
	windowOrder []*windowState
	last        *windowState // The window of the last element, which is often that of the next.

	expected int // The count of the chunk.

	chains uint32 // Spill chains begun.
	name   []byte // Reused for table keys.
}

// element is an element in one of its windows.
type element struct {
	key, value string
	timestamp  event.Timestamp
}

// windowState is what a pass knows of a window of a stage whose windows do not merge.
type windowState struct {
	window  event.Window
	expired bool
	// buffering tells that elements go to the run: the window has not ended, or it has but its
	// timer did not fire yet.
	buffering bool
	run       *run // What this bundle adds.
	rows      []*row
	late      bool // A row of the window was touched after its end.
}

func (p *pass) chunk(c bundle.Chunk) error {
	// One copy of the whole chunk, so that keys and values are parts of it and need none.
	text := string(c.Bytes)
	var header coder.Header
	count, at := 0, 0
	p.expected = max(0, min(c.Count, len(c.Bytes)/minElement)) // A wrong count must not cost memory.
	for at < len(c.Bytes) {
		n, err := p.g.windowed.ReadHeader(c.Bytes[at:], &header)
		if err != nil {
			return fmt.Errorf("grouping: header of element %d: %w", count, err)
		}
		at += n
		key, err := p.g.key(c.Bytes[at:])
		if err != nil {
			return fmt.Errorf("grouping: key of element %d: %w", count, err)
		}
		size, err := p.g.element(c.Bytes[at:])
		if err != nil {
			return fmt.Errorf("grouping: element %d: %w", count, err)
		}
		if size < key {
			return fmt.Errorf("grouping: element %d is shorter than its key", count)
		}
		e := element{key: text[at : at+key], value: text[at+key : at+size], timestamp: header.Timestamp}
		for _, w := range header.Windows {
			p.element(w, e)
		}
		at += size
		count++
	}
	if count != c.Count {
		return fmt.Errorf("grouping: a chunk of %d elements has %d", c.Count, count)
	}
	p.out.In += int64(count)
	return nil
}

func (p *pass) element(w event.Window, e element) {
	if p.g.windowing.Merges {
		if p.g.windowing.Expired(w, p.at.Watermark) {
			p.out.Late++
			return
		}
		r := p.row(e.key, event.Window{})
		if c := p.place(r, w); c != nil {
			p.add(r, c, e)
		} else {
			p.out.Closed++
		}
		return
	}
	state := p.last
	if state == nil || state.window != w {
		state = p.window(w)
		p.last = state
	}
	switch {
	case state.expired:
		p.out.Late++
	case state.buffering:
		state.run.add(e)
		if p.g.windowing.Output != plan.EndOfWindow && p.counts(w, e) {
			state.run.stamp(e.timestamp)
		}
	default:
		r := p.row(e.key, w)
		if len(r.closed) > 0 {
			p.out.Closed++
			return
		}
		if len(r.cells) == 0 {
			r.cells = append(r.cells, p.newCell(w))
		}
		p.add(r, r.cells[0], e)
	}
}

func (p *pass) window(w event.Window) *windowState {
	if state, ok := p.windows[w]; ok {
		return state
	}
	state := &windowState{window: w, expired: p.g.windowing.Expired(w, p.at.Watermark)}
	if p.g.runs && !state.expired {
		state.buffering = !window.Ended(w, p.at.Watermark) || p.hasRuns(w)
		state.run = &run{combine: p.g.combine(), index: map[string]int32{}}
		if len(p.windows) == 0 { // Most bundles have one window, which gets all of its elements.
			state.run.items = make([]item, 0, p.expected)
		}
	}
	p.windows[w] = state
	p.windowOrder = append(p.windowOrder, state)
	return state
}

// The tags of a Grouper's timers.
const (
	tagWindow     = "w" // For all keys of a window: its end, then its expiry.
	tagKey        = "k" // For a row: the next end or expiry of a window of it.
	tagProcessing = "p" // For a row: the next processing time its triggers wait for.
)

func (p *pass) timer(t bundle.Timer) error {
	if t.Kind != bundle.GroupTimer {
		return fmt.Errorf("grouping: a timer of kind %d is not ours", t.Kind)
	}
	var w event.Window
	if !p.g.windowing.Merges {
		var n int
		var err error
		if w, n, err = p.g.windowed.ReadWindow(t.Window); err != nil || n != len(t.Window) {
			return fmt.Errorf("grouping: window of a timer: %d of %d bytes: %w", n, len(t.Window), err)
		}
	}
	switch t.Tag {
	case tagWindow:
		p.windowTimer(w)
	case tagKey:
		r := p.row(string(t.Key), w)
		r.armed.set = false
		p.tick(r)
	case tagProcessing:
		r := p.row(string(t.Key), w)
		r.waking.set = false
		p.tick(r)
	default:
		return fmt.Errorf("grouping: unknown timer %q", t.Tag)
	}
	return nil
}

// tick lets time pass for the windows of r. The end of a window comes before its expiry, even if
// the watermark passed both at once, so that panes do not depend on the watermark's steps.
func (p *pass) tick(r *row) {
	s := &p.g.windowing
	for i := 0; i < len(r.cells); i++ {
		c := r.cells[i]
		at := p.moment(c)
		ends := at.Ended && !c.ended && window.EndDue(c.window) < window.GoneDue(s, c.window)
		fires := ends
		if wake, ok := p.g.trigger.Wake(c.trigger, event.MinTimestamp); ok && wake <= p.at.Now {
			fires = true
		}
		closed := fires && p.g.trigger.ShouldFire(c.trigger, at) && p.fire(r, c)
		c.ended = c.ended || ends
		if !closed && window.Gone(s, c.window, p.at.Watermark) {
			p.pane(r, c, true)
			closed = true
		} else if closed {
			r.closed = append(r.closed, c.window)
		}
		if closed {
			r.cells = slices.Delete(r.cells, i, i+1)
			i--
		}
	}
	r.closed = slices.DeleteFunc(r.closed, func(w event.Window) bool {
		return window.Gone(s, w, p.at.Watermark)
	})
}

func (p *pass) moment(c *cell) trigger.At {
	return trigger.At{Now: p.at.Now, Ended: window.Ended(c.window, p.at.Watermark)}
}

func (p *pass) set(key, value []byte) {
	p.out.State.Writes = append(p.out.State.Writes, bundle.Write{Key: key, Value: value})
}

func (p *pass) delete(key []byte) {
	p.out.State.Writes = append(p.out.State.Writes, bundle.Write{Key: key, Delete: true})
}

func (p *pass) setTimer(t bundle.Timer) {
	t.Kind = bundle.GroupTimer
	p.out.State.Timers = append(p.out.State.Timers, bundle.TimerChange{Timer: t})
}

func (p *pass) clearTimer(t bundle.Timer) {
	t.Kind = bundle.GroupTimer
	p.out.State.Timers = append(p.out.State.Timers, bundle.TimerChange{Timer: t, Clear: true})
}

// finish writes the runs and rows that the bundle changed and sets their timers.
func (p *pass) finish() {
	for _, state := range p.windowOrder {
		p.finishRun(state)
	}
	for _, r := range p.order {
		p.finishRow(r)
	}
	for _, state := range p.windowOrder {
		if state.late {
			p.setTimer(bundle.Timer{
				Tag: tagWindow, Window: p.g.windowed.AppendWindow(nil, state.window),
				Domain: plan.EventTime, Due: window.GoneDue(&p.g.windowing, state.window),
				Hold: p.g.windowing.Expiry(state.window),
			})
		}
	}
	slices.SortFunc(p.out.State.Writes, func(a, b bundle.Write) int { return bytes.Compare(a.Key, b.Key) })
}
