// SPDX-License-Identifier: Apache-2.0

package planner

import (
	"errors"
	"strings"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/hornbeam-dev/hornbeam/runner/internal/urn"
	"google.golang.org/protobuf/proto"
)

// edits change a pipeline so that it cannot be run. Each is for the first transform that has what
// it changes.
var edits = map[string]func(p *pipepb.Pipeline){
	"custom WindowFn": windowing(func(w *pipepb.WindowingStrategy) { w.WindowFn.Urn = "my:windows" }),
	"custom window coder": func(p *pipepb.Pipeline) {
		p.Components.Coders["cw"] = &pipepb.Coder{Spec: &pipepb.FunctionSpec{Urn: "beam:coder:custom_window:v1"}}
		windowing(func(w *pipepb.WindowingStrategy) { w.WindowCoderId = "cw" })(p)
	},
	"merge status":  windowing(func(w *pipepb.WindowingStrategy) { w.MergeStatus = pipepb.MergeStatus_UNSPECIFIED }),
	"merging fixed": windowing(func(w *pipepb.WindowingStrategy) { w.MergeStatus = pipepb.MergeStatus_NEEDS_MERGE }),
	"retracting":    windowing(func(w *pipepb.WindowingStrategy) { w.AccumulationMode = pipepb.AccumulationMode_RETRACTING }),
	"output time":   windowing(func(w *pipepb.WindowingStrategy) { w.OutputTime = 99 }),
	"closing":       windowing(func(w *pipepb.WindowingStrategy) { w.ClosingBehavior = 99 }),
	"on time":       windowing(func(w *pipepb.WindowingStrategy) { w.OnTimeBehavior = 99 }),
	"lateness":      windowing(func(w *pipepb.WindowingStrategy) { w.AllowedLateness = -1 }),
	"requirement":   func(p *pipepb.Pipeline) { p.Requirements = append(p.Requirements, "my:requirement") },
	"unknown transform": func(p *pipepb.Pipeline) {
		first(p, urn.ParDo).Spec = &pipepb.FunctionSpec{Urn: "my:transform", Payload: []byte("x")}
	},
	"other SDK":      pardo(func(m *pipepb.ParDoPayload) { m.DoFn.Urn = "beam:dofn:pickled_python_info:v1" }),
	"sorted":         pardo(func(m *pipepb.ParDoPayload) { m.RequiresTimeSortedInput = true }),
	"expiration":     pardo(func(m *pipepb.ParDoPayload) { m.OnWindowExpirationTimerFamilySpec = "due" }),
	"access pattern": sideInput(func(s *pipepb.SideInput) { s.AccessPattern.Urn = "my:access" }),
	"window mapping": sideInput(func(s *pipepb.SideInput) { s.WindowMappingFn.Urn = "my:mapping" }),
	"state protocol": states(func(s *pipepb.StateSpec) { s.Protocol.Urn = "my:state" }),
	"state type":     states(func(s *pipepb.StateSpec) { s.Spec = &pipepb.StateSpec_MultimapSpec{} }),
	"timer domain":   pardo(func(m *pipepb.ParDoPayload) { eachTimer(m, func(f *pipepb.TimerFamilySpec) { f.TimeDomain = 99 }) }),
	"stateful and splittable": pardo(func(m *pipepb.ParDoPayload) {
		if keyed(m) {
			m.RestrictionCoderId = "c0"
		}
	}),
	"service": func(p *pipepb.Pipeline) {
		testStream(p, func(m *pipepb.TestStreamPayload) { m.Endpoint = &pipepb.ApiServiceDescriptor{Url: "somewhere"} })
	},
	"strange elements": func(p *pipepb.Pipeline) {
		testStream(p, func(m *pipepb.TestStreamPayload) {
			m.Events[0].GetElementEvent().Elements[0].EncodedElement = []byte{200}
		})
	},
}

func windowing(edit func(*pipepb.WindowingStrategy)) func(*pipepb.Pipeline) {
	return func(p *pipepb.Pipeline) { edit(p.Components.WindowingStrategies["w0"]) }
}

// first returns the first transform with a URN.
func first(p *pipepb.Pipeline, urn string) *pipepb.PTransform {
	for _, id := range sorted(p.Components.Transforms) {
		if m := p.Components.Transforms[id]; m.GetSpec().GetUrn() == urn {
			return m
		}
	}
	return &pipepb.PTransform{Spec: &pipepb.FunctionSpec{}}
}

// pardo edits all ParDos.
func pardo(edit func(*pipepb.ParDoPayload)) func(*pipepb.Pipeline) {
	return func(p *pipepb.Pipeline) {
		for _, m := range p.Components.Transforms {
			if m.GetSpec().GetUrn() == urn.ParDo {
				var payload pipepb.ParDoPayload
				must(proto.Unmarshal(m.Spec.Payload, &payload))
				edit(&payload)
				m.Spec.Payload = mustMarshal(&payload)
			}
		}
	}
}

func sideInput(edit func(*pipepb.SideInput)) func(*pipepb.Pipeline) {
	return pardo(func(m *pipepb.ParDoPayload) {
		for _, s := range m.SideInputs {
			edit(s)
		}
	})
}

func states(edit func(*pipepb.StateSpec)) func(*pipepb.Pipeline) {
	return pardo(func(m *pipepb.ParDoPayload) {
		for _, s := range m.StateSpecs {
			edit(s)
		}
	})
}

func eachTimer(m *pipepb.ParDoPayload, edit func(*pipepb.TimerFamilySpec)) {
	for _, f := range m.TimerFamilySpecs {
		edit(f)
	}
}

func testStream(p *pipepb.Pipeline, edit func(*pipepb.TestStreamPayload)) {
	m := first(p, urn.TestStream)
	var payload pipepb.TestStreamPayload
	must(proto.Unmarshal(m.Spec.Payload, &payload))
	edit(&payload)
	m.Spec.Payload = mustMarshal(&payload)
}

// TestUnsupportedIsATypedError also shows that a plan is not made while something is refused.
func TestUnsupportedIsATypedError(t *testing.T) {
	p := build(t, "wordcount")
	edits["output time"](p)
	edits["unknown transform"](p)
	got, err := Plan(p, Options{})
	var u Unsupported
	if !errors.As(err, &u) || len(u) != 2 || got != nil {
		t.Errorf("got %v, %v, want two features and no plan", got, err)
	}
}

func TestFunctionThatCannotTravelIsRefused(t *testing.T) {
	p := build(t, "wordcount")
	_, err := Plan(p, Options{Function: func(symbol string) error {
		if strings.HasSuffix(symbol, ".sum") || strings.HasSuffix(symbol, ".one") {
			return errors.New("it captures variables")
		}
		return nil
	}})
	var u Unsupported
	if !errors.As(err, &u) || len(u) != 2 {
		t.Errorf("got %v, want two functions refused", err)
	}
}

func TestMalformedPipelines(t *testing.T) {
	edit := func(change func(p *pipepb.Pipeline)) func(p *pipepb.Pipeline) { return change }
	c := func(p *pipepb.Pipeline) *pipepb.Components { return p.Components }
	for name, test := range map[string]struct {
		pipeline, want string
		change         func(p *pipepb.Pipeline)
	}{
		"nothing":         {"wordcount", "no transforms", edit(func(p *pipepb.Pipeline) { proto.Reset(p) })},
		"no roots":        {"wordcount", "no transforms", edit(func(p *pipepb.Pipeline) { p.RootTransformIds = nil })},
		"unknown root":    {"wordcount", `"x" does not exist`, edit(func(p *pipepb.Pipeline) { p.RootTransformIds[0] = "x" })},
		"orphan":          {"impulse", "not below a root", edit(func(p *pipepb.Pipeline) { p.RootTransformIds = p.RootTransformIds[:1] })},
		"twice":           {"impulse", "in two composites", edit(func(p *pipepb.Pipeline) { p.RootTransformIds = append(p.RootTransformIds, p.RootTransformIds[0]) })},
		"no collection":   {"impulse", "does not exist", edit(func(p *pipepb.Pipeline) { delete(c(p).Pcollections, "n1") })},
		"no coder":        {"wordcount", "does not exist", edit(func(p *pipepb.Pipeline) { delete(c(p).Coders, "c0") })},
		"coder in itself": {"wordcount", "contains itself", edit(func(p *pipepb.Pipeline) { c(p).Coders["c0"].ComponentCoderIds = []string{"c0"} })},
		"no strategy":     {"impulse", "strategy", edit(func(p *pipepb.Pipeline) { clear(c(p).WindowingStrategies) })},
		"no window coder": {"impulse", "window coder", windowing(func(w *pipepb.WindowingStrategy) { w.WindowCoderId = "x" })},
		"wrong windows": {"impulse", "window coder", windowing(func(w *pipepb.WindowingStrategy) {
			w.WindowFn = c(build(t, "sessions")).WindowingStrategies["w1"].WindowFn
		})},
		"group of no pair": {"group", "key and value", edit(func(p *pipepb.Pipeline) { c(p).Pcollections["n3"].CoderId = "c0" })},
		"writes its input": {"flatten", "depends on its own", edit(func(p *pipepb.Pipeline) { c(p).Transforms["e3"].Inputs["i0"] = "n4" })},
		"two writers":      {"flatten", "is written by", edit(func(p *pipepb.Pipeline) { c(p).Transforms["e3"].Outputs["i0"] = "n2" })},
		"nobody writes": {"impulse", "nothing writes", edit(func(p *pipepb.Pipeline) {
			c(p).Pcollections["x"] = c(p).Pcollections["n1"]
			c(p).Transforms["e2"].Inputs["i0"] = "x"
		})},
		"payload":         {"impulse", "payload", edit(func(p *pipepb.Pipeline) { c(p).Transforms["e2"].Spec.Payload = []byte{0xff} })},
		"names of inputs": {"sides", "not named i0", pardo(func(m *pipepb.ParDoPayload) {})},
	} {
		t.Run(name, func(t *testing.T) {
			p := build(t, test.pipeline)
			test.change(p)
			if name == "names of inputs" {
				m := c(p).Transforms["e4"]
				m.Inputs["x"] = m.Inputs["i0"]
				delete(m.Inputs, "i0")
			}
			got, err := Plan(p, Options{})
			if err == nil || !strings.Contains(err.Error(), test.want) || got != nil {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

// TestFlattenOfDifferentCoders shows that a collection is written once more, with the coder of
// the flattened one, and that what only the runner could convert is refused.
func TestFlattenOfDifferentCoders(t *testing.T) {
	p := build(t, "flatten")
	p.Components.Coders["other"] = &pipepb.Coder{Spec: &pipepb.FunctionSpec{Urn: urn.CoderLengthPrefix}, ComponentCoderIds: []string{p.Components.Pcollections["n3"].CoderId}}
	p.Components.Pcollections["n3"].CoderId = "other"
	got, err := Plan(p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	verify(t, got)
	if n := len(got.Stages[1].Outputs); n != 2 {
		t.Errorf("got %d outputs, want 2", n)
	}
}
