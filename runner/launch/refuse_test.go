// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/state"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/timers"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/io/rtrackers/offsetrange"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/teststream"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/structpb"
)

func init() {
	register.Function1x2(pair)
	register.DoFn3x0[state.Provider, string, int](&statesFn{})
	register.DoFn4x0[state.Provider, timers.Provider, string, int](&timersFn{})
	register.DoFn2x0[beam.BundleFinalization, int](&finalizingFn{})
	register.DoFn3x1[*sdf.LockRTracker, []byte, func(int), sdf.ProcessContinuation](&unboundedFn{})
	register.Emitter1[int]()
}

func pair(x int) (string, int) { return "k", x }

// statesFn has state that Flink keeps, and state that it does not.
type statesFn struct {
	Value state.Value[int]
	Bag   state.Bag[int]
	Map   state.Map[string, int]
	Set   state.Set[string]
	List  state.OrderedList[int]
}

func (f *statesFn) ProcessElement(state.Provider, string, int) {}

// timersFn has a timer that Flink fires, and one that it does not.
type timersFn struct {
	Value state.Value[int]
	Event timers.EventTime
	Clock timers.ProcessingTime
}

func (f *timersFn) ProcessElement(state.Provider, timers.Provider, string, int) {}

func (f *timersFn) OnTimer(context.Context, beam.EventTime, state.Provider, timers.Provider, string, timers.Context) {
}

type finalizingFn struct{}

func (f *finalizingFn) ProcessElement(beam.BundleFinalization, int) {}

// unboundedFn makes an unbounded collection.
type unboundedFn struct{}

func (f *unboundedFn) CreateInitialRestriction([]byte) offsetrange.Restriction {
	return offsetrange.Restriction{End: 1}
}

func (f *unboundedFn) SplitRestriction(_ []byte, r offsetrange.Restriction) []offsetrange.Restriction {
	return []offsetrange.Restriction{r}
}

func (f *unboundedFn) RestrictionSize(_ []byte, r offsetrange.Restriction) float64 { return r.Size() }

func (f *unboundedFn) CreateTracker(r offsetrange.Restriction) *sdf.LockRTracker {
	return sdf.NewLockRTracker(offsetrange.NewTracker(r))
}

func (f *unboundedFn) ProcessElement(*sdf.LockRTracker, []byte, func(int)) sdf.ProcessContinuation {
	return sdf.ResumeProcessingIn(time.Second)
}

// refusal submits what build composes as far as the check for Flink, with the user's options.
func refusal(t *testing.T, options optionList, build func(s beam.Scope)) string {
	t.Helper()
	pipeline, s := beam.NewPipelineWithRoot()
	build(s)
	kind, config := *jobopts.EnvironmentType, *jobopts.EnvironmentConfig
	*jobopts.EnvironmentType, *jobopts.EnvironmentConfig = "PROCESS", `{"command":"/x"}`
	defer func() { *jobopts.EnvironmentType, *jobopts.EnvironmentConfig = kind, config }()
	model, stop, err := marshal(t.Context(), pipeline)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := checkFlink(model, flinkOptions(options, model)); err != nil {
		return err.Error()
	}
	return ""
}

func keyed(s beam.Scope) beam.PCollection { return beam.ParDo(s, pair, beam.Create(s, 1, 2)) }

func TestFlinkRefusesByName(t *testing.T) {
	got := refusal(t, nil, func(s beam.Scope) {
		beam.ParDo0(s.Scope("states"), &statesFn{
			Value: state.MakeValueState[int]("v"), Bag: state.MakeBagState[int]("b"), Map: state.MakeMapState[string, int]("m"),
			Set: state.MakeSetState[string]("s"), List: state.MakeOrderedListState[int]("l"),
		}, keyed(s))
		beam.ParDo0(s.Scope("timers"), &timersFn{
			Value: state.MakeValueState[int]("v"), Event: timers.InEventTime("e"), Clock: timers.InProcessingTime("p"),
		}, keyed(s))
		teststream.Create(s.Scope("test"), teststreamConfig())
	})
	var lines []string
	for line := range strings.Lines(got) {
		lines = append(lines, line)
	}
	// The order is that of the lines.
	want := []string{
		"nothing was submitted",
		"states/", `map state "m"`, "states/", `ordered list state "l"`, "states/", `set state "s"`,
		"test/", "TestStream",
		"timers/", `in processing time`,
	}
	rest := got
	for _, w := range want {
		_, after, ok := strings.Cut(rest, w)
		if !ok {
			t.Fatalf("got\n%s\nwant it to name %q next", got, w)
		}
		rest = after
	}
	if len(lines) != 6 {
		t.Errorf("got %d lines, want a heading and five refusals:\n%s", len(lines), got)
	}
}

func teststreamConfig() teststream.Config {
	c := teststream.NewConfig()
	c.AddElements(0, 1)
	c.AdvanceWatermarkToInfinity()
	return c
}

func TestFlinkTakesTheRest(t *testing.T) {
	got := refusal(t, nil, func(s beam.Scope) {
		beam.ParDo0(s, &finalizingFn{}, beam.ParDo(s, &unboundedFn{}, beam.Impulse(s)))
		beam.GroupByKey(s, keyed(s))
	})
	if got != "" {
		t.Errorf("refused: %s", got)
	}
}

func TestFlinkFinalizesAfterCheckpointsOnly(t *testing.T) {
	got := refusal(t, nil, func(s beam.Scope) {
		beam.ParDo0(s.Scope("final"), &finalizingFn{}, beam.Create(s, 1))
	})
	if !strings.Contains(got, "final/launch.finalizingFn: bundle finalization") || !strings.Contains(got, "a bounded pipeline has none") {
		t.Errorf("a bounded pipeline: got %q", got)
	}
	var off optionList
	if err := off.Set("checkpointing_interval=-1"); err != nil {
		t.Fatal(err)
	}
	got = refusal(t, off, func(s beam.Scope) {
		beam.ParDo0(s, &finalizingFn{}, beam.ParDo(s, &unboundedFn{}, beam.Impulse(s)))
	})
	if !strings.Contains(got, "set --runner_option=checkpointing_interval=10000") {
		t.Errorf("got %q", got)
	}
}

func TestRunnerOptions(t *testing.T) {
	var l optionList
	for _, text := range []string{"a=1", "b=text, and=more", `c={"d":[true,null]}`, "e=9007199254740993", "f=", "a=2", "g=-1.5"} {
		if err := l.Set(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"", "a", "=1", "checkpointingInterval=1", "a-b=1"} {
		if l.Set(text) == nil {
			t.Errorf("%q is taken", text)
		}
	}
	all := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	if err := l.addTo(all); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"beam:option:a:v1": 2.0, "beam:option:b:v1": "text, and=more", "beam:option:c:v1": map[string]any{"d": []any{true, nil}},
		"beam:option:e:v1": "9007199254740993", "beam:option:f:v1": "", "beam:option:g:v1": -1.5,
	}
	if diff := cmp.Diff(want, all.AsMap()); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}
