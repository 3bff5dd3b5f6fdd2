// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// Order is a bundle that is to be run, before its chunks and timers were fetched.
type Order struct {
	ID        bundle.ID
	Stage     plan.StageID
	Inputs    []OrderInput
	Watermark event.Timestamp
	Now       event.Timestamp
}

// OrderInput is the share of one key group in an Order.
type OrderInput struct {
	Group bundle.KeyGroup
	Seqs  []uint64 // Of the chunks in the mailbox.
	First int      // If not 0, there is one chunk, and so many of its elements are taken.
	Fire  bool     // The group has timers that are due.
}

// Cost of a key group with due timers, in bytes, when bundles are balanced before the timers were
// read; and the number of timers that a bundle fires at most in one key group.
const (
	timersCost = 4 << 10
	maxTimers  = 10_000
)

// start makes bundles while there is room for them. Stages downstream go first, so that what was
// begun is ended before more is begun.
func (e *Engine) start() {
	for i := len(e.stages) - 1; i >= 0; i-- {
		s := e.stages[i]
		for e.hasRoom(s) && e.startBundle(s) {
		}
	}
}

func (e *Engine) hasRoom(s *stage) bool {
	switch {
	case s.Kind == plan.Impulse || s.Kind == plan.TestStream:
		return false
	case s.Kind == plan.View && s.running > 0:
		return false // Its rows are shared by all windows.
	case e.flooded(s):
		return false
	case s.Splittable:
		return len(e.running)-e.workers < e.opt.Sources
	}
	return e.workers < e.opt.Parallelism
}

// flooded tells whether a consumer of s has more to do than it should: too much in its mailbox, or,
// if s is a source, timers that are due. Without that a source runs ahead of keys that take one timer
// after the other, and all it has read piles up as their state. A consumer that waits for a side
// input does not count: what it waits for may come through s.
func (e *Engine) flooded(s *stage) bool {
	for _, o := range s.Outputs {
		for _, id := range o.Consumers {
			c := e.stages[id]
			if len(c.Sides) > 0 {
				continue
			}
			if c.bytes > e.opt.MailboxBytes || s.Splittable && e.unfired(c) < event.MaxTimestamp {
				return true
			}
		}
	}
	return false
}

// startBundle makes one bundle of what waits for s, if anything does.
func (e *Engine) startBundle(s *stage) bool {
	b := &inflight{}
	switch {
	case s.Splittable:
		e.takeRestriction(s, b)
	case s.Keyed():
		e.takeGroups(s, b)
	default:
		e.takeChunks(s, b)
	}
	if len(b.order.Inputs) == 0 {
		return false
	}
	e.nextBundle++
	b.order.ID = bundle.ID{Epoch: e.opt.Epoch, N: e.nextBundle}
	b.order.Stage = s.ID
	b.order.Watermark = s.in
	b.order.Now = e.clock
	b.splitAt = event.MaxTimestamp
	if s.Splittable && e.stream == nil {
		b.splitAt = e.nextSplit()
	}
	e.running[b.order.ID] = b
	s.running++
	if !s.Splittable {
		e.workers++
	}
	e.do(RunBundle{Bundle: b.order})
	return true
}

// ready tells whether an entry may run now.
func (e *Engine) ready(s *stage, in *entry) bool {
	return !in.taken && in.notBefore <= e.clock && in.retryAt <= e.clock && e.sidesReady(s, in.maxWindow)
}

// take adds entries of a key group to a bundle.
func (b *inflight) take(g bundle.KeyGroup, entries []*entry, piece int, fire bool) {
	in := OrderInput{Group: g, Fire: fire}
	if len(entries) == 1 && piece < entries[0].count {
		in.First = piece
	}
	for _, entry := range entries {
		entry.taken = true
		in.Seqs = append(in.Seqs, entry.seq)
	}
	b.order.Inputs = append(b.order.Inputs, in)
	b.taken = append(b.taken, entries)
}

// takeRestriction takes the restriction that is furthest behind, so that it does not hold the
// watermark back longer than it must.
func (e *Engine) takeRestriction(s *stage, b *inflight) {
	var first *entry
	for _, in := range s.groups[0].entries {
		if e.ready(s, in) && (first == nil || in.watermark < first.watermark) {
			first = in
		}
	}
	if first != nil {
		b.take(0, []*entry{first}, 0, false)
	}
}

// takeChunks takes chunks of a stage without keys, in the order in which they came.
func (e *Engine) takeChunks(s *stage, b *inflight) {
	quota := e.quota(s, s.bytes)
	if entries := e.fill(s, s.groups[0], &quota); len(entries) > 0 {
		b.take(0, entries, entries[0].piece, false)
	}
}

// takeGroups takes the waiting chunks and due timers of key groups on which no bundle works.
func (e *Engine) takeGroups(s *stage, b *inflight) {
	total := s.bytes
	for _, g := range s.groups {
		if e.timerDue(s, g) {
			total += timersCost
		}
	}
	quota := e.quota(s, total)
	for i, g := range s.groups {
		if quota.full() {
			return
		}
		if g.busy || g.retryAt > e.clock || g.attempts > 0 && len(b.order.Inputs) > 0 {
			continue
		}
		entries, fire := e.fill(s, g, &quota), e.timerDue(s, g)
		if fire && len(entries) > 0 && s.Kind == plan.User {
			// An element may clear or overwrite a timer that is due, so they take turns. What is
			// put back here still counts in the quota, which is only a measure.
			if fire = !g.fired; fire {
				entries = nil
			}
		}
		if len(entries) == 0 && !fire {
			continue
		}
		if fire {
			quota.bytes -= timersCost
		}
		g.busy, g.fired = true, fire
		b.take(bundle.KeyGroup(i), entries, g.piece, fire)
		if g.attempts > 0 {
			return
		}
	}
}

// quota is what a bundle may still take.
type quota struct{ bytes, elements int }

func (q *quota) full() bool { return q.bytes <= 0 || q.elements <= 0 }

// minQuota keeps bundles from becoming so small that their fixed cost, some 100 µs, shows.
const minQuota = 64 << 10

// quota divides what waits for s among the bundles that may run at once.
func (e *Engine) quota(s *stage, waiting int) quota {
	share := waiting/e.opt.Parallelism + 1
	return quota{
		bytes:    min(max(share, minQuota), e.opt.BundleBytes),
		elements: e.opt.BundleElements,
	}
}

// fill returns the ready entries of a key group that fit into q, and at least one. A suspect is alone.
func (e *Engine) fill(s *stage, g *group, q *quota) []*entry {
	var entries []*entry
	for _, in := range g.entries {
		if q.full() || g.attempts > 0 && len(entries) == 1 {
			break
		}
		if !e.ready(s, in) {
			continue // What waits for its side input keeps nothing back that does not.
		}
		if in.attempts > 0 {
			if len(entries) > 0 {
				continue
			}
			return []*entry{in}
		}
		entries = append(entries, in)
		q.bytes -= in.size
		q.elements -= in.count
	}
	return entries
}

func (e *Engine) sortedRunning() []bundle.ID {
	ids := make([]bundle.ID, 0, len(e.running))
	for id := range e.running {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b bundle.ID) int { return cmp.Compare(a.N, b.N) })
	return ids
}

// Load fetches the chunks and due timers of an order. It may run beside the engine: what an order
// names is not changed before the order's bundle has ended.
func Load(p *plan.Plan, o Order, view kv.View) (bundle.Work, error) {
	w := bundle.Work{ID: o.ID, Stage: o.Stage, Watermark: o.Watermark, Now: o.Now}
	for _, in := range o.Inputs {
		loaded := bundle.Input{Group: in.Group}
		for _, seq := range in.Seqs {
			key := mailboxKey(o.Stage, in.Group, seq)
			row, ok := view.Get(key)
			if err := view.Err(); err != nil {
				return w, err
			}
			if !ok {
				return w, fmt.Errorf("mailbox row %x of bundle %v is missing", key, o.ID)
			}
			e, err := readEntry(key, row)
			if err != nil {
				return w, err
			}
			kept, err := readKept(row, e)
			if err != nil {
				return w, fmt.Errorf("mailbox row %x: %w", key, err)
			}
			c := bundle.Chunk{
				Count:        e.count,
				Bytes:        row[entryLen+e.kept:],
				MinTimestamp: e.watermark,
				MaxWindow:    e.maxWindow,
				Kept:         kept,
			}
			if in.First > 0 {
				size, err := sizeOf(&p.Stages[o.Stage], c.Bytes, in.First)
				if err != nil {
					return w, fmt.Errorf("mailbox row %x: %w", key, err)
				}
				c.Count, c.Bytes = in.First, c.Bytes[:size]
			}
			loaded.Chunks = append(loaded.Chunks, c)
		}
		if in.Fire {
			timers, err := loadTimers(view, o, in.Group)
			if err != nil {
				return w, err
			}
			loaded.Timers = timers
		}
		w.Inputs = append(w.Inputs, loaded)
	}
	return w, view.Err()
}

// loadTimers reads the due timers of a key group: those in event time, by time, then those in
// processing time. The state of a key and window does not expire in a bundle that fires other timers
// of theirs: those may still need it, and set timers again.
func loadTimers(view kv.View, o Order, g bundle.KeyGroup) ([]bundle.Timer, error) {
	var timers []bundle.Timer
	var failed error
	read := func(d plan.Domain, due func(event.Timestamp) bool) {
		prefix := duePrefix(o.Stage, g, d)
		view.Scan(prefix, kv.PrefixEnd(prefix), func(key, value []byte) bool {
			t, err := readDue(key, value)
			if err != nil {
				failed = err
				return false
			}
			if len(timers) == maxTimers || !due(t.Due) {
				return false
			}
			timers = append(timers, t)
			return true
		})
	}
	e := Engine{clock: o.Now}
	s := &stage{in: o.Watermark}
	for _, d := range []plan.Domain{plan.EventTime, plan.ProcessingTime} {
		read(d, func(due event.Timestamp) bool { return e.isDue(s, d, due) })
	}
	slices.SortStableFunc(timers, func(a, b bundle.Timer) int {
		return cmp.Or(cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.Due, b.Due), cmp.Compare(a.Kind, b.Kind))
	})
	needed := map[string]bool{}
	for i := range timers {
		if timers[i].Kind != bundle.ExpiryTimer {
			needed[timerCell(&timers[i])] = true
		}
	}
	timers = slices.DeleteFunc(timers, func(t bundle.Timer) bool {
		return t.Kind == bundle.ExpiryTimer && needed[timerCell(&t)]
	})
	return timers, failed
}

// timerCell names the key and window of a timer.
func timerCell(t *bundle.Timer) string { return string(appendBytes(appendBytes(nil, t.Key), t.Window)) }
