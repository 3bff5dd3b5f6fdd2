// SPDX-License-Identifier: Apache-2.0

package grouping

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/urn"
)

// table is a kv.View over a map.
type table struct {
	rows   map[string][]byte
	sorted []string // The keys; nil when out of date.
	reads  int
}

func (t *table) Get(key []byte) ([]byte, bool) {
	t.reads++
	v, ok := t.rows[string(key)]
	return v, ok
}

func (t *table) Scan(from, to []byte, visit func(key, value []byte) bool) {
	if t.sorted == nil {
		for k := range t.rows {
			t.sorted = append(t.sorted, k)
		}
		slices.Sort(t.sorted)
	}
	i, _ := slices.BinarySearch(t.sorted, string(from))
	for _, k := range t.sorted[i:] {
		if to != nil && k >= string(to) || !visit([]byte(k), t.rows[k]) {
			return
		}
	}
}

func (t *table) Err() error { return nil }
func (t *table) Close()     {}

// world does for one key group what the engine does: it keeps rows and timers, and delivers
// timers that are due.
type world struct {
	t         testing.TB
	grouper   *Grouper
	table     table
	timers    map[string]bundle.Timer
	at        Clock
	late      int64
	closed    int64
	in        int64
	out       int64
	values    int64                   // In panes.
	kept      int64                   // Panes that named their values.
	onRow     func(key, value []byte) // What to do with rows that are set.
	withhold  bool                    // Due timers are not delivered yet.
	timerSets int
	spent     time.Duration      // Of processor time in Run.
	panes     func(bundle.Chunk) // What to do with output.
}

func newWorld(t testing.TB, s plan.WindowingStrategy) *world {
	t.Helper()
	return newWorldWith(t, s, Options{})
}

func newWorldWith(t testing.TB, s plan.WindowingStrategy, o Options) *world {
	t.Helper()
	text := coder.Coder{URN: urn.CoderString}
	g, err := New(&plan.Stage{
		Kind: plan.Group, Key: &text, Windowing: s,
		Element: coder.Coder{URN: urn.CoderKV, Parts: []coder.Coder{text, text}},
	}, o)
	if err != nil {
		t.Fatal(err)
	}
	return &world{
		t: t, grouper: g, table: table{rows: map[string][]byte{}}, timers: map[string]bundle.Timer{},
		at:    Clock{Watermark: event.MinTimestamp},
		panes: func(bundle.Chunk) {},
		onRow: func(_, _ []byte) {},
	}
}

// run runs a bundle with the timers that are due, and commits what it did.
func (w *world) run(chunks ...bundle.Chunk) {
	w.t.Helper()
	in := bundle.Input{Chunks: chunks}
	if !w.withhold {
		in.Timers = w.due()
	}
	w.at.Bundle.N++
	start := cpu()
	out, err := w.grouper.Run(&w.table, in, w.at)
	w.spent += cpu() - start
	if err != nil {
		w.t.Fatal(err)
	}
	for _, t := range in.Timers {
		delete(w.timers, timerName(t))
	}
	for i, write := range out.State.Writes {
		if i > 0 && bytes.Compare(out.State.Writes[i-1].Key, write.Key) >= 0 {
			w.t.Fatalf("writes are not sorted, or two are for one key: %q", write.Key)
		}
		w.table.sorted = nil
		if write.Delete {
			delete(w.table.rows, string(write.Key))
		} else {
			w.table.rows[string(write.Key)] = write.Value
			w.onRow(write.Key, write.Value)
		}
	}
	for _, change := range out.State.Timers {
		w.timerSets++
		if change.Clear {
			delete(w.timers, timerName(change.Timer))
		} else {
			w.timers[timerName(change.Timer)] = change.Timer
		}
	}
	w.in, w.out = w.in+out.In, w.out+out.Out
	w.late, w.closed = w.late+out.Late, w.closed+out.Closed
	for _, c := range out.Chunks {
		w.panes(c)
		for _, k := range c.Kept { // The chunk is consumed.
			w.kept++
			for _, chain := range k.Chains {
				for n := range chain.Rows {
					delete(w.table.rows, string(chain.Row(n)))
				}
			}
		}
		w.table.sorted = nil
	}
}

// cpu is the processor time of the process, which says more than a clock on a busy machine.
func cpu() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// settle fires timers until none is due.
func (w *world) settle() {
	w.t.Helper()
	for n := 0; len(w.due()) > 0; n++ {
		if n > 10 {
			w.t.Fatalf("timers fire for ever: %v", w.due())
		}
		w.run()
	}
}

func (w *world) due() (due []bundle.Timer) {
	for _, t := range w.timers {
		if t.Domain == plan.EventTime && (t.Due < w.at.Watermark || w.at.Watermark == event.MaxTimestamp) || t.Domain == plan.ProcessingTime && t.Due <= w.at.Now {
			due = append(due, t)
		}
	}
	slices.SortFunc(due, func(a, b bundle.Timer) int {
		return cmp.Or(cmp.Compare(a.Due, b.Due), strings.Compare(timerName(a), timerName(b)))
	})
	return due
}

// output is the output watermark: that of the input, unless a timer holds it.
func (w *world) output() event.Timestamp {
	at := w.at.Watermark
	for _, t := range w.timers {
		at = min(at, t.Hold)
	}
	return at
}

func timerName(t bundle.Timer) string {
	return t.Tag + string(binary.AppendUvarint(nil, uint64(len(t.Key)))) + string(t.Key) + string(t.Window)
}

// encode makes a chunk of elements with string keys and values.
func encode(global bool, elements []input) bundle.Chunk {
	c := bundle.Chunk{Count: len(elements), MinTimestamp: event.MaxTimestamp}
	windowed := coder.Windowed{Global: global}
	for _, e := range elements {
		c.Bytes = windowed.AppendHeader(c.Bytes, coder.Header{Timestamp: e.at, Windows: e.windows, Pane: event.NoFiring})
		c.Bytes = appendText(appendText(c.Bytes, e.key), e.value)
		c.MinTimestamp = min(c.MinTimestamp, e.at)
	}
	return c
}

type input struct {
	key, value string
	at         event.Timestamp
	windows    []event.Window
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func readText(t testing.TB, b []byte) (string, []byte) {
	t.Helper()
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		t.Fatalf("no text in %x", b)
	}
	return string(b[size : size+int(n)]), b[size+int(n):]
}

// assign is the WindowFn.
func assign(fn plan.WindowFn, at event.Timestamp) (windows []event.Window) {
	size, period := event.Timestamp(fn.Size.Milliseconds()), event.Timestamp(fn.Period.Milliseconds())
	switch fn.Kind {
	case plan.GlobalWindows:
		return []event.Window{event.Global}
	case plan.SessionWindows:
		return []event.Window{{Start: at, End: at + size}}
	case plan.FixedWindows:
		period = size
	}
	for start := at - at%period; start > at-size; start -= period {
		windows = append(windows, event.Window{Start: start, End: start + size})
	}
	return windows
}

// pane is a decoded element of the output.
type pane struct {
	coder.Header
	key    string
	values []string
}

func (w *world) decode(global bool, c bundle.Chunk) (panes []pane) {
	t := w.t
	t.Helper()
	low, high := event.MaxTimestamp, event.MinTimestamp
	for b := c.Bytes; len(b) > 0; {
		var p pane
		n, err := coder.Windowed{Global: global}.ReadHeader(b, &p.Header)
		if err != nil {
			t.Fatal(err)
		}
		p.key, b = readText(t, b[n:])
		count := binary.BigEndian.Uint32(b)
		b = b[4:]
		if int32(count) == coder.Blocks {
			p.values, b = w.namedValues(b)
			count = 0
		}
		for ; count > 0; count-- {
			var v string
			v, b = readText(t, b)
			p.values = append(p.values, v)
		}
		low, high = min(low, p.Timestamp), max(high, p.Windows[0].MaxTimestamp())
		panes = append(panes, p)
	}
	if c.Count != len(panes) || c.MinTimestamp != low || c.MaxWindow != high {
		t.Fatalf("chunk says %d, %v, %v: got %d panes, %v, %v", c.Count, c.MinTimestamp, c.MaxWindow, len(panes), low, high)
	}
	return panes
}

// namedValues reads a block of values, if there is one, and those that a token names.
func (w *world) namedValues(b []byte) (values []string, rest []byte) {
	w.t.Helper()
	count, n := binary.Uvarint(b)
	b = b[n:]
	if count != coder.Token {
		for ; count > 0; count-- {
			var v string
			v, b = readText(w.t, b)
			values = append(values, v)
		}
		if count, n = binary.Uvarint(b); count != coder.Token {
			w.t.Fatalf("a second block of %d values", count)
		}
		b = b[n:]
	}
	token, rest := readText(w.t, b)
	k, n, err := bundle.ReadKept([]byte(token))
	if err != nil || n != len(token) {
		w.t.Fatalf("token %x: %d bytes, %v", token, n, err)
	}
	var named []byte
	for _, chain := range k.Chains {
		for n := range chain.Rows {
			row, ok := w.table.Get(chain.Row(n))
			if !ok {
				w.t.Fatalf("row %d of %x is missing", n, chain.Prefix)
			}
			named = append(named, row...)
		}
	}
	for len(named) > 0 {
		var v string
		v, named = readText(w.t, named)
		values = append(values, v)
	}
	return values, rest
}
