// SPDX-License-Identifier: Apache-2.0

package planner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/urn"
)

// stage is a stage of the plan while it grows.
type stage struct {
	plan.Stage
	steps []*step
	input string    // The collection it reads, under the name that its first step has for it.
	ports []written // What each of Outputs writes.
}

// fusion puts steps into stages.
type fusion struct {
	*draft
	stages []*stage
	views  map[view]plan.StageID
}

// view identifies a collection kept for side inputs.
type view struct {
	collection string
	access     plan.Access
}

// fuse makes the stages. A step joins the stage that writes what it reads, unless it must be the
// first of a stage. A stage is made when its first step is reached, after everything that feeds
// it, so stages are in topological order as steps are.
func (d *draft) fuse() ([]*stage, error) {
	f := fusion{draft: d, views: map[view]plan.StageID{}}
	for _, s := range d.steps {
		switch {
		case s.work == byNobody || s.expands:
			// Seen by those that read it.
		case s.work == byRunner:
			f.runnerStage(s)
		case f.mustLead(s):
			f.lead(s)
		default:
			f.join(d.producer[s.main[0]].stage, s)
		}
		if err := f.checkExpanded(s); err != nil {
			return nil, err
		}
	}
	for _, st := range f.stages {
		st.Name = f.describeName(st)
	}
	return f.stages, nil
}

// checkExpanded refuses readers of a CoGroupByKey's result other than a plain ParDo.
func (f *fusion) checkExpanded(s *step) error {
	for i, c := range s.reads() {
		if !f.producer[c].expands || i == 0 && s.work == bySDK && !s.keyed && !s.expands {
			continue
		}
		f.refuse(f.names[s.id], "reading the result of a CoGroupByKey; only a ParDo without state and timers can")
	}
	return nil
}

// mustLead tells whether a step must be the first of its stage: because elements wait before it,
// for their key's turn, for side inputs or to be durable; or because what it reads does not come
// from a worker directly. A step that reads a group leads a stage alone: groups are decoded while
// they are read, and a neighbour that stops half-way would disturb it.
func (f *fusion) mustLead(s *step) bool {
	p := f.producer[s.main[0]]
	return f.options.NoFusion || s.keyed || s.splittable || s.stable || len(s.sides) > 0 ||
		p.work != bySDK || p.expands
}

func (f *fusion) add(kind plan.Kind) *stage {
	st := &stage{}
	st.ID, st.Kind = plan.StageID(len(f.stages)), kind
	f.stages = append(f.stages, st)
	return st
}

// runnerStage makes the stage of an Impulse, a TestStream or a GroupByKey.
func (f *fusion) runnerStage(s *step) {
	st := f.add(s.kind)
	st.steps, s.stage = []*step{s}, st
	st.Transforms = []string{s.id}
	st.Events = s.events
	if s.kind == plan.Group {
		f.read(st, s.main[0])
		key := st.Element.Parts[0]
		st.Key = &key
	}
	for _, local := range outputsInOrder(s) {
		c := s.proto.GetOutputs()[local]
		f.port(st, f.ownForm(c))
	}
}

// lead makes the stage that starts with s.
func (f *fusion) lead(s *step) {
	for _, side := range s.sides {
		f.view(side)
	}
	st := f.add(plan.User)
	input := s.main[0]
	if p := f.producer[input]; p.expands {
		st.steps = append(st.steps, p)
		st.Transforms = append(st.Transforms, p.id)
		input = p.main[0]
	}
	f.read(st, input)
	st.Root = f.freeID("source")
	st.Splittable = s.splittable
	if s.keyed {
		key := st.Element.Parts[0]
		st.Key = &key
	}
	f.join(st, s)
}

// join puts s into a stage.
func (f *fusion) join(st *stage, s *step) {
	s.stage = st
	st.steps = append(st.steps, s)
	st.Transforms = append(st.Transforms, s.id)
	for _, side := range s.sides {
		st.Sides = append(st.Sides, plan.SideInput{Transform: s.id, Local: side.local, View: f.view(side)})
	}
	if s.pardo == nil || s.proto.GetSpec().GetUrn() == urn.SplittablePair || s.proto.GetSpec().GetUrn() == urn.SplittableSplit {
		return
	}
	st.Finalizes = st.Finalizes || s.pardo.GetRequestsFinalization()
	for _, id := range sorted(s.pardo.GetStateSpecs()) {
		kind, _ := stateKind(s.pardo.GetStateSpecs()[id])
		st.States = append(st.States, plan.StateSpec{Transform: s.id, ID: id, Kind: kind})
	}
	for _, id := range sorted(s.pardo.GetTimerFamilySpecs()) {
		clock, _ := domain(s.pardo.GetTimerFamilySpecs()[id])
		st.Timers = append(st.Timers, plan.TimerFamily{Transform: s.id, ID: id, Domain: clock})
	}
}

// view returns the stage that keeps a collection for side inputs. All who read it in the same way
// share it.
func (f *fusion) view(s side) plan.StageID {
	v := view{collection: s.collection, access: s.access}
	if id, ok := f.views[v]; ok {
		return id
	}
	st := f.add(plan.View)
	st.Access = s.access
	f.read(st, s.collection)
	f.views[v] = st.ID
	return st.ID
}

// read connects a stage to all who write the collection it reads.
func (f *fusion) read(st *stage, collection string) {
	st.input = collection
	st.Element = f.coders.tree(f.ownForm(collection).coder)
	st.Windowing = f.strategy(collection)
	for _, w := range f.sources[collection] {
		from := f.producer[w.collection].stage
		if from == nil {
			continue // The result of a CoGroupByKey, which is refused here.
		}
		port := f.port(from, w)
		out := &from.Outputs[port]
		out.Consumers = append(out.Consumers, st.ID)
		st.Inputs = append(st.Inputs, plan.Input{From: from.ID, Output: port})
	}
}

// port returns the index of the output of a stage that writes w.
func (f *fusion) port(st *stage, w written) int {
	if i := slices.Index(st.ports, w); i >= 0 {
		return i
	}
	out := plan.Output{
		Collection: w.collection,
		Windowing:  f.strategy(w.collection),
		Element:    f.coders.tree(w.coder),
	}
	if st.Kind == plan.User {
		name := "sink/" + w.collection
		if w != f.ownForm(w.collection) {
			name += "/" + w.coder
		}
		out.Port = f.freeID(name)
	}
	st.ports = append(st.ports, w)
	st.Outputs = append(st.Outputs, out)
	return len(st.Outputs) - 1
}

// freeID returns an ID like the given one that no transform has.
func (f *fusion) freeID(id string) string {
	for f.names[id] != "" {
		id += "'"
	}
	return id
}

// describeName names a stage after its transforms.
func (f *fusion) describeName(st *stage) string {
	if st.Kind == plan.View {
		return fmt.Sprintf("view of %s", f.names[f.producer[st.input].id])
	}
	var names []string
	for _, s := range st.steps {
		if n := f.names[s.id]; !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return strings.Join(names, " + ")
}

// outputsInOrder returns the local names of a step's outputs, in their order.
func outputsInOrder(s *step) []string {
	locals := sorted(s.proto.GetOutputs())
	slices.SortFunc(locals, naturally)
	return locals
}
