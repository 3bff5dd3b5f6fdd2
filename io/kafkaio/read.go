// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/util/reflectx"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/log"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hornbeam-dev/hornbeam/io/internal/outage"
)

// resumeDelay is how long a caught-up partition rests. Some runners do not survive less than a second.
const resumeDelay = time.Second

// Read reads a topic and returns PCollection<Record> and PCollection<DeadLetter>. It is bounded if cfg.To is set.
func Read(s beam.Scope, cfg ReadConfig) (records, dead beam.PCollection) {
	s = s.Scope("kafkaio.Read")
	cfg, err := cfg.withDefaults()
	if err != nil {
		panic(fmt.Sprintf("kafkaio.Read: %v", err))
	}
	r := newReader(cfg)
	if closureName.MatchString(r.EventTime) {
		panic(fmt.Sprintf("kafkaio.Read: EventTime %s is a closure or a method, which cannot travel to a worker; write a function with a name", r.EventTime))
	}
	find := lister{Brokers: cfg.Brokers, Access: cfg.Access, Topic: cfg.Topic, From: cfg.From, To: cfg.To, Timeout: cfg.Timeout}
	impulse := beam.Impulse(s)
	switch {
	case cfg.To.Kind != "":
		return beam.ParDo2(s, &readBoundedFn{reader: r}, beam.ParDo(s, &listFn{Lister: find}, impulse))
	case cfg.Discover < 0:
		return beam.ParDo2(s, &readFn{reader: r}, beam.ParDo(s, &listFn{Lister: find}, impulse))
	}
	found := beam.ParDo(s, &discoverFn{Lister: find, Every: cfg.Discover, OutOfOrder: cfg.OutOfOrder}, impulse)
	return beam.ParDo2(s, &readFn{reader: r}, found)
}

// reader is what the bounded and the unbounded read share. Its exported fields are those of ReadConfig.
type reader struct {
	Brokers         []string
	Access          Access
	Registry        string
	RegistryAuth    string
	ReadUncommitted bool
	EventTime       string // The name of the function, or empty.
	OutOfOrder      time.Duration
	IdleAfter       time.Duration
	MaxAhead        time.Duration
	MaxBehind       time.Duration
	OffsetGone      GonePolicy
	Timeout         time.Duration
	FetchBytes      int32
	Turn            time.Duration

	client    *client
	release   func()
	registry  *registry // Nil without one.
	eventTime func(Record) (time.Time, error)

	records, dead, gone, ahead beam.Counter
	backlog                    beam.Gauge
}

func newReader(cfg ReadConfig) reader {
	r := reader{
		Brokers: cfg.Brokers, Access: cfg.Access, Registry: cfg.Registry, RegistryAuth: cfg.RegistryAuth, ReadUncommitted: cfg.ReadUncommitted,
		OutOfOrder: cfg.OutOfOrder, IdleAfter: cfg.IdleAfter, MaxAhead: cfg.MaxAhead, MaxBehind: cfg.MaxBehind,
		OffsetGone: cfg.OffsetGone, Timeout: cfg.Timeout, FetchBytes: cfg.FetchBytes, Turn: cfg.Turn,
	}
	if cfg.EventTime != nil {
		r.EventTime = reflectx.FunctionName(cfg.EventTime)
	}
	return r
}

// Setup implements a DoFn.
func (r *reader) Setup() error {
	if err := r.connect(); err != nil {
		return err
	}
	r.records = beam.NewCounter(namespace, "records_read")
	r.dead = beam.NewCounter(namespace, "dead_letters")
	r.gone = beam.NewCounter(namespace, "offsets_gone")
	r.ahead = beam.NewCounter(namespace, "records_ahead_of_clock")
	r.backlog = beam.NewGauge(namespace, "backlog")
	if r.Registry != "" {
		var err error
		if r.registry, err = newRegistry(r.Registry, r.RegistryAuth); err != nil {
			return err
		}
	}
	if r.EventTime == "" {
		return nil
	}
	fn, err := runtime.ResolveFunction(r.EventTime, reflect.TypeOf(r.eventTime))
	if err != nil {
		return fmt.Errorf("kafkaio.Read: event time function %s is not in this worker: %w", r.EventTime, err)
	}
	eventTime, ok := fn.(func(Record) (time.Time, error))
	if !ok {
		return fmt.Errorf("kafkaio.Read: %s is a %T in this worker", r.EventTime, fn)
	}
	r.eventTime = eventTime
	return nil
}

func (r *reader) connect() (err error) {
	if r.client == nil {
		r.client, r.release, err = acquire(r.Brokers, r.Access)
	}
	return err
}

// Teardown implements a DoFn.
func (r *reader) Teardown() {
	if r.release != nil {
		r.release()
		r.client, r.release = nil, nil
	}
}

// CreateInitialRestriction implements a splittable DoFn.
func (r *reader) CreateInitialRestriction(p partition) Restriction { return Restriction(p) }

// SplitRestriction implements a splittable DoFn: a partition is read in its order.
func (r *reader) SplitRestriction(_ partition, rest Restriction) []Restriction {
	return []Restriction{rest}
}

// RestrictionSize implements a splittable DoFn: the offsets that are left, or 0 while the brokers are away. Beam also
// asks functions that had no Setup and will have no Teardown.
func (r *reader) RestrictionSize(ctx context.Context, _ partition, rest Restriction) (float64, error) {
	if rest.bounded() {
		return float64(rest.End - rest.Start), nil
	}
	c, release, err := acquire(r.Brokers, r.Access)
	if err != nil {
		return 0, err
	}
	defer release()
	return float64(max(c.end(ctx, rest)-rest.Start, 0)), nil
}

// end is where the partition ended when last seen. It must answer soon: a split waits for it.
func (c *client) end(ctx context.Context, r Restriction) int64 {
	c.mu.Lock()
	known := c.parts[partKey{r.Topic, r.Partition}]
	if known != nil && known.end >= 0 {
		defer c.mu.Unlock()
		return known.end
	}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	ends, err := c.offsets(ctx, r.Topic, Latest())
	if err != nil {
		log.Warnf(ctx, "kafkaio.Read: topic %s, partition %d: backlog is not known: %v", r.Topic, r.Partition, err)
		return 0
	}
	return ends[r.Partition]
}

// CreateTracker implements a splittable DoFn.
func (r *reader) CreateTracker(rest Restriction) *sdf.LockRTracker {
	return sdf.NewLockRTracker(newTracker(rest))
}

// InitialWatermarkEstimatorState implements a splittable DoFn.
func (r *reader) InitialWatermarkEstimatorState(et beam.EventTime, _ Restriction, _ partition) WatermarkState {
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

// TruncateRestriction implements a splittable DoFn: a drain ends an unbounded read where it is. A bounded one
// has no such method and comes to its end.
func (f *readFn) TruncateRestriction(rt *sdf.LockRTracker, _ partition) Restriction {
	rest := rt.GetRestriction().(Restriction)
	rest.End = rest.Start
	return rest
}

// ProcessElement reads until the partition is caught up, its turn is over, or the runner takes the rest.
func (f *readFn) ProcessElement(ctx context.Context, we *estimator, rt *sdf.LockRTracker, _ partition, emit func(beam.EventTime, Record), dead func(DeadLetter)) (sdf.ProcessContinuation, error) {
	done, err := f.read(ctx, &reading{rt: rt, we: we, emit: emit, dead: dead})
	if err != nil || done {
		return sdf.StopProcessing(), err
	}
	return sdf.ResumeProcessingIn(resumeDelay), nil
}

// readBoundedFn reads restrictions with an end.
type readBoundedFn struct{ reader }

// ProcessElement reads to the end of the restriction, or until the runner takes the rest.
func (f *readBoundedFn) ProcessElement(ctx context.Context, we *estimator, rt *sdf.LockRTracker, _ partition, emit func(beam.EventTime, Record), dead func(DeadLetter)) error {
	_, err := f.read(ctx, &reading{rt: rt, we: we, emit: emit, dead: dead})
	return err
}

// reading is one call of ProcessElement.
type reading struct {
	rt   *sdf.LockRTracker
	we   *estimator
	emit func(beam.EventTime, Record)
	dead func(DeadLetter)

	waitLogged  time.Time
	aheadLogged bool
}

// read returns false when an unbounded restriction is caught up, or its turn is over.
func (r *reader) read(ctx context.Context, in *reading) (done bool, err error) {
	began := time.Now()
	rest := in.rt.GetRestriction().(Restriction)
	pos := rest.Start
	for !in.rt.IsDone() {
		b, err := r.fetch(ctx, in, rest, pos)
		if errors.Is(err, outage.ErrStopped) {
			return true, nil
		}
		var gone *goneError
		if errors.As(err, &gone) && gone.offset < gone.earliest && r.OffsetGone == GoneSkipsTo {
			if pos, err = r.skip(ctx, in, rest, gone); err != nil || pos < 0 {
				return true, err
			}
			continue
		}
		if err != nil {
			return true, err
		}
		in.setHigh(b.end)
		before := pos
		if pos, err = r.take(ctx, in, rest, b); err != nil || pos < 0 {
			return true, err
		}
		r.backlog.Set(ctx, max(b.end-pos, 0))
		if before != pos {
			in.we.sawMore()
			if r.Turn > 0 && !rest.bounded() && time.Since(began) >= r.Turn {
				return false, nil
			}
			continue
		}
		if pos < b.end {
			in.we.sawMore()
		} else {
			in.we.sawEnd(b.sent, r.OutOfOrder, r.IdleAfter)
		}
		in.logWait(ctx, rest, pos, b)
		if !rest.bounded() {
			return false, nil
		}
	}
	return true, nil
}

func (r *reader) fetch(ctx context.Context, in *reading, rest Restriction, pos int64) (b *batch, err error) {
	options := fetchOptions{bytes: r.FetchBytes, uncommitted: r.ReadUncommitted}
	partition := r.client.of(rest.Topic, fmt.Sprintf("partition %d", rest.Partition))
	err = patiently(ctx, partition, r.Timeout, in.rt.IsDone, func(ctx context.Context) error {
		b, err = r.client.fetch(ctx, rest, pos, options)
		return err
	})
	return b, err
}

// take emits what a fetch brought and returns the new position, or -1 when the restriction has ended.
func (r *reader) take(ctx context.Context, in *reading, rest Restriction, b *batch) (int64, error) {
	pos := b.start
	for _, k := range b.records {
		if !in.rt.TryClaim(record(k.Offset)) {
			r.client.keep(rest, b.end, b.from(pos))
			return -1, in.rt.GetError()
		}
		pos = k.Offset + 1
		if err := r.emit(ctx, in, toRecord(k)); err != nil {
			return -1, err
		}
	}
	if b.next == b.start {
		return b.next, nil
	}
	if !in.rt.TryClaim(reach(b.next)) {
		return -1, in.rt.GetError()
	}
	return b.next, nil
}

// skip moves over offsets that the broker no longer has.
func (r *reader) skip(ctx context.Context, in *reading, rest Restriction, gone *goneError) (int64, error) {
	to := min(gone.earliest, rest.End)
	if !in.rt.TryClaim(reach(to)) && to < rest.End {
		return -1, in.rt.GetError()
	}
	r.gone.Inc(ctx, to-gone.offset)
	log.Warnf(ctx, "kafkaio.Read: topic %s, partition %d: offsets %d to %d are gone from the broker and were skipped", rest.Topic, rest.Partition, gone.offset, to-1)
	return to, nil
}

func (in *reading) setHigh(end int64) {
	in.rt.Mu.Lock()
	defer in.rt.Mu.Unlock()
	in.rt.Rt.(*tracker).high = end
}

// logWait says what an unfinished read waits for, when it is not simply for new records.
func (in *reading) logWait(ctx context.Context, rest Restriction, pos int64, b *batch) {
	if pos >= b.end || pos < b.stable || time.Since(in.waitLogged) < 10*time.Second {
		return
	}
	in.waitLogged = time.Now()
	log.Warnf(ctx, "kafkaio.Read: topic %s, partition %d: waiting at offset %d for the outcome of an open transaction; the partition ends at %d", rest.Topic, rest.Partition, pos, b.end)
}

// emit sends a record, or a dead letter, and moves the watermark.
func (r *reader) emit(ctx context.Context, in *reading, rec Record) error {
	original := rec.Value
	rec, letter, err := r.decode(ctx, rec)
	if err != nil {
		return err
	}
	now := time.Now()
	var t time.Time
	if letter == nil {
		t, letter = r.timeOf(rec, now)
	}
	if letter != nil {
		letter.Record.Value = original
		r.dead.Inc(ctx, 1)
		in.dead(*letter)
		return nil
	}
	if t.Sub(now) > 5*time.Minute { // Only without MaxAhead, or with a larger one.
		r.ahead.Inc(ctx, 1)
		if !in.aheadLogged {
			in.aheadLogged = true
			log.Warnf(ctx, "kafkaio.Read: topic %s, partition %d, offset %d: event time %v is ahead of the clock and moves the watermark; "+
				"records in time may now be late; set MaxAhead", rec.Topic, rec.Partition, rec.Offset, t.UTC())
		}
	}
	at := mtime.FromTime(t)
	r.records.Inc(ctx, 1)
	in.emit(at, rec)
	in.we.sawRecord(at, r.OutOfOrder)
	return nil
}

// decode asks the registry, if there is one.
func (r *reader) decode(ctx context.Context, rec Record) (out Record, letter *DeadLetter, err error) {
	if r.registry == nil || rec.Tombstone {
		return rec, nil, nil
	}
	registry := &outage.Service{Name: "kafkaio: the schema registry"} // Nothing interrupts a wait for it.
	err = patiently(ctx, registry, r.Timeout, nil, func(ctx context.Context) error {
		out, letter, err = r.registry.decode(ctx, rec)
		return err
	})
	if err != nil {
		return rec, nil, fmt.Errorf("kafkaio.Read: topic %s, partition %d, offset %d: %w", rec.Topic, rec.Partition, rec.Offset, err)
	}
	return out, letter, nil
}

// timeOf returns the event time of a record, or the dead letter it becomes.
func (r *reader) timeOf(rec Record, now time.Time) (time.Time, *DeadLetter) {
	bad := func(code, format string, args ...any) *DeadLetter {
		return &DeadLetter{Code: code, Error: fmt.Sprintf(format, args...), Record: rec}
	}
	written := time.UnixMilli(rec.Timestamp)
	t := written
	if r.eventTime != nil {
		var err error
		if t, err = r.eventTime(rec); err != nil {
			return t, bad(CodeBadTime, "%v", err)
		}
	} else if rec.Timestamp < 0 {
		return t, bad(CodeBadTime, "the producer gave no timestamp")
	}
	// The bounds follow the record, so that old data read again is not too old; without one, the clock.
	if rec.Timestamp < 0 {
		written = now
	}
	latest := now
	if written.Before(now) {
		latest = written
	}
	switch {
	case r.MaxAhead > 0 && isAhead(t, latest, r.MaxAhead):
		return t, bad(CodeFuture, "event time %v is more than %v ahead of %v", t.UTC(), r.MaxAhead, latest.UTC())
	case r.MaxBehind > 0 && isBehind(t, written, r.MaxBehind):
		return t, bad(CodeBadTime, "event time %v is more than %v before %v; is its unit right?", t.UTC(), r.MaxBehind, written.UTC())
	case t.Before(mtime.MinTimestamp.ToTime()) || t.After(mtime.EndOfGlobalWindowTime.ToTime()):
		return t, bad(CodeBadTime, "event time %v is outside of what Beam can hold", t.UTC())
	}
	return t, nil
}

// isAhead and isBehind are the edges: what lies exactly on the bound is inside.
func isAhead(t, of time.Time, bound time.Duration) bool { return t.After(of.Add(bound)) }

func isBehind(t, of time.Time, bound time.Duration) bool { return t.Before(of.Add(-bound)) }

func toRecord(k *kgo.Record) Record {
	rec := Record{
		Topic: k.Topic, Partition: k.Partition, Offset: k.Offset, Key: k.Key, Value: k.Value,
		NoKey: k.Key == nil, Tombstone: k.Value == nil, Timestamp: k.Timestamp.UnixMilli(),
	}
	for _, h := range k.Headers {
		rec.Headers = append(rec.Headers, Header{Key: h.Key, Value: h.Value})
	}
	return rec
}
