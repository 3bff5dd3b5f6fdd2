// SPDX-License-Identifier: Apache-2.0

package sessions

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window/trigger"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/transforms/dlq"
)

func init() {
	beam.RegisterType(reflect.TypeFor[Visit]())
	beam.RegisterType(reflect.TypeFor[Session]())
	beam.RegisterType(reflect.TypeFor[Totals]())
	beam.RegisterCoder(reflect.TypeFor[Totals](), encodeTotals, decodeTotals)
	register.DoFn5x0[beam.EventTime, string, Visit, func(string, Totals), func(dlq.BadRecord)](&TotalFn{})
	register.DoFn4x0[beam.PaneInfo, string, func(*Totals) bool, func(Session)](&SessionFn{})
	register.Iter1[Totals]()
	register.Emitter2[string, Totals]()
	register.Emitter1[Session]()
	register.Emitter1[dlq.BadRecord]()
}

// Code says why a visit is a dead letter.
type Code string

// CodeNoUser is a visit without a customer. There is no other code.
const CodeNoUser Code = "NO_USER"

const scopeName = "sessions.Sessionize"

// Config says what a session is.
type Config struct {
	// Gap is how long a customer does nothing between two sessions; 0 means 30 minutes.
	Gap time.Duration
	// Lateness is how long after its end a session can still grow. A late visit within it gives
	// the session once more, whole: with a higher Revision if its end has stayed, else as a new
	// session that covers the old one. Sessions of the same customer that lie within it, and were
	// written before, are void. A later visit is a session of its own, or is dropped and counted
	// by the runner if its own window has expired.
	Lateness time.Duration
}

// Result has the outputs of Sessionize.
type Result struct {
	Sessions beam.PCollection // PCollection<sessions.Session> in the global window, at the last ms before the gap is over.
	Dead     beam.PCollection // PCollection<dlq.BadRecord>.
}

// Sessionize gives the sessions of each customer, when the watermark has passed the end of the gap.
//
// The sessions are not in session windows any more: grouping them again, by another key, cannot
// merge the sessions of different customers. Whether visits exactly one gap apart are one session
// depends on how strictly the runner follows Beam's definition, which says two; Prism makes one.
//
// Input: PCollection<KV<string, sessions.Visit>>, by customer, with event times. It panics if the
// configuration makes no sense; TrySessionize returns an error.
func Sessionize(s beam.Scope, visits beam.PCollection, cfg Config) Result {
	r, err := TrySessionize(s, visits, cfg)
	if err != nil {
		panic(err)
	}
	return r
}

// TrySessionize is Sessionize with an error for a configuration that makes no sense.
func TrySessionize(s beam.Scope, visits beam.PCollection, cfg Config) (Result, error) {
	if cfg.Gap == 0 {
		cfg.Gap = 30 * time.Minute
	}
	if cfg.Gap < time.Millisecond || cfg.Lateness < 0 {
		return Result{}, fmt.Errorf("%s: gap %v and lateness %v; the gap has to be at least 1ms, the lateness cannot be negative", scopeName, cfg.Gap, cfg.Lateness)
	}
	s = s.Scope(scopeName)
	totals, dead := beam.ParDo2(s, &TotalFn{}, visits)
	windowed := beam.WindowInto(s, window.NewSessions(cfg.Gap), totals,
		beam.Trigger(trigger.Default()), beam.AllowedLateness(cfg.Lateness), beam.PanesAccumulate())
	// No Combine: the Go SDK's loses the pane, which has the revision.
	global := beam.WindowInto(s, window.NewGlobalWindows(), beam.ParDo(s, &SessionFn{}, beam.GroupByKey(s, windowed)))
	return Result{Sessions: global, Dead: dead}, nil
}

// Totals is what is known of some visits of one customer.
type Totals struct{ First, Last, Count, Cents int64 }

// add is associative and commutative, so visits may come in any order.
func add(a, b Totals) Totals {
	return Totals{min(a.First, b.First), max(a.Last, b.Last), a.Count + b.Count, a.Cents + b.Cents}
}

// encodeTotals is there because each visit is encoded once, and the row coder takes longer.
func encodeTotals(t Totals) []byte {
	b := make([]byte, 0, 24)
	b = binary.AppendVarint(b, t.First)
	b = binary.AppendVarint(b, t.Last-t.First)
	b = binary.AppendVarint(b, t.Count)
	return binary.AppendVarint(b, t.Cents)
}

var errTotals = errors.New("bytes are not the totals of a session")

func decodeTotals(b []byte) (Totals, error) {
	var fields [4]int64
	for i := range fields {
		value, n := binary.Varint(b)
		if n <= 0 {
			return Totals{}, errTotals
		}
		fields[i], b = value, b[n:]
	}
	if len(b) != 0 {
		return Totals{}, errTotals
	}
	return Totals{fields[0], fields[0] + fields[1], fields[2], fields[3]}, nil
}

// TotalFn makes totals of each single visit.
type TotalFn struct{}

// ProcessElement emits totals, or a dead letter if there is no customer.
func (fn *TotalFn) ProcessElement(at beam.EventTime, customer string, v Visit, emit func(string, Totals), dead func(dlq.BadRecord)) {
	millis := at.Milliseconds()
	if customer == "" {
		dead(dlq.Of(CodeNoUser, scopeName, fmt.Sprintf("a visit at %d ms has no customer", millis), v))
		return
	}
	emit(customer, Totals{millis, millis, 1, v.Cents})
}

// SessionFn makes a session of the totals of the visits of a session window.
type SessionFn struct{}

// ProcessElement keeps the timestamp, which is the end of the window: the time of the last visit is
// behind the watermark by now.
func (fn *SessionFn) ProcessElement(pane beam.PaneInfo, customer string, next func(*Totals) bool, emit func(Session)) {
	var t, visit Totals
	next(&t)
	for next(&visit) {
		t = add(t, visit)
	}
	emit(Session{customer, t.First, t.Last, t.Count, t.Cents, max(pane.Index, 0)})
}
