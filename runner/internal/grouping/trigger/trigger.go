// SPDX-License-Identifier: Apache-2.0

// Package trigger decides when the pane of a key and window fires.
//
// A Trigger is an immutable tree, built once from the windowing strategy. What it remembers about
// one key and window lives in a State, which is plain data and is stored beside the elements it
// counts. The rules are those of Beam's Java runners (runners/core-java, package triggers); see
// testdata for the behaviour, by example.
package trigger

import (
	"fmt"

	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// Trigger decides for one windowing strategy.
type Trigger struct {
	clocked bool   // Some part waits for processing time.
	nodes   []node // The tree in preorder; the root is 0.
	merging bool   // Windows merge, which may bring finished subtriggers back to life.
}

type node struct {
	kind   plan.TriggerKind
	parts  []int // Of AfterEndOfWindow: none, or early and, if there is one, late.
	end    int   // The index behind the subtree.
	count  int64
	delays []plan.TimestampDelay
}

// State is what a Trigger remembers of one key and window: a Slot for each node of the tree. It is
// nil for a trigger that remembers nothing.
type State []Slot

// Slot is what one node of the tree remembers.
type Slot struct {
	Finished bool
	Set      bool  // N has a meaning.
	N        int64 // Elements counted, or the processing time to wait for.
}

// At is the moment of a decision.
type At struct {
	Now   event.Timestamp // Processing time.
	Ended bool            // The input watermark has passed the end of the window.
}

// New returns the trigger for windows that merge or do not.
func New(t plan.Trigger, merging bool) (*Trigger, error) {
	tree := &Trigger{merging: merging}
	if err := tree.grow(t); err != nil {
		return nil, err
	}
	return tree, nil
}

func (t *Trigger) grow(from plan.Trigger) error {
	parts, least := from.Parts, 0
	switch from.Kind {
	case plan.Default, plan.Never, plan.Always, plan.ElementCount,
		plan.AfterProcessingTime, plan.AfterSynchronizedProcessingTime:
		parts = nil
	case plan.AfterEndOfWindow:
		parts = nil
		if from.Early != nil {
			parts = append(parts, *from.Early)
		} else if from.Late != nil {
			parts = append(parts, plan.Trigger{Kind: plan.Never})
		}
		if from.Late != nil {
			parts = append(parts, *from.Late)
		}
	case plan.AfterAll, plan.AfterAny, plan.AfterEach, plan.Repeat:
		least = 1
	case plan.OrFinally:
		least = 2
	default:
		return fmt.Errorf("trigger: unknown kind %d", from.Kind)
	}
	if len(parts) < least {
		return fmt.Errorf("trigger: kind %d has %d subtriggers, needs %d", from.Kind, len(parts), least)
	}
	clocked := from.Kind == plan.AfterProcessingTime || from.Kind == plan.AfterSynchronizedProcessingTime
	t.clocked = t.clocked || clocked
	i := len(t.nodes)
	t.nodes = append(t.nodes, node{kind: from.Kind, count: from.Count, delays: from.Delays})
	for _, part := range parts {
		t.nodes[i].parts = append(t.nodes[i].parts, len(t.nodes))
		if err := t.grow(part); err != nil {
			return err
		}
	}
	t.nodes[i].end = len(t.nodes)
	return nil
}

// Start returns the state of a window that has seen nothing.
func (t *Trigger) Start() State {
	switch t.nodes[0].kind {
	case plan.Default, plan.Never, plan.Always:
		return nil
	}
	return make(State, len(t.nodes))
}

// Closed tells whether the trigger has finished for good and further elements are dropped. A trigger
// that reads the clock closes nothing: which elements came after it finished depends on the speed of
// the machine, and no data is dropped for that. They wait for the last pane of the window.
func (t *Trigger) Closed(s State) bool { return done(s) && !t.clocked }

// done tells whether the trigger will not fire again.
func done(s State) bool { return s != nil && s[0].Finished }

// Element tells the trigger that an element arrived.
func (t *Trigger) Element(s State, at At) {
	if !done(s) {
		t.element(0, s, at)
	}
}

func (t *Trigger) element(i int, s State, at At) {
	n := &t.nodes[i]
	switch n.kind {
	case plan.ElementCount:
		s[i].Set = true
		s[i].N++
	case plan.AfterProcessingTime, plan.AfterSynchronizedProcessingTime:
		if !s[i].Set {
			s[i].Set, s[i].N = true, int64(n.target(at.Now))
		}
	case plan.AfterAll:
		for _, part := range n.parts {
			if !s[part].Finished {
				t.element(part, s, at)
			}
		}
	case plan.AfterAny, plan.OrFinally, plan.Repeat:
		for _, part := range n.parts {
			t.element(part, s, at)
		}
	case plan.AfterEach, plan.AfterEndOfWindow:
		if !t.merging {
			if part, ok := t.firstUnfinished(i, s); ok {
				t.element(part, s, at)
			}
			return
		}
		// A merge may revive any part, so each has to know of all elements.
		for _, part := range n.parts {
			t.element(part, s, at)
		}
	}
}

// target returns the processing time at which a pane whose first element came at now is ready.
func (n *node) target(now event.Timestamp) event.Timestamp {
	if n.kind == plan.AfterSynchronizedProcessingTime {
		// The processing time of what feeds the stage is past the element's arrival at the
		// earliest one tick later; our one clock stands for all of them.
		return now.Add(1e6)
	}
	for _, d := range n.delays {
		if d.Period.Milliseconds() <= 0 {
			now = now.Add(d.Delay)
			continue
		}
		period := d.Period.Milliseconds()
		over := (int64(now) - d.Offset.Milliseconds()) % period
		if over < 0 {
			over += period
		}
		if over > 0 {
			now = event.Clamp(int64(now) + period - over)
		}
	}
	return now
}

func (t *Trigger) firstUnfinished(i int, s State) (int, bool) {
	for _, part := range t.nodes[i].parts {
		if !s[part].Finished {
			return part, true
		}
	}
	return 0, false
}

// ShouldFire tells whether the pane is ready. A new element never makes a ready pane unready.
func (t *Trigger) ShouldFire(s State, at At) bool { return !done(s) && t.shouldFire(0, s, at) }

func (t *Trigger) shouldFire(i int, s State, at At) bool {
	n := &t.nodes[i]
	switch n.kind {
	case plan.Default:
		return at.Ended
	case plan.Always:
		return true
	case plan.ElementCount:
		return s[i].N >= n.count
	case plan.AfterProcessingTime, plan.AfterSynchronizedProcessingTime:
		return s[i].Set && int64(at.Now) >= s[i].N
	case plan.AfterEndOfWindow:
		switch {
		case len(n.parts) == 0:
			return at.Ended
		case !s[n.parts[0]].Finished:
			return at.Ended || t.shouldFire(n.parts[0], s, at)
		case len(n.parts) == 2:
			return t.shouldFire(n.parts[1], s, at)
		}
	case plan.AfterAll:
		for _, part := range n.parts {
			if !s[part].Finished && !t.shouldFire(part, s, at) {
				return false
			}
		}
		return true
	case plan.AfterAny:
		for _, part := range n.parts {
			if s[part].Finished || t.shouldFire(part, s, at) {
				return true
			}
		}
	case plan.AfterEach:
		if part, ok := t.firstUnfinished(i, s); ok {
			return t.shouldFire(part, s, at)
		}
	case plan.OrFinally:
		return t.shouldFire(n.parts[0], s, at) || t.shouldFire(n.parts[1], s, at)
	case plan.Repeat:
		return t.shouldFire(n.parts[0], s, at)
	}
	return false
}

// Fire tells the trigger that the pane, which was ready, has fired.
func (t *Trigger) Fire(s State, at At) { t.fire(0, s, at) }

func (t *Trigger) fire(i int, s State, at At) {
	n := &t.nodes[i]
	switch n.kind {
	case plan.ElementCount, plan.AfterProcessingTime, plan.AfterSynchronizedProcessingTime:
		s[i] = Slot{Finished: true}
	case plan.AfterEndOfWindow:
		t.fireEndOfWindow(i, s, at)
	case plan.AfterAll:
		for _, part := range n.parts {
			t.fire(part, s, at)
		}
		s[i].Finished = true
	case plan.AfterAny:
		for _, part := range n.parts {
			if t.shouldFire(part, s, at) {
				t.fire(part, s, at)
			} else {
				t.clear(part, s) // The pane it was waiting for is gone.
			}
		}
		s[i].Finished = true
	case plan.AfterEach:
		if part, ok := t.firstUnfinished(i, s); ok {
			t.fire(part, s, at)
		}
		if t.merging {
			t.clear(i, s)
		}
		_, unfinished := t.firstUnfinished(i, s)
		s[i].Finished = !unfinished
	case plan.OrFinally:
		main, until := n.parts[0], n.parts[1]
		if t.shouldFire(until, s, at) {
			t.fire(until, s, at)
			t.clear(main, s)
		} else {
			t.fire(main, s, at) // What until counts, it counts across panes.
		}
		s[i].Finished = t.finished(main, s) || t.finished(until, s)
	case plan.Repeat:
		t.fire(n.parts[0], s, at)
		if t.finished(n.parts[0], s) {
			clear(s[n.parts[0]:n.end])
		}
	}
}

func (t *Trigger) fireEndOfWindow(i int, s State, at At) {
	parts := t.nodes[i].parts
	switch {
	case len(parts) == 0:
		s[i].Finished = true
	case !s[parts[0]].Finished && !at.Ended:
		t.fire(parts[0], s, at)
		t.clear(parts[0], s)
		s[parts[0]].Finished = false // Early firings repeat.
	case !s[parts[0]].Finished:
		if t.shouldFire(parts[0], s, at) {
			t.fire(parts[0], s, at)
		}
		t.clear(parts[0], s)
		s[parts[0]].Finished = true
		if len(parts) == 1 {
			s[i].Finished = true
		} else {
			t.clear(parts[1], s)
		}
	case len(parts) == 2:
		t.fire(parts[1], s, at)
		t.clear(parts[1], s)
		s[parts[1]].Finished = false // Late firings repeat.
	default:
		s[i].Finished = true
	}
}

func (t *Trigger) finished(i int, s State) bool { return s[i].Finished }

// clear forgets what the subtree has counted, but not which of its parts have finished.
func (t *Trigger) clear(i int, s State) {
	for j := i; j < t.nodes[i].end; j++ {
		s[j].Set, s[j].N = false, 0
	}
}

// Wake returns the next processing time after now at which the trigger may become ready by itself.
func (t *Trigger) Wake(s State, now event.Timestamp) (wake event.Timestamp, ok bool) {
	if done(s) {
		return 0, false
	}
	for i := range s {
		if k := t.nodes[i].kind; k != plan.AfterProcessingTime && k != plan.AfterSynchronizedProcessingTime {
			continue
		}
		at := event.Timestamp(s[i].N)
		if s[i].Set && !s[i].Finished && at > now && (!ok || at < wake) {
			wake, ok = at, true
		}
	}
	return wake, ok
}

// Early tells whether the trigger can fire before the end of the window.
func (t *Trigger) Early() bool { return t.early(0) }

func (t *Trigger) early(i int) bool {
	n := &t.nodes[i]
	switch n.kind {
	case plan.Default, plan.Never:
		return false
	case plan.AfterEndOfWindow, plan.AfterEach, plan.Repeat:
		return len(n.parts) > 0 && t.early(n.parts[0])
	case plan.AfterAll:
		for _, part := range n.parts {
			if !t.early(part) {
				return false
			}
		}
		return true
	case plan.AfterAny, plan.OrFinally:
		for _, part := range n.parts {
			if t.early(part) {
				return true
			}
		}
		return false
	}
	return true
}

// AtEnd tells whether the trigger fires at the end of every window, for the first time, and is in
// the same state after that whatever the window has seen.
func (t *Trigger) AtEnd() bool {
	i := 0
	for t.nodes[i].kind == plan.Repeat {
		i = t.nodes[i].parts[0]
	}
	switch n := &t.nodes[i]; n.kind {
	case plan.Default:
		return true
	case plan.AfterEndOfWindow:
		if len(n.parts) == 0 {
			return true
		}
		early := t.nodes[n.parts[0]].kind
		return early == plan.Never || early == plan.Default
	}
	return false
}
