// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
)

// valueMillis declares that the value is the event time in milliseconds.
func valueMillis(r Record) (time.Time, error) {
	ms, err := strconv.ParseInt(string(r.Value), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("value is no number of milliseconds: %w", err)
	}
	return time.UnixMilli(ms), nil
}

// FC-9: five wrong clocks become dead letters and do not move the watermark.
func TestWrongClocks(t *testing.T) {
	noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	ahead := time.Now().Add(2 * time.Hour).UnixMilli()
	c := fake(t, 1, nil)
	var recs []*kgo.Record
	add := func(value string, written time.Time) {
		recs = append(recs, &kgo.Record{Value: []byte(value), Timestamp: written})
	}
	for i := range 100 {
		at := noon.Add(time.Duration(i) * 100 * time.Millisecond)
		add(fmt.Sprint(at.UnixMilli()), at)
	}
	for _, value := range []string{"1777636800", "1777636800000000", fmt.Sprint(ahead), "no t", "0"} {
		written := noon.Add(10 * time.Second)
		if value == "no t" {
			written = time.UnixMilli(-1)
		}
		add(value, written)
	}
	for i := range 100 {
		at := noon.Add(time.Duration(100+i) * 100 * time.Millisecond)
		add(fmt.Sprint(at.UnixMilli()), at)
	}
	produce(t, c, "", recs...)

	cfg := config(c)
	cfg.MaxBehind = 48 * time.Hour
	cfg.IdleAfter = -1
	r := newRun(t, cfg)
	r.fn.eventTime = valueMillis
	r.all(Restriction(r.parts[0]))
	want := []string{"BAD_TIME 1777636800", "FUTURE 1777636800000000", "FUTURE " + fmt.Sprint(ahead), "BAD_TIME no t", "BAD_TIME 0"}
	if diff := cmp.Diff(want, r.dead); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
	if len(r.got) != 200 || !slices.IsSortedFunc(r.times, time.Time.Compare) {
		t.Errorf("got %d records, want 200, none before another", len(r.got))
	}
	last := noon.Add(199 * 100 * time.Millisecond)
	if got := r.state[0].Watermark; got != last.UnixMilli() {
		t.Errorf("watermark %v, want that of the last good record, %v", time.UnixMilli(got).UTC(), last)
	}

	// Without bounds the stream is taken as it is, and the watermark is where the wrong clock has put it.
	cfg.MaxAhead, cfg.MaxBehind = -1, 0
	r = newRun(t, cfg)
	r.fn.eventTime = valueMillis
	r.all(Restriction(r.parts[0]))
	if got := r.state[0].Watermark; len(r.dead) != 1 || got < ahead {
		t.Errorf("without bounds %d dead letters and watermark %v", len(r.dead), time.UnixMilli(got))
	}
}

// The edges of the bounds, in milliseconds beside them.
func TestTimeBounds(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	r := &reader{MaxAhead: time.Minute, MaxBehind: time.Hour, eventTime: valueMillis}
	for _, c := range []struct {
		written, at int64 // Milliseconds from now; written math.MinInt means none.
		code        string
	}{
		{0, 60_000, ""}, {0, 60_001, "FUTURE"}, {0, -3_600_000, ""}, {0, -3_600_001, "BAD_TIME"},
		{-1e9, -1e9 + 60_000, ""}, {-1e9, -1e9 + 60_001, "FUTURE"}, {-1e9, -1e9 - 3_600_000, ""}, {-1e9, -1e9 - 3_600_001, "BAD_TIME"},
		{1e9, 60_000, "BAD_TIME"}, {1e9, 1e9, "FUTURE"},
	} {
		rec := Record{Timestamp: now.UnixMilli() + c.written, Value: []byte(fmt.Sprint(now.UnixMilli() + c.at))}
		_, letter := r.timeOf(rec, now)
		if code := ""; letter != nil && letter.Code != c.code || letter == nil && c.code != code {
			t.Errorf("written %d, event %d: %v, want %q", c.written, c.at, letter, c.code)
		}
	}
}

// FC-8: idle means caught up and quiet.
func TestIdleEdges(t *testing.T) {
	start := time.UnixMilli(1_800_000_000_000)
	after := func(ms int64) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	const lag, idle = 2 * time.Second, 10 * time.Second
	e := newEstimator(WatermarkState{Watermark: 5, Process: process})
	expect := func(step string, want int64) {
		t.Helper()
		if got := e.current().Watermark; got != want {
			t.Fatalf("%s: watermark %d, want %d", step, got, want)
		}
	}
	e.sawEnd(after(0), lag, idle)
	e.sawEnd(after(9_999), lag, idle)
	expect("quiet for 9.999 s", 5)
	e.sawEnd(after(10_000), lag, idle)
	expect("quiet for 10 s", after(7_000).UnixMilli())
	e.sawRecord(mtime.FromTime(after(-60_000)), lag)
	expect("an old record", after(7_000).UnixMilli())
	e.sawEnd(after(20_000), lag, idle)
	expect("quiet again, but not for long", after(7_000).UnixMilli())

	// A restart keeps the watermark and begins to wait anew; so does a backlog, however long it takes.
	kept := e.current()
	kept.Process = "another"
	e = newEstimator(kept)
	e.sawEnd(after(29_000), lag, idle)
	e.sawEnd(after(38_999), lag, idle)
	expect("after a restart", after(7_000).UnixMilli())
	e.sawMore()
	e.sawEnd(after(50_000), lag, idle)
	expect("after a stall", after(7_000).UnixMilli())
	e.sawEnd(after(99_000), lag, -1)
	expect("idleness off", after(7_000).UnixMilli())
	e.sawEnd(after(99_000), lag, idle)
	expect("idle", after(96_000).UnixMilli())
}

// FC-8 A and B with a cluster: an empty partition becomes idle, one whose fetches bring nothing does not.
func TestIdlePartition(t *testing.T) {
	c := fake(t, 2, nil)
	produce(t, c, "", rec(1, "a"), rec(1, "b"))
	cfg := config(c)
	cfg.IdleAfter = time.Nanosecond // Less than a millisecond: the first quiet look is enough.
	r := newRun(t, cfg)
	empty, full := Restriction(r.parts[0]), Restriction(r.parts[1])
	r.all(empty)
	if got := time.Since(time.UnixMilli(r.state[0].Watermark)); got > 10*time.Second {
		t.Errorf("the watermark of an empty partition is %v behind", got)
	}
	// The position stays before the end: the stable offset is held by an open transaction.
	open, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic("t"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID("open"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := open.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := open.ProduceSync(t.Context(), rec(1, "c")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	rest := r.all(full)
	for range 2 {
		rest = r.all(rest)
	}
	if rest.Start != 2 || r.state[1].Watermark != 1_000_000 || r.state[1].QuietSince != 0 {
		t.Errorf("a partition with a backlog: position %d, %+v", rest.Start, r.state[1])
	}
	if err := open.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	if rest = r.all(rest); rest.Start != 4 || len(r.got) != 3 {
		t.Errorf("after the commit: position %d, records %v", rest.Start, r.got)
	}
}
