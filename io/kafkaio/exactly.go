// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window/trigger"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/state"
)

const (
	parcelRecords = 4000    // Of one transaction, at most.
	parcelBytes   = 2 << 20 // After which a transaction is full.
)

// writeExactly gives each record a shard, gathers the records of a shard, numbers them, and writes each parcel
// in a transaction. Between numbering and writing there must be a durable boundary: what has a number keeps it.
// There is one, because a DoFn with state is the first of its stage; a Reshuffle would add nothing but a payload
// that the SDK encodes differently in each process.
func writeExactly(s beam.Scope, cfg WriteConfig, sharded beam.PCollection) beam.PCollection {
	full := trigger.AfterAny([]trigger.Trigger{trigger.AfterCount(parcelRecords), trigger.AfterProcessingTime().PlusDelay(cfg.Every)})
	global := beam.WindowInto(s, window.NewGlobalWindows(), sharded, beam.Trigger(trigger.Repeat(full)), beam.PanesDiscard())
	parcels := beam.ParDo(s, &gatherFn{}, beam.GroupByKey(s, global))
	return beam.ParDo(s, newCommitFn(cfg), beam.ParDo(s, newNumberFn(), parcels))
}

// shardOf depends on the record alone: equal keys meet in a shard, and there in their order.
func shardOf(r Record, encoded []byte, shards int) int64 {
	h := fnv.New64a()
	if r.NoKey {
		h.Write(encoded)
	} else {
		h.Write(r.Key)
	}
	return int64(h.Sum64() % uint64(shards))
}

// shardFn encodes records and gives them a shard.
type shardFn struct {
	Shards int // As in WriteConfig.
}

// ProcessElement implements a DoFn.
func (f *shardFn) ProcessElement(r Record, emit func(int64, []byte)) {
	encoded := encodeRecord(r)
	emit(shardOf(r, encoded, f.Shards), encoded)
}

// gatherFn puts the records of a pane into parcels.
type gatherFn struct{}

// ProcessElement implements a DoFn.
func (f *gatherFn) ProcessElement(shard int64, records func(*[]byte) bool, emit func(int64, []byte)) {
	var count uint64
	var body, record []byte
	send := func() {
		if count > 0 {
			emit(shard, append(binary.AppendUvarint(nil, count), body...))
		}
		count, body = 0, nil
	}
	for records(&record) {
		body = appendBytes(body, record)
		if count++; count == parcelRecords || len(body) >= parcelBytes {
			send()
		}
	}
	send()
}

// numbering is the state of numberFn.
type numbering struct {
	Writer string
	Last   int64
}

// numberFn numbers the records of a shard from 1, without a gap.
type numberFn struct {
	State state.Value[numbering]
}

func newNumberFn() *numberFn { return &numberFn{State: state.MakeValueState[numbering]("numbers/v1")} }

// ProcessElement implements a DoFn. The writer's name is new for a new state: so another job, or this one after
// its state was lost, is told from a job that goes on.
func (f *numberFn) ProcessElement(sp state.Provider, shard int64, parcel []byte, emit func(int64, []byte)) error {
	n, _, err := f.State.Read(sp)
	if err != nil {
		return err
	}
	if n.Writer == "" {
		n.Writer = rand.Text()
	}
	count, size := binary.Uvarint(parcel)
	if size <= 0 {
		return errMalformed
	}
	emit(shard, encodeNumbered(n.Writer, n.Last+1, parcel))
	n.Last += int64(count)
	return f.State.Write(sp, n)
}

// progress is the state of commitFn: how far a shard is.
type progress struct {
	Writer     string
	Seq        int64  // Everything up to it is in Kafka or a dead letter.
	Chain      []byte // Of the records up to Seq.
	Kafka      int64  // The number that Kafka has at least: Seq, unless the last records were dead letters.
	KafkaChain []byte // Of the records up to Kafka.
	Waiting    int    // How many batches have come before their turn.
}

// exactWriter is what the DoFn and its tests share. Its exported fields are those of WriteConfig.
type exactWriter struct {
	Brokers []string
	Access  Access
	Topic   string
	ID      string
	Timeout time.Duration

	sessions map[int64]*session
	bundle   map[int64]*shardBundle
	written  beam.Counter
	dead     beam.Counter
}

// shardBundle is what the current bundle has done in a shard.
type shardBundle struct {
	base int64 // Progress before the bundle: what is certain.
	dead []refused
}

// commitFn writes batches, in the order of their numbers.
type commitFn struct {
	exactWriter
	Progress state.Value[progress]
	Waiting  state.Bag[[]byte] // Batches before whose turn another one has to come.
}

func newCommitFn(cfg WriteConfig) *commitFn {
	return &commitFn{
		exactWriter: exactWriter{Brokers: cfg.Brokers, Access: cfg.Access, Topic: cfg.Topic, ID: cfg.ID, Timeout: cfg.Timeout},
		Progress:    state.MakeValueState[progress]("progress/v1"),
		Waiting:     state.MakeBagState[[]byte]("waiting/v1"),
	}
}

// Setup implements a DoFn.
func (w *exactWriter) Setup() {
	w.written = beam.NewCounter(namespace, "records_written")
	w.dead = beam.NewCounter(namespace, "write_dead_letters")
	w.sessions = map[int64]*session{}
}

// StartBundle implements a DoFn.
func (f *commitFn) StartBundle(context.Context, func(DeadLetter)) { f.start() }

func (w *exactWriter) start() { w.bundle = map[int64]*shardBundle{} }

// Teardown implements a DoFn.
func (w *exactWriter) Teardown() {
	for shard := range w.sessions {
		w.drop(shard)
	}
}

func (w *exactWriter) drop(shard int64) {
	w.sessions[shard].close()
	delete(w.sessions, shard)
}

// ProcessElement implements a DoFn.
func (f *commitFn) ProcessElement(ctx context.Context, sp state.Provider, shard int64, encoded []byte, dead func(DeadLetter)) error {
	b, err := decodeNumbered(encoded)
	if err != nil {
		return err
	}
	p, _, err := f.Progress.Read(sp)
	if err != nil {
		return err
	}
	if p.Writer == "" {
		p.Writer = b.writer
	}
	switch {
	case p.Writer != b.writer:
		return fmt.Errorf("kafkaio.Write: shard %d has records of two writers, %s and %s: the states of the job do not belong together", shard, p.Writer, b.writer)
	case b.last() <= p.Seq:
		return nil // It was here before.
	case b.first <= p.Seq:
		return fmt.Errorf("kafkaio.Write: shard %d: records %d to %d overlap what was written up to %d: "+
			"the runner does not keep a group the same on a retry (see Delivery guarantees)", shard, b.first, b.last(), p.Seq)
	case b.first > p.Seq+1:
		p.Waiting++
		return errors.Join(f.Waiting.Add(sp, encoded), f.Progress.Write(sp, p))
	}
	if p, err = f.write(ctx, shard, p, b, dead); err != nil {
		return err
	}
	if p.Waiting > 0 {
		if p, err = f.writeWaiting(ctx, sp, shard, p, dead); err != nil {
			return err
		}
	}
	return f.Progress.Write(sp, p)
}

// writeWaiting writes those whose turn has come.
func (f *commitFn) writeWaiting(ctx context.Context, sp state.Provider, shard int64, p progress, dead func(DeadLetter)) (progress, error) {
	encoded, _, err := f.Waiting.Read(sp)
	if err != nil {
		return p, err
	}
	var waiting []numbered
	for _, e := range encoded {
		b, err := decodeNumbered(e)
		if err != nil {
			return p, err
		}
		waiting = append(waiting, b)
	}
	slices.SortFunc(waiting, func(a, b numbered) int { return int(a.first - b.first) })
	before := len(waiting)
	for len(waiting) > 0 && waiting[0].first <= p.Seq+1 {
		if waiting[0].first == p.Seq+1 {
			if p, err = f.write(ctx, shard, p, waiting[0], dead); err != nil {
				return p, err
			}
		}
		waiting = waiting[1:]
	}
	if p.Waiting = len(waiting); p.Waiting == before {
		return p, nil
	}
	if err := f.Waiting.Clear(sp); err != nil {
		return p, err
	}
	for _, e := range encoded {
		if b, err := decodeNumbered(e); err == nil && b.first > p.Seq {
			if err := f.Waiting.Add(sp, e); err != nil {
				return p, err
			}
		}
	}
	return p, nil
}

// write writes a batch that follows p, and returns the progress after it. It tries until Timeout.
func (w *exactWriter) write(ctx context.Context, shard int64, p progress, b numbered, dead func(DeadLetter)) (progress, error) {
	id := fmt.Sprintf("%s/%d", w.ID, shard)
	in := w.bundle[shard]
	if in == nil {
		in = &shardBundle{base: p.Seq}
		w.bundle[shard] = in
	}
	d := newDelivery(w, shard, id, p, b)
	if err := d.run(ctx); err != nil {
		w.drop(shard)
		return p, fmt.Errorf("kafkaio.Write: topic %s on %s, transactional id %s: %w", w.Topic, strings.Join(w.Brokers, ","), id, err)
	}
	for _, r := range in.dead {
		if r.Seq < b.first || r.Seq > b.last() {
			continue
		}
		rec, err := decodeRecord(b.records[r.Seq-b.first])
		if err != nil {
			return p, err
		}
		rec.Topic, rec.Partition, rec.Offset = w.Topic, -1, -1
		w.dead.Inc(ctx, 1)
		dead(DeadLetter{Code: r.Code, Error: fmt.Sprintf("the broker does not take this record for topic %s: %s", w.Topic, r.Code), Record: rec})
	}
	w.written.Inc(ctx, int64(len(b.records)-d.deadHere()))
	return d.after(), nil
}
