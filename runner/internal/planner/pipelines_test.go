// SPDX-License-Identifier: Apache-2.0

package planner

import (
	"context"
	"reflect"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window/trigger"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/state"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/timers"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/io/rtrackers/offsetrange"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/teststream"
)

func init() {
	for _, fn := range []any{
		lines, words, format, one, rowKey, split, grouped, sum, joined, joinedWithSide, withSlice,
		withLookup, rowLookup, rows,
	} {
		beam.RegisterFunction(fn)
	}
	for _, fn := range []any{&countDown{}, newRemember(), &finalizing{}, &ranged{}} {
		beam.RegisterDoFn(fn)
	}
	beam.RegisterType(reflect.TypeFor[row]())
}

// row has a schema, so its coder is one the runner does not know.
type row struct {
	Name string
	N    int
}

func lines(_ []byte, emit func(string))                                         { emit("a b") }
func words(line string, emit func(string))                                      { emit(line) }
func format(w string, n int) string                                             { return w }
func one(s string) (string, int)                                                { return s, 1 }
func rowKey(s string) (row, row)                                                { return row{Name: s}, row{} }
func rows(s string) row                                                         { return row{Name: s} }
func split(s string, a, b func(string))                                         { a(s) }
func sum(a, b int) int                                                          { return a + b }
func grouped(k row, vs func(*row) bool, emit func(string))                      { emit(k.Name) }
func joined(k string, a, b func(*int) bool, emit func(string))                  { emit(k) }
func joinedWithSide(k string, a, b func(*int) bool, s []string, _ func(string)) {}
func withSlice(s string, side []string, emit func(string))                      { emit(s) }
func withLookup(s string, side func(string) func(*int) bool, emit func(string)) { emit(s) }
func rowLookup(s string, side func(row) func(*row) bool, emit func(string))     { emit(s) }

// countDown is a splittable DoFn.
type countDown struct{ N int }

func (f *countDown) CreateInitialRestriction(string) offsetrange.Restriction {
	return offsetrange.Restriction{End: int64(f.N)}
}
func (f *countDown) SplitRestriction(_ string, r offsetrange.Restriction) []offsetrange.Restriction {
	return []offsetrange.Restriction{r}
}
func (f *countDown) RestrictionSize(_ string, r offsetrange.Restriction) float64 { return r.Size() }
func (f *countDown) CreateTracker(r offsetrange.Restriction) *sdf.LockRTracker {
	return sdf.NewLockRTracker(offsetrange.NewTracker(r))
}
func (f *countDown) ProcessElement(rt *sdf.LockRTracker, s string, emit func(string)) error {
	for i := range int64(f.N) {
		if !rt.TryClaim(i) {
			return nil
		}
	}
	rt.TryClaim(int64(f.N))
	emit(s)
	return nil
}

// ranged is a splittable DoFn with a side input.
type ranged struct{ countDown }

func (f *ranged) ProcessElement(rt *sdf.LockRTracker, s string, side []string, emit func(string)) error {
	return nil
}

// remember has every kind of state, and timers of both clocks.
type remember struct {
	Last  state.Value[row]
	All   state.Bag[int]
	Sum   state.Combining[int, int, int]
	ByKey state.Map[string, int]
	Seen  state.Set[string]
	Order state.OrderedList[int]
	Due   timers.EventTime
	Flush timers.ProcessingTime
}

func newRemember() *remember {
	return &remember{
		Last: state.MakeValueState[row]("last"), All: state.MakeBagState[int]("all"),
		Sum:   state.MakeCombiningState[int, int, int]("sum", sum),
		ByKey: state.MakeMapState[string, int]("bykey"), Seen: state.MakeSetState[string]("seen"),
		Order: state.MakeOrderedListState[int]("order"),
		Due:   timers.InEventTime("due"), Flush: timers.InProcessingTime("flush"),
	}
}

func (f *remember) ProcessElement(w beam.Window, sp state.Provider, tp timers.Provider, k, v row, emit func(string)) {
	emit(k.Name)
}

func (f *remember) OnTimer(_ context.Context, ts beam.EventTime, sp state.Provider, tp timers.Provider, k row, t timers.Context, emit func(string)) {
}

// finalizing asks for bundle finalization.
type finalizing struct{}

func (f *finalizing) ProcessElement(bf beam.BundleFinalization, s string, emit func(string)) { emit(s) }

// pipelines are the pipelines of the specs, by name.
var pipelines = map[string]func(s beam.Scope){
	"impulse": func(s beam.Scope) { beam.ParDo(s, lines, beam.Impulse(s)) },
	"wordcount": func(s beam.Scope) {
		beam.ParDo(s, format, beam.CombinePerKey(s, sum, pairs(s)))
	},
	"counting": func(s beam.Scope) {
		in := beam.WindowInto(s, window.NewFixedWindows(time.Minute), pairs(s),
			beam.Trigger(trigger.AfterEndOfWindow().EarlyFiring(trigger.AfterCount(3))), beam.PanesAccumulate(),
			beam.AllowedLateness(time.Hour))
		beam.ParDo(s, format, beam.CombinePerKey(s, sum, in))
	},
	"global": func(s beam.Scope) { beam.Combine(s, sum, beam.DropKey(s, pairs(s))) },
	"group":  func(s beam.Scope) { beam.ParDo(s, grouped, beam.GroupByKey(s, beam.ParDo(s, rowKey, text(s)))) },
	"cogbk": func(s beam.Scope) {
		both := beam.CoGroupByKey(s, pairs(s), pairs(s.Scope("other")))
		beam.ParDo(s, words, beam.ParDo(s, joined, both))
		beam.ParDo(s, joinedWithSide, both, beam.SideInput{Input: text(s)})
	},
	"flatten": func(s beam.Scope) {
		a := text(s)
		b := beam.ParDo(s, words, a)
		all := beam.Flatten(s, a, b, a)
		beam.ParDo(s, words, all)
		beam.ParDo(s, one, beam.Flatten(s, all, b))
	},
	"reshuffle": func(s beam.Scope) {
		beam.ParDo(s, words, beam.ParDo(s, words, beam.Reshuffle(s, beam.ParDo(s, words, text(s)))))
	},
	"sides": func(s beam.Scope) {
		a := text(s)
		main := beam.ParDo(s, words, a)
		one := beam.ParDo(s, withSlice, main, beam.SideInput{Input: a})
		beam.ParDo(s, withSlice, one, beam.SideInput{Input: a})
		beam.ParDo(s, withLookup, one, beam.SideInput{Input: pairs(s)})
		beam.ParDo(s, rowLookup, main, beam.SideInput{Input: beam.ParDo(s, rowKey, a)})
	},
	"splittable": func(s beam.Scope) {
		beam.ParDo(s, words, beam.ParDo(s, &countDown{N: 3}, text(s)))
	},
	"splittable with side": func(s beam.Scope) {
		a := text(s)
		beam.ParDo(s, &ranged{}, a, beam.SideInput{Input: a})
	},
	"state": func(s beam.Scope) {
		beam.ParDo(s, words, beam.ParDo(s, newRemember(), beam.ParDo(s, rowKey, text(s))))
	},
	"sessions": func(s beam.Scope) {
		in := beam.WindowInto(s, window.NewSessions(time.Minute), pairs(s))
		beam.ParDo(s, format, beam.CombinePerKey(s, sum, in))
	},
	"sliding": func(s beam.Scope) {
		in := beam.WindowInto(s, window.NewSlidingWindows(time.Second, time.Minute), pairs(s),
			beam.Trigger(trigger.Repeat(trigger.AfterProcessingTime().PlusDelay(time.Second))), beam.PanesDiscard())
		beam.GroupByKey(s, in)
	},
	"outputs": func(s beam.Scope) {
		_, b := beam.ParDo2(s, split, text(s))
		beam.ParDo(s, words, beam.Reshuffle(s, b))
	},
	"triggers": func(s beam.Scope) {
		in := beam.WindowInto(s, window.NewFixedWindows(time.Minute), pairs(s), beam.PanesDiscard(),
			beam.Trigger(trigger.AfterEach([]trigger.Trigger{
				trigger.OrFinally(trigger.Always(), trigger.Never()),
				trigger.AfterEndOfWindow().LateFiring(trigger.AfterSynchronizedProcessingTime()),
				trigger.AfterProcessingTime().AlignedTo(time.Minute, time.Unix(1, 0)),
			})))
		beam.CombinePerKey(s, sum, in)
	},
	"finalize": func(s beam.Scope) { beam.ParDo(s, &finalizing{}, text(s)) },
	"teststream": func(s beam.Scope) {
		c := teststream.NewConfig()
		must(c.AddElements(1000, "a", "bc"))
		must(c.AdvanceWatermark(2000))
		c.AdvanceProcessingTime(500)
		must(c.AdvanceWatermarkToInfinity())
		beam.ParDo(s, words, teststream.Create(s, c))
	},
	"teststream of rows": func(s beam.Scope) {
		c := teststream.NewConfig()
		must(c.AddElements(1000, row{Name: "a", N: 1}))
		must(c.AdvanceWatermarkToInfinity())
		beam.Reshuffle(s, teststream.Create(s, c))
	},
	"two teststreams": func(s beam.Scope) {
		c := teststream.NewConfig()
		must(c.AddElements(1000, "a"))
		teststream.Create(s, c)
		teststream.Create(s, c)
	},
}

func text(s beam.Scope) beam.PCollection  { return beam.ParDo(s, lines, beam.Impulse(s)) }
func pairs(s beam.Scope) beam.PCollection { return beam.ParDo(s, one, text(s)) }

func must(err error) {
	if err != nil {
		panic(err)
	}
}
