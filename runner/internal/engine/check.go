// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
)

// Check tells whether what the engine has in memory is what view, its table, says: every index
// equals a rebuild, and inputs, mailboxes and holds leave the watermarks where they are.
func (e *Engine) Check(view kv.View) error {
	fresh, err := New(e.plan, e.opt, view)
	if err != nil {
		return err
	}
	if fresh.state != e.state || fresh.reason != e.reason {
		return fmt.Errorf("the table says %v %q, memory %v %q", fresh.state, fresh.reason, e.state, e.reason)
	}
	if e.state == Done {
		return nil // A job that is over has no indexes.
	}
	if fresh.clock != e.clock {
		return fmt.Errorf("the table's clock is at %v, memory's at %v", fresh.clock, e.clock)
	}
	if !maps.Equal(fresh.metrics, e.metrics) {
		return fmt.Errorf("the table has metrics %v, memory %v", fresh.metrics, e.metrics)
	}
	if s := e.stream; s != nil && (s.played != fresh.stream.played || !slices.Equal(s.watermarks, fresh.stream.watermarks)) {
		return fmt.Errorf("the table's TestStream is at %d, memory's at %d", fresh.stream.played, s.played)
	}
	for i, s := range e.stages {
		if err := s.check(fresh.stages[i]); err != nil {
			return fmt.Errorf("stage %d, %s: %w", s.ID, s.Name, err)
		}
	}
	if e.state != Running {
		return nil
	}
	for i, s := range e.stages {
		again := fresh.stages[i]
		if fresh.advanceStage(again); again.in != s.in || again.out != s.out {
			return fmt.Errorf("stage %d, %s: its watermarks are %v %v and should be %v %v",
				s.ID, s.Name, s.in, s.out, again.in, again.out)
		}
	}
	return nil
}

// check compares the index of a stage with that of a fresh one.
func (s *stage) check(fresh *stage) error {
	type sums struct{ bytes, elements, timers, userTimes, suspects int }
	got := sums{s.bytes, s.elements, s.timers, s.userTimes, s.suspects}
	want := sums{fresh.bytes, fresh.elements, fresh.timers, fresh.userTimes, fresh.suspects}
	switch {
	case s.in != fresh.in || s.out != fresh.out:
		return fmt.Errorf("its watermarks are %v %v, and %v %v in the table", s.in, s.out, fresh.in, fresh.out)
	case got != want:
		return fmt.Errorf("the table has %+v, memory %+v", want, got)
	case !s.pending.Equal(&fresh.pending):
		return fmt.Errorf("the watermarks of its mailbox differ")
	case !s.holds.Equal(&fresh.holds):
		return fmt.Errorf("its holds differ")
	case s.counts.In != fresh.counts.In || s.counts.Late != fresh.counts.Late || s.counts.Dead != fresh.counts.Dead || !slices.Equal(s.counts.Out, fresh.counts.Out):
		return fmt.Errorf("the table has counts %+v, memory %+v", fresh.counts, s.counts)
	}
	for i, g := range s.groups {
		f := fresh.groups[i]
		if g.due != f.due || g.attempts != f.attempts || g.piece != f.piece {
			return fmt.Errorf("key group %d has timers due at %v, attempts %d, and %v, %d in the table",
				i, g.due, g.attempts, f.due, f.attempts)
		}
		if !slices.EqualFunc(g.entries, f.entries, func(a, b *entry) bool {
			left := *a
			left.taken, left.retryAt = b.taken, b.retryAt // Forgotten at a restart.
			return left == *b
		}) {
			return fmt.Errorf("the mailbox of key group %d differs", i)
		}
	}
	return nil
}
