// SPDX-License-Identifier: Apache-2.0

package grouping

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/grouping/trigger/triggertest"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// step is one thing that happens in a random history.
type step struct {
	elements  []input
	watermark event.Timestamp // If there are no elements.
}

func history(r *rand.Rand, fn plan.WindowFn, n int) (steps []step) {
	watermark := event.Timestamp(0)
	for i := range n {
		if r.IntN(4) == 0 {
			watermark += event.Timestamp(r.IntN(8000))
			steps = append(steps, step{watermark: watermark})
			continue
		}
		var s step
		for j := range 1 + r.IntN(12) {
			at := max(0, watermark-6000+event.Timestamp(r.IntN(20000)))
			s.elements = append(s.elements, input{
				key: string(rune('a' + r.IntN(4))), value: fmt.Sprintf("%d.%d", i, j), at: at, windows: assign(fn, at),
			})
		}
		steps = append(steps, s)
	}
	return append(steps, step{watermark: event.MaxTimestamp})
}

// play runs a history with bundles of at most size elements, and returns the panes in order.
func play(t *testing.T, w *world, s plan.WindowingStrategy, steps []step, size int) (said []string) {
	t.Helper()
	last := map[string]event.Pane{}
	before := event.MinTimestamp // The output watermark that others may know.
	w.panes = func(c bundle.Chunk) {
		for _, p := range w.decode(s.Global(), c) {
			if w.grouper.options.HandOver {
				slices.Sort(p.values) // Small ones come first, then those in rows of their own.
			}
			said = append(said, say(p))
			w.values += int64(len(p.values))
			if p.Pane.Timing != event.Late && p.Timestamp < before {
				t.Errorf("%s is behind the output watermark %v", say(p), before)
			}
			name := fmt.Sprint(p.key, p.Windows[0])
			if old, ok := last[name]; ok && !p.Pane.First && (p.Pane.Index != old.Index+1 || old.Last ||
				old.Timing != event.Early && p.Pane.Timing != event.Late) {
				t.Errorf("%s after %v", say(p), old)
			}
			last[name] = p.Pane
		}
	}
	for _, step := range steps {
		for chunk := range slices.Chunk(step.elements, size) {
			w.run(encode(s.Global(), chunk))
			before = w.hold(before)
		}
		if len(step.elements) == 0 {
			w.at.Watermark = step.watermark
			n := 0
			for before = w.hold(before); len(w.due()) > 0; before = w.hold(before) {
				if n++; n > 10 {
					t.Fatalf("timers fire for ever: %v", w.due())
				}
				w.run()
			}
		}
	}
	if len(w.table.rows) > 0 || len(w.timers) > 0 {
		t.Errorf("%d rows and %d timers remain", len(w.table.rows), len(w.timers))
	}
	return said
}

// hold returns the output watermark, which never goes back.
func (w *world) hold(before event.Timestamp) event.Timestamp {
	return max(before, w.output())
}

func say(p pane) string {
	return fmt.Sprintf("%s %v %v @%v: %s", p.key, p.Windows[0], p.Pane, p.Timestamp, strings.Join(p.values, " "))
}

// model is a plain interpretation of the default trigger, one element and one window at a time.
type model struct {
	s         plan.WindowingStrategy
	watermark event.Timestamp
	cells     []*modelCell
	said      []string
	late      int64
}

type modelCell struct {
	key    string
	window event.Window
	values []string
	fresh  bool
	panes  int64
	onTime bool // The watermark had not passed the end when the first element came.
	stamps []event.Timestamp
}

func (m *model) add(e input) {
	for _, w := range e.windows {
		if m.s.Expired(w, m.watermark) {
			m.late++
			continue
		}
		c := m.cell(e.key, w)
		c.values, c.fresh = append(c.values, e.value), true
		if e.at >= m.watermark {
			c.stamps = append(c.stamps, e.at)
		}
		if m.watermark > c.window.MaxTimestamp() {
			m.fire(c)
		}
	}
}

// cell finds or makes the cell, merging all that overlap.
func (m *model) cell(key string, w event.Window) *modelCell {
	var found []*modelCell
	for _, c := range m.cells {
		if c.key == key && (c.window == w || m.s.Merges && c.window.Start < w.End && w.Start < c.window.End) {
			found = append(found, c)
		}
	}
	span := w
	for _, c := range found {
		span = event.Window{Start: min(span.Start, c.window.Start), End: max(span.End, c.window.End)}
	}
	if len(found) == 1 && found[0].window == span {
		return found[0]
	}
	merged := &modelCell{key: key, window: span, onTime: m.watermark <= span.MaxTimestamp()}
	slices.SortFunc(found, func(a, b *modelCell) int { return int(a.window.Start - b.window.Start) })
	for _, c := range found {
		merged.values = append(merged.values, c.values...)
		merged.stamps = append(merged.stamps, c.stamps...)
		merged.fresh = merged.fresh || c.fresh
		if c.window == span {
			merged.panes = c.panes
			merged.onTime = c.onTime
		}
	}
	m.cells = slices.DeleteFunc(m.cells, func(c *modelCell) bool { return slices.Contains(found, c) })
	m.cells = append(m.cells, merged)
	return merged
}

func (m *model) fire(c *modelCell) {
	if !c.fresh {
		return
	}
	p := pane{key: c.key, values: c.values}
	p.Windows = []event.Window{c.window}
	p.Pane = event.Pane{First: c.panes == 0, Index: c.panes, NonSpeculative: c.panes, Timing: event.Late}
	if c.onTime && c.panes == 0 {
		p.Pane.Timing = event.OnTime
	}
	p.Pane.Last = m.s.AllowedLateness == 0 || m.s.Global()
	p.Timestamp = c.window.MaxTimestamp()
	if len(c.stamps) > 0 && m.s.Output == plan.Earliest {
		p.Timestamp = slices.Min(c.stamps)
	}
	if len(c.stamps) > 0 && m.s.Output == plan.Latest {
		p.Timestamp = slices.Max(c.stamps)
	}
	m.said = append(m.said, say(p))
	c.panes++
	c.fresh, c.stamps = false, nil
	if !m.s.Accumulating {
		c.values = nil
	}
}

func (m *model) advance(to event.Timestamp) {
	m.watermark = to
	for _, c := range slices.Clone(m.cells) {
		if to > c.window.MaxTimestamp() {
			m.fire(c)
		}
	}
	m.cells = slices.DeleteFunc(m.cells, func(c *modelCell) bool { return m.s.Expired(c.window, to) })
}

// TestModel compares the default trigger with a plain interpretation, both ways through the
// package, whatever the bundles are.
func TestModel(t *testing.T) {
	kept := int64(0)
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		s := plan.WindowingStrategy{
			Fn: []plan.WindowFn{
				{}, {Kind: plan.FixedWindows, Size: 5 * time.Second},
				{Kind: plan.SlidingWindows, Size: 6 * time.Second, Period: 2 * time.Second},
				{Kind: plan.SessionWindows, Size: 3 * time.Second},
			}[r.IntN(4)],
			OnTime: plan.FireIfNonempty, Accumulating: r.IntN(2) == 0,
			AllowedLateness: time.Duration(r.IntN(2)*r.IntN(5000)) * time.Millisecond,
			Output:          []plan.OutputTime{plan.EndOfWindow, plan.Latest, plan.Earliest}[r.IntN(3)],
		}
		s.Merges = s.Fn.Kind == plan.SessionWindows && r.IntN(3) > 0
		steps := history(r, s.Fn, 40)
		m := &model{s: s, watermark: event.MinTimestamp}
		for _, step := range steps {
			for _, e := range step.elements {
				m.add(e)
			}
			if len(step.elements) == 0 {
				m.advance(step.watermark)
			}
		}
		slices.Sort(m.said)
		if seed%2 == 1 {
			for i, line := range m.said {
				m.said[i] = sortedValues(line)
			}
			slices.Sort(m.said)
		}
		for _, size := range []int{1, 3, 1000} {
			for _, runs := range []bool{true, false} {
				w := newWorldWith(t, s, []Options{{}, tiny}[seed%2])
				w.grouper.runs = w.grouper.runs && runs
				got := play(t, w, s, steps, size)
				slices.Sort(got)
				kept += w.kept
				if diff := cmp.Diff(m.said, got); diff != "" || w.late != m.late {
					t.Fatalf("seed %d, %+v, bundles of %d, runs %v: late %d, want %d (-want +got)\n%s",
						seed, s, size, w.grouper.runs, w.late, m.late, diff)
				}
			}
		}
	}
	if kept == 0 {
		t.Error("no pane was so large that it named its values")
	}
}

// tiny makes every group a large one.
var tiny = Options{HandOver: true, Spill: 2, Row: 3, Large: 4, Merge: 2}

func sortedValues(line string) string {
	head, values, _ := strings.Cut(line, ": ")
	words := strings.Fields(values)
	slices.Sort(words)
	return head + ": " + strings.Join(words, " ")
}

// TestBundles plays random strategies and histories: where bundles are cut changes nothing, two
// runs are equal in everything, and no element gets lost.
func TestBundles(t *testing.T) {
	triggers := []string{
		"default", "never", "always", "count(2)", "repeat(count(3))", "end", "end(late=count(2))",
		"end(early=count(2))", "end(early=count(3), late=always)", "orFinally(repeat(count(2)), count(5))",
		"repeat(afterEach(count(1), count(2)))", "afterAll(count(2), end)", "repeat(afterAny(count(4), end))",
		"end(early=delay(1ms), late=delay(1ms))", "repeat(delay(0s))",
	}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		name := triggers[r.IntN(len(triggers))]
		expression, err := triggertest.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		s := plan.WindowingStrategy{
			Fn: []plan.WindowFn{
				{}, {Kind: plan.FixedWindows, Size: 5 * time.Second},
				{Kind: plan.SessionWindows, Size: 3 * time.Second},
			}[r.IntN(3)],
			Trigger: expression, Accumulating: r.IntN(3) == 0,
			AllowedLateness: time.Duration(r.IntN(2)*r.IntN(5000)) * time.Millisecond,
			Output:          []plan.OutputTime{plan.EndOfWindow, plan.Latest, plan.Earliest}[r.IntN(3)],
			Closing:         plan.ClosingBehavior(r.IntN(2)), OnTime: plan.OnTimeBehavior(r.IntN(2)),
		}
		s.Merges = s.Fn.Kind == plan.SessionWindows
		steps := history(r, s.Fn, 40)
		var want []string
		for i, size := range []int{1, 1, 3, 1000, 7, 2} {
			o := Options{}
			if size == 2 {
				o = tiny
				for j, line := range want {
					want[j] = sortedValues(line)
				}
				slices.Sort(want)
			}
			w := newWorldWith(t, s, o)
			w.grouper.runs = w.grouper.runs && size != 7 // Both ways through the package agree.
			got := play(t, w, s, steps, size)
			if lost := w.in - w.values - w.late - w.closed; !s.Accumulating && lost != 0 {
				t.Fatalf("seed %d, %s, %+v: %d elements in, %d values out, %d late, %d closed",
					seed, name, s, w.in, w.values, w.late, w.closed)
			}
			if i == 1 && !slices.Equal(got, want) {
				t.Fatalf("seed %d, %s: two runs differ", seed, name)
			}
			slices.Sort(got)
			if i == 0 {
				want = play(t, newWorld(t, s), s, steps, size)
				continue
			}
			if i == 1 {
				slices.Sort(want)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("seed %d, %s, %+v, bundles of %d (-want +got)\n%s", seed, name, s, size, diff)
			}
		}
	}
}

// TestSpill lets keys grow beyond what a row holds: nothing is lost, and nothing remains.
func TestSpill(t *testing.T) {
	spillSize := Options{}.withDefaults().Spill
	big := strings.Repeat("x", spillSize/2)
	for _, accumulating := range []bool{false, true} {
		expression, err := triggertest.Parse("end(early=count(9))")
		if err != nil {
			t.Fatal(err)
		}
		s := plan.WindowingStrategy{
			Fn:     plan.WindowFn{Kind: plan.SessionWindows, Size: 10 * time.Second},
			Merges: true, Trigger: expression, Accumulating: accumulating, OnTime: plan.FireIfNonempty,
		}
		var steps []step
		for _, at := range []event.Timestamp{0, 1000, 2000, 30000, 31000, 15000, 22000, 8000, 9000, 10000} {
			steps = append(steps, step{elements: []input{
				{key: "k", value: fmt.Sprint(at) + big, at: at, windows: assign(s.Fn, at)},
				{key: "k", value: fmt.Sprint(at+1) + big, at: at + 1, windows: assign(s.Fn, at+1)},
			}})
		}
		steps = append(steps, step{watermark: event.MaxTimestamp})
		w := newWorld(t, s)
		most := 0
		w.onRow = func(key, value []byte) {
			if key[0] == tableMerged {
				most = max(most, len(value))
			}
		}
		play(t, w, s, steps, 100)
		// The 15th element makes one session of all, which is ready then; the rest comes at the end.
		want := int64(20)
		if accumulating {
			want = 15 + 20
		}
		if w.values != want {
			t.Errorf("accumulating %v: got %d values, want %d", accumulating, w.values, want)
		}
		if limit := 4*spillSize + 1000; most > limit {
			t.Errorf("accumulating %v: a row has %d bytes, want at most %d", accumulating, most, limit)
		}
	}
}

// TestLargeGroup gives one key of a window more than memory should hold: in large bundles and in
// very many small ones, with runs and without. What leaves is small, and so is what is read for it.
func TestLargeGroup(t *testing.T) {
	for _, c := range []struct {
		bundles, elements int
		runs              bool
	}{{20, 2000, true}, {20, 2000, false}, {4000, 5, true}} {
		s := plan.WindowingStrategy{Fn: plan.WindowFn{Kind: plan.FixedWindows, Size: time.Minute}, OnTime: plan.FireIfNonempty}
		w := newWorldWith(t, s, Options{HandOver: true})
		w.grouper.runs = c.runs
		window := []event.Window{{Start: 0, End: 60_000}}
		size := 0
		for b := range c.bundles {
			elements := make([]input, c.elements)
			for i := range elements {
				elements[i] = input{key: "k", value: fmt.Sprintf("%0100d", b*c.elements+i), windows: window}
			}
			in := encode(false, elements)
			size += len(in.Bytes)
			w.run(in)
		}
		rows, largest := len(w.table.rows), 0
		for _, row := range w.table.rows {
			largest = max(largest, len(row))
		}
		if c.elements > 1000 && largest > 512<<10 {
			t.Errorf("%+v: a row has %d bytes", c, largest)
		}
		if limit := 200; rows > limit {
			t.Errorf("%+v: %d rows, want at most %d", c, rows, limit)
		}
		var out, values int
		w.panes = func(chunk bundle.Chunk) {
			out += len(chunk.Bytes)
			for _, p := range w.decode(false, chunk) {
				slices.Sort(p.values)
				values += len(slices.Compact(p.values))
			}
		}
		w.at.Watermark = event.MaxTimestamp
		w.settle()
		if want := c.bundles * c.elements; values != want || w.kept != 1 {
			t.Errorf("%+v: %d different values in %d kept panes, want %d in 1", c, values, w.kept, want)
		}
		if out > size/20 {
			t.Errorf("%+v: a pane of %d bytes for %d bytes of values", c, out, size)
		}
		if len(w.table.rows) > 0 {
			t.Errorf("%+v: %d rows are left", c, len(w.table.rows))
		}
	}
}
