// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/fixtures/devices"
	"github.com/hornbeam-dev/hornbeam/fixtures/feed"
	"github.com/hornbeam-dev/hornbeam/io/kafkaio"
	"github.com/hornbeam-dev/hornbeam/pipelines/ends"
	"github.com/hornbeam-dev/hornbeam/runner/launch"
	"github.com/hornbeam-dev/hornbeam/transforms/units"
)

func init() {
	register.Function1x2(readingTime)
	register.Function1x2(readingRecordTime)
	register.Function1x2(measurementLine)
	register.Function1x2(hourLine)
}

// Config says what is read, how late it may be and where it goes.
type Config struct {
	Input    ends.Input
	Devices  devices.Config // Of the generator.
	Lateness time.Duration
	Output   ends.Output
}

// Build composes the pipeline: read, parse, convert, take out repeats, sum up hours, write.
func Build(s beam.Scope, cfg Config, job launch.Job) error {
	if cfg.Lateness < 0 {
		return fmt.Errorf("--lateness is %v; it cannot be negative", cfg.Lateness)
	}
	if _, err := devices.Generate(devices.Config{Devices: cfg.Devices.Devices, Duration: time.Minute}); err != nil {
		return fmt.Errorf("--devices: %w", err)
	}
	if cfg.Devices.Duration < time.Minute || cfg.Devices.Duration > 45*24*time.Hour {
		return fmt.Errorf("--duration is %v; it can be a minute to 45 days", cfg.Devices.Duration)
	}
	sink, err := cfg.Output.Open(name, job.ID, cfg.Input, "hourly", "dead")
	if err != nil {
		return err
	}
	lines, dead, err := ends.Lines(s, cfg.Input, ends.Format{
		Generate: func(s beam.Scope) beam.PCollection {
			return devices.ReadLines(s, cfg.Devices, feed.Options{Rate: cfg.Input.Rate})
		},
		FileTime:  readingTime,
		KafkaTime: readingRecordTime,
	})
	if err != nil {
		return err
	}
	parsed := units.Parse(s, lines, units.Clock{})
	converted := units.Convert(s, parsed.Out)
	once := units.Dedupe(s, converted.Out, cfg.Lateness)
	sink.Write(s, "readings", beam.ParDo(s, measurementLine, once.Out), cfg.Lateness)
	sink.WriteOther(s, "hourly", beam.ParDo(s, hourLine, units.Hourly(s, once.Out, cfg.Lateness)), cfg.Lateness)
	sink.WriteDead(s, append(dead, parsed.Dead, converted.Dead, once.Dead)...)
	return nil
}

func measurementLine(m units.Measurement) ([]byte, error) { return json.Marshal(m) }
func hourLine(a units.Aggregate) ([]byte, error)          { return json.Marshal(a) }

func readingTime(line []byte) (time.Time, error) {
	r, err := units.ParseReading(line)
	if err != nil {
		return ends.Unknown, nil // Parse says what is wrong with it.
	}
	return time.UnixMilli(r.Millis), nil
}

func readingRecordTime(r kafkaio.Record) (time.Time, error) { return readingTime(r.Value) }

// Totals accounts for the readings: those that came out are those written in °C. The runner counts
// those that came late.
func Totals(m metrics.QueryResults) launch.Totals {
	return launch.Totals{
		In:      ends.In(m),
		Out:     launch.Counter(m, "units.Dedupe", "out"),
		Doubled: launch.Counter(m, "units.Dedupe", "doubled"),
		Dead:    ends.Dead(m),
	}
}
