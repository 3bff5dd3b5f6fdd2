// SPDX-License-Identifier: Apache-2.0

package beam

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/state"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/io/rtrackers/offsetrange"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/teststream"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/transforms/stats"

	_ "github.com/hornbeam-dev/hornbeam/runner"
)

// The tests of this file are pipelines that Prism, Beam's runner for tests, answers wrongly in
// version 2.77.0: it merges no sessions that grow, drops what a slow restriction reads, splits
// bundles inside a key, keeps maps that were cleared, forgets state at the end of a window, drops
// finalizers of fused transforms, and fails at the first error. A ninth case, a worker that is
// killed, is none here: the embedded worker is the runner's process, and integration/crash kills it.

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "hornbeam") }

func init() {
	register.Function1x2(keyed)
	register.Function2x1(sorted)
	register.Function2x2(size)
	register.Function1x2(lags)
	register.Function2x1(value)
	register.Iter1[int]()
	register.Emitter1[int]()
	register.Emitter1[string]()
	register.Emitter3[beam.EventTime, string, int]()
	register.DoFn5x1[*sdf.ManualWatermarkEstimator, *sdf.LockRTracker, string, int, func(beam.EventTime, string, int), sdf.ProcessContinuation](&lagging{})
	register.DoFn4x1[state.Provider, string, int, func(int), error](&counting{})
	register.DoFn4x1[state.Provider, string, int, func(string), error](&clearing{})
	register.DoFn3x0[beam.BundleFinalization, int, func(int)](&finalizing{})
	register.DoFn3x1[context.Context, int, func(int), error](&stumbling{})
}

func run(t *testing.T, p *beam.Pipeline) {
	t.Helper()
	if _, err := beam.Run(t.Context(), "hornbeam", p); err != nil {
		t.Error(err)
	}
}

func keyed(x int) (string, int) { return "k", x }

// sorted prints the values of a key.
func sorted(_ string, next func(*int) bool) string {
	var all []string
	x := 0
	for next(&x) {
		all = append(all, string(rune('a'+x)))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func size(key string, next func(*int) bool) (string, int) {
	n, x := 0, 0
	for next(&x) {
		n++
	}
	return key, n
}

// TestSessionsMerge has a session that grows while the watermark advances through it.
func TestSessionsMerge(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	events := teststream.NewConfig()
	for i := range 3 {
		if err := events.AddElements(int64(i)*5000, i); err != nil {
			t.Fatal(err)
		}
	}
	for _, to := range []int64{12_000, 17_000, 30_000} {
		events.AdvanceWatermark(to)
	}
	events.AdvanceWatermarkToInfinity()
	in := beam.WindowInto(s, window.NewSessions(10*time.Second), teststream.Create(s, events))
	sessions := beam.ParDo(s, sorted, beam.GroupByKey(s, beam.ParDo(s, keyed, in)))
	passert.Equals(s, beam.WindowInto(s, window.NewGlobalWindows(), sessions), "a b c")
	run(t, p)
}

// lagging reads a restriction for each source; their watermarks differ. The value of its input is
// the lag in milliseconds, behind which a source is slow as well.
type lagging struct{}

const (
	laggingElements = 300
	laggingAtOnce   = 10
	laggingStep     = 100 * time.Millisecond // Of event time.
)

var laggingStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (*lagging) CreateInitialRestriction(string, int) offsetrange.Restriction {
	return offsetrange.Restriction{End: laggingElements}
}

func (*lagging) SplitRestriction(_ string, _ int, r offsetrange.Restriction) []offsetrange.Restriction {
	return []offsetrange.Restriction{r}
}

func (*lagging) RestrictionSize(_ string, _ int, r offsetrange.Restriction) float64 { return r.Size() }

func (*lagging) CreateTracker(r offsetrange.Restriction) *sdf.LockRTracker {
	return sdf.NewLockRTracker(offsetrange.NewTracker(r))
}

func (*lagging) InitialWatermarkEstimatorState(beam.EventTime, offsetrange.Restriction, string, int) int64 {
	return mtime.MinTimestamp.Milliseconds()
}

func (*lagging) CreateWatermarkEstimator(millis int64) *sdf.ManualWatermarkEstimator {
	return &sdf.ManualWatermarkEstimator{State: mtime.FromMilliseconds(millis).ToTime()}
}

func (*lagging) WatermarkEstimatorState(e *sdf.ManualWatermarkEstimator) int64 {
	return mtime.FromTime(e.State).Milliseconds()
}

func (*lagging) ProcessElement(we *sdf.ManualWatermarkEstimator, rt *sdf.LockRTracker, name string, lag int, emit func(beam.EventTime, string, int)) sdf.ProcessContinuation {
	from := rt.GetRestriction().(offsetrange.Restriction).Start
	at := func(i int64) time.Time {
		return laggingStart.Add(time.Duration(i)*laggingStep - time.Duration(lag)*time.Millisecond)
	}
	for i := from; i < from+laggingAtOnce; i++ {
		if !rt.TryClaim(i) {
			return sdf.StopProcessing()
		}
		emit(mtime.FromTime(at(i)), name, int(i))
		we.UpdateWatermark(at(i + 1))
	}
	if from+laggingAtOnce == laggingElements {
		rt.TryClaim(int64(laggingElements))
		return sdf.StopProcessing()
	}
	return sdf.ResumeProcessingIn(time.Duration(5+lag/100) * time.Millisecond)
}

func lags(name string) (string, int) {
	if name == "slow" {
		return name, 5000
	}
	return name, 0
}

// TestSlowRestriction has one source with two restrictions, of which one is always behind.
func TestSlowRestriction(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	read := beam.ParDo(s, &lagging{}, beam.ParDo(s, lags, beam.Create(s, "fast", "slow")))
	windowed := beam.WindowInto(s, window.NewFixedWindows(time.Second), read)
	sizes := beam.ParDo(s, size, beam.GroupByKey(s, windowed))
	total := stats.SumPerKey(s, beam.WindowInto(s, window.NewGlobalWindows(), sizes))
	passert.Equals(s, beam.ParDo(s, value, total), laggingElements, laggingElements)
	run(t, p)
}

func value(_ string, n int) int { return n }

// counting counts the elements of a key in a value state, slowly, and emits the count so far.
type counting struct {
	Count state.Value[int]
	Sleep time.Duration
}

// atWork is the number of calls of counting at this moment, mostAtWork the greatest there was.
var atWork, mostAtWork atomic.Int32

func (fn *counting) ProcessElement(p state.Provider, _ string, _ int, emit func(int)) error {
	if n := atWork.Add(1); n > mostAtWork.Load() {
		mostAtWork.Store(n)
	}
	defer atWork.Add(-1)
	n, _, err := fn.Count.Read(p)
	if err != nil {
		return err
	}
	time.Sleep(fn.Sleep)
	emit(n + 1)
	return fn.Count.Write(p, n+1)
}

// TestStateIsSerial has one key whose elements take long, so that a runner wants to split.
func TestStateIsSerial(t *testing.T) {
	mostAtWork.Store(0)
	p, s := beam.NewPipelineWithRoot()
	var in, want []int
	for i := range 40 {
		in, want = append(in, i), append(want, i+1)
	}
	counts := beam.ParDo(s, &counting{Count: state.MakeValueState[int]("count"), Sleep: 50 * time.Millisecond},
		beam.ParDo(s, keyed, beam.CreateList(s, in)))
	passert.EqualsList(s, counts, want)
	run(t, p)
	if got := mostAtWork.Load(); got != 1 {
		t.Errorf("%d elements of one key were processed at once", got)
	}
}

// clearing puts its elements into a map, and emits what is in it after it was cleared.
type clearing struct{ Seen state.Map[string, int] }

func (fn *clearing) ProcessElement(p state.Provider, key string, x int, emit func(string)) error {
	if err := fn.Seen.Put(p, string(rune('a'+x)), x); err != nil {
		return err
	}
	if err := fn.Seen.Clear(p); err != nil {
		return err
	}
	keys, _, err := fn.Seen.Keys(p)
	if err != nil {
		return err
	}
	emit("keys: " + strings.Join(keys, " "))
	return nil
}

func TestMapIsCleared(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	got := beam.ParDo(s, &clearing{Seen: state.MakeMapState[string, int]("seen")}, beam.ParDo(s, keyed, beam.Create(s, 0, 1, 2)))
	passert.Equals(s, got, "keys: ", "keys: ", "keys: ")
	run(t, p)
}

// TestStateOutlivesItsWindow has an element that is late but allowed.
func TestStateOutlivesItsWindow(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	events := teststream.NewConfig()
	for _, at := range []int64{1000, 2000} {
		if err := events.AddElements(at, 0); err != nil {
			t.Fatal(err)
		}
	}
	events.AdvanceWatermark(15_000)
	if err := events.AddElements(3000, 0); err != nil {
		t.Fatal(err)
	}
	events.AdvanceWatermarkToInfinity()
	in := beam.WindowInto(s, window.NewFixedWindows(10*time.Second), teststream.Create(s, events), beam.AllowedLateness(time.Hour))
	counts := beam.ParDo(s, &counting{Count: state.MakeValueState[int]("count")}, beam.ParDo(s, keyed, in))
	passert.Equals(s, beam.WindowInto(s, window.NewGlobalWindows(), counts), 1, 2, 3)
	run(t, p)
}

// finalizing registers a callback for each element.
type finalizing struct{}

var finalized atomic.Int32

func (*finalizing) ProcessElement(bf beam.BundleFinalization, x int, emit func(int)) {
	bf.RegisterCallback(time.Minute, func() error {
		finalized.Add(1)
		return nil
	})
	emit(x)
}

func TestFinalizers(t *testing.T) {
	elements := make([]int, 300)
	for _, test := range []struct {
		name  string
		input func(beam.Scope) beam.PCollection
		want  int32
	}{
		{"root", func(s beam.Scope) beam.PCollection { return beam.Reshuffle(s, beam.Create(s, 1, 2, 3)) }, 3},
		{"fused", func(s beam.Scope) beam.PCollection { return beam.Create(s, 1, 2, 3) }, 3},
		{"many bundles", func(s beam.Scope) beam.PCollection {
			// One element at a time arrives after the grouping.
			events := teststream.NewConfig()
			for i := range elements {
				if err := events.AddElements(int64(i), i); err != nil {
					t.Fatal(err)
				}
				events.AdvanceWatermark(int64(i))
			}
			events.AdvanceWatermarkToInfinity()
			return beam.Reshuffle(s, teststream.Create(s, events))
		}, 300},
	} {
		t.Run(test.name, func(t *testing.T) {
			finalized.Store(0)
			p, s := beam.NewPipelineWithRoot()
			beam.ParDo(s, &finalizing{}, test.input(s))
			run(t, p)
			if got := finalized.Load(); got != test.want {
				t.Errorf("%d callbacks, want %d", got, test.want)
			}
		})
	}
}

// stumbling fails at its first element, once.
type stumbling struct{}

var stumbled atomic.Bool

func (*stumbling) ProcessElement(_ context.Context, x int, emit func(int)) error {
	if !stumbled.Swap(true) {
		return errors.New("not now")
	}
	emit(x)
	return nil
}

func TestTransientErrorIsRetried(t *testing.T) {
	stumbled.Store(false)
	p, s := beam.NewPipelineWithRoot()
	passert.Equals(s, beam.ParDo(s, &stumbling{}, beam.Create(s, 1, 2, 3)), 1, 2, 3)
	run(t, p)
}
