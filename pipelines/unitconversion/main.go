// SPDX-License-Identifier: Apache-2.0

// Unitconversion converts the readings of thermometers to degrees Celsius, exactly, and sums up
// each hour. Units are in transforms/units, the pipeline is in pipeline.go.
package main

import (
	"flag"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/hornbeam-dev/hornbeam/fixtures/devices"
	"github.com/hornbeam-dev/hornbeam/pipelines/ends"
	"github.com/hornbeam-dev/hornbeam/runner/launch"
)

const name = "unitconversion"

const help = `unitconversion converts the readings of thermometers to degrees Celsius, exactly, takes out what is
reported twice, and sums up each hour of each device.

Readings are JSON lines such as
  {"device":"therm-0001","time":"2026-05-01T10:00:00Z","value":"72.5","unit":"[degF]"}
with units in UCUM. Results are JSON lines: readings-*.jsonl, hourly-*.jsonl, and dead-*.jsonl with
a code and the original record of what is malformed, in an unknown unit, or colder than is possible.
With --output=kafka://HOST:PORT/TOPIC hourly results go to TOPIC-hourly. In the summary "out" counts
the readings that were written; in = out + late + doubled + dead.

Examples:

  go run ./pipelines/unitconversion
  go run ./pipelines/unitconversion --devices=5000 --duration=24h --output=out/day
  go run ./pipelines/unitconversion --input='file:readings/*.jsonl' --out_of_order=15m
  go run ./pipelines/unitconversion --input=kafka://localhost:9092/readings --lateness=1h
  go run ./pipelines/unitconversion --rate=1000`

func main() {
	cfg := Config{Devices: devices.DefaultConfig()}
	cfg.Input.Register(flag.CommandLine)
	cfg.Output.Register(flag.CommandLine)
	flag.IntVar(&cfg.Devices.Devices, "devices", cfg.Devices.Devices, "For the generator: how many thermometers report.")
	flag.DurationVar(&cfg.Devices.Duration, "duration", cfg.Devices.Duration, "For the generator: how long they report, once a minute.")
	flag.DurationVar(&cfg.Lateness, "lateness", 0,
		"How long after its hour a reading is still taken; it changes the sums of the hour once more. Later ones are dropped and counted.")
	launch.Main(launch.Program{
		Name:   name,
		Usage:  help,
		Flags:  slices.Concat(ends.InputFlags, []string{"devices", "duration", "lateness"}, ends.OutputFlags),
		Build:  func(s beam.Scope, job launch.Job) error { return Build(s, cfg, job) },
		Totals: Totals,
	})
}
