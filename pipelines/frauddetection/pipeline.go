// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/fixtures/cards"
	"github.com/hornbeam-dev/hornbeam/pipelines/ends"
	"github.com/hornbeam-dev/hornbeam/runner/launch"
	"github.com/hornbeam-dev/hornbeam/transforms/fraud"
)

func init() {
	register.Function1x1(transaction)
	register.Function1x1(alertRow)
	beam.RegisterType(reflect.TypeFor[alert]())
}

var (
	limit  = flag.Int("velocity_limit", fraud.DefaultRules().Limit, "Number of a card's transactions within --velocity_window that is marked.")
	window = flag.Duration("velocity_window", fraud.DefaultRules().Window, "Time in which --velocity_limit transactions are too many.")
	small  = flag.Float64("small", 5, "An amount below this is small.")
	large  = flag.Float64("large", 100, "An amount above this is large.")
	within = flag.Duration("within", fraud.DefaultRules().Within, "Time after a small amount in which a large one is marked.")
	source = ends.CardFlags()
)

var program = launch.Program{
	Name: "frauddetection",
	Usage: `
frauddetection marks suspicious card transactions, in event-time order for each card:
  velocity          at least --velocity_limit transactions within --velocity_window
  small-then-large  an amount below --small, and the next one above --large and soon after it

It writes alerts-* and dead-*. Kill it at any moment: the same command continues.

Examples:
  go run ./pipelines/frauddetection
  go run ./pipelines/frauddetection --days=7 --shuffle=1h --output=/tmp/alerts
  go run ./pipelines/frauddetection --input='file:cards/**/*.csv.gz' --output=s3://bucket/alerts --format=parquet
  go run ./pipelines/frauddetection --input='kafka://localhost:9092/cards' --output=kafka://localhost:9092/alerts`,
	Flags: slices.Concat([]string{"velocity_limit", "velocity_window", "small", "large", "within"},
		ends.CardFlagNames, ends.Flags),
	Build: func(s beam.Scope, job launch.Job) error {
		e, err := ends.FromFlags("frauddetection", job)
		if err != nil {
			return err
		}
		rules := fraud.DefaultRules()
		rules.Limit, rules.Window, rules.Within = *limit, *window, *within
		if !(*small >= 0 && *small < 1e9 && *large >= 0 && *large < 1e9) {
			return fmt.Errorf("--small=%v --large=%v: give amounts from 0", *small, *large)
		}
		rules.Small, rules.Large = cents(*small), cents(*large)
		return Detect(s, e, *source, rules)
	},
	Totals: totals,
}

func cents(amount float64) int64 { return int64(amount*100 + 0.5) }

// Detect reads card transactions, as canonical CSV lines, and writes alerts and dead letters.
func Detect(s beam.Scope, e ends.Ends, generator cards.ReadConfig, rules fraud.Rules) error {
	read, err := ends.ReadCards(s, e, generator)
	if err != nil {
		return err
	}
	found, err := fraud.TryDetect(s, beam.ParDo(s, transaction, read.Transactions), rules)
	if err != nil {
		return err
	}
	refused, err := ends.Write(s, e, "alerts", beam.ParDo(s, alertRow, found.Alerts))
	if err != nil {
		return err
	}
	return ends.WriteDead(s, e, read.Records, append(read.Dead, found.Dead, refused)...)
}

func transaction(t cards.Transaction) fraud.Transaction {
	return fraud.Transaction{ID: t.ID, Customer: t.Customer, Millis: t.UnixMilli(), Cents: t.Cents}
}

// alert is fraud.Alert as a row of a table. As JSON it is the same.
type alert struct {
	Rule         string    `json:"rule"`
	Customer     int64     `json:"customer"`
	EventTime    time.Time `json:"event_time"`
	Transactions []int64   `json:"transactions"`
}

func alertRow(a fraud.Alert) alert {
	return alert{Rule: a.Rule, Customer: a.Customer, EventTime: time.UnixMilli(a.Millis).UTC(), Transactions: a.Transactions}
}

// totals: every transaction that was judged has come out, marked or not.
func totals(m metrics.QueryResults) launch.Totals {
	count := func(name string) int64 { return launch.Counter(m, "fraud.Detect", name) }
	return launch.Totals{
		In:      ends.In(m),
		Out:     count("judged"),
		Late:    count("late"),
		Doubled: count("duplicates"),
		Dead:    launch.Counters(m, "dlq"),
	}
}
