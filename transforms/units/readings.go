// SPDX-License-Identifier: Apache-2.0

package units

import (
	"encoding/json"
	"math/big"
	"reflect"
	"time"
	"unicode/utf8"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/hornbeam-dev/hornbeam/transforms/dlq"
)

func init() {
	beam.RegisterType(reflect.TypeFor[Reading]())
	beam.RegisterType(reflect.TypeFor[Measurement]())
}

// Reading is what a device reports.
type Reading struct {
	Device string `beam:"device" json:"device"`
	Metric string `beam:"metric" json:"metric,omitempty"` // What is measured; empty if the device has one metric only.
	Millis int64  `beam:"time" json:"-"`                  // Event time, ms since 1970.
	Value  string `beam:"value" json:"value"`             // Decimal text.
	Unit   string `beam:"unit" json:"unit"`               // UCUM code.
	Raw    []byte `beam:"raw" json:"-"`                   // The record it was read from, for dead letters; may be empty.
}

// Measurement is a reading in the target unit.
type Measurement struct {
	Device string `beam:"device"`
	Metric string `beam:"metric"`
	Millis int64  `beam:"time"`  // Event time, ms since 1970.
	Value  string `beam:"value"` // Decimal text, as short as can be.
	Unit   string `beam:"unit"`  // UCUM code of the target.
	Exact  string `beam:"exact"` // The value as a fraction, if Value had to be rounded; else empty.
}

// MarshalJSON writes the time as RFC 3339, and the value as a decimal number in a string.
func (m Measurement) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Device string `json:"device"`
		Metric string `json:"metric,omitempty"`
		Time   string `json:"time"`
		Value  string `json:"value"`
		Unit   string `json:"unit"`
	}{m.Device, m.Metric, instant(m.Millis), m.Value, m.Unit})
}

func instant(millis int64) string { return time.UnixMilli(millis).UTC().Format(time.RFC3339Nano) }

// rat is the exact value of a measurement.
func (m Measurement) rat() (*big.Rat, error) {
	if m.Exact == "" {
		return parseValue(m.Value)
	}
	x, ok := new(big.Rat).SetString(m.Exact)
	if !ok {
		return nil, fail(CodeParse, "the exact value %.40q is not a fraction", m.Exact)
	}
	return x, nil
}

// ParseReading reads a JSON record such as
//
//	{"device":"therm-0001","time":"2026-05-01T10:00:00Z","value":"72.5","unit":"[degF]"}
//
// with an optional "metric". The value is a string or a number; its text is taken as it stands.
// Errors are PARSE, NO_DEVICE and BAD_TIME.
func ParseReading(raw []byte) (Reading, error) {
	var fields struct {
		Device string          `json:"device"`
		Metric string          `json:"metric"`
		Time   string          `json:"time"`
		Value  json.RawMessage `json:"value"`
		Unit   string          `json:"unit"`
	}
	if !utf8.Valid(raw) {
		return Reading{}, fail(CodeParse, "the record is not UTF-8")
	}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return Reading{}, fail(CodeParse, "the record is not a JSON object of a reading: %v", err)
	}
	r := Reading{Device: fields.Device, Metric: fields.Metric, Unit: fields.Unit, Value: string(fields.Value), Raw: raw}
	if len(r.Value) > 0 && r.Value[0] == '"' {
		if err := json.Unmarshal(fields.Value, &r.Value); err != nil {
			return Reading{}, fail(CodeParse, "the value is not a string: %v", err)
		}
	}
	if r.Device == "" {
		return Reading{}, fail(CodeNoDevice, "the device is missing")
	}
	at, err := time.Parse(time.RFC3339Nano, fields.Time)
	if err != nil {
		return Reading{}, fail(CodeBadTime, "the time %.40q is not in RFC 3339, such as 2026-05-01T10:00:00Z", fields.Time)
	}
	r.Millis = at.UnixMilli()
	return r, nil
}

// deadLetter carries the record a reading was read from or, without one, the reading.
func (r Reading) deadLetter(transform string, err error) dlq.BadRecord {
	if len(r.Raw) == 0 {
		return dlq.Of(codeOf(err), transform, err.Error(), r)
	}
	return dlq.New(codeOf(err), transform, err.Error(), r.Raw)
}
