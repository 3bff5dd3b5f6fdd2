// SPDX-License-Identifier: Apache-2.0

// Job is a pipeline for the tests of integration/dataflow: alerts on cards in one file, or a count
// of ticks that has no end.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/state"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/io/textio"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/transforms/periodic"

	"github.com/hornbeam-dev/hornbeam/fixtures/cards"
	"github.com/hornbeam-dev/hornbeam/runner/launch"
	"github.com/hornbeam-dev/hornbeam/transforms/fraud"
)

var (
	output = flag.String("output", "", "File of the alerts.")
	days   = flag.Int("days", 1, "Days of generated cards.")
	ticks  = flag.Bool("ticks", false, "Count ticks without end, and write nothing.")
	broken = flag.Bool("broken", false, "Fail at the first element.")
)

func init() {
	flag.String("api_token", "", "A secret of a library that is linked in.")
	register.DoFn3x1[context.Context, []byte, func([]byte), error](&passFn{})
	register.DoFn4x1[context.Context, state.Provider, string, []byte, error](&countFn{})
	register.Function1x1(transaction)
	register.Function1x2(alertLine)
	register.Function1x2(tick)
	register.Emitter1[[]byte]()
}

const (
	namespace   = "job"
	counted     = "counted"
	tickEvery   = 100 * time.Millisecond
	ticksNoEnds = 24 * time.Hour
)

func main() {
	launch.Main(launch.Program{
		Name:   "dataflow-job",
		Usage:  "dataflow-job is the pipeline of integration/dataflow.",
		Flags:  []string{"output", "days", "ticks", "broken"},
		Build:  build,
		Totals: totals,
	})
}

func build(s beam.Scope, job launch.Job) error {
	if *ticks {
		now := time.Now()
		impulses := periodic.Impulse(s, now, now.Add(ticksNoEnds), tickEvery, false)
		beam.ParDo0(s, &countFn{Count: state.MakeValueState[int]("count")}, beam.ParDo(s, tick, impulses))
		return nil
	}
	if *output == "" {
		return errors.New("--output is missing")
	}
	if launch.Remote() && !strings.Contains(*output, "://") {
		return fmt.Errorf("--output=%s: the workers are elsewhere and cannot write a file of this machine: write gs://BUCKET/PATH", *output)
	}
	lines := cards.ReadLines(s, cards.ReadConfig{Days: *days})
	checked := beam.ParDo(s, &passFn{Broken: *broken}, lines)
	rules := fraud.DefaultRules()
	rules.Limit = 2 // So that a day has alerts.
	found := fraud.Detect(s, beam.ParDo(s, transaction, cards.Parse(s, checked).Out), rules)
	textio.Write(s, *output, beam.ParDo(s, alertLine, found.Alerts))
	return nil
}

func totals(m metrics.QueryResults) launch.Totals {
	return launch.Totals{In: launch.Counter(m, namespace, counted), Out: launch.Counter(m, "fraud.Detect", "judged")}
}

// passFn counts what it passes on.
type passFn struct {
	Broken bool // Fails instead.
}

func (f *passFn) ProcessElement(ctx context.Context, line []byte, emit func([]byte)) error {
	if f.Broken {
		return errors.New("the pipeline is broken on purpose")
	}
	beam.NewCounter(namespace, counted).Inc(ctx, 1)
	emit(line)
	return nil
}

func tick(impulse []byte) (string, []byte) { return "all", impulse }

// countFn counts in its state, and as a metric.
type countFn struct {
	Count state.Value[int] // Ticks so far.
}

func (f *countFn) ProcessElement(ctx context.Context, sp state.Provider, _ string, _ []byte) error {
	n, _, err := f.Count.Read(sp)
	if err != nil {
		return err
	}
	beam.NewCounter(namespace, counted).Inc(ctx, 1)
	return f.Count.Write(sp, n+1)
}

func transaction(t cards.Transaction) fraud.Transaction {
	return fraud.Transaction{ID: t.ID, Customer: t.Customer, Millis: t.UnixMilli(), Cents: t.Cents}
}

func alertLine(a fraud.Alert) (string, error) {
	line, err := json.Marshal(a)
	return string(line), err
}
