// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/protobuf/proto"
)

func init() {
	register.Function1x2(keyedBatch)
	register.Function1x1(whole)
	register.Function1x1(sample)
}

// lossy is a cluster that closes one connection in so many answers instead of sending the answer, which it has
// acted upon; 0 is never.
func lossy(t *testing.T, partitions int32, config map[string]string, seed uint64) (*kfake.Cluster, *atomic.Int64) {
	t.Helper()
	oneIn := &atomic.Int64{}
	c, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		return &lossyListener{Listener: l, oneIn: oneIn, seed: seed}, err
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.CreateTopic("t", partitions, config); err != nil {
		t.Fatal(err)
	}
	return c, oneIn
}

type lossyListener struct {
	net.Listener
	oneIn *atomic.Int64
	seed  uint64
	conns atomic.Uint64
}

func (l *lossyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &lossyConn{Conn: c, oneIn: l.oneIn, random: rand.New(rand.NewPCG(l.seed, l.conns.Add(1)))}, err
}

type lossyConn struct {
	net.Conn
	oneIn  *atomic.Int64
	random *rand.Rand // Answers of a connection are written one after the other.
}

func (c *lossyConn) Write(b []byte) (int, error) {
	if n := c.oneIn.Load(); n > 0 && c.random.Int64N(n) == 0 {
		c.Close()
		return 0, errors.New("lost on purpose")
	}
	return c.Conn.Write(b)
}

// sink is a shard of a sink without a runner: batches, and the state that a runner would keep.
type sink struct {
	t       *testing.T
	w       *exactWriter
	brokers []string
	state   progress
	dead    []string
}

func newSink(t *testing.T, c *kfake.Cluster) *sink {
	s := &sink{t: t, brokers: c.ListenAddrs()}
	s.restart()
	t.Cleanup(func() { s.w.Teardown() })
	return s
}

// restart is another process. The one before may still be there.
func (s *sink) restart() {
	if s.w != nil {
		s.w.Teardown()
	}
	s.w = &exactWriter{Brokers: s.brokers, Topic: "t", ID: "job/sink", Timeout: 20 * time.Second}
	s.w.Setup()
}

// bundle writes batches. If it is to be lost, it is as if the process had died before the runner's commit.
func (s *sink) bundle(lost bool, batches ...numbered) error {
	s.w.start()
	p := s.state
	var dead []string
	for _, b := range batches {
		var err error
		if p, err = s.w.write(context.Background(), 0, p, b, func(d DeadLetter) { dead = append(dead, deadCode(d)) }); err != nil {
			return err
		}
	}
	if lost {
		s.restart()
		return nil
	}
	s.state, s.dead = p, append(s.dead, dead...)
	return nil
}

// batchOf is records first to last, each with its number as key and value.
func batchOf(writer string, first, last int64) numbered {
	n := numbered{writer: writer, first: first}
	for seq := first; seq <= last; seq++ {
		n.records = append(n.records, encodeRecord(Record{Key: fmt.Append(nil, seq), Value: fmt.Append(nil, seq)}))
	}
	return n
}

// content is what a read_committed reader finds, per partition in order.
func content(t *testing.T, c *kfake.Cluster) (values []string) {
	t.Helper()
	r := newRun(t, ReadConfig{Brokers: c.ListenAddrs(), Topic: "t", Timeout: 5 * time.Second})
	for _, part := range r.parts {
		r.all(Restriction(part))
	}
	for _, g := range r.got {
		_, g, _ = strings.Cut(g, "/")
		values = append(values, g)
	}
	return values
}

func upTo(n int64) (want []string) {
	for i := int64(1); i <= n; i++ {
		want = append(want, fmt.Sprint(i))
	}
	return want
}

// What is lost and doubled is found whether it is the sink or its naive variant that writes.
func campaign(t *testing.T, write func(lost bool, first, last int64) error, answers *atomic.Int64, seed uint64) int64 {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	answers.Store(50) // 2 % of the answers are lost.
	defer answers.Store(0)
	const last = 1000
	for first := int64(1); first <= last; {
		end := min(first+random.Int64N(20), last)
		for lost := true; lost; {
			lost = random.IntN(4) == 0
			if err := write(lost, first, end); err != nil {
				t.Fatal(err)
			}
		}
		first = end + 1
	}
	return last
}

func TestExactlyOnceUnderFaults(t *testing.T) {
	c, answers := lossy(t, 1, nil, 1)
	s := newSink(t, c)
	errs := []*kerr.Error{kerr.NotCoordinator, kerr.RequestTimedOut, kerr.InvalidProducerEpoch, kerr.ConcurrentTransactions, kerr.NotLeaderForPartition}
	keys := []kmsg.Key{kmsg.Produce, kmsg.TxnOffsetCommit, kmsg.EndTxn, kmsg.InitProducerID, kmsg.AddOffsetsToTxn}
	random := rand.New(rand.NewPCG(1, 2))
	var faults []*kfake.FaultHandle
	last := campaign(t, func(lost bool, first, last int64) error {
		if random.IntN(3) == 0 {
			faults = append(faults, c.Fault(kfake.Fault{Keys: []kmsg.Key{keys[random.IntN(len(keys))]}, Err: errs[random.IntN(len(errs))], TopLevel: random.IntN(2) == 0}))
		}
		return s.bundle(lost, batchOf("w", first, last))
	}, answers, 1)
	hits := 0
	for _, f := range faults {
		hits += f.Hits()
		f.Remove()
	}
	t.Logf("%d faults answered", hits)
	if diff := cmp.Diff(upTo(last), content(t, c)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if s.state.Seq != last || s.state.Kafka != last {
		t.Errorf("progress is %+v, want %d", s.state, last)
	}
}

// The control: a transaction without the number in it, and "sent" noted after it. The campaign must notice.
func TestNaiveWriteIsCaught(t *testing.T) {
	c, answers := lossy(t, 1, nil, 1)
	var client *kgo.Client
	last := campaign(t, func(lost bool, first, last int64) error {
		for {
			if client == nil {
				var err error
				if client, err = kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.TransactionalID("naive"), kgo.DefaultProduceTopic("t")); err != nil {
					return err
				}
				t.Cleanup(client.Close)
			}
			var records []*kgo.Record
			for seq := first; seq <= last; seq++ {
				records = append(records, &kgo.Record{Value: fmt.Append(nil, seq)})
			}
			err := client.BeginTransaction()
			if err == nil {
				err = client.ProduceSync(context.Background(), records...).FirstErr()
			}
			if err == nil {
				err = client.EndTransaction(context.Background(), kgo.TryCommit)
			}
			if err == nil {
				return nil
			}
			client = nil
		}
	}, answers, 1)
	if got := content(t, c); cmp.Equal(upTo(last), got) {
		t.Error("the campaign does not notice that records are doubled")
	} else {
		t.Logf("%d records for %d", len(got), last)
	}
}

// A lost bundle that comes again in other pieces finds its place.
func TestBundleComesAgainInPieces(t *testing.T) {
	c := fake(t, 1, nil)
	s := newSink(t, c)
	for _, step := range []struct {
		lost    bool
		batches []numbered
	}{
		{true, []numbered{batchOf("w", 1, 5), batchOf("w", 6, 9), batchOf("w", 10, 12)}},
		{false, []numbered{batchOf("w", 1, 5)}},
		{true, []numbered{batchOf("w", 6, 9)}},
		{true, []numbered{batchOf("w", 6, 9), batchOf("w", 10, 12), batchOf("w", 13, 20)}},
		{false, []numbered{batchOf("w", 6, 9), batchOf("w", 10, 12), batchOf("w", 13, 20)}},
	} {
		if err := s.bundle(step.lost, step.batches...); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(upTo(20), content(t, c)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

func TestConflictsAreRefused(t *testing.T) {
	at := func(c *kfake.Cluster, seqs ...int64) *sink { // Bundles that end at these numbers.
		s := newSink(t, c)
		first := int64(1)
		for _, seq := range seqs {
			if err := s.bundle(false, batchOf("w", first, seq)); err != nil {
				t.Fatal(err)
			}
			first = seq + 1
		}
		return s
	}
	for _, c := range []struct {
		name string
		do   func(*kfake.Cluster) error
		want string
	}{
		{"rolled back", func(c *kfake.Cluster) error {
			s := at(c, 5)
			old := s.state
			for _, b := range []numbered{batchOf("w", 6, 10), batchOf("w", 11, 15)} {
				if err := s.bundle(false, b); err != nil {
					return err
				}
			}
			s.state = old
			s.restart()
			return s.bundle(false, batchOf("w", 6, 10))
		}, "rolled back"},
		{"rolled back by less than a bundle, other records", func(c *kfake.Cluster) error {
			s := at(c, 5)
			if err := s.bundle(true, batchOf("w", 6, 10)); err != nil {
				return err
			}
			other := batchOf("w", 7, 12)
			other.first = 6
			return s.bundle(false, other)
		}, "rolled back"},
		{"group gone", func(c *kfake.Cluster) error {
			s := at(c, 5, 10)
			cl, release, err := acquire(s.brokers, Access{})
			if err != nil {
				return err
			}
			defer release()
			if resp, err := cl.adm.DeleteGroup(context.Background(), "job/sink/0"); err != nil || resp.Err != nil {
				return errors.Join(err, resp.Err)
			}
			s.restart()
			return s.bundle(false, batchOf("w", 11, 12))
		}, "offsets.retention.minutes"},
		{"two jobs", func(c *kfake.Cluster) error {
			at(c, 5)
			return newSink(t, c).bundle(false, batchOf("another", 1, 5))
		}, "another job has written with ID \"job/sink\""},
		{"foreign group", func(c *kfake.Cluster) error {
			s := newSink(t, c)
			cl, release, err := acquire(s.brokers, Access{})
			if err != nil {
				return err
			}
			defer release()
			req := kmsg.NewPtrOffsetCommitRequest()
			req.Group = "job/sink/0"
			part := kmsg.NewOffsetCommitRequestTopicPartition()
			part.Offset = 7
			topic := kmsg.NewOffsetCommitRequestTopic()
			topic.Topic, topic.Partitions = "t", []kmsg.OffsetCommitRequestTopicPartition{part}
			meta, err := cl.adm.Metadata(context.Background(), "t")
			if err != nil {
				return err
			}
			topic.TopicID = meta.Topics["t"].ID
			req.Topics = append(req.Topics, topic)
			if _, err := req.RequestWith(context.Background(), cl.kgo); err != nil {
				return err
			}
			return s.bundle(false, batchOf("w", 1, 5))
		}, "no sink has written"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster := fake(t, 1, nil)
			begin := time.Now()
			err := c.do(cluster)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "transactional id job/sink/0") {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("refused after %v, want at once", took)
			}
		})
	}
}

func TestUnstableOffsetIsBounded(t *testing.T) {
	c := fake(t, 1, nil)
	s := newSink(t, c)
	s.w.Timeout = 2 * time.Second
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Err: kerr.UnstableOffsetCommit, Count: -1})
	err := s.bundle(false, batchOf("w", 1, 5))
	for _, word := range []string{s.brokers[0], "transactional id job/sink/0", "find-hanging", "UNSTABLE_OFFSET_COMMIT"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("got %v, want an error with %q", err, word)
		}
	}
}

// The markers of the last transaction may still be under way: that is no reason for a new producer.
func TestConcurrentTransactions(t *testing.T) {
	c := fake(t, 1, nil)
	s := newSink(t, c)
	inits := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, TopLevel: true, Observe: true, Count: -1})
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.ConcurrentTransactions, Count: 5})
	for i := range int64(3) {
		if err := s.bundle(false, batchOf("w", 1+5*i, 5+5*i)); err != nil {
			t.Fatal(err)
		}
	}
	if got := inits.Hits(); got != 1 {
		t.Errorf("got %d InitProducerID, want 1", got)
	}
	if diff := cmp.Diff(upTo(15), content(t, c)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// Records that are too large become dead letters, also when the bundle comes again, and the others are there.
func TestRefusedRecords(t *testing.T) {
	c := fake(t, 1, map[string]string{"max.message.bytes": "1500"})
	s := newSink(t, c)
	large := func(b numbered, seqs ...int64) numbered {
		for _, seq := range seqs {
			noise := make([]byte, 3000)
			for i := range noise {
				noise[i] = byte(rand.Uint32())
			}
			b.records[seq-b.first] = encodeRecord(Record{Key: fmt.Append(nil, seq), Value: append(fmt.Append(nil, seq, " "), noise...)})
		}
		return b
	}
	first, second, third := large(batchOf("w", 1, 30), 3, 17), large(batchOf("w", 31, 31), 31), large(batchOf("w", 32, 40), 40)
	for _, lost := range []bool{true, false} {
		if err := s.bundle(lost, first, second); err != nil {
			t.Fatal(err)
		}
	}
	if s.state.Seq != 31 || s.state.Kafka != 30 {
		t.Errorf("progress is %d, Kafka %d, want 31, 30", s.state.Seq, s.state.Kafka)
	}
	s.restart()
	if err := s.bundle(false, third); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, v := range upTo(40) {
		if v != "3" && v != "17" && v != "31" && v != "40" {
			want = append(want, v)
		}
	}
	if diff := cmp.Diff(want, content(t, c)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	var dead []string
	for _, d := range s.dead {
		dead = append(dead, strings.Join(strings.Fields(d)[:2], " "))
	}
	if diff := cmp.Diff([]string{"MESSAGE_TOO_LARGE 3", "MESSAGE_TOO_LARGE 17", "MESSAGE_TOO_LARGE 31", "MESSAGE_TOO_LARGE 40"}, dead); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
}

// keyedBatch makes a batch of "first last".
func keyedBatch(text string) (int64, []byte) {
	var first, last int64
	fmt.Sscan(text, &first, &last)
	b := batchOf("w", first, last)
	parcel := binary.AppendUvarint(nil, uint64(len(b.records)))
	for _, r := range b.records {
		parcel = appendBytes(parcel, r)
	}
	return 0, encodeNumbered("w", first, parcel)
}

// Batches that come before their turn, or twice, are in their place in the topic.
func TestBatchesOutOfOrder(t *testing.T) {
	c := fake(t, 1, nil)
	cfg, err := WriteConfig{Brokers: c.ListenAddrs(), Topic: "t", ID: "job/sink"}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	p, s := beam.NewPipelineWithRoot()
	batches := beam.Create(s, "11 12", "6 6", "6 6", "13 30", "1 3", "4 5", "1 3", "7 10", "31 32")
	passert.Empty(s, beam.ParDo(s, newCommitFn(cfg), beam.ParDo(s, keyedBatch, batches)))
	ptest.RunAndValidate(t, p)
	if diff := cmp.Diff(upTo(32), content(t, c)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// sample is a record with everything, or without.
func sample(i int) Record {
	r := Record{Key: fmt.Append(nil, i), Value: fmt.Append(nil, "v", i), Timestamp: 1_000_000 + int64(i), Headers: []Header{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte{}}}}
	switch i % 4 {
	case 1:
		r.Tombstone, r.Value = true, nil
	case 2:
		r.NoKey, r.Key = true, nil
	case 3:
		r.Key, r.Value, r.Headers = []byte{}, []byte{}, nil
	}
	return r
}

// whole is everything of a record but its place.
func whole(r Record) string {
	return fmt.Sprintf("%s/%v %s/%v %d %s", r.Key, r.NoKey, r.Value, r.Tombstone, r.Timestamp, r.Headers)
}

// Keys, headers, tombstones and timestamps are kept, in both kinds of write and in windows.
func TestWriteKeepsRecords(t *testing.T) {
	for _, atLeastOnce := range []bool{false, true} {
		c := fake(t, 3, nil)
		var numbers, want []any
		for i := range 40 {
			numbers = append(numbers, i)
			want = append(want, whole(sample(i)))
		}
		p, s := beam.NewPipelineWithRoot()
		records := beam.WindowInto(s, window.NewFixedWindows(time.Minute), beam.ParDo(s, sample, beam.Create(s, numbers...)))
		passert.Empty(s, Write(s, WriteConfig{Brokers: c.ListenAddrs(), Topic: "t", ID: "a/b", AtLeastOnce: atLeastOnce}, records))
		ptest.RunAndValidate(t, p)
		p, s = beam.NewPipelineWithRoot()
		cfg := config(c)
		cfg.To = Latest()
		read, _ := Read(s, cfg)
		passert.Equals(s, beam.ParDo(s, whole, read), want...)
		ptest.RunAndValidate(t, p)
	}
}

func TestAtLeastOnceDeadLetters(t *testing.T) {
	c := fake(t, 1, map[string]string{"max.message.bytes": "1000"})
	w := &writer{Brokers: c.ListenAddrs(), Topic: "t", Timeout: 5 * time.Second}
	ctx := context.Background()
	w.Setup()
	defer w.Teardown()
	if err := w.start(ctx); err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 3000)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	for _, value := range []string{"1", "2", "large " + string(noise), "3"} {
		if err := w.send(ctx, &kgo.Record{Value: []byte(value)}); err != nil {
			t.Fatal(err)
		}
	}
	var dead []string
	if err := w.finish(ctx, func(d DeadLetter) { dead = append(dead, d.Code) }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"MESSAGE_TOO_LARGE"}, dead); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(upTo(3), content(t, c)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

func TestWriteConfigIsChecked(t *testing.T) {
	good := WriteConfig{Brokers: []string{"a:1"}, Topic: "t", ID: "x"}
	for _, c := range []struct {
		change func(*WriteConfig)
		want   string
	}{
		{func(c *WriteConfig) {}, ""},
		{func(c *WriteConfig) { c.ID = "" }, "AtLeastOnce"},
		{func(c *WriteConfig) { c.ID, c.AtLeastOnce = "", true }, ""},
		{func(c *WriteConfig) { c.Shards = -1 }, "Shards"},
		{func(c *WriteConfig) { c.Access.Password = "hunter2" }, "password=env:NAME"},
	} {
		cfg := good
		c.change(&cfg)
		_, err := cfg.withDefaults()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

// A program that is run again gives the same pipeline, or its job could not be continued.
func TestModelIsTheSame(t *testing.T) {
	model := func() []byte {
		p, s := beam.NewPipelineWithRoot()
		Write(s, WriteConfig{Brokers: []string{"h:1"}, Topic: "t", ID: "x"}, beam.ParDo(s, pair, beam.Create(s, "a", "b")))
		edges, _, err := p.Build()
		if err != nil {
			t.Fatal(err)
		}
		environment, err := graphx.CreateEnvironment(t.Context(), "beam:env:external:v1", func(context.Context) string { return "" })
		if err != nil {
			t.Fatal(err)
		}
		m, err := graphx.Marshal(edges, &graphx.Options{Environment: environment})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range m.GetComponents().GetTransforms() { // What has no meaning and is sorted by who compares.
			slices.Sort(x.Subtransforms)
			var payload pipepb.ParDoPayload
			if x.GetSpec().GetUrn() != "beam:transform:pardo:v1" {
				continue
			}
			if err := proto.Unmarshal(x.Spec.Payload, &payload); err != nil {
				t.Fatal(err)
			}
			if x.Spec.Payload, err = (proto.MarshalOptions{Deterministic: true}).Marshal(&payload); err != nil {
				t.Fatal(err)
			}
		}
		slices.Sort(m.RootTransformIds)
		text, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	first := model()
	for i := range 20 {
		if !bytes.Equal(model(), first) {
			t.Fatalf("the model of run %d differs from the first", i+2)
		}
	}
}

// A record is as large as the topic allows, not as a client does when nobody tells it.
func TestLargeRecords(t *testing.T) {
	c := fake(t, 1, map[string]string{"max.message.bytes": "4000000"})
	value := make([]byte, 2_000_000)
	for i := range value {
		value[i] = byte(rand.Uint32())
	}
	s := newSink(t, c)
	b := batchOf("w", 1, 1)
	b.records[0] = encodeRecord(Record{Value: value})
	if err := s.bundle(false, b); err != nil {
		t.Fatal(err)
	}
	w := &writer{Brokers: c.ListenAddrs(), Topic: "t", Timeout: 5 * time.Second}
	w.Setup()
	defer w.Teardown()
	ctx := context.Background()
	err := w.start(ctx)
	if err == nil {
		err = w.send(ctx, &kgo.Record{Value: value})
	}
	if err == nil {
		err = w.finish(ctx, func(d DeadLetter) { t.Errorf("dead letter: %s", d.Error) })
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(s.dead) > 0 {
		t.Errorf("dead letters: %.80s", s.dead)
	}
	if got := content(t, c); len(got) != 2 {
		t.Errorf("the topic has %d records, want 2", len(got))
	}
}
