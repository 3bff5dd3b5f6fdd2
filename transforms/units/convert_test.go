// SPDX-License-Identifier: Apache-2.0

package units_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/teststream"

	"github.com/hornbeam-dev/hornbeam/transforms/dlq"
	"github.com/hornbeam-dev/hornbeam/transforms/units"
)

func init() {
	register.Function1x1(code)
	register.Function1x1(measurementText)
	register.Function1x1(aggregateText)
	register.DoFn1x0[string](&printFn{})
}

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "hornbeam") }

func code(bad dlq.BadRecord) string { return bad.Failure.Code + " " + string(bad.Record.Encoded) }

func measurementText(m units.Measurement) string { return text(m) }

func aggregateText(a units.Aggregate) string { return text(a) }

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func record(device, at, value, unit string) string {
	return fmt.Sprintf(`{"device":%q,"time":%q,"value":%q,"unit":%q}`, device, at, value, unit)
}

func records(s beam.Scope, lines ...string) beam.PCollection {
	var all [][]byte
	for _, line := range lines {
		all = append(all, []byte(line))
	}
	return beam.CreateList(s, all)
}

// TestInIsOutAndDead: each record comes out converted, or is a dead letter with its code and its
// original bytes.
func TestInIsOutAndDead(t *testing.T) {
	const noon = "2026-05-01T12:00:00Z"
	good := []string{
		record("a", noon, "212", "[degF]"),
		`{"device":"a","time":"2026-05-01T12:01:00Z","value":98.60,"unit":"[degF]","more":1}`,
		record("a", "2026-05-01T14:02:00+02:00", "0", "K"),
		record("a", "2026-05-01T12:03:00Z", "98.7", "[degF]"),
	}
	bad := map[string]string{
		"\xff\xfe":                        "PARSE",
		`{"device":`:                      "PARSE",
		`[]`:                              "PARSE",
		record("b", noon, "7x", "[degF]"): "PARSE",
		`{"device":"b","time":"2026-05-01T12:00:00Z","unit":"Cel"}`:          "PARSE",
		`{"device":"b","time":"2026-05-01T12:00:00Z","value":[1],"unit":""}`: "EMPTY_UNIT",
		record("", noon, "1", "Cel"):                                         "NO_DEVICE",
		record("b", "yesterday", "1", "Cel"):                                 "BAD_TIME",
		record("b", noon, "1", ""):                                           "EMPTY_UNIT",
		record("b", noon, "1", "degF"):                                       "UNKNOWN_UNIT",
		record("b", noon, "1", "Pa"):                                         "DIMENSION",
		record("b", noon, "NaN", "Cel"):                                      "NAN",
		record("b", noon, "-459.68", "[degF]"):                               "BELOW_ABS_ZERO",
	}
	lines := append([]string{}, good...)
	var dead []any
	for line, c := range bad {
		lines = append(lines, line)
		dead = append(dead, c+" "+line)
	}
	p, s := beam.NewPipelineWithRoot()
	parsed := units.Parse(s, records(s, lines...), units.Clock{})
	r := units.Convert(s, parsed.Out)
	passert.Equals(s, beam.ParDo(s, measurementText, r.Out),
		`{"device":"a","time":"2026-05-01T12:00:00Z","value":"100","unit":"Cel"}`,
		`{"device":"a","time":"2026-05-01T12:01:00Z","value":"37","unit":"Cel"}`,
		`{"device":"a","time":"2026-05-01T12:02:00Z","value":"-273.15","unit":"Cel"}`,
		`{"device":"a","time":"2026-05-01T12:03:00Z","value":"37.0555555555556","unit":"Cel"}`)
	passert.Equals(s, beam.ParDo(s, code, dlq.Collect(s, parsed.Dead, r.Dead)), dead...)
	ptest.RunAndValidate(t, p)
}

func TestClockFollowsTheRecord(t *testing.T) {
	c := teststream.NewConfig()
	arrived := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, ahead := range []time.Duration{0, 5 * time.Minute, 5*time.Minute + time.Millisecond, -time.Hour, -time.Hour - time.Millisecond} {
		c.AddElements(arrived.UnixMilli(), []byte(record("a", arrived.Add(ahead).Format(time.RFC3339Nano), "1", "Cel")))
	}
	c.AdvanceWatermarkToInfinity()
	p, s := beam.NewPipelineWithRoot()
	r := units.Parse(s, teststream.Create(s, c), units.Clock{Ahead: 5 * time.Minute, Behind: time.Hour})
	passert.Count(s, r.Out, "readings", 3)
	passert.Equals(s, beam.ParDo(s, code, r.Dead),
		"FUTURE "+record("a", "2026-05-01T12:05:00.001Z", "1", "Cel"),
		"BAD_TIME "+record("a", "2026-05-01T10:59:59.999Z", "1", "Cel"))
	ptest.RunAndValidate(t, p)
}

func TestOptions(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	in := beam.Create(s,
		units.Reading{Device: "a", Metric: "temp_rise", Value: "12.3", Unit: "K"},
		units.Reading{Device: "a", Metric: "temp_rise", Value: "5", Unit: "Cel"},
		units.Reading{Device: "a", Metric: "temp", Value: "212"},
		units.Reading{Device: "a", Metric: "pressure", Value: "1", Unit: "atm"})
	r := units.Convert(s, in, units.To("temp_rise", "[degR]"), units.Difference("temp_rise"),
		units.DefaultUnit("temp", "[degF]"), units.To("pressure", "kPa"), units.Digits(3))
	passert.Equals(s, beam.ParDo(s, measurementText, r.Out),
		`{"device":"a","metric":"temp_rise","time":"1970-01-01T00:00:00Z","value":"22.14","unit":"[degR]"}`,
		`{"device":"a","metric":"temp","time":"1970-01-01T00:00:00Z","value":"100","unit":"Cel"}`,
		`{"device":"a","metric":"pressure","time":"1970-01-01T00:00:00Z","value":"101.325","unit":"kPa"}`)
	passert.Equals(s, beam.ParDo(s, code, r.Dead), `DIFFERENCE {"device":"a","metric":"temp_rise","value":"5","unit":"Cel"}`)
	ptest.RunAndValidate(t, p)

	for name, opt := range map[string]units.Option{
		"unknown target":            units.To("x", "foo"),
		"default of another kind":   units.DefaultUnit("temp", "Pa"),
		"difference on a scale":     units.Difference("temp_rise"),
		"no digits":                 units.Digits(0),
		"more digits than possible": units.Digits(1000),
	} {
		if _, err := units.TryConvert(s, in, opt); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func measurement(device string, at time.Duration, value, exact string) units.Measurement {
	return units.Measurement{Device: device, Millis: at.Milliseconds(), Value: value, Unit: "Cel", Exact: exact}
}

func arriving(s beam.Scope, all ...units.Measurement) beam.PCollection {
	c := teststream.NewConfig()
	for _, m := range all {
		c.AddElements(m.Millis, m)
	}
	c.AdvanceWatermark(mtime.MaxTimestamp.Milliseconds() / 2)
	c.AdvanceWatermarkToInfinity()
	return teststream.Create(s, c)
}

func TestDedupeAccountsForEach(t *testing.T) {
	a := measurement("a", time.Minute, "1", "")
	b := measurement("b", time.Minute, "1", "")
	other := measurement("a", time.Minute, "2", "")
	p, s := beam.NewPipelineWithRoot()
	r := units.Dedupe(s, arriving(s, a, b, a, other, a), time.Minute)
	passert.Equals(s, beam.WindowInto(s, window.NewGlobalWindows(), r.Out), a, b)
	passert.Equals(s, beam.WindowInto(s, window.NewGlobalWindows(), r.Doubled), a, a)
	passert.Count(s, beam.WindowInto(s, window.NewGlobalWindows(), r.Dead), "dead letters", 1)
	ptest.RunAndValidate(t, p)
}

func TestHourlyIsExact(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	third := "0.333333333333333"
	in := arriving(s,
		measurement("a", 0, third, "1/3"), measurement("a", 59*time.Minute, third, "1/3"), measurement("a", time.Hour-time.Millisecond, third, "1/3"),
		measurement("a", time.Hour, "-5.5", ""), measurement("a\x00b", 0, "7", ""))
	hours := units.Hourly(s, in, 0) // With a lateness Prism writes each hour twice.
	passert.Equals(s, beam.ParDo(s, aggregateText, beam.WindowInto(s, window.NewGlobalWindows(), hours)),
		`{"hour":"1970-01-01T00:00:00Z","device":"a","unit":"Cel","count":3,"min":"0.333333333333333","max":"0.333333333333333","mean":"0.333333333333333","sum":"1"}`,
		`{"hour":"1970-01-01T01:00:00Z","device":"a","unit":"Cel","count":1,"min":"-5.5","max":"-5.5","mean":"-5.5","sum":"-5.5"}`,
		`{"hour":"1970-01-01T00:00:00Z","device":"a\u0000b","unit":"Cel","count":1,"min":"7","max":"7","mean":"7","sum":"7"}`)
	ptest.RunAndValidate(t, p)
}

// TestLateMeasurementGivesARevision: the hour is given once more, whole.
func TestLateMeasurementGivesARevision(t *testing.T) {
	c := teststream.NewConfig()
	c.AddElements(0, measurement("a", 0, "1", ""))
	c.AdvanceWatermark(time.Hour.Milliseconds())
	c.AddElements(1, measurement("a", time.Millisecond, "2", ""))
	c.AdvanceWatermarkToInfinity()
	p, s := beam.NewPipelineWithRoot()
	hours := units.Hourly(s, teststream.Create(s, c), time.Minute)
	passert.Equals(s, beam.ParDo(s, aggregateText, beam.WindowInto(s, window.NewGlobalWindows(), hours)),
		`{"hour":"1970-01-01T00:00:00Z","device":"a","unit":"Cel","count":1,"min":"1","max":"1","mean":"1","sum":"1"}`,
		`{"hour":"1970-01-01T00:00:00Z","device":"a","unit":"Cel","count":2,"min":"1","max":"2","mean":"1.5","sum":"3","revision":1}`)
	ptest.RunAndValidate(t, p)
}

// printed is what the example prints; the runner is in this process.
var printed struct {
	sync.Mutex
	lines []string
}

type printFn struct{}

func (printFn) ProcessElement(line string) {
	printed.Lock()
	defer printed.Unlock()
	printed.lines = append(printed.lines, line)
}

func ExampleConvert() {
	p, s := beam.NewPipelineWithRoot()
	parsed := units.Parse(s, records(s,
		record("therm-1", "2026-05-01T12:00:00Z", "212", "[degF]"),
		record("therm-1", "2026-05-01T12:01:00Z", "98.6", "[degF]"),
		record("therm-2", "2026-05-01T12:00:00Z", "1", "°F")), units.Clock{})
	r := units.Convert(s, parsed.Out)
	beam.ParDo0(s, &printFn{}, beam.ParDo(s, measurementText, r.Out))
	beam.ParDo0(s, &printFn{}, beam.ParDo(s, code, dlq.Collect(s, parsed.Dead, r.Dead)))
	if _, err := prism.Execute(context.Background(), p); err != nil {
		fmt.Println(err)
	}
	sort.Strings(printed.lines)
	for _, line := range printed.lines {
		fmt.Println(line)
	}
	// Output:
	// UNKNOWN_UNIT {"device":"therm-2","time":"2026-05-01T12:00:00Z","value":"1","unit":"°F"}
	// {"device":"therm-1","time":"2026-05-01T12:00:00Z","value":"100","unit":"Cel"}
	// {"device":"therm-1","time":"2026-05-01T12:01:00Z","value":"37","unit":"Cel"}
}
