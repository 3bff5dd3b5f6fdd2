// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/fixtures/cards"
	"github.com/hornbeam-dev/hornbeam/pipelines/ends"
	"github.com/hornbeam-dev/hornbeam/runner/launch"
	"github.com/hornbeam-dev/hornbeam/transforms/fraud"
)

func init() {
	register.Function1x1(payment)
	register.Function1x2(alertLine)
}

// Config says what is read, what is marked and where it is told.
type Config struct {
	Input  ends.Cards
	Output ends.Output
	Rules  fraud.Rules
}

// Build composes the pipeline: read, parse, judge, write.
func Build(s beam.Scope, cfg Config, job launch.Job) error {
	sink, err := cfg.Output.Open(name, job.ID, cfg.Input.Input, "dead")
	if err != nil {
		return err
	}
	transactions, dead, err := ends.ReadCards(s, cfg.Input)
	if err != nil {
		return err
	}
	judged, err := fraud.TryDetect(s, beam.ParDo(s, payment, transactions), cfg.Rules)
	if err != nil {
		return err
	}
	sink.Write(s, "alerts", beam.ParDo(s, alertLine, judged.Alerts), 0)
	sink.WriteDead(s, append(dead, judged.Dead)...)
	return nil
}

// payment is what the rules look at.
func payment(t cards.Transaction) fraud.Transaction {
	return fraud.Transaction{ID: t.ID, Customer: t.Customer, Millis: t.UnixMilli(), Cents: t.Cents}
}

func alertLine(a fraud.Alert) ([]byte, error) { return json.Marshal(a) }

// Totals accounts for the transactions: those that came out are those that were judged.
func Totals(m metrics.QueryResults) launch.Totals {
	const detect = "fraud.Detect"
	return launch.Totals{
		In:      ends.In(m),
		Out:     launch.Counter(m, detect, "judged"),
		Late:    launch.Counter(m, detect, "late"),
		Doubled: launch.Counter(m, detect, "duplicates"),
		Dead:    ends.Dead(m),
	}
}
