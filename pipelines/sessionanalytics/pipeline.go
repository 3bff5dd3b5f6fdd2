// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
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
	register.DoFn2x1[context.Context, sessions.Session, []byte](&LineFn{})
}

// Config says what is read, what a session is and where sessions go.
type Config struct {
	Input  ends.Cards
	Output ends.Output
	Gap    time.Duration
}

// Build composes the pipeline: read, parse, sessionize, write.
func Build(s beam.Scope, cfg Config, job launch.Job) error {
	if cfg.Gap < time.Millisecond {
		return fmt.Errorf("--gap is %v; it has to be at least 1ms", cfg.Gap)
	}
	sink, err := cfg.Output.Open(name, job.ID, cfg.Input.Input, "dead")
	if err != nil {
		return err
	}
	transactions, dead, err := ends.ReadCards(s, cfg.Input)
	if err != nil {
		return err
	}
	found, err := sessions.TrySessionize(s, beam.ParDo(s, visit, transactions), sessions.Config{Gap: cfg.Gap})
	if err != nil {
		return err
	}
	sink.Write(s, "sessions", beam.ParDo(s, &LineFn{}, found.Sessions), 0)
	sink.WriteDead(s, append(dead, found.Dead)...)
	return nil
}

// visit is what a session is made of.
func visit(t cards.Transaction) (string, sessions.Visit) {
	return strconv.FormatInt(t.Customer, 10), sessions.Visit{Cents: t.Cents}
}

// LineFn makes the line of a session.
type LineFn struct{}

var (
	found   = beam.NewCounter(name, "sessions")
	visited = beam.NewCounter(name, "transactions")
	spent   = beam.NewCounter(name, "cents")
)

// ProcessElement writes the JSON by itself, because there are millions and each is alike.
func (fn *LineFn) ProcessElement(ctx context.Context, s sessions.Session) []byte {
	found.Inc(ctx, 1)
	visited.Inc(ctx, s.Transactions)
	spent.Inc(ctx, s.Cents)
	return appendLine(make([]byte, 0, 128), s)
}

func appendLine(dst []byte, s sessions.Session) []byte {
	dst = append(dst, `{"customer":`...)
	dst = append(dst, s.Customer...) // It is a number: visit wrote it.
	dst = append(dst, `,"start":"`...)
	dst = time.UnixMilli(s.Start).UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `","end":"`...)
	dst = time.UnixMilli(s.End).UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `","transactions":`...)
	dst = strconv.AppendInt(dst, s.Transactions, 10)
	dst = append(dst, `,"amount":"`...)
	dst = append(dst, sessions.Amount(s.Cents)...)
	return append(dst, `"}`...)
}

// Totals accounts for the transactions: those that came out are those in sessions. The runner
// counts those that came late.
func Totals(m metrics.QueryResults) launch.Totals {
	return launch.Totals{
		In:   ends.In(m),
		Out:  launch.Counter(m, name, "transactions"),
		Dead: ends.Dead(m),
	}
}
