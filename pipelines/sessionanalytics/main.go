// SPDX-License-Identifier: Apache-2.0

// Sessionanalytics groups the transactions of each customer into sessions. What a session is stands
// in transforms/sessions, the pipeline is in pipeline.go.
package main

import (
	"flag"
	"slices"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/hornbeam-dev/hornbeam/pipelines/ends"
	"github.com/hornbeam-dev/hornbeam/runner/launch"
)

const name = "sessionanalytics"

const help = `sessionanalytics groups the card transactions of each customer into sessions: they belong together
while less than --gap lies between one and the next.

Transactions are CSV lines: id,seconds since 2018-04-01,customer,terminal,amount,fraud,scenario.
Sessions are JSON lines in sessions-*.jsonl; lines that cannot be read are in dead-*.jsonl. In the
summary "out" counts the transactions that are in sessions.

Examples:

  go run ./pipelines/sessionanalytics
  go run ./pipelines/sessionanalytics --gap=4h --days=30 --output=out/month
  go run ./pipelines/sessionanalytics --input=file:cards.csv --out_of_order=1h
  go run ./pipelines/sessionanalytics --input='kafka://localhost:9092/cards?from=earliest&to=latest'
  go run ./pipelines/sessionanalytics --runner=direct --days=1`

func main() {
	var cfg Config
	cfg.Input.Register(flag.CommandLine)
	cfg.Output.Register(flag.CommandLine)
	flag.DurationVar(&cfg.Gap, "gap", 30*time.Minute, "A session ends when its customer does nothing for so long.")
	launch.Main(launch.Program{
		Name:   name,
		Usage:  help,
		Flags:  slices.Concat([]string{"gap"}, ends.CardFlags, ends.OutputFlags),
		Build:  func(s beam.Scope, job launch.Job) error { return Build(s, cfg, job) },
		Totals: Totals,
	})
}
