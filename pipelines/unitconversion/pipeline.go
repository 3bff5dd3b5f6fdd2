// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"reflect"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/fixtures/devices"
	"github.com/hornbeam-dev/hornbeam/fixtures/feed"
	"github.com/hornbeam-dev/hornbeam/io/kinesisio"
	"github.com/hornbeam-dev/hornbeam/pipelines/ends"
	"github.com/hornbeam-dev/hornbeam/runner/launch"
	"github.com/hornbeam-dev/hornbeam/transforms/units"
)

func init() {
	register.Function1x2(readingTime)
	register.Function1x2(readingRecordTime)
	register.Function1x1(measurementRow)
	register.Function1x1(aggregateRow)
	beam.RegisterType(reflect.TypeFor[measurement]())
	beam.RegisterType(reflect.TypeFor[aggregate]())
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

It writes celsius-*, hourly-* (by device and hour) and dead-*. Kill it at any moment: the same
command continues.

Examples:
  go run ./pipelines/unitconversion
  go run ./pipelines/unitconversion --devices=500 --duration=24h --output=/tmp/celsius
  go run ./pipelines/unitconversion --input='kafka://localhost:9092/readings' --out_of_order=10m`,
	Flags: append([]string{"devices", "duration", "seed", "rate"}, ends.Flags...),
	Build: func(s beam.Scope, job launch.Job) error {
		e, err := ends.FromFlags("unitconversion", job)
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
		return Convert(s, e, cfg, feed.Options{Rate: *rate, Rest: job.Pace.Rest})
	},
	Totals: totals,
}

// Convert reads readings as JSON lines and writes measurements, aggregates and dead letters.
func Convert(s beam.Scope, e ends.Ends, cfg devices.Config, opts feed.Options) error {
	records, err := ends.Read(s, e, ends.Source{
		Generate:    func(s beam.Scope) beam.PCollection { return devices.ReadLines(s, cfg, opts) },
		FileTime:    readingTime,
		KinesisTime: readingRecordTime,
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
	noMeasurement, err := ends.Write(s, e, "celsius", beam.ParDo(s, measurementRow, unique.Out))
	if err != nil {
		return err
	}
	hourly := units.Hourly(s, unique.Out, 0)
	noAggregate, err := ends.Write(s, e, "hourly", beam.ParDo(s, aggregateRow, hourly))
	if err != nil {
		return err
	}
	return ends.WriteDead(s, e, records, append(records.Dead, parsed.Dead, converted.Dead, unique.Dead, noMeasurement, noAggregate)...)
}

// readingTime is Unknown for a line that is no reading: parsing makes a dead letter of it.
func readingTime(line []byte) (time.Time, error) {
	r, err := units.ParseReading(line)
	if err != nil {
		return ends.Unknown, nil
	}
	return time.UnixMilli(r.Millis), nil
}

func readingRecordTime(r kinesisio.Record) (time.Time, error) { return readingTime(r.Data) }

// measurement is units.Measurement as a row of a table. As JSON it is the same.
type measurement struct {
	Device string    `json:"device"`
	Metric string    `json:"metric,omitempty"`
	Time   time.Time `json:"time"`
	Value  string    `json:"value"`
	Unit   string    `json:"unit"`
}

func measurementRow(m units.Measurement) measurement {
	return measurement{Device: m.Device, Metric: m.Metric, Time: instant(m.Millis), Value: m.Value, Unit: m.Unit}
}

// aggregate is units.Aggregate as a row of a table. As JSON it is the same.
type aggregate struct {
	Hour     time.Time `json:"hour"`
	Device   string    `json:"device"`
	Metric   string    `json:"metric,omitempty"`
	Unit     string    `json:"unit"`
	Count    int64     `json:"count"`
	Min      string    `json:"min"`
	Max      string    `json:"max"`
	Mean     string    `json:"mean"`
	Sum      string    `json:"sum"`
	Revision int64     `json:"revision,omitempty"`
}

func aggregateRow(a units.Aggregate) aggregate {
	return aggregate{
		Hour: instant(a.Hour), Device: a.Device, Metric: a.Metric, Unit: a.Unit, Count: a.Count,
		Min: a.Min, Max: a.Max, Mean: a.Mean, Sum: a.Sum, Revision: a.Revision,
	}
}

func instant(millis int64) time.Time { return time.UnixMilli(millis).UTC() }

func totals(m metrics.QueryResults) launch.Totals {
	return launch.Totals{
		In:      ends.In(m),
		Out:     launch.Counter(m, "units.Dedupe", "out"),
		Doubled: launch.Counter(m, "units.Dedupe", "doubled"),
		Dead:    launch.Counters(m, "dlq"),
	}
}
