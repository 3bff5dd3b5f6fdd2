// SPDX-License-Identifier: Apache-2.0

package beam

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window/trigger"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/teststream"

	"github.com/hornbeam-dev/hornbeam/runner"
	"github.com/hornbeam-dev/hornbeam/transforms/fraud"
	"github.com/hornbeam-dev/hornbeam/transforms/sessions"
	"github.com/hornbeam-dev/hornbeam/transforms/units"
)

// The tests of this file are what users of other runners have run into with windows and state. FC
// and a number name the case in the collection that they come from.

func init() {
	register.Function1x2(byCustomer)
	register.Function1x2(byProduct)
	register.Function4x0(perCustomer)
	register.Function3x1(perProduct)
	register.Function3x1(paneText)
	register.Function1x1(held)
	register.Function1x1(measurement)
	register.Function1x2(visit)
	register.Function1x1(transaction)
	register.Iter1[string]()
}

// byCustomer and byProduct take apart a hit such as "ann shoe".
func byCustomer(hit string) (string, string) {
	customer, _, _ := strings.Cut(hit, " ")
	return customer, hit
}

func byProduct(hit string) (string, string) {
	customer, product, _ := strings.Cut(hit, " ")
	return product, customer
}

func perCustomer(w beam.Window, customer string, next func(*string) bool, emit func(string)) {
	hit := ""
	n := 0
	for next(&hit) {
		emit(hit)
		n++
	}
	emit(fmt.Sprintf("%s all:%s:%d", customer, bounds(w), n))
}

func perProduct(w beam.Window, product string, next func(*string) bool) string {
	var customers []string
	for c := ""; next(&c); {
		customers = append(customers, c)
	}
	slices.Sort(customers)
	return fmt.Sprint(product, " ", bounds(w), " ", strings.Join(customers, " "))
}

// bounds prints a window in seconds.
func bounds(w beam.Window) string {
	iw, ok := w.(window.IntervalWindow)
	if !ok {
		return "global"
	}
	return fmt.Sprintf("[%d,%d)", iw.Start.Milliseconds()/1000, iw.End.Milliseconds()/1000)
}

// The sessions of customers, grouped by product: the Go SDK asks for merging again, among those that
// are there together (FC-4). What has been given out merges no more, and a session that ends later
// comes later. What the first grouping has seen is told as a product of its own.
func TestSecondGroupingOfSessionsMerges(t *testing.T) {
	for name, c := range map[string]struct {
		watermarks []int64
		shoe       []any
	}{
		"at once":      {nil, []any{"shoe [1,18) ann ann ben"}},
		"in two steps": {[]int64{16_000, 18_000}, []any{"shoe [1,16) ben", "shoe [1,18) ann ann"}},
		"in small steps": {[]int64{2_000, 10_000, 15_999, 16_000, 17_999, 18_000, 18_001},
			[]any{"shoe [1,16) ben", "shoe [1,18) ann ann"}},
	} {
		t.Run(name, func(t *testing.T) {
			events := teststream.NewConfig()
			for _, hit := range []struct {
				at   int64
				text string
			}{{1000, "ann shoe"}, {1000, "ben shoe"}, {6000, "ben hat"}, {8000, "ann shoe"}} {
				if err := events.AddElements(hit.at, hit.text); err != nil {
					t.Fatal(err)
				}
			}
			for _, w := range c.watermarks {
				events.AdvanceWatermark(w)
			}
			events.AdvanceWatermarkToInfinity()
			p, s := beam.NewPipelineWithRoot()
			hits := beam.WindowInto(s, window.NewSessions(10*time.Second), teststream.Create(s, events))
			again := beam.ParDo(s, perCustomer, beam.GroupByKey(s, beam.ParDo(s, byCustomer, hits)))
			products := beam.ParDo(s, perProduct, beam.GroupByKey(s, beam.ParDo(s, byProduct, again)))
			passert.Equals(s, beam.WindowInto(s, window.NewGlobalWindows(), products),
				append(c.shoe, "hat [1,16) ben", "all:[1,18):2 [1,18) ann", "all:[1,16):2 [1,16) ben")...)
			run(t, p)
		})
	}
}

func paneText(w beam.Window, _ string, next func(*int) bool) string {
	var hits []string
	for x := 0; next(&x); {
		hits = append(hits, fmt.Sprint(x))
	}
	slices.Sort(hits)
	return fmt.Sprint(bounds(w), " ", strings.Join(hits, " "))
}

// A late hit of a session: it is dropped only if its own window has expired, and it merges with a
// session that is not forgotten yet (FC-5).
func TestLateHitsOfSessions(t *testing.T) {
	type step struct{ hit, watermark int64 } // One of them; in ms.
	hit := func(ms int64) step { return step{hit: ms} }
	to := func(ms int64) step { return step{hit: -1, watermark: ms} }
	for _, c := range []struct {
		name     string
		lateness time.Duration
		steps    []step
		want     []any
		late     int64
	}{
		{"A, without lateness two that overlap", 0, []step{hit(0), to(6000), hit(3000), to(8000)}, []any{"[0,5) 0", "[3,8) 3000"}, 0},
		{"B, with lateness the first grows", 10 * time.Second, []step{hit(0), to(6000), hit(3000), to(8000)}, []any{"[0,5) 0", "[0,8) 0 3000"}, 0},
		{"at its last moment and the lateness a hit is not late", 10 * time.Second, []step{to(14_999), hit(0)}, []any{"[0,5) 0"}, 0},
		{"a millisecond after that it is", 10 * time.Second, []step{to(15_000), hit(0)}, nil, 1},
		{"a hit at the end touches and is a session of its own", 10 * time.Second, []step{hit(0), to(6000), hit(5000)}, []any{"[0,5) 0", "[5,10) 5000"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			events := teststream.NewConfig()
			for _, at := range c.steps {
				if at.hit < 0 {
					events.AdvanceWatermark(at.watermark)
				} else if err := events.AddElements(at.hit, int(at.hit)); err != nil {
					t.Fatal(err)
				}
			}
			events.AdvanceWatermarkToInfinity()
			p, s := beam.NewPipelineWithRoot()
			in := beam.WindowInto(s, window.NewSessions(5*time.Second), teststream.Create(s, events),
				beam.Trigger(trigger.Default()), beam.AllowedLateness(c.lateness), beam.PanesAccumulate())
			panes := beam.ParDo(s, paneText, beam.GroupByKey(s, beam.ParDo(s, keyed, in)))
			// In one window again, each pane is an element like any other.
			all := beam.WindowInto(s, window.NewGlobalWindows(), panes, beam.Trigger(trigger.Default()), beam.AllowedLateness(0), beam.PanesDiscard())
			if len(c.want) == 0 {
				passert.Empty(s, all)
			} else {
				passert.Equals(s, all, c.want...)
			}
			result, err := beam.Run(t.Context(), "hornbeam", p)
			if err != nil {
				t.Fatal(err)
			}
			late := int64(0)
			for _, stage := range result.(*runner.Result).Final.Stages {
				late += stage.Counts.Late
			}
			if late != c.late {
				t.Errorf("got %d late hits, want %d", late, c.late)
			}
		})
	}
}

// lock holds held up at its last element, and says when it has come there.
type lock struct{ come, leave chan struct{} }

var locked atomic.Pointer[lock]

// lastElement is the one at which held waits.
const lastElement = -1

func held(x int) int {
	if l := locked.Load(); l != nil && x == lastElement {
		close(l.come)
		<-l.leave
	}
	return x
}

func measurement(x int) units.Measurement {
	return units.Measurement{Device: fmt.Sprint(x), Millis: int64(x), Value: "20", Unit: "Cel"}
}

func visit(x int) (string, sessions.Visit) { return fmt.Sprint(x), sessions.Visit{Cents: int64(x)} }

func transaction(x int) fraud.Transaction {
	return fraud.Transaction{ID: 1, Customer: int64(x), Millis: int64(x), Cents: 100}
}

// What our own transforms remember of a key goes away with time (FC-6). Keys come and go for ten
// rounds; then nothing of them is left, though the job has not ended.
func TestTransformsForgetTheirKeys(t *testing.T) {
	const rounds, keys = 10, 200
	const apart = 30 * 24 * time.Hour // Longer than any of them remembers.
	for name, build := range map[string]func(s beam.Scope, in beam.PCollection){
		"dedupe": func(s beam.Scope, in beam.PCollection) {
			units.Dedupe(s, beam.ParDo(s, measurement, in), time.Hour)
		},
		"hourly": func(s beam.Scope, in beam.PCollection) {
			units.Hourly(s, beam.ParDo(s, measurement, in), time.Hour)
		},
		"sessions": func(s beam.Scope, in beam.PCollection) {
			sessions.Sessionize(s, beam.ParDo(s, visit, in), sessions.Config{Lateness: time.Hour})
		},
		"fraud": func(s beam.Scope, in beam.PCollection) {
			fraud.Detect(s, beam.ParDo(s, transaction, in), fraud.DefaultRules())
		},
	} {
		t.Run(name, func(t *testing.T) {
			events := teststream.NewConfig()
			for round := range rounds {
				from := round * int(apart.Milliseconds())
				var all []any
				for key := range keys {
					all = append(all, from+key)
				}
				if err := events.AddElements(int64(from), all...); err != nil {
					t.Fatal(err)
				}
				events.AdvanceWatermark(int64(from) + apart.Milliseconds())
			}
			if err := events.AddElements(rounds*apart.Milliseconds(), lastElement); err != nil {
				t.Fatal(err)
			}
			p, s := beam.NewPipelineWithRoot()
			build(s, beam.ParDo(s, held, teststream.Create(s, events)))

			l := &lock{make(chan struct{}), make(chan struct{})}
			locked.Store(l)
			defer locked.Store(nil)
			dir := filepath.Join(t.TempDir(), "state")
			job, err := runner.Open(runner.Options{StateDir: dir, NoFusion: true})
			if err != nil {
				t.Fatal(err)
			}
			running, err := job.Start(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			<-l.come
			running.Stop()
			close(l.leave)
			if _, err := running.Wait(); !errors.Is(err, runner.ErrStopped) {
				t.Fatalf("got %v, want ErrStopped", err)
			}
			if err := job.Close(); err != nil {
				t.Fatal(err)
			}
			i, err := runner.Inspect(dir)
			if err != nil {
				t.Fatal(err)
			}
			seen := int64(0)
			for _, stage := range i.Stages {
				seen = max(seen, stage.In)
				if stage.StateRows != 0 || stage.Timers != 0 {
					t.Errorf("stage %d, %s: %d rows of state and %d timers are left", stage.ID, stage.Name, stage.StateRows, stage.Timers)
				}
			}
			if seen < rounds*keys {
				t.Errorf("got %d elements, want %d", seen, rounds*keys)
			}
		})
	}
}
