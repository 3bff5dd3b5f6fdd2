// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/engine"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/grouping"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// job is a bundle at a worker.
type job struct {
	order engine.Order
	work  *bundle.Work // Nil until it was begun.

	// Of a restriction.
	source *source
	next   int // What is read next.
	to     int
	asked  bool // For a split, since it was begun.
}

// fakeWorker runs the bundles of a pipeline. What it does depends only on what is in the table and
// on random numbers, and the random numbers do not change the results of the job.
type fakeWorker struct {
	*pipeline
	rng     *rand.Rand
	groups  int
	grouper map[plan.StageID]*grouping.Grouper
}

func newFakeWorker(p *pipeline, rng *rand.Rand, groups int) (*fakeWorker, error) {
	f := &fakeWorker{pipeline: p, rng: rng, groups: groups, grouper: map[plan.StageID]*grouping.Grouper{}}
	for i := range p.plan.Stages {
		if s := &p.plan.Stages[i]; s.Kind == plan.Group {
			g, err := grouping.New(s, grouping.Options{HandOver: p.plan.Keeps(s), Spill: 4, Row: 6, Large: 8, Merge: 3})
			if err != nil {
				return nil, err
			}
			f.grouper[s.ID] = g
		}
	}
	return f, nil
}

// begin fetches the input of a bundle.
func (f *fakeWorker) begin(j *job, view kv.View) error {
	work, err := engine.Load(f.plan, j.order, view)
	if err != nil {
		return err
	}
	j.work = &work
	if f.roles[work.Stage] == roleRead {
		e := f.elements(j, work.Inputs[0].Chunks[0], nil)[0]
		for _, s := range f.sources {
			if s.name == e.key {
				j.source = s
			}
		}
		if _, err := fmt.Sscanf(e.values[0], "%d-%d", &j.next, &j.to); err != nil {
			return fmt.Errorf("restriction %q: %w", e.values[0], err)
		}
	}
	return checkTimers(&work)
}

// checkTimers tells whether the timers of a bundle are due and in order.
func checkTimers(w *bundle.Work) error {
	for _, in := range w.Inputs {
		for i, t := range in.Timers {
			switch {
			case t.Domain == plan.EventTime && t.Due >= w.Watermark && w.Watermark < event.MaxTimestamp,
				t.Domain == plan.ProcessingTime && t.Due > w.Now:
				return fmt.Errorf("bundle %v fires a timer of %v early", w.ID, t.Due)
			case i > 0 && t.Domain == in.Timers[i-1].Domain && t.Due < in.Timers[i-1].Due:
				return fmt.Errorf("bundle %v fires a timer of %v after one of %v", w.ID, t.Due, in.Timers[i-1].Due)
			}
		}
	}
	return nil
}

func (f *fakeWorker) elements(j *job, c bundle.Chunk, state states) []element {
	s := &f.plan.Stages[j.order.Stage]
	return elements(c, s.Windowing, s.Element, state)
}

// waits tells whether a restriction is where reading goes on only after a split.
func (f *fakeWorker) waits(j *job) bool {
	return j.source != nil && !j.asked && j.next < j.to && j.source.stops[j.next]
}

// run does all that is left of a bundle and returns its result. A restriction is read for as long as
// chance has it, and the rest is given back.
func (f *fakeWorker) run(j *job, view states) (bundle.Result, error) {
	s := &f.plan.Stages[j.order.Stage]
	b := &pass{
		fakeWorker: f, job: j, view: view, stage: s,
		writer: writer{plan: f.plan, stage: s, groups: f.groups, single: f.rng.IntN(3) == 0, counts: make([]int64, len(s.Outputs))},
		result: bundle.Result{ID: j.order.ID},
	}
	err := b.run()
	b.result.Outputs, b.result.Counts.Out = b.writer.out, b.writer.counts
	return b.result, err
}

// pass is one run of a bundle.
type pass struct {
	*fakeWorker
	job    *job
	view   states
	stage  *plan.Stage
	writer writer
	result bundle.Result
}

func (b *pass) run() error {
	if b.roles[b.stage.ID] == roleRead {
		b.read()
		return nil
	}
	for _, in := range b.job.work.Inputs {
		switch b.roles[b.stage.ID] {
		case roleCount:
			if err := b.count(in); err != nil {
				return err
			}
			continue
		case roleGroup:
			if err := b.group(in); err != nil {
				return err
			}
			continue
		case roleView:
			b.keep(in)
			continue
		}
		for _, c := range in.Chunks {
			for _, e := range b.elements(b.job, c, b.view) {
				b.result.Counts.In++
				if err := b.element(e); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (b *pass) metric(name string) {
	b.result.Metrics = append(b.result.Metrics, bundle.Metric{
		MetricName: bundle.MetricName{Transform: b.stage.Name, Name: name}, Sum: 1,
	})
}

// element does the work of a stage without state.
func (b *pass) element(e element) error {
	switch b.roles[b.stage.ID] {
	case rolePair:
		for _, s := range b.sources {
			for i := range s.pieces {
				from, to := len(s.inputs)*i/s.pieces, len(s.inputs)*(i+1)/s.pieces
				if s.name == b.stage.Name && from < to {
					b.writer.put(0, e.Header, s.name, fmt.Sprintf("%d-%d", from, to))
				}
			}
		}
	case roleAssign:
		e.Windows = b.windows(e.Timestamp)
		b.writer.put(0, e.Header, e.key, e.values[0])
	case roleSink:
		for _, v := range e.values {
			b.metric(resultName(e.key, e.Windows[0], v))
			if err := b.side(e.Windows[0], v); err != nil {
				return err
			}
			if e.Pane.Timing == event.OnTime {
				b.metric("on time " + resultName(e.key, e.Windows[0], v))
			}
		}
		if b.roles[b.stage.Inputs[0].From] != roleGroup {
			return nil
		}
		b.metric("pane " + resultName(e.key, e.Windows[0], strconv.FormatInt(e.Pane.Index, 10)))
		if e.Pane.Timing == event.OnTime {
			b.metric("on-time pane " + resultName(e.key, e.Windows[0], ""))
		}
		if e.Pane.Last {
			b.metric("last pane " + resultName(e.key, e.Windows[0], strconv.FormatInt(e.Pane.Index, 10)))
		}
	}
	return nil
}

// side looks whether the side input has what it must have for an element that is not late.
func (b *pass) side(w event.Window, value string) error {
	if len(b.stage.Sides) == 0 || b.events[value].late { // Its window may have been forgotten.
		return nil
	}
	found := map[string]bool{}
	prefix := event.AppendTimestamp(nil, w.MaxTimestamp())
	view := b.view(b.stage.Sides[0].View, 0)
	view.Scan(prefix, kv.PrefixEnd(prefix), func(_, v []byte) bool {
		found[string(v)] = true
		return true
	})
	for _, want := range b.sideOf(w) {
		if !found[want] {
			return fmt.Errorf("the side input of %q in %v lacks %q", value, w, want)
		}
	}
	return nil
}

// keep stores the elements of a side input by window.
func (b *pass) keep(in bundle.Input) {
	state := bundle.GroupState{Group: in.Group}
	for _, c := range in.Chunks {
		for _, e := range b.elements(b.job, c, b.view) {
			b.result.Counts.In++
			for i, w := range e.Windows {
				key := event.AppendTimestamp(nil, w.MaxTimestamp())
				key = b.job.order.ID.AppendOrdered(key)
				key = fmt.Appendf(key, "%d.%d", len(state.Writes), i)
				state.Writes = append(state.Writes, bundle.Write{Key: key, Value: []byte(e.values[0])})
			}
		}
	}
	b.result.State = append(b.result.State, state)
}

// read reads a part of a restriction.
func (b *pass) read() {
	j, from := b.job, b.job.work.Inputs[0].Chunks[0]
	head := b.elements(j, from, nil)[0].Header
	b.result.Finalize = b.rng.IntN(2) == 0
	if j.asked && b.rng.IntN(4) == 0 { // Split before it was begun.
		b.result.Unprocessed = 1
		return
	}
	b.result.Counts.In = 1
	for first := true; j.next < j.to && (first || b.rng.IntN(3) > 0); first = false {
		in := j.source.inputs[j.next]
		h := coder.Header{Timestamp: in.at, Windows: []event.Window{event.Global}, Pane: event.NoFiring}
		b.writer.put(0, h, in.key, in.value)
		j.next++
		if j.next < j.to && j.source.stops[j.next] {
			break
		}
	}
	rests := [][2]int{{j.next, j.to}}
	if n := j.to - j.next; n > 1 && b.rng.IntN(4) == 0 {
		cut := j.next + 1 + b.rng.IntN(n-1)
		rests = [][2]int{{j.next, cut}, {cut, j.to}}
	}
	for _, r := range rests {
		if r[0] == r[1] {
			continue
		}
		encoded := coder.Windowed{Global: true}.AppendHeader(nil, head)
		encoded = appendPair(encoded, j.source.name, fmt.Sprintf("%d-%d", r[0], r[1]))
		b.result.Residuals = append(b.result.Residuals, bundle.Residual{
			Element: encoded, Watermark: b.estimate(r), Delay: int64(b.rng.IntN(3) * b.rng.IntN(200)),
		})
		b.metric("residuals")
	}
}

// estimate returns the watermark of a rest, or something before it: estimators may be sloppy.
func (b *pass) estimate(rest [2]int) event.Timestamp {
	w := b.job.source.watermark(rest[0], rest[1])
	if b.rng.IntN(4) == 0 {
		w -= event.Timestamp(b.rng.IntN(10_000))
	}
	return w
}

// group lets the runner's own grouping do it.
func (b *pass) group(in bundle.Input) error {
	out, err := b.grouper[b.stage.ID].Run(b.view(b.stage.ID, in.Group), in, grouping.Clock{
		Bundle: b.job.order.ID, Watermark: b.job.work.Watermark, Now: b.job.work.Now,
	})
	if err != nil {
		return err
	}
	for c := range b.stage.Outputs[0].Consumers {
		for _, chunk := range out.Chunks {
			b.writer.out = append(b.writer.out, bundle.Output{Consumer: c, Chunk: chunk})
		}
	}
	b.writer.counts[0] += out.Out
	b.result.Counts.In += out.In
	b.result.Counts.Late += out.Late
	b.result.State = append(b.result.State, out.State)
	return nil
}

// cell is the state of a key and window of the count.
type cell struct {
	*kv.Overlay
	key    []byte // Encoded.
	window event.Window
	name   string // Encoded key and window, the end of every row's key.
}

func (c cell) get(kind string) string {
	v, _ := c.Get([]byte(kind + c.name))
	return string(v)
}

func (c cell) set(kind, value string) {
	if value == "" {
		c.Delete([]byte(kind + c.name))
		return
	}
	c.Set([]byte(kind+c.name), []byte(value))
}

// count numbers the elements of each key and window, and keeps them until the end of the window.
func (b *pass) count(in bundle.Input) error {
	g := counting{
		pass: b, work: b.job.work,
		rows:  kv.NewOverlay(b.view(b.stage.ID, in.Group)),
		state: bundle.GroupState{Group: in.Group}, cleared: map[string]bool{},
	}
	for _, c := range in.Chunks {
		for _, e := range b.elements(b.job, c, b.view) {
			b.result.Counts.In++
			for _, w := range e.Windows {
				if b.fn.Expired(w, g.work.Watermark) {
					b.result.Counts.Late++
					continue
				}
				if err := b.side(w, e.values[0]); err != nil {
					return err
				}
				g.add(g.cell(appendString(nil, e.key), w), e)
			}
		}
	}
	for i := range in.Timers {
		if err := g.fire(&in.Timers[i]); err != nil {
			return err
		}
	}
	g.rows.Writes(func(key, value []byte, deleted bool) {
		g.state.Writes = append(g.state.Writes, bundle.Write{Key: key, Value: value, Delete: deleted})
	})
	b.result.State = append(b.result.State, g.state)
	return nil
}

// counting is the count's work on a key group.
type counting struct {
	*pass
	work  *bundle.Work
	rows  *kv.Overlay
	state bundle.GroupState

	cleared map[string]bool // The ticks that were cleared in this bundle, by the name of the cell.
}

func (g *counting) cell(key []byte, w event.Window) cell {
	return cell{g.rows, key, w, string(g.encode(w)) + string(key)}
}

func (g *counting) encode(w event.Window) []byte {
	return coder.Windowed{Global: g.fn.Global()}.AppendWindow(nil, w)
}

func (g *counting) timer(c cell, change bundle.TimerChange) {
	t := &change.Timer
	t.Key, t.Window = c.key, g.encode(c.window)
	if t.Kind == bundle.UserTimer {
		t.Transform, t.Family = "count", t.Domain.String()
	}
	g.state.Timers = append(g.state.Timers, change)
}

// The tags of the count's timers.
const (
	tagFlush = "flush" // At the end of the window: gives the values back.
	tagTick  = "tick"  // In processing time: gives back what there is.
	tagLast  = "last"  // When the window expires, without holding the watermark.
)

func (g *counting) add(c cell, e element) {
	n, _ := strconv.Atoi(c.get("total"))
	c.set("total", strconv.Itoa(n+1))
	c.set("values", strings.TrimPrefix(c.get("values")+" "+e.values[0], " "))
	c.set("flush", "once")
	c.set("last", "set")
	h := coder.Header{Timestamp: e.Timestamp, Windows: []event.Window{c.window}, Pane: e.Pane}
	g.writer.put(0, h, g.keyOf(c), fmt.Sprintf("%s#%d", e.values[0], n+1))
	g.metric("accepted " + resultName(g.keyOf(c), c.window, e.values[0]))

	end := c.window.MaxTimestamp()
	g.timer(c, bundle.TimerChange{Timer: bundle.Timer{Tag: tagFlush, Due: end, Hold: end}})
	g.timer(c, bundle.TimerChange{Timer: bundle.Timer{Tag: tagLast, Due: g.fn.Expiry(c.window), Hold: event.MaxTimestamp}})
	g.timer(c, bundle.TimerChange{Timer: bundle.Timer{
		Kind: bundle.ExpiryTimer, Due: g.fn.Expiry(c.window), Hold: event.MaxTimestamp,
	}})
	if g.tick > 0 {
		c.set("tick", "set")
		g.timer(c, bundle.TimerChange{Timer: bundle.Timer{
			Tag: tagTick, Domain: plan.ProcessingTime, Due: g.work.Now + event.Timestamp(g.tick), Hold: end,
		}})
	}
}

func (g *counting) keyOf(c cell) string {
	key := c.key
	return cutString(&key)
}

func (g *counting) fire(t *bundle.Timer) error {
	w, _, err := coder.Windowed{Global: g.fn.Global()}.ReadWindow(t.Window)
	if err != nil {
		return err
	}
	c := g.cell(t.Key, w)
	if t.Kind == bundle.ExpiryTimer {
		for _, kind := range []string{"values", "flush", "last"} {
			if v := c.get(kind); v != "" {
				return fmt.Errorf("the state of %q in %v expired while its %s was %q", t.Key, w, kind, v)
			}
		}
		c.set("total", "")
		c.set("tick", "")
		return nil
	}
	kind := t.Tag
	was := c.get(kind)
	if was == "" && t.Tag == tagTick && g.cleared[c.name] {
		return nil
	}
	if was == "" {
		return fmt.Errorf("timer %s of %q in %v fired and was not set", t.Tag, t.Key, w)
	}
	if t.Tag == tagFlush && was == "once" && g.loop {
		c.set(kind, "twice")
		g.timer(c, bundle.TimerChange{Timer: *t})
		return nil
	}
	c.set(kind, "")
	if t.Tag == tagLast {
		g.metric("last " + resultName(g.keyOf(c), w, ""))
		return nil
	}
	if t.Tag == tagFlush && c.get("tick") != "" {
		c.set("tick", "")
		g.cleared[c.name] = true
		g.timer(c, bundle.TimerChange{Clear: true, Timer: bundle.Timer{Tag: tagTick, Domain: plan.ProcessingTime}})
	}
	h := coder.Header{Timestamp: w.MaxTimestamp(), Windows: []event.Window{w}, Pane: event.NoFiring}
	for _, v := range strings.Fields(c.get("values")) {
		if err := g.side(w, v); err != nil {
			return err
		}
		g.writer.put(1, h, g.keyOf(c), v)
	}
	c.set("values", "")
	return nil
}
