// SPDX-License-Identifier: Apache-2.0

package kinesisio

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/util/reflectx"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/log"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/hornbeam-dev/hornbeam/io/internal/outage"
)

// resumeDelay is how long a caught-up restriction rests. Some runners do not survive less than a second.
const resumeDelay = time.Second

// Read reads a stream and returns PCollection<Record> and PCollection<DeadLetter>. It is bounded if cfg.To is set.
func Read(s beam.Scope, cfg ReadConfig) (records, dead beam.PCollection) {
	s = s.Scope("kinesisio.Read")
	cfg, err := cfg.withDefaults()
	if err != nil {
		panic(fmt.Sprintf("kinesisio.Read: %v", err))
	}
	r := newReader(cfg)
	if closureName.MatchString(r.EventTime) {
		panic(fmt.Sprintf("kinesisio.Read: EventTime %s is a closure or a method, which cannot travel to a worker; write a function with a name", r.EventTime))
	}
	found := beam.ParDo(s, &listFn{Place: r.Place, From: cfg.From, To: cfg.To, Timeout: cfg.Timeout}, beam.Impulse(s))
	if cfg.To.Kind != "" {
		records, dead = beam.ParDo2(s, &readBoundedFn{reader: r}, found)
	} else {
		records, dead = beam.ParDo2(s, &readFn{reader: r}, found)
	}
	if cfg.Dedupe {
		records = dedupe(s, records)
	}
	return records, dead
}

// reader is what the bounded and the unbounded read share. Its exported fields are those of ReadConfig.
type reader struct {
	Place        place
	EventTime    string // The name of the function, or empty.
	OutOfOrder   time.Duration
	IdleAfter    time.Duration
	MaxAhead     time.Duration
	MaxBehind    time.Duration
	PositionGone GonePolicy
	Timeout      time.Duration
	FetchRecords int32
	Turn         time.Duration
	ReadGap      time.Duration

	client    *client
	release   func()
	eventTime func(Record) (time.Time, error)

	records, dead, gone, ahead, other, shards beam.Counter
	backlog                                   beam.Gauge
}

func newReader(cfg ReadConfig) reader {
	r := reader{
		Place: place{cfg.Region, cfg.Endpoint, cfg.Stream, cfg.Consumer}, OutOfOrder: cfg.OutOfOrder, IdleAfter: cfg.IdleAfter, MaxAhead: cfg.MaxAhead,
		MaxBehind: cfg.MaxBehind, PositionGone: cfg.PositionGone, Timeout: cfg.Timeout, FetchRecords: cfg.FetchRecords, Turn: cfg.Turn,
		ReadGap: cfg.ReadGap,
	}
	if cfg.EventTime != nil {
		r.EventTime = reflectx.FunctionName(cfg.EventTime)
	}
	return r
}

// Setup implements a DoFn.
func (r *reader) Setup(ctx context.Context) (err error) {
	if r.client, r.release, err = clients.Acquire(ctx, r.Place); err != nil {
		return err
	}
	r.records = beam.NewCounter(namespace, "records_read")
	r.dead = beam.NewCounter(namespace, "dead_letters")
	r.gone = beam.NewCounter(namespace, "positions_gone")
	r.ahead = beam.NewCounter(namespace, "records_ahead_of_clock")
	r.other = beam.NewCounter(namespace, "records_of_other_shards")
	r.shards = beam.NewCounter(namespace, "shards_finished")
	r.backlog = beam.NewGauge(namespace, "millis_behind_latest")
	if r.EventTime == "" {
		return nil
	}
	fn, err := runtime.ResolveFunction(r.EventTime, reflect.TypeOf(r.eventTime))
	if err != nil {
		return fmt.Errorf("kinesisio.Read: event time function %s is not in this worker: %w", r.EventTime, err)
	}
	eventTime, ok := fn.(func(Record) (time.Time, error))
	if !ok {
		return fmt.Errorf("kinesisio.Read: %s is a %T in this worker", r.EventTime, fn)
	}
	r.eventTime = eventTime
	return nil
}

// Teardown implements a DoFn.
func (r *reader) Teardown() {
	if r.release != nil {
		r.release()
		r.client, r.release = nil, nil
	}
}

// CreateInitialRestriction implements a splittable DoFn.
func (r *reader) CreateInitialRestriction(rest Restriction) Restriction { return rest }

// SplitRestriction implements a splittable DoFn: a shard is read in its order.
func (r *reader) SplitRestriction(_, rest Restriction) []Restriction { return []Restriction{rest} }

// RestrictionSize implements a splittable DoFn: how many seconds of the stream are left, as far as this process knows.
// Beam calls no Setup where it sizes restrictions.
func (r *reader) RestrictionSize(_, rest Restriction) float64 {
	if c, ok := clients.Known(r.Place); ok {
		return c.secondsBehind(rest.Parts)
	}
	return 0
}

// CreateTracker implements a splittable DoFn.
func (r *reader) CreateTracker(rest Restriction) *sdf.LockRTracker {
	return sdf.NewLockRTracker(newTracker(rest))
}

// InitialWatermarkEstimatorState implements a splittable DoFn.
func (r *reader) InitialWatermarkEstimatorState(et beam.EventTime, _, _ Restriction) WatermarkState {
	return WatermarkState{Watermark: et.Milliseconds()}
}

// CreateWatermarkEstimator implements a splittable DoFn.
func (r *reader) CreateWatermarkEstimator(state WatermarkState) *estimator {
	return newEstimator(state)
}

// WatermarkEstimatorState implements a splittable DoFn.
func (r *reader) WatermarkEstimatorState(e *estimator) WatermarkState { return e.current() }

// readFn reads restrictions without an end.
type readFn struct{ reader }

// TruncateRestriction implements a splittable DoFn: a drain ends an unbounded read where it is. A bounded one has
// no such method and comes to its end.
func (f *readFn) TruncateRestriction(rt *sdf.LockRTracker, _ Restriction) Restriction {
	rest := rt.GetRestriction().(Restriction)
	rest.Parts = nil
	return rest
}

// ProcessElement reads until the shards are caught up, its turn is over, or the runner takes the rest.
func (f *readFn) ProcessElement(ctx context.Context, we *estimator, rt *sdf.LockRTracker, _ Restriction, emit func(beam.EventTime, Record), dead func(DeadLetter)) (sdf.ProcessContinuation, error) {
	done, err := f.read(ctx, &reading{rt: rt, we: we, emit: emit, dead: dead})
	if err != nil || done {
		return sdf.StopProcessing(), err
	}
	return sdf.ResumeProcessingIn(resumeDelay), nil
}

// readBoundedFn reads restrictions with an end.
type readBoundedFn struct{ reader }

// ProcessElement reads to the end of the restriction, or until the runner takes the rest.
func (f *readBoundedFn) ProcessElement(ctx context.Context, we *estimator, rt *sdf.LockRTracker, _ Restriction, emit func(beam.EventTime, Record), dead func(DeadLetter)) error {
	_, err := f.read(ctx, &reading{rt: rt, we: we, emit: emit, dead: dead})
	return err
}

// reading is one call of ProcessElement.
type reading struct {
	rt   *sdf.LockRTracker
	we   *estimator
	emit func(beam.EventTime, Record)
	dead func(DeadLetter)

	aheadLogged bool
}

// left is what is left of the restriction.
func (in *reading) left() Restriction {
	in.rt.Mu.Lock()
	defer in.rt.Mu.Unlock()
	t := in.rt.Rt.(*tracker)
	rest := t.rest
	rest.Parts = slices.Clone(t.now)
	return rest
}

// place is where a part is after what was claimed last; false when it is not ours any more.
func (in *reading) place(id partID) (Place, bool) {
	for _, p := range in.left().Parts {
		if p.id() == id {
			return p.At, true
		}
	}
	return Place{}, false
}

func (in *reading) setBacklog(seconds float64) {
	in.rt.Mu.Lock()
	defer in.rt.Mu.Unlock()
	in.rt.Rt.(*tracker).left = seconds
}

// read returns false when an unbounded restriction is caught up, or its turn is over.
func (r *reader) read(ctx context.Context, in *reading) (done bool, err error) {
	began := time.Now()
	in.we.follow(in.left().Parts, partID{})
	for !in.rt.IsDone() {
		caughtUp := true
		rest := in.left()
		for _, p := range rest.Parts {
			if rest.waits(p) {
				continue
			}
			more, err := r.step(ctx, in, rest, p)
			if err != nil || in.rt.GetError() != nil {
				return true, errors.Join(err, in.rt.GetError())
			}
			caughtUp = caughtUp && !more
		}
		over := r.Turn > 0 && time.Since(began) >= r.Turn
		if (caughtUp || over) && !rest.bounded() && !in.rt.IsDone() {
			return false, nil
		}
	}
	return true, in.rt.GetError()
}

// step reads once from a part, and tells whether there is more to read.
func (r *reader) step(ctx context.Context, in *reading, rest Restriction, p Part) (more bool, err error) {
	var b *batch
	patience := r.patience(in)
	patience.Before = func(ctx context.Context) error { return r.client.pace(ctx, rest, p, r.ReadGap, in.rt.IsDone) }
	err = r.client.patiently(ctx, "shard "+p.Shard, patience, func(ctx context.Context) error {
		b, err = r.client.get(ctx, rest, p, fetchOptions{records: r.FetchRecords, wait: r.ReadGap})
		return err
	})
	var gone *goneError
	switch {
	case errors.Is(err, outage.ErrStopped):
		return true, nil
	case errors.As(err, &gone) && r.PositionGone == GoneSkipsTo:
		return true, r.skip(ctx, in, p, gone)
	case err != nil:
		return true, err
	}
	in.setBacklog(r.client.secondsBehind(rest.Parts))
	r.backlog.Set(ctx, b.behind)
	ended, ok := r.take(ctx, in, rest, p, b)
	switch {
	case !ok:
		return true, nil
	case ended:
		return true, r.finish(in, p, nil)
	case b.over():
		var next []Part
		err := r.client.patiently(ctx, "what follows shard "+p.Shard, r.patience(in), func(ctx context.Context) error {
			next, err = r.client.successors(ctx, p, b.children)
			return err
		})
		if errors.Is(err, outage.ErrStopped) {
			return true, nil
		}
		if err == nil {
			r.shards.Inc(ctx, 1)
			err = r.finish(in, p, next)
		}
		return true, err
	case len(b.records) > 0 || b.behind > 0:
		in.we.sawMore(p.id())
		return true, nil
	}
	// The shard is caught up: nothing that arrived before this read was sent is left.
	if rest.bounded() && b.now.Add(-transit).UnixMilli() >= rest.End {
		return true, r.finish(in, p, nil)
	}
	in.rt.TryClaim(tip{p.id(), b.now.Add(-transit).UnixMilli()})
	in.we.sawEnd(p.id(), b.sent, r.OutOfOrder, r.IdleAfter)
	return false, nil
}

// patience ends with the restriction.
func (r *reader) patience(in *reading) outage.Patience {
	return outage.Patience{Timeout: r.Timeout, Stop: in.rt.IsDone}
}

// finish gives the rest of a part to those that follow it.
func (r *reader) finish(in *reading, p Part, next []Part) error {
	if in.rt.TryClaim(handOver{p.id(), next}) {
		in.we.follow(in.left().Parts, p.id())
	}
	r.client.forgetPart(p.id())
	return in.rt.GetError()
}

// skip goes on with the earliest record there is.
func (r *reader) skip(ctx context.Context, in *reading, p Part, gone *goneError) error {
	var next []Part
	err := r.client.patiently(ctx, "what is left of shard "+p.Shard, r.patience(in), func(ctx context.Context) (err error) {
		next, err = r.client.earliest(ctx, p)
		return err
	})
	if errors.Is(err, outage.ErrStopped) {
		return nil
	}
	if err != nil {
		return err
	}
	r.client.forgetPart(p.id())
	if in.rt.TryClaim(restart{p.id(), next}) {
		in.we.follow(in.left().Parts, p.id())
		r.gone.Inc(ctx, 1)
		log.Warnf(ctx, "%v; it goes on with the earliest", gone)
	}
	return in.rt.GetError()
}

// take emits what a read brought. ended: a record is past the restriction's end. Not ok: the part is not ours
// any more, and what was not claimed is kept for who reads on.
func (r *reader) take(ctx context.Context, in *reading, rest Restriction, p Part, b *batch) (ended, ok bool) {
	at, ok := in.place(p.id())
	if !ok {
		return false, false
	}
	for i, k := range b.records {
		sequence := aws.ToString(k.SequenceNumber)
		arrival := aws.ToTime(k.ApproximateArrivalTimestamp).UnixMilli()
		skip := int64(0)
		if at.Kind == "sequence" {
			c := compareSequences(sequence, at.Sequence)
			if c < 0 || c == 0 && at.Taken < 0 {
				continue
			}
			if c == 0 {
				skip = at.Taken
			}
		}
		if arrival >= rest.End {
			return true, true
		}
		mine := r.mine(ctx, p, k)
		claimed := 0
		for j, u := range mine {
			if u.index < skip {
				continue
			}
			last := j == len(mine)-1
			if !in.rt.TryClaim(take{p.id(), sequence, u.index, last, arrival}) {
				r.client.reached(p.id(), at, b.from(i))
				return false, false
			}
			claimed++
			at = Place{Kind: "sequence", Sequence: sequence, Taken: u.index + 1}
			if last {
				at.Taken = -1
			}
			r.emit(ctx, in, p.id(), u.record)
		}
		if claimed == 0 {
			if !in.rt.TryClaim(pass{p.id(), sequence, arrival}) {
				r.client.reached(p.id(), at, b.from(i))
				return false, false
			}
			at = Place{Kind: "sequence", Sequence: sequence, Taken: -1}
		}
	}
	r.client.reached(p.id(), at, b.from(len(b.records)))
	return false, true
}

// own is a user record and its place in the Kinesis record.
type own struct {
	index  int64
	record Record
}

// mine returns the user records of a Kinesis record that belong to a part. A user record in an aggregated one
// whose hash key is not of the shard was put there when the shard was larger, and is in its right shard, too.
func (r *reader) mine(ctx context.Context, p Part, k types.Record) []own {
	whole := Record{
		Stream: r.Place.Stream, Shard: p.Shard, Sequence: aws.ToString(k.SequenceNumber), PartitionKey: aws.ToString(k.PartitionKey),
		Data: k.Data, Arrival: aws.ToTime(k.ApproximateArrivalTimestamp).UnixMilli(),
	}
	users, aggregated := disaggregate(k.Data)
	if !aggregated {
		// Kinesis does not tell an explicit hash key. Every record must be of exactly one part of its shard.
		hash := min(max(hashOf(whole.PartitionKey), p.ShardLow), p.ShardHigh)
		if hash < p.Low || p.High < hash {
			return nil
		}
		return []own{{0, whole}}
	}
	var found []own
	for i, u := range users {
		hash := hashOf(u.key)
		if u.explicit != "" {
			hash, _ = parseHash(u.explicit)
		}
		if hash < p.ShardLow || p.ShardHigh < hash {
			r.other.Inc(ctx, 1)
			continue
		}
		if hash < p.Low || p.High < hash {
			continue
		}
		rec := whole
		rec.Index, rec.PartitionKey, rec.ExplicitHashKey, rec.Data = int64(i), u.key, u.explicit, u.data
		found = append(found, own{int64(i), rec})
	}
	return found
}

// emit sends a record, or a dead letter, and moves the watermark.
func (r *reader) emit(ctx context.Context, in *reading, id partID, rec Record) {
	now := time.Now()
	t, letter := r.timeOf(rec, now)
	if letter != nil {
		r.dead.Inc(ctx, 1)
		in.dead(*letter)
		return
	}
	if t.Sub(now) > 5*time.Minute { // Only without MaxAhead, or with a larger one.
		r.ahead.Inc(ctx, 1)
		if !in.aheadLogged {
			in.aheadLogged = true
			log.Warnf(ctx, "kinesisio.Read: stream %s, shard %s, sequence number %s: event time %v is ahead of the clock and moves the watermark; "+
				"records in time may now be late; set MaxAhead", rec.Stream, rec.Shard, rec.Sequence, t.UTC())
		}
	}
	at := mtime.FromTime(t)
	r.records.Inc(ctx, 1)
	in.emit(at, rec)
	in.we.sawRecord(id, at, r.OutOfOrder)
}

// timeOf returns the event time of a record, or the dead letter it becomes.
func (r *reader) timeOf(rec Record, now time.Time) (time.Time, *DeadLetter) {
	bad := func(code, format string, args ...any) *DeadLetter {
		return &DeadLetter{Code: code, Error: fmt.Sprintf(format, args...), Record: rec}
	}
	arrived := time.UnixMilli(rec.Arrival)
	t := arrived
	if r.eventTime != nil {
		var err error
		if t, err = r.eventTime(rec); err != nil {
			return t, bad(CodeBadTime, "%v", err)
		}
	}
	// The bounds follow the record, so that old data read again is not too old.
	latest := now
	if arrived.Before(now) {
		latest = arrived
	}
	switch {
	case r.MaxAhead > 0 && isAhead(t, latest, r.MaxAhead):
		return t, bad(CodeFuture, "event time %v is more than %v ahead of %v", t.UTC(), r.MaxAhead, latest.UTC())
	case r.MaxBehind > 0 && isBehind(t, arrived, r.MaxBehind):
		return t, bad(CodeBadTime, "event time %v is more than %v before %v; is its unit right?", t.UTC(), r.MaxBehind, arrived.UTC())
	case t.Before(mtime.MinTimestamp.ToTime()) || t.After(mtime.EndOfGlobalWindowTime.ToTime()):
		return t, bad(CodeBadTime, "event time %v is outside of what Beam can hold", t.UTC())
	}
	return t, nil
}

// isAhead and isBehind are the edges: what lies exactly on the bound is inside.
func isAhead(t, of time.Time, bound time.Duration) bool { return t.After(of.Add(bound)) }

func isBehind(t, of time.Time, bound time.Duration) bool { return t.Before(of.Add(-bound)) }
