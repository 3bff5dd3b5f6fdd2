// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/hornbeam-dev/hornbeam/runner/internal/engine"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
)

// Mutant is a deliberate bug, made where the engine meets the world so that the engine itself needs
// no switches. A checker must find each of them, else a campaign says nothing.
type Mutant struct {
	Name string
	// NeedsStore tells that it is a bug of the store.
	NeedsStore bool

	blind     bool // Memory is not compared with the table, so that the other checkers have to see it.
	rows      func(rng *rand.Rand, w write) (write, bool)
	order     func(o *engine.Order)
	noSync    bool // Commits are acknowledged before they are durable.
	early     bool // Actions are performed before their commit is durable.
	sameEpoch bool // The epoch does not grow with a start.
	adopts    bool // A report from before a restart is taken for one of now.
	rollback  bool // A crash loses a durable commit.
}

func lose(table byte, deleted bool, oneIn int) func(*rand.Rand, write) (write, bool) {
	return func(rng *rand.Rand, w write) (write, bool) {
		return w, w.key[0] != table || w.deleted != deleted || rng.IntN(oneIn) > 0
	}
}

// Mutants are the deliberate bugs.
func Mutants() []*Mutant {
	noHold := func(_ *rand.Rand, w write) (write, bool) {
		if w.key[0] == 'd' && !w.deleted {
			w.value = append(event.AppendTimestamp(nil, event.MaxTimestamp), w.value[8:]...)
		}
		return w, true
	}
	return []*Mutant{
		{Name: "a consumed chunk stays in the mailbox", blind: true, rows: lose('m', true, 5)},
		{Name: "a chunk or residual is not written", blind: true, rows: lose('m', false, 5)},
		{Name: "a fired timer stays in the table of due times", blind: true, rows: lose('d', true, 5)},
		{Name: "a timer is not written to the table of due times", blind: true, rows: lose('d', false, 5)},
		{Name: "a timer is not written to the table of identities", blind: true, rows: lose('t', false, 5)},
		{Name: "a state row is not written", blind: true, rows: lose('s', false, 5)},
		{Name: "a state row is not removed", blind: true, rows: lose('s', true, 5)},
		{Name: "watermark floors are not written", blind: true, rows: lose('w', false, 1)},
		{Name: "a metric is not written", blind: true, rows: lose('x', false, 5)},
		{Name: "counts are not written", blind: true, rows: lose('c', false, 5)},
		{Name: "the clock is not written", rows: lose('J', false, 2)},
		{Name: "holds are not written", blind: true, rows: noHold},
		{Name: "a bundle runs without one of its chunks", order: func(o *engine.Order) {
			if in := &o.Inputs[0]; len(in.Seqs) > 1 {
				in.Seqs = in.Seqs[1:]
			}
		}},
		{Name: "a bundle gets a watermark that is too late", order: func(o *engine.Order) { o.Watermark = event.MaxTimestamp }},
		{Name: "a bundle fires no timers", order: func(o *engine.Order) {
			for i := range o.Inputs {
				o.Inputs[i].Fire = false
			}
		}},
		{Name: "actions are performed before the sync", early: true},
		{Name: "the epoch does not grow", sameEpoch: true},
		{Name: "reports from before a restart count", adopts: true},
		{Name: "a crash rolls the table back", rollback: true},
		{Name: "commits are not synced", NeedsStore: true, noSync: true},
	}
}

func (w *world) blind() bool { return w.Mutant != nil && w.Mutant.blind }

// adopt returns m, or for a mutant m as a report about a bundle that runs now.
func (w *world) adopt(m engine.Message) engine.Message {
	done, ok := m.(engine.BundleDone)
	if w.Mutant == nil || !w.Mutant.adopts || !ok || done.Result.ID.Epoch == w.options.Epoch {
		return m
	}
	for _, j := range w.jobs {
		if j.order.Stage == done.Work.Stage && len(j.order.Inputs) == len(done.Work.Inputs) {
			done.Result.ID, done.Work.ID = j.order.ID, j.order.ID
			return done
		}
	}
	return m
}

// describe prints a message on one line.
func describe(m engine.Message) string {
	switch m := m.(type) {
	case engine.BundleDone:
		r := &m.Result
		text := fmt.Sprintf("done %v in %d", r.ID, r.Counts.In)
		for _, o := range r.Outputs {
			text += fmt.Sprintf(" out%d.%d/%d:%d from %v", o.Output, o.Consumer, o.Group, o.Chunk.Count, o.Chunk.MinTimestamp)
		}
		for _, s := range r.State {
			text += fmt.Sprintf(" state%d:%d timers:%d", s.Group, len(s.Writes), len(s.Timers))
		}
		for _, rest := range r.Residuals {
			text += fmt.Sprintf(" rest %s from %v after %d", rest.Element[len(rest.Element)-3:], rest.Watermark, rest.Delay)
		}
		return text
	case engine.BundleFailed:
		return fmt.Sprintf("fail %v %s", m.ID, m.Err)
	}
	return strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", m), "engine."))
}

// describeAction prints an action on one line.
func describeAction(a engine.Action) string {
	switch a := a.(type) {
	case engine.RunBundle:
		text := fmt.Sprintf("run %v stage %d at %v", a.Bundle.ID, a.Bundle.Stage, a.Bundle.Watermark)
		for _, in := range a.Bundle.Inputs {
			text += fmt.Sprintf(" %d:%v", in.Group, in.Seqs)
			if in.Fire {
				text += "+timers"
			}
		}
		return text
	case engine.SplitBundle:
		return fmt.Sprintf("split %v", a.ID)
	case engine.FinalizeBundle:
		return fmt.Sprintf("finalize %v", a.ID)
	case engine.WakeAt:
		return fmt.Sprintf("wake at %v", a.At)
	case engine.EndJob:
		return fmt.Sprintf("end %v %s", a.State, a.Err)
	}
	return fmt.Sprintf("%T", a)
}
