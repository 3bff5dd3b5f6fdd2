// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

func init() {
	for _, fn := range []any{
		tens, evenOdd, toPair, ignore, firstOnly, countAll, withList, withMap, counted, failing, panicking, showPair,
	} {
		beam.RegisterFunction(fn)
	}
	beam.RegisterDoFn(&lifecycle{})
	beam.RegisterDoFn(&blocking{})
}

func tens(_ []byte, emit func(int)) {
	for i := range 10 {
		emit(i)
	}
}

func evenOdd(i int, even, odd func(string)) {
	if i%2 == 0 {
		even(fmt.Sprint(i))
	} else {
		odd(fmt.Sprint(i))
	}
}

func TestOutputs(t *testing.T) {
	j := newJob(t, func(s beam.Scope) {
		even, odd := beam.ParDo2(s, evenOdd, beam.ParDo(s, tens, beam.Impulse(s)))
		beam.ParDo0(s, &record{"even"}, even)
		beam.ParDo0(s, &record{"odd"}, odd)
	})
	j.all()
	if diff := cmp.Diff([]string{"0", "2", "4", "6", "8"}, taken("even")); diff != "" {
		t.Errorf("even (-want +got): %s", diff)
	}
	if diff := cmp.Diff([]string{"1", "3", "5", "7", "9"}, taken("odd")); diff != "" {
		t.Errorf("odd (-want +got): %s", diff)
	}
}

func toPair(i int) (string, int) { return fmt.Sprint(i % 3), i }

func ignore(k string, _ func(*int) bool) string { return k }

func firstOnly(k string, next func(*int) bool) string {
	var v int
	next(&v)
	return k
}

func countAll(k string, next func(*int) bool) string {
	n := 0
	for v := 0; next(&v); {
		n++
	}
	return fmt.Sprintf("%s:%d", k, n)
}

// A DoFn that does not read its group to the end does not harm the next group (FC-3).
func TestGroups(t *testing.T) {
	for name, fn := range map[string]any{"ignore": ignore, "firstOnly": firstOnly, "countAll": countAll} {
		j := newJob(t, func(s beam.Scope) {
			pairs := beam.ParDo(s, toPair, beam.ParDo(s, tens, beam.Impulse(s)))
			beam.ParDo0(s, &record{name}, beam.ParDo(s, fn, beam.GroupByKey(s, pairs)))
		})
		j.all()
		want := []string{"0", "1", "2"}
		if name == "countAll" {
			want = []string{"0:4", "1:3", "2:3"}
		}
		if diff := cmp.Diff(want, taken(name)); diff != "" {
			t.Errorf("%s (-want +got): %s", name, diff)
		}
	}
}

func withList(i int, list func(*int) bool, emit func(string)) {
	sum := 0
	for v := 0; list(&v); {
		sum += v
	}
	emit(fmt.Sprint(i + 100*sum))
}

func withMap(i int, values func(string) func(*int) bool, emit func(string)) {
	next := values(fmt.Sprint(i % 3))
	n := 0
	for v := 0; next(&v); {
		n++
	}
	emit(fmt.Sprintf("%d:%d", i%3, n))
}

func TestSideInputs(t *testing.T) {
	j := newJob(t, func(s beam.Scope) {
		numbers := beam.ParDo(s, tens, beam.Impulse(s))
		list := beam.ParDo(s, withList, numbers, beam.SideInput{Input: numbers})
		beam.ParDo0(s, &record{"list"}, list)
		looked := beam.ParDo(s, withMap, numbers, beam.SideInput{Input: beam.ParDo(s, toPair, numbers)})
		beam.ParDo0(s, &record{"map"}, looked)
	})
	j.all()
	var want []string
	for i := range 10 {
		want = append(want, fmt.Sprint(i+4500))
	}
	if diff := cmp.Diff(want, taken("list")); diff != "" {
		t.Errorf("iterable (-want +got): %s", diff)
	}
	want = []string{"0:4", "0:4", "0:4", "0:4", "1:3", "1:3", "1:3", "2:3", "2:3", "2:3"}
	if diff := cmp.Diff(want, taken("map")); diff != "" {
		t.Errorf("multimap (-want +got): %s", diff)
	}
}

func counted(ctx context.Context, i int) {
	beam.NewCounter("test", "seen").Inc(ctx, 1)
	beam.NewDistribution("test", "value").Update(ctx, int64(i))
	beam.NewGauge("test", "last").Set(ctx, int64(i))
}

func TestMetricsOnce(t *testing.T) {
	j := newJob(t, func(s beam.Scope) {
		beam.ParDo0(s, counted, beam.ParDo(s, tens, beam.Impulse(s)))
	})
	for range 3 {
		j.all()
	}
	got := map[string]string{}
	for _, m := range j.metrics {
		if m.Kind == bundle.Gauge {
			m.At = 0
		}
		if !contains(j.plan.Transforms[m.Transform], "counted") {
			t.Errorf("the metric %v is not of the transform", m)
		}
		got[m.Name] = fmt.Sprint(m.Sum, m.Count, m.Min, m.Max)
	}
	want := map[string]string{"seen": "30 0 0 0", "value": "135 30 0 9", "last": "9 0 0 0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got): %s", diff)
	}
}

func failing(i int) (int, error) {
	if i == 7 {
		return 0, errors.New("cannot parse \"caf\xe9\"")
	}
	return i, nil
}

func panicking(i int) int {
	if i == 7 {
		panic("no seven \xe9")
	}
	return i
}

func TestUserErrors(t *testing.T) {
	for _, test := range []struct {
		name string
		fn   any
		want string
	}{
		{"failing", failing, `cannot parse "caf\xe9"`},
		{"panicking", panicking, `no seven \xe9`},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := newJob(t, func(s beam.Scope) {
				beam.ParDo(s, test.fn, beam.ParDo(s, tens, beam.Impulse(s)))
			})
			s := j.stage(test.name)
			work := j.upTo(s)
			for range 2 {
				_, err := j.worker.Run(context.Background(), work, jobState{j, s.ID})
				var e *Error
				if !errors.As(err, &e) || !strings.Contains(e.Text, test.want) || !contains(e.Error(), test.name) {
					t.Errorf("got %q, want an Error of %s with %q", err, test.name, test.want)
				}
				if contains(fmt.Sprint(err), "Plan[") {
					t.Errorf("the dump of the SDK's plan is in %q", err)
				}
			}
		})
	}
}

// lifecycle counts its Setups and Teardowns.
type lifecycle struct{}

var setups, teardowns int

func (*lifecycle) Setup()               { setups++ }
func (*lifecycle) Teardown()            { teardowns++ }
func (*lifecycle) ProcessElement(i int) {}

func TestPlansAreReused(t *testing.T) {
	setups, teardowns = 0, 0
	j := newJob(t, func(s beam.Scope) {
		beam.ParDo0(s, &lifecycle{}, beam.ParDo(s, tens, beam.Impulse(s)))
	})
	for range 5 {
		j.all()
	}
	if err := j.worker.Close(); err != nil {
		t.Fatal(err)
	}
	if setups != 1 || teardowns != 1 {
		t.Errorf("%d setups and %d teardowns for five bundles, want 1 and 1", setups, teardowns)
	}
}

// blocking waits until its context is done.
type blocking struct{}

var blockingBegun = make(chan bool)

func (*blocking) ProcessElement(ctx context.Context, i int) {
	select {
	case blockingBegun <- true:
	case <-ctx.Done():
	}
	<-ctx.Done()
}

// A bundle that is cancelled is not a bundle that has read all of its input.
func TestCancel(t *testing.T) {
	j := newJob(t, func(s beam.Scope) {
		beam.ParDo0(s, &blocking{}, beam.ParDo(s, tens, beam.Impulse(s)))
	})
	s := j.stage("blocking")
	work := j.upTo(s)
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error)
	go func() {
		_, err := j.worker.Run(ctx, work, jobState{j, s.ID})
		failed <- err
	}()
	<-blockingBegun
	cancel()
	if err := <-failed; err != context.Canceled {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if _, err := j.worker.Run(ctx, work, jobState{j, s.ID}); err != context.Canceled {
		t.Errorf("begun after the end: got %v, want %v", err, context.Canceled)
	}
}

func showPair(k string, v int) string { return fmt.Sprint(k, v) }

// Elements for a keyed consumer are divided by key group; all of a key are in one.
func TestKeyedOutput(t *testing.T) {
	j := newJob(t, func(s beam.Scope) {
		pairs := beam.ParDo(s, toPair, beam.ParDo(s, tens, beam.Impulse(s)))
		beam.ParDo0(s, &record{"unkeyed"}, beam.ParDo(s, showPair, beam.Reshuffle(s, pairs)))
		beam.ParDo(s, countAll, beam.GroupByKey(s, pairs))
	})
	s := j.stage("toPair")
	work := j.upTo(s)
	r, err := j.worker.Run(context.Background(), work, jobState{j, s.ID})
	if err != nil {
		t.Fatal(err)
	}
	groups := map[bundle.KeyGroup]int{}
	for _, o := range r.Outputs {
		consumer := j.plan.Stages[s.Outputs[o.Output].Consumers[o.Consumer]]
		if o.Chunk.MinTimestamp != event.MinTimestamp || o.Chunk.MaxWindow != 0 {
			t.Errorf("chunk with minimum %v and window %v", o.Chunk.MinTimestamp, o.Chunk.MaxWindow)
		}
		if consumer.Kind == plan.Group {
			groups[o.Group] += o.Chunk.Count
		}
	}
	want := map[bundle.KeyGroup]int{}
	for i := range 10 {
		want[bundle.KeyGroupOf(prefixed(fmt.Sprint(i%3)), j.groups)]++
	}
	if diff := cmp.Diff(want, groups); diff != "" {
		t.Errorf("elements by key group (-want +got): %s", diff)
	}
}
