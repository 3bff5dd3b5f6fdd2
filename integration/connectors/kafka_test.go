// SPDX-License-Identifier: Apache-2.0

// Package connectors tests connectors against real services.
package connectors

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"
	"github.com/hornbeam-dev/hornbeam/integration/connectors/kafkatest"
	"github.com/hornbeam-dev/hornbeam/io/kafkaio"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "hornbeam") }

func init() { register.Function1x1(text) }

// text describes a record as partition:offset=value.
func text(r kafkaio.Record) string {
	return fmt.Sprintf("%d:%d=%s", r.Partition, r.Offset, r.Value)
}

// TestKafka runs everything on one broker, because it takes seconds to start.
func TestKafka(t *testing.T) {
	b := kafkatest.Start(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	k := &cluster{broker: b, client: cl, admin: kadm.NewClient(cl)}
	t.Run("round trip", k.roundTrip)
	t.Run("holes", k.holes)
	t.Run("far apart", k.farApart)
	t.Run("only aborted", k.onlyAborted)
	t.Run("offset gone", k.offsetGone)
	t.Run("kill", k.kill)
}

type cluster struct {
	broker *kafkatest.Broker
	client *kgo.Client
	admin  *kadm.Client
}

func (k *cluster) topic(t *testing.T, name string, partitions int32, config map[string]string) {
	t.Helper()
	values := map[string]*string{}
	for key, v := range config {
		values[key] = &v
	}
	if resp, err := k.admin.CreateTopic(t.Context(), partitions, 1, values, name); err != nil || resp.Err != nil {
		t.Fatal(err, resp.Err)
	}
}

// rec is a record for the current moment: retention takes old ones away.
func rec(topic string, partition int32, key, value string) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: partition, Key: []byte(key), Value: []byte(value)}
}

func (k *cluster) produce(t *testing.T, recs ...*kgo.Record) {
	t.Helper()
	if err := k.client.ProduceSync(t.Context(), recs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func (k *cluster) transaction(t *testing.T, end kgo.TransactionEndTry, recs ...*kgo.Record) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.broker.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID(t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), recs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := cl.EndTransaction(t.Context(), end); err != nil {
		t.Fatal(err)
	}
}

// await waits until a fresh consumer finds n records before the end, which is when compaction is through.
func (k *cluster) await(t *testing.T, topic string, end int64, n int) {
	t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for {
		offsets := k.consume(t, topic, end)
		if len(offsets) == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("compaction has left %d records in topic %s, want %d", len(offsets), topic, n)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// consume returns the values in the topic, which must have its last record right before end, or a marker there.
func (k *cluster) consume(t *testing.T, topic string, end int64) (values []string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.broker.Addr), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for at := int64(0); at < end; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("consume topic %s at %d of %d: %v", topic, at, end, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			at = max(at, r.Offset+1)
			if !r.Attrs.IsControl() {
				values = append(values, string(r.Value))
			}
		})
	}
	return values
}

// expect runs a bounded read to the latest and compares.
func (k *cluster) expect(t *testing.T, topic string, want ...any) {
	t.Helper()
	p, s := beam.NewPipelineWithRoot()
	records, dead := kafkaio.Read(s, kafkaio.ReadConfig{Brokers: []string{k.broker.Addr}, Topic: topic, To: kafkaio.Latest()})
	if len(want) == 0 {
		passert.Empty(s, records)
	} else {
		passert.Equals(s, beam.ParDo(s, text, records), want...)
	}
	passert.Empty(s, dead)
	begin := time.Now()
	ptest.RunAndValidate(t, p)
	t.Logf("read in %v", time.Since(begin).Round(time.Millisecond))
}

func (k *cluster) roundTrip(t *testing.T) {
	k.topic(t, "from", 4, nil)
	k.topic(t, "to", 1, nil)
	var recs []*kgo.Record
	var want []any
	for i := range 10_000 {
		value := fmt.Sprintf("value %d", i)
		recs = append(recs, rec("from", int32(i%4), "", value))
		want = append(want, value)
	}
	k.produce(t, recs...)
	p, s := beam.NewPipelineWithRoot()
	records, _ := kafkaio.Read(s, kafkaio.ReadConfig{Brokers: []string{k.broker.Addr}, Topic: "from", To: kafkaio.Latest()})
	kafkaio.Write(s, kafkaio.WriteConfig{Brokers: []string{k.broker.Addr}, Topic: "to", ID: t.Name()}, records)
	begin := time.Now()
	ptest.RunAndValidate(t, p)
	t.Logf("10000 records read and written in %v", time.Since(begin).Round(time.Millisecond))
	seen := map[any]int{}
	for _, v := range k.committed(t, "to") {
		seen[v]++
	}
	for _, v := range want {
		if seen[v] != 1 {
			t.Fatalf("%v is there %d times, want once", v, seen[v])
		}
	}
}

var compacted = map[string]string{"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001", "max.compaction.lag.ms": "100"}

// FC-7: a compacted record, a committed transaction and, at the end, an aborted one.
func (k *cluster) holes(t *testing.T) {
	k.topic(t, "holes", 1, compacted)
	k.produce(t, rec("holes", 0, "k", "a"), rec("holes", 0, "k", "b"))
	time.Sleep(200 * time.Millisecond) // Longer than segment.ms: only a closed segment is compacted.
	k.transaction(t, kgo.TryCommit, rec("holes", 0, "c", "c"))
	k.transaction(t, kgo.TryAbort, rec("holes", 0, "d", "d"))
	k.await(t, "holes", 6, 2)
	k.expect(t, "holes", "0:1=b", "0:2=c")
}

// FC-7: 300,000 offsets without a record.
func (k *cluster) farApart(t *testing.T) {
	k.topic(t, "far", 1, compacted)
	for i := range 300_000 {
		key := "a"
		if i > 10 {
			key = "b"
		}
		k.client.Produce(t.Context(), rec("far", 0, key, fmt.Sprint(i)), func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := k.client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	k.produce(t, rec("far", 0, "c", "300000"))
	k.await(t, "far", 300_001, 3)
	k.expect(t, "far", "0:10=10", "0:299999=299999", "0:300000=300000")
}

func (k *cluster) onlyAborted(t *testing.T) {
	k.topic(t, "aborted", 2, nil)
	k.transaction(t, kgo.TryAbort, rec("aborted", 0, "", "a"), rec("aborted", 0, "", "b"))
	k.expect(t, "aborted")
}

func (k *cluster) offsetGone(t *testing.T) {
	k.topic(t, "gone", 1, nil)
	k.produce(t, rec("gone", 0, "", "a"), rec("gone", 0, "", "b"), rec("gone", 0, "", "c"))
	offsets := kadm.Offsets{}
	offsets.AddOffset("gone", 0, 2, -1)
	if _, err := k.admin.DeleteRecords(t.Context(), offsets); err != nil {
		t.Fatal(err)
	}
	cfg := kafkaio.ReadConfig{Brokers: []string{k.broker.Addr}, Topic: "gone", From: kafkaio.AtOffset(0), To: kafkaio.Latest()}
	p, s := beam.NewPipelineWithRoot()
	kafkaio.Read(s, cfg)
	if err := ptest.Run(p); err == nil || !strings.Contains(err.Error(), "offset 0 is gone from the broker, the earliest is 2") {
		t.Errorf("read of a gone offset = %v", err)
	}
	cfg.OffsetGone = kafkaio.GoneSkipsTo
	p, s = beam.NewPipelineWithRoot()
	records, _ := kafkaio.Read(s, cfg)
	passert.Equals(s, beam.ParDo(s, text, records), "0:2=c")
	ptest.RunAndValidate(t, p)
}

// kill ends the broker with kill -9 twice while a pipeline reads one topic and writes another, exactly once. The pipeline
// cannot end before: its last records are produced after the last restart.
func (k *cluster) kill(t *testing.T) {
	const partitions, perPartition = 2, 3000
	k.topic(t, "in", partitions, nil)
	k.topic(t, "out", 1, nil)
	p, s := beam.NewPipelineWithRoot()
	addr := []string{k.broker.Addr}
	records, dead := kafkaio.Read(s, kafkaio.ReadConfig{Brokers: addr, Topic: "in", To: kafkaio.AtOffset(perPartition), Timeout: 3 * time.Minute})
	kafkaio.Write(s, kafkaio.WriteConfig{Brokers: addr, Topic: "out", ID: t.Name(), Timeout: 3 * time.Minute}, records)
	var want []any
	var all []string
	for part := range partitions {
		for i := range perPartition {
			want = append(want, fmt.Sprintf("%d:%d=%d/%d", part, i, part, i))
			all = append(all, fmt.Sprintf("%d/%d", part, i))
		}
	}
	passert.Equals(s, beam.ParDo(s, text, records), want...)
	passert.Empty(s, dead)

	ended := make(chan error, 1)
	go func() { ended <- ptest.Run(p) }()
	fed := 0
	for kills := range 3 {
		var recs []*kgo.Record
		for ; fed < perPartition*(kills+1)/3; fed++ {
			for part := range partitions {
				value := fmt.Sprintf("%d/%d", part, fed)
				recs = append(recs, rec("in", int32(part), value, value))
			}
		}
		k.produce(t, recs...)
		if kills == 2 {
			break
		}
		k.awaitSome(t, ended, "out", int64(perPartition/3*kills+1)) // Prism may read one partition after the other.
		k.broker.Kill()
		begin := time.Now()
		k.broker.Restart()
		t.Logf("broker away for %v", time.Since(begin).Round(time.Millisecond))
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	values := k.committed(t, "out")
	slices.Sort(values)
	slices.Sort(all)
	if diff := cmp.Diff(all, values); diff != "" {
		t.Errorf("written records, each once (-want +got):\n%s", diff)
	}
}

// committed returns the values of a topic with one partition.
func (k *cluster) committed(t *testing.T, topic string) []string {
	t.Helper()
	ends, err := k.admin.ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(topic, 0)
	return k.consume(t, topic, end.Offset)
}

// awaitSome waits until the pipeline is in the middle of reading and writing.
func (k *cluster) awaitSome(t *testing.T, ended chan error, topic string, n int64) {
	t.Helper()
	for range 240 {
		ends, err := k.admin.ListEndOffsets(t.Context(), topic)
		if err == nil {
			if end, ok := ends.Lookup(topic, 0); ok && end.Offset >= n {
				return
			}
		}
		select {
		case err := <-ended:
			t.Fatalf("the pipeline has ended early: %v", err)
		case <-time.After(250 * time.Millisecond):
		}
	}
	t.Fatalf("the pipeline has not written %d records to topic %s", n, topic)
}
