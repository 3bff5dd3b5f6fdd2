// SPDX-License-Identifier: Apache-2.0

package kinesisio

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/google/go-cmp/cmp"
)

// dataMillis declares that the data is the event time in milliseconds.
func dataMillis(r Record) (time.Time, error) {
	ms, err := strconv.ParseInt(string(r.Data), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("the data is no number of milliseconds: %w", err)
	}
	return time.UnixMilli(ms), nil
}

// FC-9: wrong clocks become dead letters and do not move the watermark.
func TestWrongClocks(t *testing.T) {
	srv := start(t, 1)
	now := time.Now()
	put := func(text string) { srv.Put("s", "k", []byte(text)) }
	good := func(ago time.Duration) { put(fmt.Sprint(now.Add(-ago).UnixMilli())) }
	good(2 * time.Minute)
	seconds, micros, ahead := fmt.Sprint(now.Unix()), fmt.Sprint(now.UnixMicro()), fmt.Sprint(now.Add(2*time.Hour).UnixMilli())
	for _, text := range []string{seconds, micros, ahead, "no t", "0"} {
		put(text)
	}
	good(time.Minute)
	cfg := readOf(srv)
	cfg.MaxBehind = 48 * time.Hour
	cfg.IdleAfter = -1
	r := newRun(t, cfg)
	r.fn.eventTime = dataMillis
	r.everything()
	want := []string{"BAD_TIME " + seconds, "FUTURE " + micros, "FUTURE " + ahead, "BAD_TIME no t", "BAD_TIME 0"}
	if diff := cmp.Diff(want, r.dead); diff != "" || len(r.got) != 2 {
		t.Errorf("%d records, and dead letters (-want +got):\n%s", len(r.got), diff)
	}
	if want := now.Add(-time.Minute).UnixMilli(); r.state.Watermark != want {
		t.Errorf("watermark %d, want that of the last good record, %d", r.state.Watermark, want)
	}
}

// The edges of the bounds, in milliseconds beside them.
func TestTimeBounds(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	r := &reader{MaxAhead: time.Minute, MaxBehind: time.Hour, eventTime: dataMillis}
	for _, c := range []struct {
		arrived, at int64 // Milliseconds from now.
		code        string
	}{
		{0, 60_000, ""}, {0, 60_001, "FUTURE"}, {0, -3_600_000, ""}, {0, -3_600_001, "BAD_TIME"},
		{-1e9, -1e9 + 60_000, ""}, {-1e9, -1e9 + 60_001, "FUTURE"}, {-1e9, -1e9 - 3_600_000, ""}, {-1e9, -1e9 - 3_600_001, "BAD_TIME"},
		{1e9, 1e9, "FUTURE"},
	} {
		rec := Record{Arrival: now.UnixMilli() + c.arrived, Data: []byte(fmt.Sprint(now.UnixMilli() + c.at))}
		code := ""
		if _, letter := r.timeOf(rec, now); letter != nil {
			code = letter.Code
		}
		if code != c.code {
			t.Errorf("arrived %d, event %d: %q, want %q", c.arrived, c.at, code, c.code)
		}
	}
}

// FC-8: idle means caught up and quiet, of every part.
func TestIdleEdges(t *testing.T) {
	start := time.UnixMilli(1_800_000_000_000)
	after := func(ms int64) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	const lag, idle = 2 * time.Second, 10 * time.Second
	a, b := Part{Shard: "a", Low: "0"}, Part{Shard: "b", Low: "8"}
	e := newEstimator(WatermarkState{Watermark: 5, Process: process})
	e.follow([]Part{a, b}, partID{})
	expect := func(step string, want int64) {
		t.Helper()
		if got := e.current().Watermark; got != want {
			t.Fatalf("%s: watermark %d, want %d", step, got, want)
		}
	}
	e.sawEnd(a.id(), after(0), lag, idle)
	e.sawEnd(b.id(), after(0), lag, idle)
	e.sawEnd(a.id(), after(10_000), lag, idle)
	e.sawEnd(b.id(), after(9_999), lag, idle)
	expect("b quiet for 9.999 s", 5)
	e.sawEnd(b.id(), after(10_000), lag, idle)
	expect("both quiet for 10 s", after(7_000).UnixMilli())
	e.sawRecord(a.id(), mtime.FromTime(after(-60_000)), lag)
	expect("an old record", after(7_000).UnixMilli())
	e.sawEnd(b.id(), after(20_000), lag, idle)
	expect("a is quiet again, but not for long", after(7_000).UnixMilli())

	// A child begins where its parent was, and does not hold what is not there any more.
	c := Part{Shard: "c", Low: "0"}
	e.follow([]Part{c, b}, a.id())
	expect("a child", after(7_000).UnixMilli())
	e.sawRecord(c.id(), mtime.FromTime(after(15_000)), lag)
	expect("a record of the child", after(13_000).UnixMilli())

	// A restart keeps the watermark and begins to wait anew; so does a backlog, however long it takes.
	kept := e.current()
	kept.Process = "another"
	e = newEstimator(kept)
	both := func(ms int64) {
		e.sawEnd(b.id(), after(ms), lag, idle)
		e.sawEnd(c.id(), after(ms), lag, idle)
	}
	both(29_000)
	both(38_999)
	expect("after a restart", after(13_000).UnixMilli())
	e.sawMore(c.id())
	both(50_000)
	expect("after a stall", after(13_000).UnixMilli())
	both(99_000)
	expect("idle", after(96_000).UnixMilli())
}

// A part of a merged shard begins with the least watermark of those it follows, in whatever order they end and whether
// or not it is joined.
func TestWatermarkOfMergedShards(t *testing.T) {
	middle := "8" + strings.Repeat("0", 31)
	a := Part{Shard: "a", Low: strings.Repeat("0", 32), High: before(middle)}
	b := Part{Shard: "b", Low: middle, High: strings.Repeat("f", 32)}
	child := Part{Shard: "c", Parents: []string{"a", "b"}, At: Place{Kind: "earliest"}}
	for name, c := range map[string]struct {
		first, second Part
		a, b          int64
	}{
		"the upper half ends first and is behind": {b, a, 100, 50},
		"the upper half ends first and is ahead":  {b, a, 50, 100},
		"the lower half ends first and is behind": {a, b, 50, 100},
		"the lower half ends first and is ahead":  {a, b, 100, 50},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTracker(Restriction{End: math.MaxInt64, Parts: []Part{a, b}})
			e := newEstimator(WatermarkState{Process: process})
			e.follow(tr.now, partID{})
			e.sawRecord(a.id(), mtime.FromMilliseconds(c.a), 0)
			e.sawRecord(b.id(), mtime.FromMilliseconds(c.b), 0)
			for _, ended := range []Part{c.first, c.second} {
				next := child
				next.Low, next.High = ended.Low, ended.High
				if !tr.TryClaim(handOver{ended.id(), []Part{next}}) {
					t.Fatal(tr.err)
				}
				e.follow(tr.now, ended.id())
			}
			if got := e.current(); len(tr.now) != 1 || len(got.Parts) != 1 || got.Watermark != 50 || got.Parts[0].Watermark != 50 {
				t.Errorf("%d parts, watermark %+v, want one part with 50", len(tr.now), got)
			}
		})
	}
}
