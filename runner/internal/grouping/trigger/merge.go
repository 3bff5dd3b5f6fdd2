// SPDX-License-Identifier: Apache-2.0

package trigger

import (
	"encoding/binary"
	"errors"

	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// Merge makes into the state of a window that takes the place of others. Into is the state of the
// result itself if it was there before, else Start; from are the states of all windows that were
// merged, that one included, none of them closed. At is the moment for the result.
func (t *Trigger) Merge(into State, from []State, at At) {
	if into == nil {
		return
	}
	// A window merges its own state too, so it must not be overwritten while it is read.
	sources := make([]State, len(from))
	for i, s := range from {
		sources[i] = append(State(nil), s...)
	}
	t.merge(0, into, sources, at)
}

func (t *Trigger) merge(i int, into State, from []State, at At) {
	n := &t.nodes[i]
	switch n.kind {
	case plan.ElementCount:
		into[i] = Slot{}
		for _, s := range from {
			if s[i].Finished {
				into[i] = Slot{Finished: true}
				return
			}
			into[i].N += s[i].N
			into[i].Set = into[i].Set || s[i].Set
		}
	case plan.AfterProcessingTime, plan.AfterSynchronizedProcessingTime:
		into[i].Set, into[i].N = false, 0
		if into[i].Finished {
			return
		}
		for _, s := range from { // The earliest first element of all.
			if s[i].Set && (!into[i].Set || s[i].N < into[i].N) {
				into[i].Set, into[i].N = true, s[i].N
			}
		}
	case plan.AfterEndOfWindow:
		t.mergeEndOfWindow(i, into, from, at)
	case plan.AfterAll:
		finished := true
		for _, part := range n.parts {
			t.merge(part, into, from, at)
			finished = finished && into[part].Finished
		}
		into[i].Finished = finished
	case plan.AfterAny, plan.OrFinally:
		finished := false
		for _, part := range n.parts {
			t.merge(part, into, from, at)
			finished = finished || into[part].Finished
		}
		into[i].Finished = finished
	case plan.AfterEach:
		finished := true
		for _, part := range n.parts {
			if !finished {
				t.clear(part, into) // Its turn has not come, whatever it was before.
				continue
			}
			t.merge(part, into, from, at)
			finished = into[part].Finished
		}
		_, unfinished := t.firstUnfinished(i, into)
		into[i].Finished = !unfinished
	case plan.Repeat:
		t.merge(n.parts[0], into, from, at)
	}
}

// mergeEndOfWindow lets the early phase live on if any of the windows was in it, since its
// elements have not fired, or if the result has not ended.
func (t *Trigger) mergeEndOfWindow(i int, into State, from []State, at At) {
	parts := t.nodes[i].parts
	phase := i
	if len(parts) > 0 {
		phase = parts[0]
	}
	ended := at.Ended
	for _, s := range from {
		ended = ended && s[phase].Finished
	}
	if len(parts) > 0 && !ended {
		t.merge(parts[0], into, from, at)
		if len(parts) == 2 {
			t.clear(parts[1], into)
			into[parts[1]].Finished = false
		}
	}
	into[phase].Finished = ended
	if ended && len(parts) == 2 {
		t.merge(parts[1], into, from, at)
	}
}

const (
	slotFinished = 1 << iota
	slotSet
)

// Append appends a compact encoding of s.
func (s State) Append(b []byte) []byte {
	for _, slot := range s {
		var flags byte
		if slot.Finished {
			flags |= slotFinished
		}
		if slot.Set {
			b = binary.AppendVarint(append(b, flags|slotSet), slot.N)
			continue
		}
		b = append(b, flags)
	}
	return b
}

// Read reads what State.Append wrote for a state of t, and returns the number of bytes it took.
func (t *Trigger) Read(b []byte) (State, int, error) {
	s, total := t.Start(), 0
	for i := range s {
		if total == len(b) {
			return nil, 0, errors.New("trigger: state is cut short")
		}
		flags := b[total]
		total++
		s[i].Finished, s[i].Set = flags&slotFinished != 0, flags&slotSet != 0
		if s[i].Set {
			v, n := binary.Varint(b[total:])
			if n <= 0 {
				return nil, 0, errors.New("trigger: state is cut short")
			}
			s[i].N = v
			total += n
		}
	}
	return s, total, nil
}
