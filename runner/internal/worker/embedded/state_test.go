// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/state"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/timers"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

func init() {
	beam.RegisterFunction(noPairs)
	register.Function2x1(addText) // The SDK panics on a combining state whose function has no shim.
	for _, fn := range []any{newRemember(), newTicker()} {
		beam.RegisterDoFn(fn)
	}
}

// noPairs is the head of pipelines whose keyed stage gets its input from the test.
func noPairs(_ []byte, emit func(string, string)) {}

func addText(a, b string) string { return a + b }

// remember has every kind of state.
type remember struct {
	Last   state.Value[string]
	All    state.Bag[string]
	Joined state.Combining[string, string, string]
	Counts state.Map[string, int64]
	Seen   state.Set[string]
	Sorted state.OrderedList[string]
}

func newRemember() *remember {
	return &remember{
		Last: state.MakeValueState[string]("last"), All: state.MakeBagState[string]("all"),
		Joined: state.MakeCombiningState[string, string, string]("joined", addText),
		Counts: state.MakeMapState[string, int64]("counts"), Seen: state.MakeSetState[string]("seen"),
		Sorted: state.MakeOrderedListState[string]("sorted"),
	}
}

// ProcessElement does what v says to all kinds of state and emits what they then hold.
func (f *remember) ProcessElement(p state.Provider, k, v string, emit func(string)) error {
	do := func(errs ...error) {
		for _, err := range errs {
			if err != nil {
				panic(err)
			}
		}
	}
	switch v {
	case "clear":
		do(f.Last.Clear(p), f.All.Clear(p), f.Joined.Clear(p), f.Counts.Clear(p), f.Seen.Clear(p),
			f.Sorted.ClearRange(p, -1000, 1000))
	case "remove":
		do(f.Counts.Remove(p, "a"), f.Seen.Remove(p, "a"))
	case "show":
	default:
		n, _, err := f.Counts.Get(p, v)
		do(err, f.Last.Write(p, v), f.All.Add(p, v), f.Joined.Add(p, v), f.Counts.Put(p, v, n+1),
			f.Seen.Add(p, v), f.Sorted.Add(p, -int64(v[0]), v))
	}
	if v != "show" {
		return nil
	}
	last, _, err := f.Last.Read(p)
	do(err)
	all, _, err := f.All.Read(p)
	do(err)
	joined, _, err := f.Joined.Read(p)
	do(err)
	keys, _, err := f.Counts.Keys(p)
	do(err)
	a, _, err := f.Counts.Get(p, "a")
	do(err)
	seen, _, err := f.Seen.Keys(p)
	do(err)
	sorted, _, err := f.Sorted.Read(p)
	do(err)
	var list []string
	for _, e := range sorted {
		list = append(list, e.Value)
	}
	emit(fmt.Sprintf("%s: %s %s %s %s a=%d %s %s", k, last, strings.Join(all, ""), joined,
		strings.Join(keys, ""), a, strings.Join(seen, ""), strings.Join(list, "")))
	return nil
}

func rememberJob(t testing.TB, name string, windows *window.Fn) (*job, *plan.Stage) {
	t.Helper()
	j := newJob(t, func(s beam.Scope) {
		pairs := beam.ParDo(s, noPairs, beam.Impulse(s))
		if windows != nil {
			pairs = beam.WindowInto(s, windows, pairs, beam.AllowedLateness(5*time.Second))
		}
		beam.ParDo0(s, &record{name}, beam.ParDo(s, newRemember(), pairs))
	})
	return j, j.stage("remember")
}

func (j *job) mustRun(s *plan.Stage) bundle.Result {
	j.t.Helper()
	r, err := j.run(context.Background(), s.ID)
	if err != nil {
		j.t.Fatal(err)
	}
	return r
}

var global = []event.Window{event.Global}

// Every kind of state is the same whether it is written and read in one bundle or in many.
func TestState(t *testing.T) {
	steps := []string{"k", "b", "k", "a", "other", "z", "k", "b", "k", "a", "k", "show", "other", "show",
		"k", "remove", "k", "show", "k", "clear", "k", "show", "k", "c", "k", "show"}
	want := []string{
		"k:     a=0  ",
		"k: a baba baba ab a=2 ab bbaa",
		"k: a baba baba b a=0 b bbaa",
		"k: c c c c a=0 c c",
		"other: z z z z a=0 z z",
	}
	for _, once := range []bool{true, false} {
		j, s := rememberJob(t, "state", nil)
		for i := 0; i < len(steps); i += 2 {
			j.keyed(s, 0, global, steps[i], steps[i+1])
			if !once {
				j.mustRun(s)
			}
		}
		j.mustRun(s)
		j.all()
		if diff := cmp.Diff(want, taken("state")); diff != "" {
			t.Errorf("in one bundle %v (-want +got): %s", once, diff)
		}
	}
}

func TestClearedStateLeavesNothing(t *testing.T) {
	j, s := rememberJob(t, "none", nil)
	for range 3 {
		j.keyed(s, 0, global, "k", "a", "k", "b")
		j.mustRun(s)
	}
	j.keyed(s, 0, global, "k", "clear")
	j.mustRun(s)
	v := j.tables[s.ID].View()
	defer v.Close()
	v.Scan(nil, nil, func(key, value []byte) bool {
		t.Errorf("%q = %q is left", key, value)
		return true
	})
}

// State of a window gets a timer that removes it; elements of an expired window are dropped.
func TestExpiry(t *testing.T) {
	j, s := rememberJob(t, "expiry", window.NewFixedWindows(10*time.Second))
	first := event.Window{Start: 0, End: 10_000}
	second := event.Window{Start: 10_000, End: 20_000}
	j.keyed(s, 1000, []event.Window{first}, "k", "a", "k", "b")
	j.keyed(s, 1000, []event.Window{second}, "k", "c")
	r := j.mustRun(s)
	if len(r.State) != 1 {
		t.Fatalf("%d key groups have changed, want 1", len(r.State))
	}
	var due []event.Timestamp
	var expired []bundle.Timer
	for _, c := range r.State[0].Timers {
		if c.Timer.Kind != bundle.ExpiryTimer || c.Timer.Hold != event.MaxTimestamp || c.Clear {
			t.Errorf("unexpected timer %+v", c)
		}
		due = append(due, c.Timer.Due)
		expired = append(expired, c.Timer)
	}
	if diff := cmp.Diff([]event.Timestamp{14_999, 24_999}, due); diff != "" {
		t.Fatalf("due (-want +got): %s", diff)
	}

	j.watermark = 14_999 // At the last moment it is not late.
	j.keyed(s, 1000, []event.Window{first}, "k", "a")
	if r := j.mustRun(s); r.Counts.Late != 0 {
		t.Errorf("%d late elements, want 0", r.Counts.Late)
	}
	j.watermark = 15_000
	j.keyed(s, 1000, []event.Window{first}, "k", "show")
	j.keyed(s, 1000, []event.Window{first, second}, "k", "show")
	j.box(s.ID, r.State[0].Group).Timers = expired[:1]
	if r := j.mustRun(s); r.Counts.Late != 1 || r.Counts.In != 2 {
		t.Errorf("counts %+v, want 1 late of 2", r.Counts)
	}
	j.all()
	if diff := cmp.Diff([]string{"k: c c c c a=0 c c"}, taken("expiry")); diff != "" {
		t.Errorf("(-want +got): %s", diff)
	}
	v := j.tables[s.ID].View()
	defer v.Close()
	rows := 0
	v.Scan(nil, nil, func(key, _ []byte) bool {
		rows++
		return true
	})
	if rows != 6 {
		t.Errorf("%d rows are left, want the 6 of the second window", rows)
	}
}

// ticker sets, clears and loops timers.
type ticker struct {
	Event timers.EventTime
	Clock timers.ProcessingTime
}

func newTicker() *ticker {
	return &ticker{Event: timers.InEventTime("event"), Clock: timers.InProcessingTime("clock")}
}

func (f *ticker) ProcessElement(tp timers.Provider, k, v string, emit func(string)) {
	at := time.UnixMilli(5000)
	switch v {
	case "set":
		f.Event.Set(tp, at, timers.WithTag("a"), timers.WithOutputTimestamp(time.UnixMilli(1000)))
		f.Clock.Set(tp, at, timers.WithNoOutputTimestamp())
	case "clear":
		f.Event.ClearTag(tp, "a")
	}
}

func (f *ticker) OnTimer(ctx context.Context, ts beam.EventTime, tp timers.Provider, k string, tc timers.Context, emit func(string)) {
	emit(fmt.Sprintf("%s %s %q %d", k, tc.Family, tc.Tag, ts))
	if tc.Tag == "a" {
		f.Event.Set(tp, time.UnixMilli(6000), timers.WithTag("loop"), timers.WithOutputTimestamp(time.UnixMilli(2000)))
	}
}

func tickerJob(t *testing.T, name string) (*job, *plan.Stage) {
	t.Helper()
	j := newJob(t, func(s beam.Scope) {
		beam.ParDo0(s, &record{name}, beam.ParDo(s, newTicker(), beam.ParDo(s, noPairs, beam.Impulse(s))))
	})
	return j, j.stage("ticker")
}

func TestTimers(t *testing.T) {
	j, s := tickerJob(t, "timers")
	j.keyed(s, 0, global, "k", "set")
	r := j.mustRun(s)
	byFamily := map[string]bundle.Timer{}
	for _, c := range r.State[0].Timers {
		byFamily[c.Timer.Family] = c.Timer
	}
	transform := s.Timers[0].Transform
	want := map[string]bundle.Timer{
		"event": {
			Transform: transform, Family: "event", Tag: "a", Key: prefixed("k"), Window: []byte{},
			Domain: plan.EventTime, Due: 5000, Hold: 1000, Pane: event.NoFiring,
		},
		"clock": {
			Transform: transform, Family: "clock", Key: prefixed("k"), Window: []byte{},
			Domain: plan.ProcessingTime, Due: 5000, Hold: event.MaxTimestamp, Pane: event.NoFiring,
		},
	}
	if diff := cmp.Diff(want, byFamily); diff != "" {
		t.Fatalf("(-want +got): %s", diff)
	}

	box := j.box(s.ID, r.State[0].Group)
	box.Timers = []bundle.Timer{byFamily["clock"], byFamily["event"]}
	r = j.mustRun(s)
	if len(r.State[0].Timers) != 1 || r.State[0].Timers[0].Timer.Tag != "loop" || r.State[0].Timers[0].Timer.Hold != 2000 {
		t.Errorf("got timers %+v, want the one that OnTimer set", r.State[0].Timers)
	}
	j.all()
	got := taken("timers")
	if diff := cmp.Diff([]string{`k clock "" ` + fmt.Sprint(int64(event.MaxTimestamp)), `k event "a" 1000`}, got); diff != "" {
		t.Errorf("fired (-want +got): %s", diff)
	}
}

func TestClearTimer(t *testing.T) {
	j, s := tickerJob(t, "cleared")
	j.keyed(s, 0, global, "k", "set", "k", "clear")
	r := j.mustRun(s)
	for _, c := range r.State[0].Timers {
		if c.Timer.Family == "event" && (!c.Clear || c.Timer.Tag != "a") {
			t.Errorf("got %+v, want that the timer is cleared", c)
		}
	}
}

// Timers of many keys in one bundle, in the order they are to fire, pass the SDK in that order.
func TestTimerOrder(t *testing.T) {
	j, s := tickerJob(t, "order")
	var want []string
	for g := range j.groups {
		in := bundle.Input{Group: bundle.KeyGroup(g)}
		for i := range 20 {
			key := prefixed(fmt.Sprint("key", i))
			if bundle.KeyGroupOf(key, j.groups) != in.Group {
				continue
			}
			in.Timers = append(in.Timers, bundle.Timer{
				Transform: s.Timers[0].Transform, Family: []string{"event", "clock"}[i%2], Tag: "x",
				Key: key, Due: event.Timestamp(100 - i), Hold: event.Timestamp(i), Pane: event.NoFiring,
			})
			want = append(want, fmt.Sprintf("key%d %s \"x\" %d", i, []string{"event", "clock"}[i%2], i))
		}
		j.boxes[s.ID] = append(j.boxes[s.ID], in)
	}
	j.mustRun(s)
	recordMu.Lock()
	got := recorded["order"]
	delete(recorded, "order")
	recordMu.Unlock()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got): %s", diff)
	}
}
