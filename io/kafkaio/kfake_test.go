// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "hornbeam") }

func init() {
	register.Function1x1(text)
	register.Function1x1(deadCode)
	register.Function1x2(pair)
	beam.RegisterFunction(valueMillis)
}

// text describes a record as partition:offset=key/value.
func text(r Record) string {
	return fmt.Sprintf("%d:%d=%s/%s", r.Partition, r.Offset, r.Key, r.Value)
}

func deadCode(d DeadLetter) string { return d.Code + " " + string(d.Record.Value) }

func pair(s string) ([]byte, []byte) { return []byte("key " + s), []byte(s) }

// fake starts a cluster with one topic named "t".
func fake(t testing.TB, partitions int32, config map[string]string) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(2))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.CreateTopic("t", partitions, config); err != nil {
		t.Fatal(err)
	}
	return c
}

// produce writes records to the partitions they name. A transaction is committed, aborted or, by "", no
// transaction.
func produce(t testing.TB, c *kfake.Cluster, txn string, recs ...*kgo.Record) {
	t.Helper()
	produceAs(t, c, txn, nil, recs)
}

// produceAs does so with options for the client, such as who it is.
func produceAs(t testing.TB, c *kfake.Cluster, txn string, opts []kgo.Opt, recs []*kgo.Record) {
	t.Helper()
	opts = append(opts, kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic("t"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if txn != "" {
		opts = append(opts, kgo.TransactionalID("test"))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx := context.Background()
	if txn != "" {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
	}
	if err := cl.ProduceSync(ctx, recs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if txn != "" {
		if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(txn == "commit")); err != nil {
			t.Fatal(err)
		}
	}
}

// rec is a record with its value as key.
func rec(partition int32, value string) *kgo.Record {
	return &kgo.Record{Partition: partition, Key: []byte(value), Value: []byte(value), Timestamp: time.UnixMilli(1_000_000)}
}

// config is a read of the topic of fake, with quick answers.
func config(c *kfake.Cluster) ReadConfig {
	return ReadConfig{Brokers: c.ListenAddrs(), Topic: "t", Timeout: 5 * time.Second}
}

// run is a read without a runner: the methods of the DoFn, called as a runner calls them.
type run struct {
	t     testing.TB
	fn    *readFn
	parts []partition
	state map[int32]WatermarkState
	recs  []Record
	got   []string // recs as text.
	dead  []string
	times []time.Time
	each  func(rt *sdf.LockRTracker) // Called after each record.
}

func newRun(t testing.TB, cfg ReadConfig) *run {
	t.Helper()
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	parts := partitionsOf(t, cfg)
	fn := &readFn{reader: newReader(cfg)}
	if err := fn.Setup(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fn.Teardown)
	return &run{t: t, fn: fn, parts: parts, state: map[int32]WatermarkState{}}
}

// partitionsOf are the partitions with which a read begins.
func partitionsOf(t testing.TB, cfg ReadConfig) []partition {
	t.Helper()
	l := &lister{Brokers: cfg.Brokers, Access: cfg.Access, Topic: cfg.Topic, From: cfg.From, To: cfg.To, Timeout: cfg.Timeout}
	if err := l.Setup(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Teardown)
	parts, err := l.list(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

// step processes a restriction once and returns the residual a runner would keep, if there is one.
func (r *run) step(rest Restriction) (*Restriction, error) {
	r.t.Helper()
	rt := r.fn.CreateTracker(rest)
	state, ok := r.state[rest.Partition]
	if !ok {
		state = WatermarkState{Watermark: 0, Process: process}
	}
	we := r.fn.CreateWatermarkEstimator(state)
	var residual *Restriction
	split := func() {
		primary, rest, err := rt.TrySplit(0)
		if err != nil {
			r.t.Fatal(err)
		}
		if rest == nil {
			return
		}
		if p := primary.(Restriction); p.End != rest.(Restriction).Start || !rt.IsDone() {
			r.t.Fatalf("split gave %v and %v, done %v", p, rest, rt.IsDone())
		}
		q := rest.(Restriction)
		residual = &q
	}
	emit := func(et beam.EventTime, rec Record) {
		r.recs = append(r.recs, rec)
		r.got = append(r.got, text(rec))
		r.times = append(r.times, et.ToTime())
		if r.each != nil {
			r.each(rt)
			if rt.IsDone() { // each has split; find the residual where a runner would.
				next := rest
				next.Start = rt.GetRestriction().(Restriction).End
				residual = &next
			}
		}
	}
	dead := func(d DeadLetter) { r.dead = append(r.dead, deadCode(d)) }
	again, err := r.fn.ProcessElement(context.Background(), we, rt, partition(rest), emit, dead)
	if err != nil {
		return nil, err
	}
	if again.ShouldResume() {
		split()
	}
	if !rt.IsDone() || rt.GetError() != nil {
		r.t.Fatalf("%v is not done: %v", rt.GetRestriction(), rt.GetError())
	}
	r.state[rest.Partition] = we.current()
	return residual, nil
}

// all processes a restriction until nothing is left or it is caught up.
func (r *run) all(rest Restriction) Restriction {
	r.t.Helper()
	for {
		before := rest
		next, err := r.step(rest)
		if err != nil {
			r.t.Fatal(err)
		}
		if next == nil {
			rest.Start = rest.End
			return rest
		}
		if rest = *next; rest == before {
			return rest
		}
	}
}
