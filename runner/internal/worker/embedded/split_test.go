// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/io/rtrackers/offsetrange"
	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

func init() {
	beam.RegisterDoFn(&resuming{})
	beam.RegisterDoFn(&stepping{})
	beam.RegisterDoFn(&stubborn{})
	beam.RegisterDoFn(&finalizer{})
	beam.RegisterFunction(same)
	beam.RegisterFunction(letters)
}

func letters(_ []byte, emit func(string)) {
	for _, c := range "abc" {
		emit(string(c))
	}
}

func same(s string) string { return s }

// counter is the restriction of the splittable DoFns below: the numbers below N.
type counter struct{ N int64 }

func (f *counter) CreateInitialRestriction(string) offsetrange.Restriction {
	return offsetrange.Restriction{End: f.N}
}

func (f *counter) SplitRestriction(_ string, r offsetrange.Restriction) []offsetrange.Restriction {
	return []offsetrange.Restriction{r}
}

func (f *counter) RestrictionSize(_ string, r offsetrange.Restriction) float64 { return r.Size() }

func (f *counter) CreateTracker(r offsetrange.Restriction) *sdf.LockRTracker {
	return sdf.NewLockRTracker(offsetrange.NewTracker(r))
}

// resuming emits three numbers and then wants to be resumed. Its watermark is the number reached.
type resuming struct{ counter }

func (f *resuming) InitialWatermarkEstimatorState(beam.EventTime, offsetrange.Restriction, string) int64 {
	return 0
}

func (f *resuming) CreateWatermarkEstimator(state int64) *sdf.ManualWatermarkEstimator {
	return &sdf.ManualWatermarkEstimator{State: time.UnixMilli(state)}
}

func (f *resuming) WatermarkEstimatorState(e *sdf.ManualWatermarkEstimator) int64 {
	return e.State.UnixMilli()
}

func (f *resuming) ProcessElement(we *sdf.ManualWatermarkEstimator, rt *sdf.LockRTracker, s string, emit func(string)) sdf.ProcessContinuation {
	start := rt.GetRestriction().(offsetrange.Restriction).Start
	for i := start; i < start+3; i++ {
		if !rt.TryClaim(i) {
			return sdf.StopProcessing()
		}
		emit(fmt.Sprint(s, i))
		we.UpdateWatermark(time.UnixMilli(i))
	}
	return sdf.ResumeProcessingIn(250 * time.Millisecond)
}

func splitJob(t *testing.T, o Options, fn any, name string) (*job, *plan.Stage) {
	t.Helper()
	j := newJobWith(t, o, func(s beam.Scope) {
		numbers := beam.ParDo(s, same, beam.ParDo(s, fn, beam.ParDo(s, letters, beam.Impulse(s))))
		beam.ParDo0(s, &record{name}, beam.Reshuffle(s, numbers))
	})
	for i := range j.plan.Stages {
		if j.plan.Stages[i].Splittable {
			return j, &j.plan.Stages[i]
		}
	}
	t.Fatalf("no splittable stage in %v", j.plan.Stages)
	return nil, nil
}

func numbers(n int) []string {
	var all []string
	for _, c := range "abc" {
		for i := range n {
			all = append(all, fmt.Sprint(string(c), i))
		}
	}
	slices.Sort(all)
	return all
}

func TestSelfCheckpoint(t *testing.T) {
	j, s := splitJob(t, Options{KeyGroups: 1}, &resuming{counter{7}}, "resumed")
	results := j.all()
	for bundles, r := 1, results[s.ID]; ; bundles++ {
		if bundles == 3 {
			if len(r.Residuals) != 0 {
				t.Errorf("%d residuals after the last bundle", len(r.Residuals))
			}
			break
		}
		if len(r.Residuals) != 3 || r.Unprocessed != 0 || r.Counts.In != 3 {
			t.Fatalf("bundle %d: %d residuals, %d unprocessed, counts %+v", bundles, len(r.Residuals), r.Unprocessed, r.Counts)
		}
		for _, res := range r.Residuals {
			if res.Delay != 250 || res.Watermark != event.Timestamp(bundles*3-1) {
				t.Errorf("bundle %d: delay %d, watermark %v", bundles, res.Delay, res.Watermark)
			}
		}
		r = j.mustRun(s)
	}
	j.after(s)
	if diff := cmp.Diff(numbers(7), taken("resumed")); diff != "" {
		t.Errorf("(-want +got): %s", diff)
	}
}

// stepping offers each number that it has claimed to the test, and a chance to act before the first.
type stepping struct{ counter }

var (
	stepBegin = make(chan bool)
	steps     = make(chan int64)
	asked     = make(chan bool, 1) // The tracker was asked how far it is.
	divided   = make(chan bool, 1) // The tracker was split.
)

// stepTracker tells the test what is done to it.
type stepTracker struct{ sdf.RTracker }

func (t stepTracker) GetProgress() (float64, float64) {
	note(asked)
	return t.RTracker.GetProgress()
}

func (t stepTracker) TrySplit(fraction float64) (any, any, error) {
	defer note(divided)
	return t.RTracker.TrySplit(fraction)
}

func note(c chan bool) {
	select {
	case c <- true:
	default:
	}
}

func forget(c chan bool) {
	select {
	case <-c:
	default:
	}
}

func (f *stepping) CreateTracker(r offsetrange.Restriction) *sdf.LockRTracker {
	return sdf.NewLockRTracker(stepTracker{offsetrange.NewTracker(r)})
}

func (f *stepping) StartBundle(func(string)) { <-stepBegin }

func (f *stepping) ProcessElement(ctx context.Context, rt *sdf.LockRTracker, s string, emit func(string)) error {
	for i := rt.GetRestriction().(offsetrange.Restriction).Start; rt.TryClaim(i); i++ {
		emit(fmt.Sprint(s, i))
		select {
		case steps <- i:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// ran is a bundle that was started.
type ran struct {
	result bundle.Result
	err    error
}

func (j *job) start(ctx context.Context, w bundle.Work) <-chan ran {
	done := make(chan ran, 1)
	go func() {
		r, err := j.worker.Run(ctx, w, jobState{j, w.Stage})
		if err == nil {
			j.commit(w.Stage, r)
			j.putBack(w, r)
		}
		done <- ran{r, err}
	}()
	return done
}

// finish lets the restrictions go on until the bundle is done.
func finish(t *testing.T, done <-chan ran) bundle.Result {
	t.Helper()
	for {
		select {
		case <-steps:
		case r := <-done:
			if r.err != nil {
				t.Fatal(r.err)
			}
			return r.result
		}
	}
}

const enough = 100 // Numbers of a restriction.

func (j *job) rest(t *testing.T, s *plan.Stage) {
	t.Helper()
	for len(j.boxes[s.ID]) > 0 {
		done := j.start(context.Background(), j.work(s.ID))
		stepBegin <- true
		finish(t, done)
	}
	j.after(s)
}

// Splitting a bundle while a restriction is being processed neither loses nor repeats a number.
func TestSplitWhileProcessing(t *testing.T) {
	for _, fraction := range []float64{0, 0.5} {
		name := fmt.Sprint("split", fraction)
		j, s := splitJob(t, Options{KeyGroups: 1}, &stepping{counter{enough}}, name)
		w := j.upTo(s)
		done := j.start(context.Background(), w)
		stepBegin <- true
		<-steps
		<-steps
		forget(asked)
		forget(divided)
		j.worker.Split(w.ID, fraction)
		if fraction == 0 {
			<-divided
		} else {
			<-asked
		}
		r := finish(t, done)
		if len(r.Residuals)+r.Unprocessed == 0 {
			t.Errorf("fraction %v: nothing was given up", fraction)
		}
		if fraction == 0 && (len(r.Residuals) != 1 || r.Unprocessed != 2) {
			t.Errorf("%d residuals and %d unprocessed, want 1 and 2", len(r.Residuals), r.Unprocessed)
		}
		for _, res := range r.Residuals {
			if res.Watermark != event.MinTimestamp || res.Delay != 0 {
				t.Errorf("without an estimator: watermark %v, delay %d", res.Watermark, res.Delay)
			}
		}
		if int(r.Counts.In)+r.Unprocessed != 3 {
			t.Errorf("%d in and %d unprocessed, want 3 together", r.Counts.In, r.Unprocessed)
		}
		j.rest(t, s)
		if diff := cmp.Diff(numbers(enough), taken(name)); diff != "" {
			t.Errorf("fraction %v (-want +got): %s", fraction, diff)
		}
	}
}

// A wish that comes before anything is processed is kept.
func TestSplitBeforeProcessing(t *testing.T) {
	j, s := splitJob(t, Options{KeyGroups: 1}, &stepping{counter{enough}}, "early")
	w := j.upTo(s)
	done := j.start(context.Background(), w)
	j.worker.Split(w.ID, 0.5)
	stepBegin <- true // Only now are we sure that the bundle is known.
	forget(divided)
	j.worker.Split(w.ID, 0)
	<-divided
	if r := finish(t, done); len(r.Residuals)+r.Unprocessed == 0 {
		t.Errorf("nothing was given up")
	}
	j.worker.Split(w.ID, 0)
	j.worker.Split(bundle.ID{}, 0)
	j.rest(t, s)
	if diff := cmp.Diff(numbers(enough), taken("early")); diff != "" {
		t.Errorf("(-want +got): %s", diff)
	}
}

// A restriction whose output grows too large is stopped without being asked, however long it is.
func TestOutputLimit(t *testing.T) {
	o := Options{KeyGroups: 1, OutputLimit: 200}
	j, s := splitJob(t, o, &stepping{counter{1 << 40}}, "limited")
	done := j.start(context.Background(), j.upTo(s))
	stepBegin <- true
	r := finish(t, done)
	if len(r.Residuals) != 1 || r.Unprocessed != 2 {
		t.Errorf("%d residuals and %d unprocessed, want 1 and 2", len(r.Residuals), r.Unprocessed)
	}
	j.after(s)
	if got, want := int64(len(taken("limited"))), r.Counts.Out[0]; got != want {
		t.Errorf("%d numbers arrived, want %d", got, want)
	}
}

func TestCancelWhileProcessing(t *testing.T) {
	j, s := splitJob(t, Options{KeyGroups: 1}, &stepping{counter{enough}}, "cancelled")
	ctx, cancel := context.WithCancel(context.Background())
	done := j.start(ctx, j.upTo(s))
	stepBegin <- true
	<-steps
	cancel()
	if r := <-done; r.err != context.Canceled {
		t.Errorf("got %v, want %v", r.err, context.Canceled)
	}
}

// stubborn has a tracker that fails when it is to be split.
type stubborn struct{ stepping }

type stubbornTracker struct{ sdf.RTracker }

func (stubbornTracker) TrySplit(float64) (any, any, error) {
	return nil, nil, errors.New("cannot split \xff")
}

func (f *stubborn) CreateTracker(r offsetrange.Restriction) *sdf.LockRTracker {
	return sdf.NewLockRTracker(stubbornTracker{offsetrange.NewTracker(r)})
}

func TestSplitFails(t *testing.T) {
	j, s := splitJob(t, Options{KeyGroups: 1}, &stubborn{stepping{counter{1 << 40}}}, "stubborn")
	w := j.upTo(s)
	done := j.start(context.Background(), w)
	stepBegin <- true
	<-steps
	j.worker.Split(w.ID, 0)
	for {
		select {
		case <-steps:
		case r := <-done:
			if r.err == nil || !strings.Contains(r.err.Error(), `cannot split \xff`) {
				t.Errorf("got %v, want the tracker's error", r.err)
			}
			return
		}
	}
}

// finalizer registers a callback for each element.
type finalizer struct{ Name string }

var finalized = map[string]*atomic.Int64{"first": {}, "second": {}}

func (f *finalizer) ProcessElement(bf beam.BundleFinalization, s string, emit func(string)) {
	bf.RegisterCallback(time.Hour, func() error {
		if finalized[f.Name].Add(1) < 0 {
			panic("a callback that was not to run")
		}
		return nil
	})
	emit(s)
}

// The callbacks of every bundle run, also of a DoFn that is fused behind others, but only those
// of bundles that were committed.
func TestFinalize(t *testing.T) {
	for _, n := range finalized {
		n.Store(0)
	}
	j := newJob(t, func(s beam.Scope) {
		first := beam.ParDo(s, &finalizer{"first"}, beam.Reshuffle(s, beam.ParDo(s, letters, beam.Impulse(s))))
		beam.ParDo(s, same, beam.ParDo(s, &finalizer{"second"}, first))
	})
	s := j.stage("finalizer")
	const bundles = 5
	for range bundles {
		r := j.all()[s.ID]
		if !r.Finalize {
			t.Fatal("the bundle does not wait for finalization")
		}
		if err := j.worker.Finalize(r.ID); err != nil {
			t.Fatal(err)
		}
		if err := j.worker.Finalize(r.ID); err == nil {
			t.Error("a bundle was finalized twice")
		}
	}
	j.all() // A bundle that is never committed.
	for name, n := range finalized {
		if got := n.Load(); got != bundles*3 {
			t.Errorf("%s: %d callbacks, want %d", name, got, bundles*3)
		}
	}
	finalized["first"].Store(-1000)
	if err := j.worker.Finalize(j.all()[s.ID].ID); err == nil || !strings.Contains(err.Error(), "not to run") {
		t.Errorf("got %v, want the callback's panic as an error", err)
	}
}
