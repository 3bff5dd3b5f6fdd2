// SPDX-License-Identifier: Apache-2.0

package planner

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/exec"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/urn"
	"google.golang.org/protobuf/proto"
)

// build makes the proto of the pipeline with a name.
func build(t testing.TB, name string) *pipepb.Pipeline {
	t.Helper()
	make, ok := pipelines[name]
	if !ok {
		t.Fatalf("no pipeline %q", name)
	}
	p, s := beam.NewPipelineWithRoot()
	make(s)
	edges, _, err := p.Build()
	if err != nil {
		t.Fatal(err)
	}
	m, err := graphx.Marshal(edges, &graphx.Options{Environment: &pipepb.Environment{}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func options(args []string) Options {
	var o Options
	for _, a := range args {
		switch a {
		case "nofusion":
			o.NoFusion = true
		case "nolifting":
			o.NoLifting = true
		default:
			panic("no option " + a)
		}
	}
	return o
}

// TestPlan runs the specs. The commands are
//
//	plan nofusion nolifting: prints the stages
//	coders nofusion nolifting: prints the coders of inputs and outputs
//
// The first line of the input is the name of the pipeline, each other one the name of an edit.
func TestPlan(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			input := strings.Split(strings.TrimSpace(d.Input), "\n")
			var args []string
			for _, a := range d.CmdArgs {
				args = append(args, a.Key)
			}
			m := build(t, input[0])
			for _, e := range input[1:] {
				if edits[e] == nil {
					t.Fatalf("no edit %q", e)
				}
				edits[e](m)
			}
			p, err := Plan(m, options(args))
			if err != nil {
				return err.Error() + "\n"
			}
			verify(t, p)
			switch d.Cmd {
			case "plan":
				return stages(p)
			case "coders":
				return coderLines(p)
			}
			t.Fatalf("no command %q", d.Cmd)
			return ""
		})
	})
}

// stages prints one line for each stage and what it is connected to.
func stages(p *plan.Plan) string {
	var b strings.Builder
	for _, s := range p.Stages {
		fmt.Fprintf(&b, "%d %v", s.ID, s.Kind)
		if s.Kind == plan.View {
			fmt.Fprintf(&b, " %s", [...]string{"iterable", "multimap"}[s.Access])
		}
		if len(s.Inputs) > 0 {
			b.WriteString(" <-")
			for _, in := range s.Inputs {
				fmt.Fprintf(&b, " %d.%d", in.From, in.Output)
			}
		}
		if s.Splittable {
			b.WriteString(" splittable")
		}
		if s.Keyed() {
			fmt.Fprintf(&b, " key=%s", short(*s.Key))
		}
		if s.Finalizes {
			b.WriteString(" finalizes")
		}
		fmt.Fprintf(&b, " %s\n", strings.ReplaceAll(s.Name, "github.com/hornbeam-dev/hornbeam/runner/internal/", ""))
		for _, in := range s.Sides {
			fmt.Fprintf(&b, "    side %s of %s <- %d\n", in.Local, in.Transform, in.View)
		}
		for _, st := range s.States {
			fmt.Fprintf(&b, "    state %s of %s: %s\n", st.ID, st.Transform, [...]string{"value", "bag", "map", "list"}[st.Kind])
		}
		for _, f := range s.Timers {
			fmt.Fprintf(&b, "    timers %s of %s: %v\n", f.ID, f.Transform, f.Domain)
		}
		for _, e := range s.Events {
			fmt.Fprintf(&b, "    %s\n", eventLine(e))
		}
	}
	return b.String()
}

func eventLine(e plan.TestStreamEvent) string {
	switch {
	case e.Add != nil:
		s := fmt.Sprintf("add to %d:", e.Add.Output)
		for _, el := range e.Add.Elements {
			s += fmt.Sprintf(" %x@%v", el.Encoded, el.Timestamp)
		}
		return s
	case e.Advance != nil:
		return fmt.Sprintf("watermark of %d to %v", e.Advance.Output, e.Advance.To)
	}
	return fmt.Sprintf("clock +%dms", e.Clock)
}

// coderLines prints the coders on the wire and the windowing of inputs.
func coderLines(p *plan.Plan) string {
	var b strings.Builder
	for _, s := range p.Stages {
		if len(s.Inputs) > 0 {
			fmt.Fprintf(&b, "%d reads %s in %s\n", s.ID, short(s.Element), windowLine(s.Windowing))
		}
		for i, o := range s.Outputs {
			fmt.Fprintf(&b, "%d.%d writes %s %s\n", s.ID, i, o.Collection, short(o.Element))
		}
	}
	return b.String()
}

func windowLine(w plan.WindowingStrategy) string {
	s := [...]string{"global", "fixed", "sliding", "sessions"}[w.Fn.Kind]
	if w.Fn.Size > 0 {
		s += fmt.Sprintf(" %v", w.Fn.Size)
	}
	if w.Fn.Period > 0 {
		s += fmt.Sprintf("/%v", w.Fn.Period)
	}
	if w.Merges {
		s += " merging"
	}
	if w.Accumulating {
		s += " accumulating"
	}
	if w.AllowedLateness > 0 {
		s += fmt.Sprintf(" lateness=%v", w.AllowedLateness)
	}
	if t := triggerLine(&w.Trigger); t != "default" {
		s += " " + t
	}
	return s
}

func triggerLine(t *plan.Trigger) string {
	names := [...]string{"default", "never", "always", "count", "afterProcessingTime", "afterSynchronized",
		"afterEndOfWindow", "afterAll", "afterAny", "afterEach", "orFinally", "repeat"}
	var parts []string
	for i := range t.Parts {
		parts = append(parts, triggerLine(&t.Parts[i]))
	}
	if t.Early != nil {
		parts = append(parts, "early="+triggerLine(t.Early))
	}
	if t.Late != nil {
		parts = append(parts, "late="+triggerLine(t.Late))
	}
	if t.Count > 0 {
		parts = append(parts, fmt.Sprint(t.Count))
	}
	for _, d := range t.Delays {
		parts = append(parts, fmt.Sprintf("+%v", d.Delay))
	}
	if len(parts) == 0 {
		return names[t.Kind]
	}
	return names[t.Kind] + "(" + strings.Join(parts, ", ") + ")"
}

// short prints a coder as its last words.
func short(c coder.Coder) string {
	s := strings.TrimSuffix(strings.TrimPrefix(c.URN, "beam:coder:"), ":v1")
	if len(c.Parts) == 0 {
		return s
	}
	var parts []string
	for _, p := range c.Parts {
		parts = append(parts, short(p))
	}
	return s + "<" + strings.Join(parts, ",") + ">"
}

// verify checks what holds for every plan of a pipeline that the Go SDK made.
func verify(t testing.TB, p *plan.Plan) {
	t.Helper()
	verifyStages(t, p)
	for i := range p.Stages {
		if p.Stages[i].Kind == plan.User {
			verifyDescriptor(t, &p.Stages[i])
		}
	}
}

// verifyStages checks what holds for every plan.
func verifyStages(t testing.TB, p *plan.Plan) {
	t.Helper()
	for i, s := range p.Stages {
		if int(s.ID) != i {
			t.Errorf("stage %d has the ID %d", i, s.ID)
		}
		if s.Kind != plan.Impulse && s.Kind != plan.TestStream {
			if _, err := coder.Compile(s.Element); err != nil {
				t.Errorf("stage %d: %v", i, err)
			}
		}
		for _, in := range s.Inputs {
			if in.From >= s.ID {
				t.Errorf("stage %d reads from stage %d", i, in.From)
			}
			if out := p.Stages[in.From].Outputs[in.Output]; cmp.Diff(out.Element, s.Element) != "" {
				t.Errorf("stage %d reads %v, stage %d writes %v", i, s.Element, in.From, out.Element)
			}
		}
		for _, side := range s.Sides {
			if side.View >= s.ID || p.Stages[side.View].Kind != plan.View {
				t.Errorf("stage %d has side input from stage %d", i, side.View)
			}
		}
		for _, id := range s.Transforms {
			if p.Transforms[id] == "" {
				t.Errorf("stage %d: transform %q has no name", i, id)
			}
		}
	}
}

// verifyDescriptor builds what a worker runs.
func verifyDescriptor(t testing.TB, s *plan.Stage) {
	t.Helper()
	var desc fnpb.ProcessBundleDescriptor
	if err := proto.Unmarshal(s.Descriptor, &desc); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.UnmarshalPlan(&desc, nil); err != nil {
		t.Errorf("stage %d %s: %v", s.ID, s.Name, err)
	}
	if desc.Transforms[s.Root] == nil {
		t.Errorf("stage %d has no transform %q to read from", s.ID, s.Root)
	}
	for _, o := range s.Outputs {
		if desc.Transforms[o.Port] == nil {
			t.Errorf("stage %d has no transform %q to write to", s.ID, o.Port)
		}
	}
}

// TestEveryPlanCanBeBuilt covers the pipelines under all options.
func TestEveryPlanCanBeBuilt(t *testing.T) {
	for _, name := range sorted(pipelines) {
		for i := range 4 {
			o := Options{NoFusion: i&1 > 0, NoLifting: i&2 > 0}
			p, err := Plan(build(t, name), o)
			if err != nil {
				if name != "two teststreams" {
					t.Errorf("%s %+v: %v", name, o, err)
				}
				continue
			}
			verify(t, p)
		}
	}
}

// TestKeysHaveTheSameBytesEverywhere shows that a worker encodes a key in the same way as part of
// an element, in a timer and in a state key.
func TestKeysHaveTheSameBytesEverywhere(t *testing.T) {
	p, err := Plan(build(t, "state"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := p.Stages[2]
	var desc fnpb.ProcessBundleDescriptor
	if err := proto.Unmarshal(s.Descriptor, &desc); err != nil {
		t.Fatal(err)
	}
	part := func(id string, i int) string { return desc.Coders[id].ComponentCoderIds[i] }
	var port fnpb.RemoteGrpcPort
	if err := proto.Unmarshal(desc.Transforms[s.Root].Spec.Payload, &port); err != nil {
		t.Fatal(err)
	}
	element := part(part(port.CoderId, 0), 0)
	input := only(desc.Transforms[s.Root].Outputs)
	if state := part(desc.Pcollections[input].CoderId, 0); state != element {
		t.Errorf("the key of state has coder %q, that of elements %q", state, element)
	}
	var payload pipepb.ParDoPayload
	if err := proto.Unmarshal(desc.Transforms["e4"].Spec.Payload, &payload); err != nil {
		t.Fatal(err)
	}
	for id, f := range payload.TimerFamilySpecs {
		if timer := part(f.TimerFamilyCoderId, 0); timer != element {
			t.Errorf("the key of timers %q has coder %q, that of elements %q", id, timer, element)
		}
	}
	if desc.Coders[element].Spec.Urn != urn.CoderLengthPrefix {
		t.Errorf("got coder %v for a row, want a length prefix", desc.Coders[element])
	}
	if list := payload.StateSpecs["order"].GetOrderedListSpec().ElementCoderId; desc.Coders[list].Spec.Urn != urn.CoderLengthPrefix {
		t.Errorf("got coder %v for entries of an ordered list, want a length prefix", desc.Coders[list])
	}
}

func TestPlanIsAlwaysTheSame(t *testing.T) {
	for name := range pipelines {
		p := build(t, name)
		b, err := proto.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		first, firstErr := Plan(p, Options{})
		for range 20 {
			var again pipepb.Pipeline
			if err := proto.Unmarshal(b, &again); err != nil {
				t.Fatal(err)
			}
			next, err := Plan(&again, Options{})
			if fmt.Sprint(err) != fmt.Sprint(firstErr) {
				t.Fatalf("%s: got %v, want %v", name, err, firstErr)
			}
			if d := cmp.Diff(first, next); d != "" {
				t.Fatalf("%s: the plan changed (-first +next):\n%s", name, d)
			}
		}
	}
}
