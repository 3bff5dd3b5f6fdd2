// SPDX-License-Identifier: Apache-2.0

package fraud

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	beamstate "github.com/apache/beam/sdks/v2/go/pkg/beam/core/state"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/timers"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/transforms/dlq"
)

func init() {
	beam.RegisterType(reflect.TypeFor[Transaction]())
	beam.RegisterType(reflect.TypeFor[Alert]())
	register.DoFn4x0[context.Context, Transaction, func(int64, []byte), func(dlq.BadRecord)](&KeyFn{})
	register.DoFn8x1[context.Context, beamstate.Provider, timers.Provider, int64, []byte,
		func(beam.EventTime, Alert), func(Transaction), func(dlq.BadRecord), error](&DetectFn{})
	register.Emitter2[int64, []byte]()
	register.Emitter2[beam.EventTime, Alert]()
	register.Emitter1[Transaction]()
	register.Emitter1[dlq.BadRecord]()
}

// Code says why a transaction is a dead letter.
type Code string

// The codes of Detect. There are no others.
const (
	CodeConflict Code = "CONFLICT"  // The card has a transaction with this ID that differs.
	CodeBadValue Code = "BAD_VALUE" // A negative amount.
)

// scopeName is the scope of Detect, the transform of its dead letters and the namespace of its
// counters.
const scopeName = "fraud.Detect"

// Result has the outputs of Detect. Each input is judged, or in Late, or in Dead, or a duplicate;
// the counters "transactions", "judged", "late", "dead" and "duplicates" of the namespace
// "fraud.Detect" add up.
type Result struct {
	Alerts beam.PCollection // PCollection<fraud.Alert>, at the time of the marked transaction.
	Late   beam.PCollection // PCollection<fraud.Transaction> that came when their instant had been judged.
	Dead   beam.PCollection // PCollection<dlq.BadRecord>.
}

// Detect marks transactions by the rules, as soon as the watermark has passed them. Within the
// watermark the order of arrival does not matter. A repeated transaction is dropped.
//
// State is one value for each card: what waits for the watermark and what the rules look back at.
// It is freed when the card has had no transaction for Rules.Forget.
//
// Input: PCollection<fraud.Transaction> in the global window, with event times that the watermark
// follows. It panics if the rules make no sense; TryDetect returns an error.
func Detect(s beam.Scope, transactions beam.PCollection, rules Rules) Result {
	r, err := TryDetect(s, transactions, rules)
	if err != nil {
		panic(err)
	}
	return r
}

// TryDetect is Detect with an error for rules that make no sense.
func TryDetect(s beam.Scope, transactions beam.PCollection, rules Rules) (Result, error) {
	if err := rules.check(); err != nil {
		return Result{}, fmt.Errorf("fraud.Detect: %w", err)
	}
	s = s.Scope(scopeName)
	keyed, bad := beam.ParDo2(s, &KeyFn{}, transactions)
	alerts, late, conflicts := beam.ParDo3(s, newDetectFn(rules), keyed)
	return Result{Alerts: alerts, Late: late, Dead: beam.Flatten(s, bad, conflicts)}, nil
}

var (
	received   = beam.NewCounter(scopeName, "transactions")
	judged     = beam.NewCounter(scopeName, "judged")
	late       = beam.NewCounter(scopeName, "late")
	dead       = beam.NewCounter(scopeName, "dead")
	duplicates = beam.NewCounter(scopeName, "duplicates")
	alerted    = beam.NewCounter(scopeName, "alerts")
)

// KeyFn sends transactions to their cards, in a form that is cheap to decode.
type KeyFn struct{}

// ProcessElement emits customer and record, or a dead letter.
func (fn *KeyFn) ProcessElement(ctx context.Context, t Transaction, emit func(int64, []byte), bad func(dlq.BadRecord)) {
	received.Inc(ctx, 1)
	if t.Cents < 0 {
		dead.Inc(ctx, 1)
		bad(dlq.Of(CodeBadValue, scopeName, fmt.Sprintf("transaction %d of customer %d has the negative amount of %d cents", t.ID, t.Customer, t.Cents), t))
		return
	}
	emit(t.Customer, encode(make([]byte, 0, recordSize), t))
}

// DetectFn holds the transactions of a card until the watermark has passed them, and judges.
type DetectFn struct {
	Rules Rules                   // Checked.
	Card  beamstate.Value[[]byte] // See state.
	Wake  timers.EventTime        // The next thing to do: judge what is due, or forget the card.
}

func newDetectFn(rules Rules) *DetectFn {
	return &DetectFn{
		Rules: rules,
		Card:  beamstate.MakeValueState[[]byte]("card/v1"),
		Wake:  timers.InEventTime("wake"),
	}
}

// ProcessElement puts a transaction in its place among those that wait.
func (fn *DetectFn) ProcessElement(ctx context.Context, sp beamstate.Provider, tp timers.Provider, customer int64, record []byte,
	_ func(beam.EventTime, Alert), emitLate func(Transaction), emitDead func(dlq.BadRecord)) error {
	t := decode(customer, record)
	s, err := fn.read(sp)
	if err != nil {
		return err
	}
	place, same, conflict := s.find(t)
	switch {
	case same:
		duplicates.Inc(ctx, 1)
		return nil
	case conflict:
		dead.Inc(ctx, 1)
		known := s.transaction(customer, place)
		emitDead(dlq.Of(CodeConflict, scopeName, fmt.Sprintf("customer %d already has a transaction %d, at %d ms of %d cents", customer, t.ID, known.Millis, known.Cents), t))
		return nil
	case t.Millis <= s.judged():
		late.Inc(ctx, 1)
		emitLate(t)
		return nil
	}
	wake := s.waiting() == 0 || t.Millis < s.earliest()
	s = s.insert(place, record)
	if wake {
		fn.wakeToJudge(tp, s, t.Millis)
	}
	return fn.Card.Write(sp, s)
}

// OnTimer judges what waits and is due, or forgets the card.
func (fn *DetectFn) OnTimer(ctx context.Context, at beam.EventTime, sp beamstate.Provider, tp timers.Provider, customer int64, _ timers.Context,
	emit func(beam.EventTime, Alert), _ func(Transaction), _ func(dlq.BadRecord)) error {
	s, err := fn.read(sp)
	if err != nil {
		return err
	}
	if s.waiting() == 0 {
		return fn.Card.Clear(sp)
	}
	if mtime.Time(at) == mtime.MaxTimestamp {
		// The timer was set to forget the card, before a transaction came that waits: the
		// watermark need not have passed it.
		fn.wakeToJudge(tp, s, s.earliest())
		return fn.Card.Write(sp, s)
	}
	before := s.waiting()
	s = s.judgeUntil(s.due(), customer, fn.Rules, func(a Alert) {
		alerted.Inc(ctx, 1)
		emit(mtime.FromMilliseconds(a.Millis), a)
	})
	judged.Inc(ctx, int64(before-s.waiting()))
	if s.waiting() > 0 {
		// Where several instants wait, the watermark has most often passed all of them already:
		// one firing is enough. If it has not, they wait for no more than what is out of order.
		fn.wakeToJudge(tp, s, s.latest())
	} else {
		fn.wakeToForget(tp, s.judged())
	}
	return fn.Card.Write(sp, s)
}

// wakeToJudge sets the timer past an instant: while the watermark stands at it, more of that
// instant can come. The output timestamp is the earliest that waits, so that alerts are not late.
func (fn *DetectFn) wakeToJudge(tp timers.Provider, s state, due int64) {
	s.setDue(due)
	fn.Wake.Set(tp, (mtime.FromMilliseconds(due) + 1).ToTime(), timers.WithOutputTimestamp(mtime.FromMilliseconds(s.earliest()).ToTime()))
}

func (fn *DetectFn) wakeToForget(tp timers.Provider, last int64) {
	fn.Wake.Set(tp, time.UnixMilli(last).Add(fn.Rules.forget()), timers.WithNoOutputTimestamp())
}

func (fn *DetectFn) read(sp beamstate.Provider) (state, error) {
	stored, ok, err := fn.Card.Read(sp)
	if err != nil {
		return nil, err
	}
	if !ok {
		return newState(), nil
	}
	return checkState(stored)
}
