// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"context"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestWriteRead(t *testing.T) {
	c := fake(t, 3, nil)
	p, s := beam.NewPipelineWithRoot()
	var values []any
	for i := range 500 {
		values = append(values, fmt.Sprint(i))
	}
	Write(s, WriteConfig{Brokers: c.ListenAddrs(), Topic: "t", ID: "test"}, beam.ParDo(s, pair, beam.Create(s, values...)))
	ptest.RunAndValidate(t, p)
	r := newRun(t, config(c))
	for _, part := range r.parts {
		r.all(Restriction(part))
	}
	got := map[string]bool{}
	for _, g := range r.got {
		_, g, _ = strings.Cut(g, "=")
		got[g] = true
	}
	if len(r.got) != 500 || len(got) != 500 || !got["key 7/7"] {
		t.Errorf("got %d records, %d different, want 500", len(r.got), len(got))
	}
}

func TestWriteMissingTopic(t *testing.T) {
	c := fake(t, 1, nil)
	w := &writer{Brokers: c.ListenAddrs(), Topic: "missing", Timeout: 5 * time.Second}
	ctx := context.Background()
	err := w.start(ctx)
	if err == nil {
		err = w.send(ctx, &kgo.Record{Value: []byte("x")})
	}
	if err == nil {
		err = w.finish(ctx, nil)
	}
	if err == nil || !strings.Contains(err.Error(), "topic missing") || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("write to a topic that is not there = %v", err)
	}
}

// FC-7: the end is a marker, the middle is compacted, the position is what counts.
func TestHoles(t *testing.T) {
	for _, c := range []struct {
		name string
		fill func(*kfake.Cluster)
		want []string
		end  int64
	}{
		{"markers", func(c *kfake.Cluster) {
			produce(t, c, "", rec(0, "k"), rec(0, "k"))
			produce(t, c, "commit", rec(0, "c"))
			produce(t, c, "abort", rec(0, "d"))
			c.Compact()
		}, []string{"0:1=k/k", "0:2=c/c"}, 6},
		{"only aborted", func(c *kfake.Cluster) { produce(t, c, "abort", rec(0, "a"), rec(0, "b")) }, nil, 3},
		{"empty", func(*kfake.Cluster) {}, nil, 0},
		{"far apart", func(c *kfake.Cluster) {
			for _, part := range []struct {
				n   int
				key string
			}{{11, "a"}, {29_999, "b"}, {1, "c"}} {
				var recs []*kgo.Record
				for range part.n {
					recs = append(recs, rec(0, part.key))
				}
				produce(t, c, "", recs...)
			}
			c.Compact()
		}, []string{"0:10=a/a", "0:30009=b/b", "0:30010=c/c"}, 30011},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster := fake(t, 1, map[string]string{"cleanup.policy": "compact", "retention.ms": "-1"})
			c.fill(cluster)
			unbounded := newRun(t, config(cluster))
			if rest := unbounded.all(Restriction(unbounded.parts[0])); rest.Start != c.end || rest.End != math.MaxInt64 {
				t.Errorf("unbounded read ended at %d of %d, want %d", rest.Start, rest.End, c.end)
			}
			if size, err := unbounded.fn.RestrictionSize(context.Background(), unbounded.parts[0], Restriction{Topic: "t", TopicID: unbounded.parts[0].TopicID, Start: c.end, End: math.MaxInt64}); err != nil || size != 0 {
				t.Errorf("backlog at the end is %v, %v, want 0", size, err)
			}
			cfg := config(cluster)
			cfg.To = Latest()
			bounded := newRun(t, cfg)
			if end := bounded.parts[0].End; end != c.end {
				t.Errorf("end = %d, want %d", end, c.end)
			}
			if rest, err := bounded.step(Restriction(bounded.parts[0])); rest != nil || err != nil {
				t.Errorf("bounded read leaves %v, %v", rest, err)
			}
			for _, got := range [][]string{unbounded.got, bounded.got} {
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("records (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestPositions(t *testing.T) {
	c := fake(t, 1, nil)
	for i := range 10 {
		produce(t, c, "", &kgo.Record{Value: []byte{'0' + byte(i)}, Timestamp: time.UnixMilli(int64(1000 * (i + 1)))})
	}
	at := func(ms int64) Position { return AtTime(time.UnixMilli(ms)) }
	for _, c2 := range []struct {
		from, to   Position
		start, end int64
	}{
		{Position{}, Position{}, 0, math.MaxInt64}, {Earliest(), Latest(), 0, 10}, {Latest(), Latest(), 10, 10}, {AtOffset(3), AtOffset(20), 3, 20},
		{at(2999), at(3000), 2, 2}, {at(3001), at(99999), 3, 10}, {AtOffset(7), at(2000), 7, 7},
	} {
		cfg := config(c)
		cfg.From, cfg.To = c2.from, c2.to
		if p := newRun(t, cfg).parts[0]; p.Start != c2.start || p.End != c2.end {
			t.Errorf("from %v to %v is [%d, %d), want [%d, %d)", c2.from, c2.to, p.Start, p.End, c2.start, c2.end)
		}
	}
}

func TestOffsetGone(t *testing.T) {
	c := fake(t, 1, nil)
	produce(t, c, "", rec(0, "a"), rec(0, "b"), rec(0, "c"))
	r := newRun(t, config(c))
	if err := c.DeleteRecords("t", 0, 2); err != nil {
		t.Fatal(err)
	}
	_, err := r.step(Restriction(r.parts[0]))
	for _, word := range []string{"topic t", "partition 0", "offset 0", "the earliest is 2", "GoneSkipsTo"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("error %v does not say %q", err, word)
		}
	}
	r.fn.OffsetGone = GoneSkipsTo
	if rest := r.all(Restriction(r.parts[0])); rest.Start != 3 || !slices.Equal(r.got, []string{"0:2=c/c"}) {
		t.Errorf("with a gap got %v and position %d", r.got, rest.Start)
	}
	past := Restriction(r.parts[0])
	past.Start = 50
	if _, err := r.step(past); err == nil || !strings.Contains(err.Error(), "past the end, which is 3") {
		t.Errorf("read past the end = %v", err)
	}
	if err := c.DeleteTopic("t"); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTopic("t", 1, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := r.step(Restriction{Topic: "t", TopicID: r.parts[0].TopicID, Start: 3, End: math.MaxInt64}); err == nil || !strings.Contains(err.Error(), "created again") {
		t.Errorf("read of another topic of the same name = %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	c := fake(t, 1, nil)
	for _, want := range []struct{ brokers, topic, words string }{
		{addr, "t", addr}, {c.ListenAddrs()[0], "missing", "topic missing does not exist"},
	} {
		f := &lister{Brokers: []string{want.brokers}, Topic: want.topic, Timeout: 4 * time.Second}
		if err := f.Setup(); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, err := f.list(context.Background(), 0)
		f.Teardown()
		if err == nil || !strings.Contains(err.Error(), want.words) || time.Since(begin) > 15*time.Second {
			t.Errorf("list = %v after %v, want %q", err, time.Since(begin), want.words)
		}
	}
}

// New partitions come once, from their beginning, whatever the read started with.
func TestNewPartitions(t *testing.T) {
	c := fake(t, 2, nil)
	produce(t, c, "", rec(0, "old"))
	fn := &discoverFn{Lister: lister{Brokers: c.ListenAddrs(), Topic: "t", From: Latest(), Timeout: 5 * time.Second}, Every: 2 * time.Second}
	if err := fn.Setup(); err != nil {
		t.Fatal(err)
	}
	defer fn.Teardown()
	rest, state := fn.CreateInitialRestriction(nil), int64(-1000)
	for i, want := range [][]string{{"0@1 -1000", "1@0 -1000"}, nil, {"2@0", "3@0"}, nil} {
		if i == 2 {
			if _, err := fn.Lister.client.adm.UpdatePartitions(context.Background(), 4, "t"); err != nil {
				t.Fatal(err)
			}
			produce(t, c, "", rec(3, "new"))
		}
		rt := fn.CreateTracker(rest)
		w := fn.CreateWatermarkEstimator(state)
		var got []string
		emit := func(et beam.EventTime, p partition) {
			line := fmt.Sprintf("%d@%d", p.Partition, p.Start)
			if et.Milliseconds() < 0 {
				line += fmt.Sprint(" ", et.Milliseconds())
			}
			got = append(got, line)
		}
		again, err := fn.ProcessElement(context.Background(), w, rt, nil, emit)
		if err != nil || !again.ShouldResume() || again.ResumeDelay() < time.Second {
			t.Fatalf("look %d: %v, %v", i, again, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("look %d (-want +got):\n%s", i, diff)
		}
		_, residual, err := rt.TrySplit(0)
		if err != nil || !rt.IsDone() {
			t.Fatal(err)
		}
		before := state
		if rest, state = residual.(discovery), fn.WatermarkEstimatorState(w); state < before || time.Since(time.UnixMilli(state)) < transit {
			t.Errorf("look %d: watermark went from %d to %d", i, before, state)
		}
	}
}

// TestTurn reads a partition that has more than is read in one turn.
func TestTurn(t *testing.T) {
	c := fake(t, 1, nil)
	produce(t, c, "", rec(0, "a"))
	produce(t, c, "", rec(0, "b"))
	cfg := config(c)
	cfg.FetchBytes, cfg.Turn = 1, time.Nanosecond
	r := newRun(t, cfg)
	next, err := r.step(Restriction(r.parts[0]))
	if err != nil {
		t.Fatal(err)
	}
	if next == nil || next.Start != 1 || len(r.got) != 1 {
		t.Fatalf("the first turn has read %v and leaves %v, want one record and the rest", r.got, next)
	}
	if r.all(*next); len(r.got) != 2 {
		t.Errorf("all turns have read %v, want two records", r.got)
	}
}
