// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/urn"
)

var text = coder.Coder{URN: urn.CoderString}

// consumers is a plan of a stage with one output, of strings in fixed windows, for five consumers.
func consumers() *plan.Plan {
	fixed := plan.WindowingStrategy{Fn: plan.WindowFn{Kind: plan.FixedWindows}}
	return &plan.Plan{Stages: []plan.Stage{
		{Kind: plan.User, Element: text, Outputs: []plan.Output{
			{Port: "out", Collection: "words", Consumers: []plan.StageID{1, 2, 3, 4, 5}, Windowing: fixed, Element: text},
		}},
		{ID: 1, Kind: plan.User, Element: text},
		{ID: 2, Kind: plan.User, Element: text, Key: &text},
		{ID: 3, Kind: plan.User, Element: text, Splittable: true},
		{ID: 4, Kind: plan.User, Element: text, Sides: []plan.SideInput{{View: 5}}},
		{ID: 5, Kind: plan.View, Element: text},
	}}
}

func newSinkRun(t testing.TB, p *plan.Plan) *run {
	t.Helper()
	w := New(p, Options{KeyGroups: 4})
	if err := w.stages[0].err; err != nil {
		t.Fatal(err)
	}
	return newRun(context.Background(), w, w.stages[0], bundle.Work{}, nil)
}

func word(t event.Timestamp, s string, windows ...event.Window) []byte {
	h := coder.Header{Timestamp: t, Windows: windows, Pane: event.NoFiring}
	return append(coder.Windowed{}.AppendHeader(nil, h), prefixed(s)...)
}

// Each consumer gets all elements in the chunks it needs, in order within a key group.
func TestChunksForConsumers(t *testing.T) {
	r := newSinkRun(t, consumers())
	first, second := event.Window{Start: 0, End: 10}, event.Window{Start: 10, End: 20}
	all := [][]byte{word(7, "a", first), word(3, "b", first, second), word(5, "a", first)}
	for _, e := range all {
		if _, err := r.sinks[0].Write(bytes.Clone(e)); err != nil {
			t.Fatal(err)
		}
	}
	got := map[int][]string{}
	for _, o := range r.sinks[0].appendOutputs(nil, 0) {
		c := o.Chunk
		words := strings.Map(func(r rune) rune {
			if r == 'a' || r == 'b' {
				return r
			}
			return -1
		}, string(c.Bytes))
		got[o.Consumer] = append(got[o.Consumer], fmt.Sprintf("group %d: %s, %d from %d to %d",
			o.Group, words, c.Count, int64(c.MinTimestamp), int64(c.MaxWindow)))
	}
	ga, gb := bundle.KeyGroupOf(prefixed("a"), 4), bundle.KeyGroupOf(prefixed("b"), 4)
	if ga >= gb {
		t.Fatalf("the test wants the keys in ascending groups, not %d and %d", ga, gb)
	}
	want := map[int][]string{
		0: {"group 0: aba, 3 from 3 to 0"},
		1: {fmt.Sprintf("group %d: aa, 2 from 5 to 0", ga), fmt.Sprintf("group %d: b, 1 from 3 to 0", gb)},
		2: {"group 0: a, 1 from 7 to 0", "group 0: b, 1 from 3 to 0", "group 0: a, 1 from 5 to 0"},
		3: {"group 0: aba, 3 from 3 to 19"},
		4: {"group 0: aba, 3 from 3 to 0"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got): %s", diff)
	}
}

// Chunks are cut, and the memory in which they grow is not theirs.
func TestChunksAreCut(t *testing.T) {
	p := consumers()
	w := event.Window{Start: 0, End: 10}
	var kept []bundle.Output
	r := newSinkRun(t, p)
	for round := range 2 {
		r = newRun(context.Background(), r.worker, r.worker.stages[0], bundle.Work{}, nil)
		big := strings.Repeat(string(rune('a'+round)), 1000)
		for range 1000 {
			if _, err := r.sinks[0].Write(word(1, big, w)); err != nil {
				t.Fatal(err)
			}
		}
		count := map[int]int{}
		for _, o := range r.sinks[0].appendOutputs(nil, 0) {
			limit := chunkLimit
			if o.Consumer == 1 {
				limit = groupChunkLimit
			}
			if len(o.Chunk.Bytes) > limit {
				t.Errorf("a chunk of %d bytes for consumer %d", len(o.Chunk.Bytes), o.Consumer)
			}
			count[o.Consumer] += o.Chunk.Count
			if round == 0 {
				kept = append(kept, o)
			}
		}
		for c, n := range count {
			if n != 1000 {
				t.Errorf("consumer %d got %d elements, want 1000", c, n)
			}
		}
	}
	for _, o := range kept {
		if bytes.Contains(o.Chunk.Bytes, []byte("bbb")) {
			t.Fatal("the next bundle has written into a chunk")
		}
	}
}

func TestOutputIsChecked(t *testing.T) {
	w := event.Window{Start: 0, End: 10}
	for _, e := range [][]byte{
		{1, 2, 3},
		word(event.MaxTimestamp+1, "a", w),
		word(event.MinTimestamp-1, "a", w),
		word(1, "a", w)[:20],
	} {
		r := newSinkRun(t, consumers())
		if _, err := r.sinks[0].Write(e); err == nil {
			t.Errorf("%x was taken", e)
		}
		if err := r.outcome(nil); err == nil || !strings.Contains(err.Error(), "words") {
			t.Errorf("the bundle's outcome is %v, want an error that names the collection", err)
		}
	}
}

// FuzzTimer: what is written for the SDK is what is read from it, and no bytes make it panic.
func FuzzTimer(f *testing.F) {
	f.Add([]byte("key"), "tag", int64(1), int64(2), []byte{})
	f.Fuzz(func(t *testing.T, key []byte, tag string, due, hold int64, junk []byte) {
		p := &plan.Plan{Stages: []plan.Stage{{Kind: plan.User, Element: text, Key: &text}}}
		w := New(p, Options{KeyGroups: 1})
		r := newRun(context.Background(), w, w.stages[0], bundle.Work{}, nil)
		r.groups = []*group{{}}
		sink := &timerSink{run: r, transform: "t", family: "f"}
		want := bundle.Timer{
			Transform: "t", Family: "f", Tag: tag, Key: prefixed(string(key)), Window: []byte{},
			Due: event.Clamp(due), Hold: event.Clamp(hold), Pane: event.NoFiring,
		}
		if _, err := sink.Write(appendTimer(nil, &want)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]bundle.TimerChange{{Timer: want}}, r.groups[0].timers); diff != "" {
			t.Errorf("(-want +got): %s", diff)
		}
		_ = sink.add(junk)
	})
}
