// SPDX-License-Identifier: Apache-2.0

package planner

import (
	"slices"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/urn"
	"google.golang.org/protobuf/proto"
)

// check finds the leaves of the pipeline and everything in it that cannot be run. It returns an
// error only for a malformed pipeline; what is unsupported is collected.
func (d *draft) check(p *pipepb.Pipeline) error {
	if len(d.transforms) == 0 || len(p.GetRootTransformIds()) == 0 {
		return malformed("no transforms")
	}
	if err := d.coders.check(); err != nil {
		return err
	}
	d.checkRequirements(p.GetRequirements())
	t := tree{draft: d, seen: map[string]bool{}}
	if err := t.walk(p.GetRootTransformIds()); err != nil {
		return err
	}
	for _, id := range sorted(d.transforms) {
		if !t.seen[id] {
			return malformed("transform %q is not below a root transform", id)
		}
	}
	// An SDK may write the roots in any order.
	slices.SortFunc(d.leaves, naturally)
	streams := 0
	for _, id := range d.leaves {
		if err := d.checkCollections(id); err != nil {
			return err
		}
		if err := d.checkLeaf(id); err != nil {
			return err
		}
		if d.transforms[id].GetSpec().GetUrn() == urn.TestStream {
			if streams++; streams > 1 {
				d.refuse(d.names[id], "a second TestStream; a pipeline can have one")
			}
		}
	}
	return nil
}

// checkRequirements refuses what a runner must know to run the pipeline right, and this one does
// not. What a single transform asks for is refused where it is.
func (d *draft) checkRequirements(requirements []string) {
	for _, r := range requirements {
		switch r {
		case urn.RequiresSplittable, urn.RequiresFinalization, urn.RequiresState, urn.RequiresStableInput,
			urn.RequiresSortedInput, urn.RequiresWindowExpiration:
		default:
			d.refuse("", "requirement %q", r)
		}
	}
}

// tree walks the composites of a pipeline down to its leaves.
type tree struct {
	*draft
	seen map[string]bool
}

func (t *tree) walk(ids []string) error {
	for _, id := range ids {
		m, ok := t.transforms[id]
		if !ok {
			return malformed("transform %q does not exist", id)
		}
		if t.seen[id] {
			return malformed("transform %q is in two composites, or in itself", id)
		}
		t.seen[id] = true
		t.names[id] = nameOf(id, m)
		if t.asOne(id, m) {
			t.leaves = append(t.leaves, id)
			t.skip(m.GetSubtransforms())
			continue
		}
		if err := t.walk(m.GetSubtransforms()); err != nil {
			return err
		}
	}
	return nil
}

// asOne tells whether a transform is run as one, without looking at what it is composed of.
func (t *tree) asOne(id string, m *pipepb.PTransform) bool {
	switch m.GetSpec().GetUrn() {
	case urn.Reshuffle:
		return true
	case urn.CombinePerKey:
		return len(m.GetSubtransforms()) == 0 || t.lifts(m)
	case urn.ParDo, urn.Flatten, urn.GroupByKey, urn.Impulse, urn.WindowInto, urn.TestStream:
		return len(m.GetSubtransforms()) == 0
	}
	return len(m.GetSubtransforms()) == 0 && !passesThrough(m)
}

// passesThrough tells whether a transform is an empty composite: its outputs are its inputs.
func passesThrough(m *pipepb.PTransform) bool {
	inputs := map[string]bool{}
	for _, c := range m.GetInputs() {
		inputs[c] = true
	}
	for _, c := range m.GetOutputs() {
		if !inputs[c] {
			return false
		}
	}
	return len(inputs) > 0 && len(m.GetOutputs()) > 0 || m.GetSpec().GetUrn() == ""
}

// skip marks the transforms below a composite that is run as one.
func (t *tree) skip(ids []string) {
	for _, id := range ids {
		if t.seen[id] {
			continue
		}
		t.seen[id] = true
		t.skip(t.transforms[id].GetSubtransforms())
	}
}

func nameOf(id string, m *pipepb.PTransform) string {
	if m.GetUniqueName() == "" {
		return id
	}
	return m.GetUniqueName()
}

// lifts tells whether a combine is done in part before its GroupByKey. It is not where the
// trigger counts elements, or where a pane's timestamp is chosen among those of its elements:
// there are fewer elements after combining.
func (d *draft) lifts(m *pipepb.PTransform) bool {
	if d.options.NoLifting || len(m.GetInputs()) != 1 {
		return false
	}
	s := d.strategies[d.collections[only(m.GetInputs())].GetWindowingStrategyId()]
	w, no := windowingOf(s)
	return len(no) == 0 && !countsElements(&w.Trigger) && w.Output == plan.EndOfWindow
}

// checkCollections verifies the collections of a leaf: they exist, with coder and windowing, and
// nothing else writes the outputs.
func (d *draft) checkCollections(id string) error {
	m := d.transforms[id]
	for _, local := range sorted(m.GetInputs()) {
		if _, ok := d.collections[m.GetInputs()[local]]; !ok {
			return malformed("input %q of %s does not exist", local, d.names[id])
		}
	}
	for _, local := range sorted(m.GetOutputs()) {
		collection := m.GetOutputs()[local]
		c, ok := d.collections[collection]
		if !ok {
			return malformed("output %q of %s does not exist", local, d.names[id])
		}
		if _, ok := d.coders.all[c.GetCoderId()]; !ok {
			return malformed("coder %q of collection %q does not exist", c.GetCoderId(), collection)
		}
		if err := d.checkWindowing(id, c.GetWindowingStrategyId()); err != nil {
			return err
		}
	}
	return nil
}

// checkWindowing reads a windowing strategy when it is met first.
func (d *draft) checkWindowing(transform, id string) error {
	if _, done := d.windowing[id]; done {
		return nil
	}
	m, ok := d.strategies[id]
	if !ok {
		return malformed("windowing strategy %q does not exist", id)
	}
	w, no := windowingOf(m)
	d.windowing[id] = w
	for _, what := range no {
		d.refuse(d.names[transform], "%s", what)
	}
	if _, ok := d.coders.all[m.GetWindowCoderId()]; !ok {
		return malformed("window coder %q does not exist", m.GetWindowCoderId())
	}
	switch got := d.coders.urn(m.GetWindowCoderId()); {
	case got != urn.CoderGlobalWindow && got != urn.CoderIntervalWindow:
		d.refuse(d.names[transform], "windows with coder %q; use the global or interval windows", got)
	case len(no) == 0 && (got == urn.CoderGlobalWindow) != w.Global():
		return malformed("the window coder of strategy %q does not fit its windows", id)
	}
	return nil
}

// shape says how many inputs and outputs the transforms have that have a fixed number.
var shape = map[string][2]int{
	urn.Impulse:       {0, 1},
	urn.GroupByKey:    {1, 1},
	urn.Reshuffle:     {1, 1},
	urn.CombinePerKey: {1, 1},
	urn.WindowInto:    {1, 1},
	urn.ToString:      {1, 1},
}

// checkLeaf verifies a transform that is to be run.
func (d *draft) checkLeaf(id string) error {
	m, name := d.transforms[id], d.names[id]
	if want, ok := shape[m.GetSpec().GetUrn()]; ok {
		if len(m.GetInputs()) != want[0] || len(m.GetOutputs()) != want[1] {
			return malformed("%s has %d inputs and %d outputs, not %d and %d",
				name, len(m.GetInputs()), len(m.GetOutputs()), want[0], want[1])
		}
	}
	switch m.GetSpec().GetUrn() {
	case urn.Impulse, urn.Reshuffle, urn.ToString:
		return nil
	case urn.GroupByKey:
		return d.checkGroup(name, only(m.GetInputs()), only(m.GetOutputs()))
	case urn.Flatten:
		if len(m.GetOutputs()) != 1 {
			return malformed("%s has %d outputs, not 1", name, len(m.GetOutputs()))
		}
		return nil
	case urn.TestStream:
		return d.checkTestStream(name, m)
	case urn.WindowInto:
		var p pipepb.WindowIntoPayload
		if err := proto.Unmarshal(m.GetSpec().GetPayload(), &p); err != nil {
			return malformed("payload of %s: %v", name, err)
		}
		if _, err := windowFn(p.GetWindowFn()); err != nil {
			d.refuse(name, "%v", err)
		}
		return nil
	case urn.CombinePerKey:
		return d.checkCombine(name, m)
	case urn.ParDo:
		return d.checkParDo(id)
	}
	d.refuse(name, "transform %q", m.GetSpec().GetUrn())
	return nil
}

// checkGroup verifies that a GroupByKey reads KV<K, V> and writes KV<K, Iterable<V>>.
func (d *draft) checkGroup(name, input, output string) error {
	in, out := d.collections[input].GetCoderId(), d.collections[output].GetCoderId()
	if !d.coders.is(in, urn.CoderKV) || !d.coders.is(out, urn.CoderKV) {
		return malformed("%s does not read and write key and value", name)
	}
	values := d.coders.parts(out)[1]
	if !d.coders.is(values, urn.CoderIterable) ||
		!d.coders.same(d.coders.parts(in)[0], d.coders.parts(out)[0]) ||
		!d.coders.same(d.coders.parts(in)[1], d.coders.parts(values)[0]) {
		return malformed("the coders of input and output of %s do not fit", name)
	}
	return nil
}

func (d *draft) checkCombine(name string, m *pipepb.PTransform) error {
	var p pipepb.CombinePayload
	if err := proto.Unmarshal(m.GetSpec().GetPayload(), &p); err != nil {
		return malformed("payload of %s: %v", name, err)
	}
	if _, ok := d.coders.all[p.GetAccumulatorCoderId()]; !ok {
		return malformed("accumulator coder %q of %s does not exist", p.GetAccumulatorCoderId(), name)
	}
	if !d.coders.is(d.collections[only(m.GetInputs())].GetCoderId(), urn.CoderKV) {
		return malformed("%s does not read key and value", name)
	}
	if d.checkFunction(name, p.GetCombineFn()) {
		d.checkSymbols(name, p.GetCombineFn())
	}
	return nil
}
