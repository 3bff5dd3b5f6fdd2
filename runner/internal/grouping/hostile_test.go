// SPDX-License-Identifier: Apache-2.0

package grouping

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/grouping/trigger/triggertest"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

func sessions(t testing.TB, expression string) plan.WindowingStrategy {
	t.Helper()
	parsed, err := triggertest.Parse(expression)
	if err != nil {
		t.Fatal(err)
	}
	return plan.WindowingStrategy{
		Fn:     plan.WindowFn{Kind: plan.SessionWindows, Size: 5 * time.Second},
		Merges: true, Trigger: parsed, OnTime: plan.FireIfNonempty,
	}
}

// FuzzRow reads any bytes as a row: it is an error or a row that is written back the same.
func FuzzRow(f *testing.F) {
	s := sessions(f, "end(early=afterAny(count(3), delay(5s)), late=count(2))")
	g := newWorld(f, s).grouper
	full := &row{
		cells: []*cell{{
			window: event.Window{Start: 0, End: 5000}, trigger: g.trigger.Start(), fresh: true, fired: true,
			pane: event.Pane{Timing: event.Late, Index: 4, NonSpeculative: 2}, held: stamp{true, -5},
			count: 3, size: 9, spills: []spill{{chain: bundle.ID{Epoch: 1, N: 2}, n: 3, rows: 4}}, values: []byte("abc"),
		}},
		closed: []event.Window{{Start: 9000, End: 14000}},
		armed:  alarm{set: true, due: 5000, hold: 4999}, waking: stamp{true, 7},
	}
	f.Add(g.appendRow(nil, full))
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0})
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again row
		if err := g.readRow(&r, b); err != nil {
			return
		}
		if err := g.readRow(&again, g.appendRow(nil, &r)); err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		for _, c := range append(r.cells, again.cells...) {
			if c.pane.Timing == event.Unknown {
				c.pane = event.Pane{} // Not one of ours.
			}
		}
		if diff := cmp.Diff(r, again, cmp.AllowUnexported(row{}, cell{}, alarm{}, stamp{}, spill{})); diff != "" {
			t.Error(diff)
		}
	})
}

// FuzzRun feeds any chunk to a Grouper with any row in its table: that is an error at worst.
func FuzzRun(f *testing.F) {
	good := encode(false, []input{{key: "k", value: "v", at: 5, windows: []event.Window{{Start: 0, End: 10}}}})
	f.Add(good.Bytes, 1, []byte{0, 0, 0}, []byte{freshRun, 4, 1, 'k', 1, 2, 1, 'v'})
	f.Add(good.Bytes, 1, []byte{0, 0, 0}, []byte{mergedRun, 5, 1, 'k', 3, 9, 1, 1, 2, 3, 4, 2, 2, 1, 'v'})
	f.Add(good.Bytes, -60, []byte{0}, []byte{0})
	f.Fuzz(func(t *testing.T, chunk []byte, count int, stored, buffered []byte) {
		w := event.Window{Start: 0, End: 10}
		for _, s := range []plan.WindowingStrategy{
			sessions(t, "end(early=count(3), late=count(2))"),
			{Fn: plan.WindowFn{Kind: plan.FixedWindows, Size: 10 * time.Millisecond}, AllowedLateness: time.Second},
		} {
			world := newWorld(t, s)
			g := world.grouper
			name := g.appendRowName(nil, "\x01k", w)
			run := g.appendName(nil, tableRun, w)
			world.table.rows[string(name)] = stored
			world.table.rows[string(run)] = buffered
			// What is due or not, known or not: none of it may panic.
			for _, at := range []event.Timestamp{0, 10, event.MaxTimestamp} {
				_, _ = g.Run(&world.table, bundle.Input{
					Chunks: []bundle.Chunk{{Count: count, Bytes: chunk}},
					Timers: []bundle.Timer{
						{Kind: bundle.GroupTimer, Tag: tagKey, Key: []byte("\x01k"), Window: chunk},
						{Kind: bundle.GroupTimer, Tag: tagWindow, Window: g.windowed.AppendWindow(nil, w)},
					},
				}, Clock{Watermark: at})
			}
		}
	})
}

// TestBroken: rows and chunks that are not what they should be are errors and nothing else.
func TestBroken(t *testing.T) {
	s := plan.WindowingStrategy{}
	good := encode(true, []input{{key: "k", value: "v", at: 5, windows: []event.Window{event.Global}}})
	for name, in := range map[string]bundle.Input{
		"count":  {Chunks: []bundle.Chunk{{Count: 2, Bytes: good.Bytes}}},
		"short":  {Chunks: []bundle.Chunk{{Count: 1, Bytes: good.Bytes[:len(good.Bytes)-1]}}},
		"tag":    {Timers: []bundle.Timer{{Kind: bundle.GroupTimer, Tag: "x"}}},
		"user":   {Timers: []bundle.Timer{{Tag: tagWindow}}},
		"window": {Timers: []bundle.Timer{{Kind: bundle.GroupTimer, Tag: tagWindow, Window: []byte{1}}}},
	} {
		w := newWorld(t, s)
		if out, err := w.grouper.Run(&w.table, in, w.at); err == nil || len(out.State.Writes) > 0 {
			t.Errorf("%s: got %+v, %v, want an error", name, out, err)
		}
	}
	w := newWorld(t, s)
	w.run(good)
	for k := range w.table.rows {
		w.table.rows[k] = w.table.rows[k][:2]
	}
	w.at.Watermark = event.MaxTimestamp
	if out, err := w.grouper.Run(&w.table, bundle.Input{Timers: w.due()}, w.at); err == nil {
		t.Errorf("a run that is cut short: got %+v", out)
	}
}

// TestLazyTimers: a session that grows does not set its timer again and again, and what the timer
// holds never matters for longer than it should.
func TestLazyTimers(t *testing.T) {
	w := newWorld(t, sessions(t, "default"))
	for i := range event.Timestamp(100) {
		at := i * 1000
		w.run(encode(false, []input{{key: "k", value: "v", at: at, windows: assign(w.grouper.windowing.Fn, at)}}))
		w.at.Watermark = at
		w.settle()
		if got := w.output(); got != at {
			t.Fatalf("output watermark: got %v, want %v", got, at)
		}
	}
	// Each time the timer fires it is set to the end as it is then, five seconds ahead.
	if w.timerSets > 27 {
		t.Errorf("got %d timers set for 100 elements", w.timerSets)
	}
}
