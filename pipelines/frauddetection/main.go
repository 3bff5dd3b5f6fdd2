// SPDX-License-Identifier: Apache-2.0

// Frauddetection marks suspicious card transactions by two rules that look at each card in
// event-time order. The rules are in transforms/fraud, the pipeline is in pipeline.go.
package main

import (
	"flag"
	"fmt"
	"math"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/hornbeam-dev/hornbeam/pipelines/ends"
	"github.com/hornbeam-dev/hornbeam/runner/launch"
	"github.com/hornbeam-dev/hornbeam/transforms/fraud"
)

const name = "frauddetection"

const help = `frauddetection marks suspicious card transactions, looking at each card in event-time order.

  velocity          a transaction with at least --velocity_limit of its card, itself included, in
                    the --velocity_window that ends with it
  small-then-large  one of more than --large, at most --within after one of less than --small

Transactions are CSV lines: id,seconds since 2018-04-01,customer,terminal,amount,fraud,scenario.
Alerts are JSON lines in alerts-*.jsonl; lines that cannot be read are in dead-*.jsonl. In the
summary "out" counts the transactions that were judged.

Examples:

  go run ./pipelines/frauddetection
  go run ./pipelines/frauddetection --days=7 --shuffle=1h --output=out/week
  go run ./pipelines/frauddetection --input=file:cards.csv --velocity_limit=4 --large=250
  go run ./pipelines/frauddetection --input='kafka://localhost:9092/cards?from=earliest&to=latest' --out_of_order=10m
  go run ./pipelines/frauddetection --input=kafka://localhost:9092/cards --output=kafka://localhost:9092/alerts
  go run ./pipelines/frauddetection --rate=5000 --state_dir=/var/lib/hornbeam/fraud
  go run ./pipelines/frauddetection --runner=prism --days=1`

func main() {
	cfg := Config{Rules: fraud.DefaultRules()}
	cfg.Input.Register(flag.CommandLine)
	cfg.Output.Register(flag.CommandLine)
	flag.IntVar(&cfg.Rules.Limit, "velocity_limit", cfg.Rules.Limit, "Transactions in the window that are too many.")
	flag.DurationVar(&cfg.Rules.Window, "velocity_window", cfg.Rules.Window, "Window of the rule velocity.")
	small := flag.Float64("small", float64(cfg.Rules.Small)/100, "A transaction of less is small.")
	large := flag.Float64("large", float64(cfg.Rules.Large)/100, "A transaction of more is large.")
	flag.DurationVar(&cfg.Rules.Within, "within", cfg.Rules.Within, "Longest time from the small transaction to the large one.")
	rules := []string{"velocity_limit", "velocity_window", "small", "large", "within"}
	launch.Main(launch.Program{
		Name:  name,
		Usage: help,
		Flags: slices.Concat(ends.CardFlags, ends.OutputFlags, rules),
		Build: func(s beam.Scope, job launch.Job) error {
			var err error
			if cfg.Rules.Small, err = cents("small", *small); err != nil {
				return err
			}
			if cfg.Rules.Large, err = cents("large", *large); err != nil {
				return err
			}
			return Build(s, cfg, job)
		},
		Totals: Totals,
	})
}

// cents refuses amounts that are not whole cents.
func cents(flag string, amount float64) (int64, error) {
	n := math.Round(amount * 100)
	if math.Abs(n-amount*100) > 1e-6 || math.Abs(n) > 1<<53 {
		return 0, fmt.Errorf("--%s is %v: want an amount with at most two decimals, such as 99.95", flag, amount)
	}
	return int64(n), nil
}
