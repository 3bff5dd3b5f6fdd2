// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"github.com/hornbeam-dev/hornbeam/fixtures/devices"
	"github.com/hornbeam-dev/hornbeam/fixtures/feed"
	"github.com/hornbeam-dev/hornbeam/pipelines/ends/endstest"
)

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "hornbeam") }

func TestEveryReadingIsAccountedFor(t *testing.T) {
	cfg := devices.DefaultConfig()
	cfg.Devices, cfg.Duration, cfg.Seed = 150, 90*time.Minute, 5
	stream, err := devices.Generate(cfg)
	if err != nil {
		t.Fatal(err)
	}
	counts := stream.Counts()
	for _, runner := range []string{"hornbeam", "prism"} {
		e := endstest.To(t)
		m := endstest.Run(t, runner, func(s beam.Scope) error {
			return Convert(s, e, cfg, feed.Options{})
		})
		sum := totals(m)
		if sum.In != int64(len(endstest.Lines(t, e, "celsius"))+len(endstest.Lines(t, e, "dead")))+sum.Doubled {
			t.Errorf("%s: in is not out + dead + doubled: %+v", runner, sum)
		}
		dead := counts[devices.Unparseable] + counts[devices.UnknownUnit] + counts[devices.BelowAbsZero]
		if sum.Dead != int64(dead) || sum.Doubled != int64(counts[devices.Repeat]) || sum.Out != int64(counts[devices.Good]+counts[devices.Late]) {
			t.Errorf("%s: %+v, the generator says %v", runner, sum, counts)
		}
	}
}

func TestConversionIsExact(t *testing.T) {
	e := endstest.Input(t,
		`{"device":"a","time":"2026-05-01T00:00:00Z","value":"212","unit":"[degF]"}`,
		`{"device":"a","time":"2026-05-01T00:01:00Z","value":"98.6","unit":"[degF]"}`,
		`{"device":"a","time":"2026-05-01T00:02:00Z","value":"-460","unit":"[degF]"}`,
		`{"device":"a","time":"2026-05-01T00:03:00Z","value":"1","unit":"[psig]"}`,
		`no reading`)
	endstest.Run(t, "hornbeam", func(s beam.Scope) error {
		return Convert(s, e, devices.Config{}, feed.Options{})
	})
	celsius := strings.Join(endstest.Lines(t, e, "celsius"), "\n")
	for _, want := range []string{`"value":"100"`, `"value":"37"`} {
		if !strings.Contains(celsius, want) {
			t.Errorf("measurements lack %s:\n%s", want, celsius)
		}
	}
	dead := strings.Join(endstest.Lines(t, e, "dead"), "\n")
	for _, want := range []string{"BELOW_ABS_ZERO", "UNKNOWN_UNIT"} {
		if !strings.Contains(dead, want) {
			t.Errorf("dead letters lack %s:\n%s", want, dead)
		}
	}
	if hourly := endstest.Lines(t, e, "hourly"); len(hourly) != 1 || !strings.Contains(hourly[0], `"count":2`) {
		t.Errorf("aggregates %q, want one of two readings", hourly)
	}
}
