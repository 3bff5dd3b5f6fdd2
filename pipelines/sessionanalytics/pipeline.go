// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"reflect"
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
	register.DoFn2x2[context.Context, sessions.Session, session, error](&rowFn{})
	beam.RegisterType(reflect.TypeFor[session]())
}

var (
	gap    = flag.Duration("gap", 30*time.Minute, "A session ends when the customer does nothing for this long.")
	source = ends.CardFlags()
)

var program = launch.Program{
	Name: "sessionanalytics",
	Usage: `
sessionanalytics finds the sessions of each customer: transactions with less than --gap between
them. It writes sessions-* and dead-*. Kill it at any moment: the same command continues.

Examples:
  go run ./pipelines/sessionanalytics
  go run ./pipelines/sessionanalytics --gap=4h --days=30 --output=/tmp/sessions
  go run ./pipelines/sessionanalytics --input='kafka://localhost:9092/cards?from=earliest&to=latest'`,
	Flags: slices.Concat([]string{"gap"}, ends.CardFlagNames, ends.Flags),
	Build: func(s beam.Scope, job launch.Job) error {
		e, err := ends.FromFlags("sessionanalytics", job)
		if err != nil {
			return err
		}
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
	refused, err := ends.Write(s, e, "sessions", beam.ParDo(s, &rowFn{}, found.Sessions))
	if err != nil {
		return err
	}
	return ends.WriteDead(s, e, read.Records, append(read.Dead, found.Dead, refused)...)
}

func visit(t cards.Transaction) (string, sessions.Visit) {
	return strconv.FormatInt(t.Customer, 10), sessions.Visit{Cents: t.Cents}
}

// session is a row of the result.
type session struct {
	Customer     int64     `json:"customer"`
	Start        time.Time `json:"start"`
	End          time.Time `json:"end"` // Of the last transaction.
	Transactions int64     `json:"transactions"`
	Amount       string    `json:"amount"` // With two decimal places.
	Revision     int64     `json:"revision,omitempty"`
}

// rowFn makes rows of sessions and counts what is in them.
type rowFn struct {
	sessions, transactions beam.Counter
}

func (f *rowFn) Setup() {
	f.sessions = beam.NewCounter("sessionanalytics", "sessions")
	f.transactions = beam.NewCounter("sessionanalytics", "transactions")
}

func (f *rowFn) ProcessElement(ctx context.Context, s sessions.Session) (session, error) {
	f.sessions.Inc(ctx, 1)
	f.transactions.Inc(ctx, s.Transactions)
	customer, err := strconv.ParseInt(s.Customer, 10, 64)
	return session{
		Customer:     customer,
		Start:        time.UnixMilli(s.Start).UTC(),
		End:          time.UnixMilli(s.End).UTC(),
		Transactions: s.Transactions,
		Amount:       sessions.Amount(s.Cents),
		Revision:     s.Revision,
	}, err
}

// totals: a transaction has come out when its session has.
func totals(m metrics.QueryResults) launch.Totals {
	return launch.Totals{
		In:   ends.In(m),
		Out:  launch.Counter(m, "sessionanalytics", "transactions"),
		Dead: launch.Counters(m, "dlq"),
	}
}
