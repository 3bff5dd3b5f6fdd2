// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/typex"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// WriteConfig says where records go.
type WriteConfig struct {
	Brokers []string // HOST:PORT each.
	Topic   string
	Timeout time.Duration // How long a record may wait for its acknowledgement before the bundle fails; 60 s.
}

// Write writes a PCollection<KV<[]byte, []byte>> or PCollection<Record> to a topic. Equal keys go to the same
// partition, as with Kafka's own producer; records without a key, or with an empty one in a KV, are spread. Of
// a Record it takes key, value, headers and, if it is positive, the timestamp; a KV gets the time of writing.
func Write(s beam.Scope, cfg WriteConfig, col beam.PCollection) {
	s = s.Scope("kafkaio.Write")
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Minute
	}
	if err := checkTopic(cfg.Brokers, cfg.Topic); err != nil {
		panic(fmt.Sprintf("kafkaio.Write: %v", err))
	}
	w := writer{Brokers: cfg.Brokers, Topic: cfg.Topic, Timeout: cfg.Timeout}
	bytes := reflect.TypeFor[[]byte]()
	switch t := col.Type(); {
	case t.Type() == reflect.TypeFor[Record]():
		beam.ParDo0(s, &writeRecordFn{writer: w}, col)
	case typex.IsKV(t) && t.Components()[0].Type() == bytes && t.Components()[1].Type() == bytes:
		beam.ParDo0(s, &writeKVFn{writer: w}, col)
	default:
		panic(fmt.Sprintf("kafkaio.Write: input is %v: want KV<[]byte, []byte> or kafkaio.Record", t))
	}
}

// writer is what both forms of Write share. Its exported fields are those of WriteConfig.
type writer struct {
	Brokers []string
	Topic   string
	Timeout time.Duration

	client  *kgo.Client
	bundle  *pending
	written beam.Counter
}

// maxBuffered is how many records wait for a broker at most.
const maxBuffered = 20_000

// pending is what one bundle has sent.
type pending struct {
	sent sync.WaitGroup
	mu   sync.Mutex // Guards err.
	err  error      // The first one.
}

func (p *pending) done(_ *kgo.Record, err error) {
	if err != nil {
		p.mu.Lock()
		if p.err == nil {
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
	return nil
}

func (w *writer) connect() (err error) {
	if w.client != nil {
		return nil
	}
	w.client, err = kgo.NewClient(
		kgo.SeedBrokers(w.Brokers...),
		kgo.ClientID("hornbeam-write"),
		kgo.DefaultProduceTopic(w.Topic),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.DialTimeout(5*time.Second),
		kgo.ProducerLinger(5*time.Millisecond),
		kgo.RecordDeliveryTimeout(w.Timeout),
		kgo.MaxBufferedRecords(maxBuffered+1),
		kgo.UnknownTopicRetries(4),
	)
	if err != nil {
		return fmt.Errorf("kafkaio.Write: brokers %s: %w", strings.Join(w.Brokers, ","), err)
	}
	return nil
}

// StartBundle implements a DoFn.
func (w *writer) StartBundle(context.Context) error {
	w.bundle = &pending{}
	return w.connect()
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

// FinishBundle implements a DoFn: it ends when every record of the bundle is acknowledged.
func (w *writer) FinishBundle(ctx context.Context) error {
	if err := w.flush(ctx); err != nil {
		return w.fail(err)
	}
	w.bundle.sent.Wait()
	if err := w.bundle.failure(); err != nil {
		return w.fail(err)
	}
	return nil
}

// flush is bounded by itself: an idempotent producer does not give a record up whose fate it does not know.
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

type writeKVFn struct{ writer }

// ProcessElement hands one record to the producer.
func (f *writeKVFn) ProcessElement(ctx context.Context, key, value []byte) error {
	rec := &kgo.Record{Key: key, Value: value}
	if len(key) == 0 {
		rec.Key = nil
	}
	return f.send(ctx, rec)
}

type writeRecordFn struct{ writer }

// ProcessElement hands one record to the producer.
func (f *writeRecordFn) ProcessElement(ctx context.Context, r Record) error {
	rec := &kgo.Record{Key: r.Key, Value: r.Value}
	if r.NoKey {
		rec.Key = nil
	}
	if r.Tombstone {
		rec.Value = nil
	}
	if r.Timestamp > 0 {
		rec.Timestamp = time.UnixMilli(r.Timestamp)
	}
	for _, h := range r.Headers {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return f.send(ctx, rec)
}
