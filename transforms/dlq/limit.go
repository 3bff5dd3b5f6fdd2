// SPDX-License-Identifier: Apache-2.0

package dlq

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/state"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/timers"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
)

func init() {
	beam.RegisterType(reflect.TypeFor[Tally]())
	register.DoFn2x0[beam.X, func(int, Tally)](&TallyAllFn{})
	register.DoFn2x0[BadRecord, func(int, Tally)](&TallyDeadFn{})
	register.DoFn4x1[state.Provider, timers.Provider, int, Tally, error](&LimitFn{})
	register.Emitter2[int, Tally]()
}

// limitOption is the pipeline option that holds the limit. It is no part of the pipeline, so that a
// job that it has stopped can be continued with another one.
const limitOption = "hornbeam_max_dead_ratio"

// SetMaxRatio sets the limit of the jobs that this program runs: the part of all records, from 0 to
// 1, that may be dead letters. 1 is no limit.
func SetMaxRatio(ratio float64) error {
	if !(ratio >= 0 && ratio <= 1) {
		return fmt.Errorf("a ratio of %v: give a number from 0 to 1", ratio)
	}
	beam.PipelineOptions.Set(limitOption, strconv.FormatFloat(ratio, 'g', -1, 64))
	return nil
}

// Limit fails the job when too many of its records are dead letters: more than the ratio that
// SetMaxRatio has set, once there were atLeast records; a ratio of 0 allows none, however few there
// are. It looks at the sums of all records so far whenever a bundle has ended, and again a second
// later before it fails the job. Records that were processed by then stay processed.
//
// Inputs: all, a PCollection of any type with all records; dead, a PCollection<BadRecord> with those of
// them that could not be used.
func Limit(s beam.Scope, atLeast int64, all, dead beam.PCollection) {
	s = s.Scope("dlq.Limit")
	global := window.NewGlobalWindows() // What is emitted at the end of a bundle has no window of its own.
	tallies := beam.Flatten(s,
		beam.ParDo(s, &TallyAllFn{}, beam.WindowInto(s, global, all)),
		beam.ParDo(s, &TallyDeadFn{}, beam.WindowInto(s, global, dead)))
	beam.ParDo0(s, &LimitFn{
		AtLeast: atLeast,
		Sum:     state.MakeValueState[Tally]("sum"),
		Waits:   state.MakeValueState[bool]("waits"),
		Over:    timers.InProcessingTime("over"),
	}, tallies)
}

// Tally counts records.
type Tally struct {
	All, Dead int64
}

// TallyAllFn emits the number of elements in each bundle as records.
type TallyAllFn struct {
	count int64
}

// StartBundle begins to count.
func (fn *TallyAllFn) StartBundle(func(int, Tally)) { fn.count = 0 }

// ProcessElement counts one.
func (fn *TallyAllFn) ProcessElement(beam.X, func(int, Tally)) { fn.count++ }

// FinishBundle emits the count.
func (fn *TallyAllFn) FinishBundle(emit func(int, Tally)) {
	if fn.count > 0 {
		emit(0, Tally{All: fn.count})
	}
}

// TallyDeadFn emits the number of elements in each bundle as dead letters.
type TallyDeadFn struct {
	count int64
}

// StartBundle begins to count.
func (fn *TallyDeadFn) StartBundle(func(int, Tally)) { fn.count = 0 }

// ProcessElement counts one.
func (fn *TallyDeadFn) ProcessElement(BadRecord, func(int, Tally)) { fn.count++ }

// FinishBundle emits the count.
func (fn *TallyDeadFn) FinishBundle(emit func(int, Tally)) {
	if fn.count > 0 {
		emit(0, Tally{Dead: fn.count})
	}
}

// LimitFn sums tallies, and fails when there are too many dead letters among them.
type LimitFn struct {
	AtLeast int64 // Records below which nothing is too many, unless none is allowed.
	Sum     state.Value[Tally]
	Waits   state.Value[bool] // Over is set.
	Over    timers.ProcessingTime
}

// ProcessElement adds to the sum. A sum over the limit is dealt with in a timer: an element that
// fails might be set aside, and the job go on without it.
func (fn *LimitFn) ProcessElement(s state.Provider, t timers.Provider, _ int, add Tally) error {
	sum, _, err := fn.Sum.Read(s)
	if err != nil {
		return err
	}
	sum.All += add.All
	sum.Dead += add.Dead
	if err := fn.Sum.Write(s, sum); err != nil {
		return err
	}
	waits, _, err := fn.Waits.Read(s)
	if err != nil || waits || fn.check(sum) == nil {
		return err
	}
	fn.Over.Set(t, time.Now().Add(patience))
	return fn.Waits.Write(s, true)
}

// patience is how long a sum may be over the limit. Dead letters may be counted before the records of the
// same time are.
const patience = time.Second

// OnTimer fails the job if the sum is still over the limit, which may have been changed meanwhile.
func (fn *LimitFn) OnTimer(_ context.Context, s state.Provider, _ timers.Provider, _ int, _ timers.Context) error {
	sum, _, err := fn.Sum.Read(s)
	if err != nil {
		return err
	}
	if err := fn.check(sum); err != nil {
		return err
	}
	return fn.Waits.Clear(s)
}

func (fn *LimitFn) check(sum Tally) error {
	limit := 1.0
	if text := beam.PipelineOptions.Get(limitOption); text != "" {
		var err error
		if limit, err = strconv.ParseFloat(text, 64); err != nil {
			return fmt.Errorf("pipeline option %s: %w", limitOption, err)
		}
	}
	few := limit > 0 && sum.All < fn.AtLeast
	if few || float64(sum.Dead) <= limit*float64(sum.All) {
		return nil
	}
	return fmt.Errorf("%d of %d records are dead letters, more than the allowed part of %v: see what is wrong with them; "+
		"the job continues when it is started again with a higher limit", sum.Dead, sum.All, limit)
}
