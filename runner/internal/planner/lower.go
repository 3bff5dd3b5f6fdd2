// SPDX-License-Identifier: Apache-2.0

package planner

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/urn"
)

// work says who does a step.
type work uint8

const (
	bySDK    work = iota // A worker, in a stage of kind User.
	byRunner             // The runner, in a stage of its own.
	byNobody             // It only renames collections: Flatten and Reshuffle.
)

// step is one transform of the lowered pipeline.
type step struct {
	id   string
	work work
	kind plan.Kind // Of a step that the runner does.
	// proto is the transform as a worker sees it.
	proto  *pipepb.PTransform
	main   []string // The collections it takes elements from: one, or those of a Flatten.
	sides  []side
	pardo  *pipepb.ParDoPayload // Nil for steps without one.
	events []plan.TestStreamEvent

	keyed      bool // It has state or timers.
	splittable bool // It processes restrictions.
	stable     bool // Its input must be durable.
	// expands is set for the second half of a CoGroupByKey. What it writes has no encoding, so
	// it runs in the stage of each step that reads it.
	expands bool

	stage *stage // Set by fuse.
}

// side is a side input of a step.
type side struct {
	local, collection string
	access            plan.Access
}

// written is a collection as it arrives somewhere: with the coder on the wire that has this ID,
// which is another than the collection's own only where a Flatten merges different ones.
type written struct {
	collection, coder string
}

// lower makes the steps of the pipeline from its leaves, and sorts them.
func (d *draft) lower() error {
	for _, id := range d.leaves {
		m := d.transforms[id]
		switch m.GetSpec().GetUrn() {
		case urn.Impulse:
			d.steps = append(d.steps, &step{id: id, proto: m, work: byRunner, kind: plan.Impulse})
		case urn.TestStream:
			d.lowerTestStream(id, m)
		case urn.GroupByKey:
			d.addGroup(id, m)
		case urn.Flatten, urn.Reshuffle:
			s := &step{id: id, proto: m, work: byNobody}
			for _, local := range sorted(m.GetInputs()) {
				s.main = append(s.main, m.GetInputs()[local])
			}
			d.steps = append(d.steps, s)
		case urn.CombinePerKey:
			d.lowerCombine(id, m)
		case urn.ParDo:
			d.lowerParDo(id, m)
		case urn.WindowInto, urn.ToString:
			d.steps = append(d.steps, &step{id: id, proto: m, main: []string{only(m.GetInputs())}})
		}
	}
	if len(d.unsupported) > 0 {
		return nil // What was refused may have no steps.
	}
	if err := d.sort(); err != nil {
		return err
	}
	return d.trace()
}

func (d *draft) addGroup(id string, m *pipepb.PTransform) {
	d.steps = append(d.steps, &step{
		id: id, proto: m, work: byRunner, kind: plan.Group, main: []string{only(m.GetInputs())},
	})
}

// add puts a new step into the place of the transform id.
func (d *draft) add(s *step, of string) *step {
	for d.transforms[s.id] != nil || s.id != of && d.names[s.id] != "" {
		s.id += "'"
	}
	d.names[s.id] = d.names[of]
	d.steps = append(d.steps, s)
	return s
}

// addCollection adds a collection like another, with its own coder.
func (d *draft) addCollection(id, like, coder string) string {
	for d.collections[id] != nil {
		id += "'"
	}
	m := d.collections[like]
	d.collections[id] = &pipepb.PCollection{
		UniqueName:          id,
		CoderId:             coder,
		IsBounded:           m.GetIsBounded(),
		WindowingStrategyId: m.GetWindowingStrategyId(),
	}
	return id
}

// transform makes the proto of a step with one input and one output.
func transform(of *pipepb.PTransform, urn, in, out string) *pipepb.PTransform {
	return &pipepb.PTransform{
		UniqueName:    of.GetUniqueName(),
		Spec:          &pipepb.FunctionSpec{Urn: urn, Payload: of.GetSpec().GetPayload()},
		Inputs:        map[string]string{"i0": in},
		Outputs:       map[string]string{"i0": out},
		EnvironmentId: of.GetEnvironmentId(),
	}
}

// lowerCombine lifts a combine: values become accumulators before the GroupByKey, which are merged
// after it.
func (d *draft) lowerCombine(id string, m *pipepb.PTransform) {
	in, out := only(m.GetInputs()), only(m.GetOutputs())
	var p pipepb.CombinePayload
	mustUnmarshal(m.GetSpec().GetPayload(), &p)
	key, acc := d.coders.parts(d.collections[in].GetCoderId())[0], p.GetAccumulatorCoderId()
	pair := d.coders.add(id+"/accumulator", urn.CoderKV, key, acc)
	many := d.coders.add(id+"/accumulators", urn.CoderIterable, acc)
	group := d.coders.add(id+"/group", urn.CoderKV, key, many)

	lifted := d.addCollection(id+"/lifted", in, pair)
	grouped := d.addCollection(id+"/grouped", in, group)
	merged := d.addCollection(id+"/merged", in, pair)

	link := func(name, urn, in, out string) {
		d.add(&step{id: id + "/" + name, proto: transform(m, urn, in, out), main: []string{in}}, id)
	}
	link("precombine", urn.CombinePrecombine, in, lifted)
	d.add(&step{
		id: id + "/group", proto: transform(m, urn.GroupByKey, lifted, grouped),
		work: byRunner, kind: plan.Group, main: []string{lifted},
	}, id)
	link("merge", urn.CombineMerge, grouped, merged)
	link("extract", urn.CombineExtract, merged, out)
}

func (d *draft) lowerParDo(id string, m *pipepb.PTransform) {
	p := d.pardos[id]
	s := &step{
		id: id, proto: m, pardo: p, main: []string{mainInput(m, p)},
		keyed:   keyed(p),
		stable:  p.GetRequiresStableInput(),
		expands: p.GetDoFn().GetUrn() == urn.GoExpand,
	}
	for _, local := range sorted(p.GetSideInputs()) {
		access := plan.Iterable
		if p.GetSideInputs()[local].GetAccessPattern().GetUrn() == urn.SideInputMultimap {
			access = plan.Multimap
		}
		s.sides = append(s.sides, side{local: local, collection: m.GetInputs()[local], access: access})
	}
	if p.GetRestrictionCoderId() != "" {
		d.lowerSplittable(s)
	}
	d.steps = append(d.steps, s)
}

// lowerSplittable puts the steps before a splittable DoFn that give each element its restriction
// and split that. The step itself keeps its ID and reads restrictions; only it reads side inputs.
func (d *draft) lowerSplittable(s *step) {
	m, in := s.proto, s.main[0]
	pair := d.coders.add(s.id+"/restriction", urn.CoderKV, d.collections[in].GetCoderId(), s.pardo.GetRestrictionCoderId())
	size := d.coders.add(s.id+"/size", urn.CoderDouble)
	whole := d.coders.add(s.id+"/sized", urn.CoderKV, pair, size)
	paired := d.addCollection(s.id+"/paired", in, pair)
	sized := d.addCollection(s.id+"/sized", in, whole)
	d.add(&step{
		id: s.id + "/pair", proto: transform(m, urn.SplittablePair, in, paired),
		pardo: s.pardo, main: []string{in}, stable: s.stable,
	}, s.id)
	d.add(&step{
		id: s.id + "/split", proto: transform(m, urn.SplittableSplit, paired, sized),
		pardo: s.pardo, main: []string{paired},
	}, s.id)

	process := &pipepb.PTransform{
		UniqueName:    m.GetUniqueName(),
		Spec:          &pipepb.FunctionSpec{Urn: urn.SplittableProcess, Payload: m.GetSpec().GetPayload()},
		Inputs:        maps.Clone(m.GetInputs()),
		Outputs:       m.GetOutputs(),
		EnvironmentId: m.GetEnvironmentId(),
	}
	for local, collection := range process.Inputs {
		if _, isSide := s.pardo.GetSideInputs()[local]; !isSide && collection == in {
			process.Inputs[local] = sized
		}
	}
	s.proto, s.main, s.splittable = process, []string{sized}, true
}

// sort puts the steps into topological order. Among steps that are ready, the order is that of
// their IDs, so that it depends on nothing else.
func (d *draft) sort() error {
	slices.SortStableFunc(d.steps, func(a, b *step) int { return naturally(a.id, b.id) })
	for _, s := range d.steps {
		for _, local := range sorted(s.proto.GetOutputs()) {
			c := s.proto.GetOutputs()[local]
			if other, twice := d.producer[c]; twice {
				return malformed("collection %q is written by %s and %s", c, d.names[other.id], d.names[s.id])
			}
			d.producer[c] = s
		}
	}
	waits := map[*step]int{}
	readers := map[*step][]*step{}
	for _, s := range d.steps {
		for _, c := range s.reads() {
			p, ok := d.producer[c]
			if !ok {
				return malformed("nothing writes collection %q, which %s reads", c, d.names[s.id])
			}
			waits[s]++
			readers[p] = append(readers[p], s)
		}
	}
	var order []*step
	ready := slices.DeleteFunc(slices.Clone(d.steps), func(s *step) bool { return waits[s] > 0 })
	for len(ready) > 0 {
		s := ready[0]
		ready = ready[1:]
		order = append(order, s)
		for _, r := range readers[s] {
			if waits[r]--; waits[r] > 0 {
				continue
			}
			at, _ := slices.BinarySearchFunc(ready, r, func(a, b *step) int { return naturally(a.id, b.id) })
			ready = slices.Insert(ready, at, r)
		}
	}
	if len(order) < len(d.steps) {
		for _, s := range d.steps {
			if waits[s] > 0 {
				return malformed("%s reads what depends on its own output", d.names[s.id])
			}
		}
	}
	d.steps = order
	return nil
}

// reads returns all collections that a step reads.
func (s *step) reads() []string {
	all := slices.Clone(s.main)
	for _, side := range s.sides {
		all = append(all, side.collection)
	}
	return all
}

// naturally compares IDs so that e2 comes before e10.
func naturally(a, b string) int {
	for a != "" && b != "" {
		na, nb := digits(a), digits(b)
		if na > 0 && nb > 0 {
			x, errX := strconv.ParseUint(a[:na], 10, 64)
			y, errY := strconv.ParseUint(b[:nb], 10, 64)
			if errX == nil && errY == nil && x != y {
				return cmp.Compare(x, y)
			}
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

func digits(s string) int {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}

// maxSources bounds what a collection is flattened from: Flattens of one collection with itself
// grow exponentially.
const maxSources = 10_000

// trace finds for each collection who writes it, through all Flattens and Reshuffles.
func (d *draft) trace() error {
	for _, s := range d.steps {
		if s.work != byNobody {
			for _, c := range s.proto.GetOutputs() {
				d.sources[c] = []written{d.ownForm(c)}
			}
			continue
		}
		out := only(s.proto.GetOutputs())
		var all []written
		for _, in := range s.main {
			if d.producer[in].expands {
				d.refuse(d.names[s.id], "reading the result of a CoGroupByKey; only a ParDo can")
			}
			for _, w := range d.sources[in] {
				all = append(all, d.encodedLike(s, w, out))
			}
			if len(all) > maxSources {
				return malformed("%s merges more than %d collections", d.names[s.id], maxSources)
			}
		}
		d.sources[out] = all
	}
	return nil
}

// ownForm returns a collection with its own coder.
func (d *draft) ownForm(collection string) written {
	return written{collection: collection, coder: d.coders.onWire(d.collections[collection].GetCoderId())}
}

// encodedLike returns w as it is to be written where s merges it into the collection out.
func (d *draft) encodedLike(s *step, w written, out string) written {
	if !d.coders.same(d.windowCoder(w.collection), d.windowCoder(out)) {
		d.refuse(d.names[s.id], "merging of collections with different kinds of windows")
		return w
	}
	wanted := d.ownForm(out).coder
	if d.coders.same(w.coder, wanted) {
		return w
	}
	if d.producer[w.collection].work != bySDK {
		d.refuse(d.names[s.id], "merging of collections with different coders, one of which no SDK writes")
		return w
	}
	return written{collection: w.collection, coder: wanted}
}
