// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// submit puts what a new job begins with into the table.
func (e *Engine) submit(tx kv.Tx) error {
	tx.Set(jobKey("state"), []byte{byte(Running)})
	for _, s := range e.stages {
		if s.Kind != plan.Impulse {
			continue
		}
		s.in, s.out = event.MaxTimestamp, event.MaxTimestamp
		for o := range s.Outputs {
			s.counts.Out[o] = 1
			for c := range s.Outputs[o].Consumers {
				e.deliver(tx, s, bundle.Output{Output: o, Consumer: c, Chunk: impulse()})
			}
		}
		e.saveCounts(tx, s)
	}
	return nil
}

// impulse is the one element of beam:transform:impulse:v1: no bytes, at the beginning of time.
func impulse() bundle.Chunk {
	b := event.AppendTimestamp(nil, event.MinTimestamp)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = event.AppendPane(b, event.NoFiring)
	return bundle.Chunk{
		Count:        1,
		Bytes:        append(b, 0),
		MinTimestamp: event.MinTimestamp,
		MaxWindow:    event.EndOfGlobalWindow,
	}
}

// deliver puts a chunk that from has made into the mailbox of its consumer.
func (e *Engine) deliver(tx kv.Tx, from *stage, o bundle.Output) {
	to := e.stages[from.Outputs[o.Output].Consumers[o.Consumer]]
	e.enqueue(tx, to, o.Group, o.Chunk, event.MinTimestamp)
}

func (e *Engine) enqueue(tx kv.Tx, s *stage, g bundle.KeyGroup, c bundle.Chunk, notBefore event.Timestamp) {
	e.nextSeq++
	in := &entry{
		seq:       e.nextSeq,
		count:     c.Count,
		size:      len(c.Bytes),
		watermark: min(c.MinTimestamp, event.EndOfGlobalWindow), // No window ends before it was seen.
		maxWindow: c.MaxWindow,
		notBefore: notBefore,
		suspect:   innocent,
	}
	var kept []byte
	for _, k := range c.Kept {
		kept = k.Append(kept)
	}
	in.kept = len(kept)
	row := appendEntry(make([]byte, 0, entryLen+len(kept)+len(c.Bytes)), in)
	tx.Set(mailboxKey(s.ID, g, in.seq), append(append(row, kept...), c.Bytes...))
	s.index(g, in)
}

// index puts an entry of the table into the index.
func (s *stage) index(g bundle.KeyGroup, in *entry) {
	s.groups[g].entries = append(s.groups[g].entries, in)
	s.pending.Add(in.watermark)
	s.bytes += in.size
	s.elements += in.count
}

// commitBundle makes everything that a bundle did part of the transaction, and frees what it held.
// A bundle that the engine does not know belongs to an earlier epoch: its inputs run again.
func (e *Engine) commitBundle(tx kv.Tx, done BundleDone) error {
	b, ok := e.running[done.Result.ID]
	if !ok {
		return nil
	}
	s := e.stages[b.order.Stage]
	e.release(b)
	taken := e.consume(tx, s, b, done.Result.Unprocessed)
	e.consumeTimers(tx, s, done.Work.Inputs)
	for _, r := range done.Result.Residuals {
		e.enqueueResidual(tx, s, taken, r)
	}
	for _, o := range done.Result.Outputs {
		e.deliver(tx, s, o)
	}
	for i := range done.Result.State {
		e.applyState(tx, s, &done.Result.State[i])
	}
	if done.Result.Unprocessed == 0 {
		e.accused(b, func(a accused) { e.acquit(tx, a) })
	}
	for _, in := range b.order.Inputs {
		if s.Keyed() {
			e.refreshDue(tx, s, in.Group)
		}
	}
	e.count(tx, s, &done.Result)
	if done.Result.Finalize {
		e.do(FinalizeBundle{ID: done.Result.ID})
	}
	return tx.Err()
}

// release frees the key groups of a bundle that ended, whatever its end was.
func (e *Engine) release(b *inflight) {
	delete(e.running, b.order.ID)
	s := e.stages[b.order.Stage]
	s.running--
	if !s.Splittable {
		e.workers--
	}
	for _, in := range b.order.Inputs {
		s.groups[in.Group].busy = false
	}
	for _, entries := range b.taken {
		for _, entry := range entries {
			entry.taken = false
		}
	}
}

// consume removes the inputs of a bundle from the mailbox, but for the last ones if it did not
// begin them, and returns the last one that was processed.
func (e *Engine) consume(tx kv.Tx, s *stage, b *inflight, unprocessed int) (last *entry) {
	for i, in := range b.order.Inputs {
		done := b.taken[i]
		if unprocessed > len(done) {
			panic(fmt.Sprintf("engine: bundle %v left %d of %d inputs", b.order.ID, unprocessed, len(done)))
		}
		done = done[:len(done)-unprocessed]
		if in.First > 0 {
			e.behead(tx, s, in.Group, done[0], in.First)
			continue
		}
		e.remove(tx, s, in.Group, done...)
		if len(done) > 0 {
			last = done[len(done)-1]
		}
	}
	return last
}

// remove takes chunks out of the mailbox of a key group.
func (e *Engine) remove(tx kv.Tx, s *stage, g bundle.KeyGroup, done ...*entry) {
	gone := make(map[*entry]bool, len(done))
	for _, entry := range done {
		gone[entry] = true
		if entry.kept > 0 {
			e.forget(tx, s, g, entry)
		}
		tx.Delete(mailboxKey(s.ID, g, entry.seq))
		s.pending.Remove(entry.watermark)
		s.bytes -= entry.size
		s.elements -= entry.count
	}
	box := s.groups[g]
	kept := box.entries[:0]
	for _, entry := range box.entries {
		if !gone[entry] {
			kept = append(kept, entry)
		}
	}
	clear(box.entries[len(kept):])
	box.entries = kept
}

// forget removes the values that were kept for a chunk, which is still in its mailbox.
func (e *Engine) forget(tx kv.Tx, s *stage, g bundle.KeyGroup, in *entry) {
	key := mailboxKey(s.ID, g, in.seq)
	row, ok := tx.Get(key)
	if !ok {
		return // The read failed, and with it the transaction will.
	}
	all, err := readKept(row, in)
	if err != nil {
		panic(fmt.Sprintf("engine: mailbox row %x: %v", key, err)) // It was read when the bundle was loaded.
	}
	for _, k := range all {
		prefix := StatePrefix(k.Stage, k.Group)
		for _, c := range k.Chains {
			for n := range c.Rows {
				tx.Delete(append(prefix[:len(prefix):len(prefix)], c.Row(n)...))
			}
		}
	}
}

func (e *Engine) consumeTimers(tx kv.Tx, s *stage, inputs []bundle.Input) {
	for _, in := range inputs {
		for i := range in.Timers {
			e.clearTimer(tx, s, in.Group, &in.Timers[i])
			if in.Timers[i].Kind == bundle.ExpiryTimer {
				e.expireTimers(tx, s, in.Group, &in.Timers[i])
			}
		}
	}
}

// enqueueResidual puts the rest of a restriction back. Its watermark is what its estimator says,
// but not behind that of the restriction it comes from: the watermark has relied on that.
func (e *Engine) enqueueResidual(tx kv.Tx, s *stage, from *entry, r bundle.Residual) {
	chunk := bundle.Chunk{Count: 1, Bytes: r.Element, MinTimestamp: r.Watermark}
	if from != nil {
		chunk.MinTimestamp = max(r.Watermark, from.watermark)
		chunk.MaxWindow = from.maxWindow
	}
	notBefore := event.MinTimestamp
	if r.Delay > 0 {
		notBefore = e.clock.Add(time.Duration(r.Delay) * time.Millisecond)
	}
	e.enqueue(tx, s, 0, chunk, notBefore)
}

func (e *Engine) applyState(tx kv.Tx, s *stage, change *bundle.GroupState) {
	prefix := StatePrefix(s.ID, change.Group)
	for _, w := range change.Writes {
		key := append(prefix[:len(prefix):len(prefix)], w.Key...)
		if w.Delete {
			tx.Delete(key)
		} else {
			tx.Set(key, w.Value)
		}
	}
	for i := range change.Timers {
		if t := &change.Timers[i].Timer; change.Timers[i].Clear {
			e.clearTimer(tx, s, change.Group, t)
		} else {
			e.setTimer(tx, s, change.Group, t)
		}
	}
}

// count adds a bundle's counts and metrics to those of the job.
func (e *Engine) count(tx kv.Tx, s *stage, r *bundle.Result) {
	s.counts.In += r.Counts.In
	s.counts.Late += r.Counts.Late
	s.counts.Bytes += r.Counts.Bytes
	for i, n := range r.Counts.Out {
		s.counts.Out[i] += n
	}
	e.saveCounts(tx, s)
	for _, m := range r.Metrics {
		sum, ok := e.metrics[m.MetricName]
		if ok {
			m = sum.Add(m)
		}
		e.metrics[m.MetricName] = m
		tx.Set(appendMetricName([]byte{tableMetric}, m.MetricName), appendMetric(nil, m))
	}
}
