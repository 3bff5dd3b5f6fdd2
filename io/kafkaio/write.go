// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/typex"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// WriteConfig says where records go, and how.
type WriteConfig struct {
	Brokers []string // HOST:PORT each.
	Topic   string
	Access  Access
	Timeout time.Duration // How long a record may wait for its acknowledgement before the bundle fails; 60 s.

	// AtLeastOnce sends records as they come: cheaper and sooner, but a bundle that runs again writes its
	// records again. The default writes each record exactly once; what follows is for that only.
	AtLeastOnce bool

	// ID names this sink in the cluster. It stays the same when the job is continued, and no other job, nor
	// another sink of this one, may ever have it. The transactional ids and groups are ID/SHARD.
	ID     string
	Shards int           // How many transactional producers write side by side; 4.
	Every  time.Duration // How long a record may wait for others to share its transaction; 100 ms.
}

func (c WriteConfig) withDefaults() (WriteConfig, error) {
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	if c.Shards == 0 {
		c.Shards = 4
	}
	if c.Every == 0 {
		c.Every = 100 * time.Millisecond
	}
	errs := []error{checkTopic(c.Brokers, c.Topic), c.Access.check()}
	if c.Timeout < 0 || c.Shards < 0 || c.Shards > 1000 || c.Every < 0 {
		errs = append(errs, errors.New("Timeout and Every must not be negative, Shards is 1 to 1000"))
	}
	if !c.AtLeastOnce && !sinkID.MatchString(c.ID) {
		errs = append(errs, fmt.Errorf("ID is %q: name the sink with 1 to 200 of a-z A-Z 0-9 . _ - /, the same after a restart and no other sink's; or set AtLeastOnce", c.ID))
	}
	return c, errors.Join(errs...)
}

var sinkID = regexp.MustCompile(`^[a-zA-Z0-9._/-]{1,200}$`)

// Write writes a PCollection<KV<[]byte, []byte>> or PCollection<Record> to a topic. Equal keys go to the same
// partition, as with Kafka's own producer; records without a key, or with an empty one in a KV, are spread. Of
// a Record it takes key, value, headers and, if it is positive, the timestamp; a KV gets the time of writing.
//
// It returns PCollection<DeadLetter>: the records that the broker refuses for good, with the code MESSAGE_TOO_LARGE,
// RECORD_LIST_TOO_LARGE, INVALID_RECORD or INVALID_TIMESTAMP, without partition and offset (-1).
func Write(s beam.Scope, cfg WriteConfig, col beam.PCollection) (dead beam.PCollection) {
	s = s.Scope("kafkaio.Write")
	cfg, err := cfg.withDefaults()
	if err != nil {
		panic(fmt.Sprintf("kafkaio.Write: %v", err))
	}
	bytes := reflect.TypeFor[[]byte]()
	switch t := col.Type(); {
	case t.Type() == reflect.TypeFor[Record]():
	case typex.IsKV(t) && t.Components()[0].Type() == bytes && t.Components()[1].Type() == bytes:
		col = beam.ParDo(s, asRecord, col)
	default:
		panic(fmt.Sprintf("kafkaio.Write: input is %v: want KV<[]byte, []byte> or kafkaio.Record", t))
	}
	if cfg.AtLeastOnce {
		w := writer{Brokers: cfg.Brokers, Access: cfg.Access, Topic: cfg.Topic, Timeout: cfg.Timeout}
		global := beam.WindowInto(s, window.NewGlobalWindows(), col) // Dead letters come at the end of a bundle, which has no window.
		return beam.ParDo(s, &writeFn{writer: w}, global)
	}
	return writeExactly(s, cfg, beam.ParDo(s, &shardFn{Shards: cfg.Shards}, col))
}

// asRecord makes a record of a KV.
func asRecord(key, value []byte) Record {
	return Record{Key: key, NoKey: len(key) == 0, Value: value}
}

// writer is the at-least-once write. Its exported fields are those of WriteConfig.
type writer struct {
	Brokers []string
	Access  Access
	Topic   string
	Timeout time.Duration

	client  *kgo.Client
	bundle  *pending
	written beam.Counter
	dead    beam.Counter
}

// maxBuffered is how many records wait for a broker at most.
const maxBuffered = 20_000

// pending is what one bundle has sent.
type pending struct {
	sent    sync.WaitGroup
	mu      sync.Mutex // Guards what follows.
	err     error      // The first one.
	refused []*kgo.Record
}

func (p *pending) done(r *kgo.Record, err error) {
	if err != nil {
		p.mu.Lock()
		switch {
		case refusedFor(err) != "":
			p.refused = append(p.refused, r)
		case p.err == nil:
			p.err = err
		}
		p.mu.Unlock()
	}
	p.sent.Done()
}

func (p *pending) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Setup implements a DoFn. The producer is its own, because a failed bundle ends it.
func (w *writer) Setup() error {
	w.written = beam.NewCounter(namespace, "records_written")
	w.dead = beam.NewCounter(namespace, "write_dead_letters")
	return nil
}

func (w *writer) connect(ctx context.Context) error {
	if w.client != nil {
		return nil
	}
	opts, err := w.Access.options()
	if err != nil {
		return fmt.Errorf("kafkaio.Write: brokers %s: %w", strings.Join(w.Brokers, ","), err)
	}
	limit := &batchLimit{}
	w.client, err = kgo.NewClient(append(opts,
		kgo.SeedBrokers(w.Brokers...),
		kgo.ClientID("hornbeam-write"),
		kgo.DefaultProduceTopic(w.Topic),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.DialTimeout(5*time.Second),
		kgo.ProducerLinger(5*time.Millisecond),
		kgo.MaxBufferedRecords(maxBuffered+1),
		kgo.UnknownTopicRetries(4),
		kgo.MetadataMinAge(100*time.Millisecond), // A connection that was lost waits for metadata, by default 5 s.
		limit.option(),
	)...)
	if err != nil {
		return fmt.Errorf("kafkaio.Write: brokers %s: %w", strings.Join(w.Brokers, ","), err)
	}
	asked, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	if err := limit.ask(asked, kadm.NewClient(w.client), w.Topic); err != nil {
		return w.fail(err)
	}
	return nil
}

func (w *writer) start(ctx context.Context) error {
	w.bundle = &pending{}
	return w.connect(ctx)
}

func (w *writer) send(ctx context.Context, rec *kgo.Record) error {
	if err := w.bundle.failure(); err != nil {
		return w.fail(err)
	}
	if w.client.BufferedProduceRecords() >= maxBuffered {
		if err := w.flush(ctx); err != nil { // Produce would wait without an end.
			return w.fail(err)
		}
	}
	w.bundle.sent.Add(1)
	w.client.Produce(ctx, rec, w.bundle.done)
	w.written.Inc(ctx, 1)
	return nil
}

// finish ends when every record of the bundle is acknowledged, or refused.
func (w *writer) finish(ctx context.Context, dead func(DeadLetter)) error {
	if err := w.flush(ctx); err != nil {
		return w.fail(err)
	}
	w.bundle.sent.Wait()
	if err := w.bundle.failure(); err != nil {
		return w.fail(err)
	}
	for _, r := range w.bundle.refused { // Each alone: it may have shared the fate of another one.
		alone, cancel := context.WithTimeout(ctx, w.Timeout)
		err := w.client.ProduceSync(alone, r).FirstErr()
		cancel()
		code := refusedFor(err)
		switch {
		case err == nil:
		case code == "":
			return w.fail(err)
		default:
			rec := toRecord(r)
			rec.Topic, rec.Partition, rec.Offset = w.Topic, -1, -1
			w.written.Inc(ctx, -1)
			w.dead.Inc(ctx, 1)
			dead(DeadLetter{Code: code, Error: fmt.Sprintf("the broker does not take this record for topic %s: %s", w.Topic, code), Record: rec})
		}
	}
	return nil
}

// flush is bounded by itself: an idempotent producer does not give a record up whose fate it does not know, and
// takes a record's timestamp for the moment since when it waits.
func (w *writer) flush(ctx context.Context) error {
	flushed, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	err := w.client.Flush(flushed)
	if err != nil && ctx.Err() == nil {
		return kgo.ErrRecordTimeout
	}
	return err
}

// fail gives the producer up, so that nothing of this bundle is sent while it runs again.
func (w *writer) fail(err error) error {
	w.Teardown()
	where := fmt.Sprintf("kafkaio.Write: topic %s on %s", w.Topic, strings.Join(w.Brokers, ","))
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("%s: the topic does not exist; create it first: %w", where, err)
	case errors.Is(err, kgo.ErrRecordTimeout):
		return fmt.Errorf("%s: not acknowledged for %v: %w", where, w.Timeout, err)
	}
	return fmt.Errorf("%s: %w", where, err)
}

// Teardown implements a DoFn.
func (w *writer) Teardown() {
	if w.client != nil {
		w.client.Close()
		w.client = nil
	}
}

// writeFn writes at least once.
type writeFn struct{ writer }

// StartBundle implements a DoFn.
func (f *writeFn) StartBundle(ctx context.Context, _ func(DeadLetter)) error { return f.start(ctx) }

// ProcessElement hands one record to the producer.
func (f *writeFn) ProcessElement(ctx context.Context, r Record, _ func(DeadLetter)) error {
	return f.send(ctx, r.toKafka())
}

// FinishBundle implements a DoFn.
func (f *writeFn) FinishBundle(ctx context.Context, dead func(DeadLetter)) error {
	return f.finish(ctx, dead)
}
