// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/urn"
)

// role is what a fake worker does for a stage.
type role int

const (
	roleNone   role = iota // Impulse and TestStream: the engine does them.
	rolePair               // Makes the restrictions of a source.
	roleRead               // Reads a restriction.
	roleAssign             // Puts elements into windows.
	roleCount              // Numbers the elements of a key and window, and gives them back at its end.
	roleGroup              // GroupByKey.
	roleView               // Keeps a side input.
	roleSink               // Makes a metric of each element: the results of the job.
)

// pipeline is a job with what is needed to run it and to know its answer.
type pipeline struct {
	plan     *plan.Plan
	roles    []role
	ports    []string // Of a rolePair the name of its source, of a roleSink what it collects.
	sources  []*source
	counted  []*source         // Those that flow into the count; another one is only a side input.
	events   map[string]*input // By value.
	fn       plan.WindowingStrategy
	view     bool // The sink of the groups reads the second source as side input.
	tick     int64
	triggers bool // The grouping fires not only at the end of windows.
	loop     bool // Timers at the end of a window set themselves once more.
}

// source is a sequence of elements that is read by ranges.
type source struct {
	name   string
	inputs []*input
	pieces int
	stops  map[int]bool // Where reading goes on only after it was split.
}

// input is an element of a source.
type input struct {
	source     *source
	at         event.Timestamp
	key, value string
	late       bool // It may be behind the watermark.
}

// watermark returns what the source says of itself when it has read up to from of a piece.
func (s *source) watermark(from, to int) event.Timestamp {
	low := event.MaxTimestamp
	for _, in := range s.inputs[from:to] {
		if !in.late {
			low = min(low, in.at)
		}
	}
	if low == event.MaxTimestamp && from < to {
		low = s.inputs[from].at // Only late ones are left.
	}
	return low
}

var (
	bytesCoder = coder.Coder{URN: urn.CoderBytes}
	pairCoder  = coder.Coder{URN: urn.CoderKV, Parts: []coder.Coder{bytesCoder, bytesCoder}}
	groupCoder = coder.Coder{URN: urn.CoderKV, Parts: []coder.Coder{bytesCoder, {URN: urn.CoderIterable, Parts: []coder.Coder{bytesCoder}}}}
)

var globally = plan.WindowingStrategy{Fn: plan.WindowFn{Kind: plan.GlobalWindows}}

// builder puts a plan together.
type builder struct{ *pipeline }

func (b builder) stage(r role, name string, s plan.Stage, inputs ...plan.Input) plan.StageID {
	s.ID = plan.StageID(len(b.plan.Stages))
	s.Name, s.Inputs = name, inputs
	for _, in := range inputs {
		out := &b.plan.Stages[in.From].Outputs[in.Output]
		out.Consumers = append(out.Consumers, s.ID)
		s.Windowing, s.Element = out.Windowing, out.Element
	}
	b.plan.Stages = append(b.plan.Stages, s)
	b.roles, b.ports = append(b.roles, r), append(b.ports, name)
	return s.ID
}

func output(w plan.WindowingStrategy, c coder.Coder) plan.Output {
	return plan.Output{Windowing: w, Element: c}
}

// drawPipeline makes a pipeline from random numbers: one or two sources (or a TestStream), flattened
// into a stateful stage with timers, grouped, and collected; perhaps with a side input.
func drawPipeline(rng *rand.Rand) *pipeline {
	p := &pipeline{plan: &plan.Plan{}, events: map[string]*input{}}
	b := builder{p}
	p.fn = drawWindowing(rng)
	p.tick = []int64{0, 0, 7, 300}[rng.IntN(4)]
	p.loop = rng.IntN(3) == 0
	p.view = rng.IntN(3) == 0
	late := 0
	if rng.IntN(2) == 0 {
		late = 4
	}
	var feeds []plan.Input
	names := []string{"a", "b"}[:1+rng.IntN(2)]
	if p.view {
		names = []string{"a", "b"}
	}
	for _, name := range names {
		p.sources = append(p.sources, drawSource(rng, name, late))
	}
	var elements []plan.Input
	if rng.IntN(4) == 0 {
		elements = b.testStream(rng)
	} else {
		elements = b.read()
	}
	for i, in := range elements {
		assign := b.stage(roleAssign, "assign "+names[i], plan.Stage{
			Kind: plan.User, Outputs: []plan.Output{output(p.fn, pairCoder)},
		}, in)
		feeds = append(feeds, plan.Input{From: assign})
	}
	var countSides, sinkSides []plan.SideInput
	if p.view {
		view := b.stage(roleView, "view", plan.Stage{Kind: plan.View}, feeds[1])
		sinkSides = []plan.SideInput{{View: view}}
		if rng.IntN(2) == 0 {
			countSides, sinkSides = sinkSides, nil
		}
	}
	if p.view {
		feeds = feeds[:1]
	}
	p.counted = p.sources[:len(feeds)]
	count := b.stage(roleCount, "count", plan.Stage{
		Kind: plan.User, Key: &bytesCoder, Sides: countSides,
		Outputs: []plan.Output{output(p.fn, pairCoder), output(p.fn, pairCoder)},
	}, feeds...)
	b.stage(roleSink, "counts", plan.Stage{Kind: plan.User}, plan.Input{From: count})
	last := plan.Input{From: count, Output: 1}
	if rng.IntN(3) > 0 {
		group := b.stage(roleGroup, "group", plan.Stage{
			Kind: plan.Group, Key: &bytesCoder, Outputs: []plan.Output{output(p.fn, groupCoder)},
		}, last)
		last = plan.Input{From: group}
		b.plan.Stages[group].Windowing = p.grouping(rng)
	}
	b.stage(roleSink, "values", plan.Stage{Kind: plan.User, Sides: sinkSides}, last)
	return p
}

func drawWindowing(rng *rand.Rand) plan.WindowingStrategy {
	s := plan.WindowingStrategy{AllowedLateness: []time.Duration{0, 3 * time.Second, time.Hour}[rng.IntN(3)]}
	switch rng.IntN(4) {
	case 0:
		s.Fn = plan.WindowFn{Kind: plan.GlobalWindows}
	case 1:
		s.Fn = plan.WindowFn{Kind: plan.SlidingWindows, Size: 10 * time.Second, Period: 5 * time.Second}
	default:
		s.Fn = plan.WindowFn{Kind: plan.FixedWindows, Size: 10 * time.Second}
	}
	return s
}

// grouping returns the windowing strategy of the grouping, which has triggers.
func (p *pipeline) grouping(rng *rand.Rand) plan.WindowingStrategy {
	s := p.fn
	s.Output = plan.OutputTime(rng.IntN(3))
	s.Closing = plan.ClosingBehavior(rng.IntN(2))
	two := plan.Trigger{Kind: plan.ElementCount, Count: 2}
	switch rng.IntN(6) {
	case 0:
		s.Trigger = plan.Trigger{Kind: plan.Repeat, Parts: []plan.Trigger{two}}
	case 1:
		s.Trigger = plan.Trigger{Kind: plan.Repeat, Parts: []plan.Trigger{{
			Kind: plan.AfterProcessingTime, Delays: []plan.TimestampDelay{{Delay: 30 * time.Millisecond}},
		}}}
	case 2:
		one := plan.Trigger{Kind: plan.ElementCount, Count: 1}
		s.Trigger = plan.Trigger{Kind: plan.AfterEndOfWindow, Early: &two, Late: &one}
	}
	p.triggers = s.Trigger.Kind != plan.Default
	return s
}

// windows returns the windows of an element.
func (p *pipeline) windows(at event.Timestamp) []event.Window {
	size, period := event.Timestamp(p.fn.Fn.Size.Milliseconds()), event.Timestamp(p.fn.Fn.Period.Milliseconds())
	switch p.fn.Fn.Kind {
	case plan.GlobalWindows:
		return []event.Window{event.Global}
	case plan.FixedWindows:
		period = size
	}
	var all []event.Window
	for start := at - at%period; start > at-size; start -= period {
		all = append(all, event.Window{Start: start, End: start + size})
	}
	return all
}

func drawSource(rng *rand.Rand, name string, late int) *source {
	s := &source{name: name, pieces: 1 + rng.IntN(3), stops: map[int]bool{}}
	at := event.Timestamp(20_000)
	for i := range 1 + rng.IntN(14) {
		at += event.Timestamp(rng.IntN(4000))
		in := &input{source: s, at: at, key: string(rune('p' + rng.IntN(3))), value: fmt.Sprintf("%s%d", name, i)}
		in.at += event.Timestamp(rng.IntN(3000)) // Out of order, which is not late.
		if rng.IntN(3) == 0 {                    // At the edge of a window.
			in.at -= in.at%5000 + event.Timestamp(rng.IntN(2))
		}
		if late > 0 && rng.IntN(late) == 0 {
			in.at -= event.Timestamp(rng.IntN(20_000))
			in.late = true
		}
		s.inputs = append(s.inputs, in)
		if rng.IntN(6) == 0 {
			s.stops[i] = true
		}
	}
	return s
}

// read reads the sources as splittable stages.
func (b builder) read() []plan.Input {
	var elements []plan.Input
	for _, s := range b.sources {
		for _, in := range s.inputs {
			b.events[in.value] = in
		}
		impulse := b.stage(roleNone, "impulse", plan.Stage{
			Kind: plan.Impulse, Outputs: []plan.Output{output(globally, bytesCoder)},
		})
		pair := b.stage(rolePair, s.name, plan.Stage{
			Kind: plan.User, Outputs: []plan.Output{output(globally, pairCoder)},
		}, plan.Input{From: impulse})
		read := b.stage(roleRead, "read "+s.name, plan.Stage{
			Kind: plan.User, Splittable: true, Finalizes: true,
			Outputs: []plan.Output{output(globally, pairCoder)},
		}, plan.Input{From: pair})
		elements = append(elements, plan.Input{From: read})
	}
	return elements
}

// testStream plays the sources as one TestStream.
func (b builder) testStream(rng *rand.Rand) []plan.Input {
	s := plan.Stage{Kind: plan.TestStream}
	next := make([]int, len(b.sources))
	var elements []plan.Input
	for o, src := range b.sources {
		s.Outputs = append(s.Outputs, output(globally, pairCoder))
		elements = append(elements, plan.Input{Output: o})
		for _, in := range src.inputs {
			b.events[in.value] = in
		}
	}
	for {
		var open []int
		for o, src := range b.sources {
			if next[o] < len(src.inputs) {
				open = append(open, o)
			}
		}
		if len(open) == 0 {
			break
		}
		o := open[rng.IntN(len(open))]
		src := b.sources[o]
		switch rng.IntN(4) {
		case 0:
			s.Events = append(s.Events, plan.TestStreamEvent{Clock: int64(1 + rng.IntN(500))})
		case 1:
			s.Events = append(s.Events, plan.TestStreamEvent{Advance: &plan.AdvanceWatermark{
				Output: o, To: src.watermark(next[o], len(src.inputs)),
			}})
		default:
			n := min(1+rng.IntN(3), len(src.inputs)-next[o])
			add := &plan.AddElements{Output: o}
			for _, in := range src.inputs[next[o] : next[o]+n] {
				add.Elements = append(add.Elements, plan.TestElement{
					Timestamp: in.at, Encoded: appendPair(nil, in.key, in.value),
				})
			}
			next[o] += n
			s.Events = append(s.Events, plan.TestStreamEvent{Add: add})
		}
	}
	b.stage(roleNone, "teststream", s)
	return elements
}

// expected returns the windowed values that the count must see: those that must arrive, and those
// that may be dropped as late.
func (p *pipeline) expected() (must, may map[string]bool) {
	must, may = map[string]bool{}, map[string]bool{}
	for _, s := range p.counted {
		for _, in := range s.inputs {
			for _, w := range p.windows(in.at) {
				if name := resultName(in.key, w, in.value); in.late {
					may[name] = true
				} else {
					must[name] = true
				}
			}
		}
	}
	return must, may
}

func resultName(key string, w event.Window, value string) string {
	return fmt.Sprintf("%s %v %s", key, w, value)
}

// sideOf returns the values of a window that a reader of the side input must find.
func (p *pipeline) sideOf(w event.Window) []string {
	var all []string
	for _, in := range p.sources[1].inputs {
		if !in.late && slices.Contains(p.windows(in.at), w) {
			all = append(all, in.value)
		}
	}
	return all
}
