// SPDX-License-Identifier: Apache-2.0

package planner

import (
	"fmt"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/hornbeam-dev/hornbeam/runner/internal/urn"
	"google.golang.org/protobuf/proto"
)

// endpoint stands for the worker's data, state and timer streams; who runs the stage knows where
// they are.
var endpoint = &pipepb.ApiServiceDescriptor{Url: "embedded"}

// describe writes what a worker builds a stage from.
//
// Elements change their form on the wire only: the ports have coders in which everything the
// runner does not know is length-prefixed, while collections inside the stage keep theirs. Two
// kinds of collections have the form of the wire too, because the worker takes from their coder
// how to talk to the runner about them: side inputs, and the input of a transform with state.
func (d *draft) describe(st *stage) ([]byte, error) {
	t := description{draft: d, coders: map[string]bool{}, desc: &fnpb.ProcessBundleDescriptor{
		Id:                        fmt.Sprintf("stage%d", st.ID),
		Transforms:                map[string]*pipepb.PTransform{},
		Pcollections:              map[string]*pipepb.PCollection{},
		WindowingStrategies:       map[string]*pipepb.WindowingStrategy{},
		Coders:                    map[string]*pipepb.Coder{},
		StateApiServiceDescriptor: endpoint,
		TimerApiServiceDescriptor: endpoint,
	}}
	t.desc.Transforms[st.Root] = t.port(urn.RunnerSource, d.ownForm(st.input))
	t.desc.Transforms[st.Root].Outputs = map[string]string{"i0": st.input}
	t.collection(st.input, st.Key != nil)
	for i, w := range st.ports {
		sink := t.port(urn.RunnerSink, w)
		sink.Inputs = map[string]string{"i0": w.collection}
		t.desc.Transforms[st.Outputs[i].Port] = sink
	}
	for _, s := range st.steps {
		for _, c := range s.proto.GetOutputs() {
			t.collection(c, false)
		}
		for _, side := range s.sides {
			t.collection(side.collection, true)
		}
		t.desc.Transforms[s.id] = t.transform(s)
	}
	for id := range t.coders {
		d.coders.collect(t.desc.Coders, id)
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(t.desc)
	if err != nil {
		return nil, fmt.Errorf("write the descriptor of stage %s: %w", st.Name, err)
	}
	return b, nil
}

// description is a descriptor while it is written.
type description struct {
	*draft
	desc   *fnpb.ProcessBundleDescriptor
	coders map[string]bool // IDs of the coders that are named in it.
}

// port makes the transform through which a collection enters or leaves the stage.
func (t *description) port(urn string, w written) *pipepb.PTransform {
	id := t.draft.coders.windowed(w.coder, t.windowCoder(w.collection))
	t.coders[id] = true
	payload := mustMarshal(&fnpb.RemoteGrpcPort{ApiServiceDescriptor: endpoint, CoderId: id})
	return &pipepb.PTransform{Spec: &pipepb.FunctionSpec{Urn: urn, Payload: payload}}
}

// collection adds a collection with its windowing, with its own coder or that of the wire.
func (t *description) collection(id string, onWire bool) {
	if _, done := t.desc.Pcollections[id]; done && !onWire {
		return
	}
	m := proto.CloneOf(t.collections[id])
	if onWire {
		m.CoderId = t.draft.coders.onWire(m.GetCoderId())
	}
	t.coders[m.GetCoderId()] = true
	t.coders[t.windowCoder(id)] = true
	t.desc.Pcollections[id] = m
	t.desc.WindowingStrategies[m.GetWindowingStrategyId()] = t.strategies[m.GetWindowingStrategyId()]
}

// transform makes the proto of a step as the worker sees it.
func (t *description) transform(s *step) *pipepb.PTransform {
	m := proto.CloneOf(s.proto)
	m.Subtransforms = nil
	switch m.GetSpec().GetUrn() {
	case urn.CombinePrecombine, urn.CombineMerge, urn.CombineExtract:
		var p pipepb.CombinePayload
		mustUnmarshal(m.GetSpec().GetPayload(), &p)
		t.coders[p.GetAccumulatorCoderId()] = true
	}
	if s.pardo == nil {
		return m
	}
	if c := s.pardo.GetRestrictionCoderId(); c != "" {
		t.coders[c] = true
	}
	if !s.keyed {
		return m
	}
	p := proto.CloneOf(s.pardo)
	for _, id := range sorted(p.GetStateSpecs()) {
		spec := p.GetStateSpecs()[id]
		if l := spec.GetOrderedListSpec(); l != nil {
			// The runner cuts a list into its entries, so it must see where they end.
			l.ElementCoderId = t.draft.coders.prefixed(l.GetElementCoderId())
		}
		for _, c := range stateCoders(spec) {
			t.coders[c] = true
		}
	}
	// The key of a timer has the bytes of the key of an element.
	key := t.draft.coders.parts(t.draft.coders.onWire(t.collections[s.main[0]].GetCoderId()))[0]
	timer := t.draft.coders.add(key+"/timer/"+t.windowCoder(s.main[0]), urn.CoderTimer, key, t.windowCoder(s.main[0]))
	for _, id := range sorted(p.GetTimerFamilySpecs()) {
		p.GetTimerFamilySpecs()[id].TimerFamilyCoderId = timer
		t.coders[timer] = true
	}
	m.Spec.Payload = mustMarshal(p)
	return m
}

// mustMarshal writes a message that was read before or is ours, so it can be written.
func mustMarshal(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("planner: a message that was checked cannot be written: %v", err))
	}
	return b
}

// mustUnmarshal reads a payload that check has read before.
func mustUnmarshal(b []byte, m proto.Message) {
	if err := proto.Unmarshal(b, m); err != nil {
		panic(fmt.Sprintf("planner: a payload that was checked cannot be read: %v", err))
	}
}
