// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// Snapshot is what people want to see of a job.
type Snapshot struct {
	State   State
	Reason  string
	Clock   event.Timestamp
	Stages  []StageSnapshot
	Metrics []bundle.Metric // By name.
}

// StageSnapshot is what people want to see of a stage.
type StageSnapshot struct {
	ID       plan.StageID
	Name     string
	Kind     plan.Kind
	In, Out  event.Timestamp // Watermarks.
	Elements int             // In the mailbox.
	Bytes    int             // In the mailbox.
	Timers   int
	Running  int // Bundles.
	Counts   bundle.Counts
	WaitsFor string // Empty when nothing waits.
	Retries  int    // Failed attempts at what has not succeeded since.
}

// Snapshot describes the job as it is after the last Step.
func (e *Engine) Snapshot() Snapshot {
	snap := Snapshot{State: e.state, Reason: e.reason, Clock: e.clock}
	for _, s := range e.stages {
		at := StageSnapshot{
			ID:       s.ID,
			Name:     s.Name,
			Kind:     s.Kind,
			In:       s.in,
			Out:      s.out,
			Elements: s.elements,
			Bytes:    s.bytes,
			Timers:   s.timers,
			Running:  s.running,
			Counts:   s.counts,
			WaitsFor: e.waitsFor(s),
		}
		at.Counts.Out = slices.Clone(s.counts.Out)
		for _, g := range s.groups {
			at.Retries += g.attempts
			if s.suspects > 0 {
				for _, in := range g.entries {
					at.Retries += in.attempts
				}
			}
		}
		snap.Stages = append(snap.Stages, at)
	}
	for _, m := range e.metrics {
		snap.Metrics = append(snap.Metrics, m)
	}
	slices.SortFunc(snap.Metrics, func(a, b bundle.Metric) int {
		return cmp.Or(cmp.Compare(a.Transform, b.Transform), cmp.Compare(a.Namespace, b.Namespace),
			cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return snap
}

// waitsFor says what a stage needs before it can go on.
func (e *Engine) waitsFor(s *stage) string {
	switch {
	case e.state != Running || s.running > 0 || s.out == event.MaxTimestamp:
		return ""
	case s.elements > 0:
		return e.entriesWaitFor(s)
	case s.userTimes > 0:
		return "a timer in processing time"
	case s.holds.Min() < s.in:
		return fmt.Sprintf("a timer that holds the watermark at %v", s.holds.Min())
	}
	for _, in := range s.Inputs {
		if e.outputWatermark(in) <= s.in {
			return fmt.Sprintf("the watermark of stage %d", in.From)
		}
	}
	return ""
}

func (e *Engine) entriesWaitFor(s *stage) string {
	var first *entry
	for _, g := range s.groups {
		if g.retryAt > e.clock {
			return "another attempt after a failure"
		}
		if len(g.entries) > 0 && (first == nil || g.entries[0].notBefore < first.notBefore) {
			first = g.entries[0]
		}
	}
	switch {
	case first.retryAt > e.clock:
		return "another attempt after a failure"
	case first.notBefore > e.clock:
		return fmt.Sprintf("its source, which wants to be resumed at %v", first.notBefore.Time())
	case !e.sidesReady(s, first.maxWindow):
		return "a side input"
	case e.flooded(s):
		return "room in the mailboxes after it"
	}
	return "a worker"
}
