// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"flag"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/fixtures/devices"
	"github.com/hornbeam-dev/hornbeam/fixtures/feed"
	"github.com/hornbeam-dev/hornbeam/pipelines/ends"
	"github.com/hornbeam-dev/hornbeam/runner/launch"
	"github.com/hornbeam-dev/hornbeam/transforms/units"
)

func init() {
	register.Function1x2(readingTime)
	register.Function1x2(measurementLine)
	register.Function1x2(aggregateLine)
}

var (
	count    = flag.Int("devices", 0, "Of the generator: number of thermometers (default 2000).")
	duration = flag.Duration("duration", 0, "Of the generator: how long they report, once a minute (default 1h).")
	seed     = flag.Uint64("seed", 1, "Of the generator: another number gives other readings.")
	rate     = flag.Float64("rate", 0, "Of the generator: readings a second; 0 is as fast as they are taken.")
)

var program = launch.Program{
	Name: "unitconversion",
	Usage: `
unitconversion converts the readings of thermometers to degrees Celsius, exactly: 212 degrees
Fahrenheit are 100. Readings that come twice count once; what cannot be read, has an unknown unit
or is below absolute zero is a dead letter with a reason.

It writes celsius-*.jsonl, hourly-*.jsonl (by device and hour) and dead-*.jsonl. Kill it at any
moment: the same command continues.

Examples:
  go run ./pipelines/unitconversion
  go run ./pipelines/unitconversion --devices=500 --duration=24h --output=/tmp/celsius
  go run ./pipelines/unitconversion --input='kafka://localhost:9092/readings' --out_of_order=10m`,
	Flags: append([]string{"devices", "duration", "seed", "rate"}, ends.Flags...),
	Build: func(s beam.Scope, job launch.Job) error {
		e, err := ends.FromFlags("unitconversion", job.ID)
		if err != nil {
			return err
		}
		cfg := devices.DefaultConfig()
		cfg.Seed = *seed
		if *count != 0 {
			cfg.Devices = *count
		}
		if *duration != 0 {
			cfg.Duration = *duration
		}
		if err := ends.CheckRate(*rate); err != nil {
			return err
		}
		if _, err := devices.Generate(cfg); err != nil {
			return err
		}
		e.Turn = job.Pace.Turn
		return Convert(s, e, cfg, feed.Options{Rate: *rate, Rest: job.Pace.Rest})
	},
	Totals: totals,
}

// Convert reads readings as JSON lines and writes measurements, aggregates and dead letters.
func Convert(s beam.Scope, e ends.Ends, cfg devices.Config, opts feed.Options) error {
	records, err := ends.Read(s, e, ends.Source{
		Generate: func(s beam.Scope) beam.PCollection { return devices.ReadLines(s, cfg, opts) },
		FileTime: readingTime,
	})
	if err != nil {
		return err
	}
	parsed := units.Parse(s, records.Lines, units.Clock{})
	converted, err := units.TryConvert(s, parsed.Out, units.To("", "Cel"))
	if err != nil {
		return err
	}
	unique := units.Dedupe(s, converted.Out, 0)
	if err := ends.Write(s, e, "celsius", beam.ParDo(s, measurementLine, unique.Out)); err != nil {
		return err
	}
	hourly := units.Hourly(s, unique.Out, 0)
	if err := ends.Write(s, e, "hourly", beam.ParDo(s, aggregateLine, hourly)); err != nil {
		return err
	}
	return ends.WriteDead(s, e, append(records.Dead, parsed.Dead, converted.Dead, unique.Dead)...)
}

// readingTime is Unknown for a line that is no reading: parsing makes a dead letter of it.
func readingTime(line []byte) (time.Time, error) {
	r, err := units.ParseReading(line)
	if err != nil {
		return ends.Unknown, nil
	}
	return time.UnixMilli(r.Millis), nil
}

func measurementLine(m units.Measurement) ([]byte, error) { return json.Marshal(m) }

func aggregateLine(a units.Aggregate) ([]byte, error) { return json.Marshal(a) }

func totals(m metrics.QueryResults) launch.Totals {
	return launch.Totals{
		In:      ends.In(m),
		Out:     launch.Counter(m, "units.Dedupe", "out"),
		Doubled: launch.Counter(m, "units.Dedupe", "doubled"),
		Dead:    launch.Counters(m, "dlq"),
	}
}
