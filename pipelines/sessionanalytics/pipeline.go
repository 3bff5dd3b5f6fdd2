// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"flag"
	"slices"
	"strconv"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/fixtures/cards"
	"github.com/hornbeam-dev/hornbeam/pipelines/ends"
	"github.com/hornbeam-dev/hornbeam/runner/launch"
	"github.com/hornbeam-dev/hornbeam/transforms/sessions"
)

func init() {
	register.Function1x2(visit)
	register.DoFn2x2[context.Context, sessions.Session, []byte, error](&lineFn{})
}

var (
	gap    = flag.Duration("gap", 30*time.Minute, "A session ends when the customer does nothing for this long.")
	source = ends.CardFlags()
)

var program = launch.Program{
	Name: "sessionanalytics",
	Usage: `
sessionanalytics finds the sessions of each customer: transactions with less than --gap between
them. It writes sessions-*.jsonl and dead-*.jsonl. Kill it at any moment: the same command continues.

Examples:
  go run ./pipelines/sessionanalytics
  go run ./pipelines/sessionanalytics --gap=4h --days=30 --output=/tmp/sessions
  go run ./pipelines/sessionanalytics --input='kafka://localhost:9092/cards?from=earliest&to=latest'`,
	Flags: slices.Concat([]string{"gap"}, ends.CardFlagNames, ends.Flags),
	Build: func(s beam.Scope, job launch.Job) error {
		e, err := ends.FromFlags("sessionanalytics", job.ID)
		if err != nil {
			return err
		}
		e.Turn, source.Rest = job.Pace.Turn, job.Pace.Rest
		return Analyze(s, e, *source, *gap)
	},
	Totals: totals,
}

// Analyze reads card transactions, as canonical CSV lines, and writes sessions and dead letters.
func Analyze(s beam.Scope, e ends.Ends, generator cards.ReadConfig, gap time.Duration) error {
	read, err := ends.ReadCards(s, e, generator)
	if err != nil {
		return err
	}
	found, err := sessions.TrySessionize(s, beam.ParDo(s, visit, read.Transactions), sessions.Config{Gap: gap})
	if err != nil {
		return err
	}
	if err := ends.Write(s, e, "sessions", beam.ParDo(s, &lineFn{}, found.Sessions)); err != nil {
		return err
	}
	return ends.WriteDead(s, e, append(read.Dead, found.Dead)...)
}

func visit(t cards.Transaction) (string, sessions.Visit) {
	return strconv.FormatInt(t.Customer, 10), sessions.Visit{Cents: t.Cents}
}

// lineFn makes a JSON line of a session and counts what is in it.
type lineFn struct {
	sessions, transactions beam.Counter
}

func (f *lineFn) Setup() {
	f.sessions = beam.NewCounter("sessionanalytics", "sessions")
	f.transactions = beam.NewCounter("sessionanalytics", "transactions")
}

func (f *lineFn) ProcessElement(ctx context.Context, s sessions.Session) ([]byte, error) {
	f.sessions.Inc(ctx, 1)
	f.transactions.Inc(ctx, s.Transactions)
	return json.Marshal(struct {
		Customer     json.Number `json:"customer"`
		Start        string      `json:"start"`
		End          string      `json:"end"`
		Transactions int64       `json:"transactions"`
		Amount       string      `json:"amount"`
	}{json.Number(s.Customer), timeText(s.Start), timeText(s.End), s.Transactions, sessions.Amount(s.Cents)})
}

func timeText(millis int64) string { return time.UnixMilli(millis).UTC().Format(time.RFC3339Nano) }

// totals: a transaction has come out when its session has.
func totals(m metrics.QueryResults) launch.Totals {
	return launch.Totals{
		In:   ends.In(m),
		Out:  launch.Counter(m, "sessionanalytics", "transactions"),
		Dead: launch.Counters(m, "dlq"),
	}
}
