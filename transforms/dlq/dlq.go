// SPDX-License-Identifier: Apache-2.0

// Package dlq is the dead letter: what a transform says about an input it cannot use. The schema is
// that of Beam Java's BadRecord, so that tools for it read ours.
package dlq

import (
	"context"
	"encoding/json"
	"reflect"
	"strconv"
	"unicode/utf8"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
)

func init() {
	beam.RegisterType(reflect.TypeFor[BadRecord]())
	beam.RegisterType(reflect.TypeFor[Record]())
	beam.RegisterType(reflect.TypeFor[Failure]())
	register.DoFn2x1[context.Context, BadRecord, BadRecord](&CountFn{})
	register.DoFn1x2[BadRecord, []byte, error](&EncodeFn{})
}

// BadRecord is an input that could not be used, and why.
type BadRecord struct {
	Record  Record  `beam:"record" json:"record"`
	Failure Failure `beam:"failure" json:"failure"`
}

// Record is the input as it came.
type Record struct {
	HumanReadableJSON string `beam:"human_readable_json_record" json:"human_readable_json_record"` // For people; other bytes than UTF-8 are escaped.
	Encoded           []byte `beam:"encoded_record" json:"encoded_record"`                         // The original bytes.
	Coder             string `beam:"coder" json:"coder"`                                           // How Encoded is to be read.
}

// Failure is what is wrong with it.
type Failure struct {
	Description      string `beam:"description" json:"description"`             // A sentence.
	Exception        string `beam:"exception" json:"exception"`                 // The text of the cause; may be empty.
	FailingTransform string `beam:"failing_transform" json:"failing_transform"` // Where.
	Code             string `beam:"code" json:"code"`                           // One of a closed set of the transform's package.
}

// New is the dead letter of a record that came as bytes. The code is a constant of the transform's package.
func New[Code ~string](code Code, transform, description string, original []byte) BadRecord {
	return BadRecord{
		Record:  Record{HumanReadableJSON: readable(original), Encoded: original, Coder: "bytes"},
		Failure: Failure{Description: valid(description), FailingTransform: transform, Code: string(code)},
	}
}

// Of is the dead letter of a record that came as a Go value. It is kept as JSON.
func Of[Code ~string](code Code, transform, description string, original any) BadRecord {
	text, err := json.Marshal(original)
	if err != nil {
		text = []byte(strconv.Quote(err.Error()))
	}
	bad := New(code, transform, description, text)
	bad.Record.Coder = "json:" + reflect.TypeOf(original).String()
	return bad
}

// readable is JSON itself, or a JSON string that shows the bytes. Bytes that are not UTF-8 are
// shown as \xNN there: no proto string can carry them.
func readable(original []byte) string {
	if utf8.Valid(original) && json.Valid(original) {
		return string(original)
	}
	text, err := json.Marshal(valid(string(original)))
	if err != nil {
		return strconv.QuoteToASCII(string(original))
	}
	return string(text)
}

// valid is the text with each byte that is not UTF-8 as \xNN.
func valid(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	var out []byte
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		if r == utf8.RuneError && size == 1 {
			const hex = "0123456789abcdef"
			out = append(out, '\\', 'x', hex[text[0]>>4], hex[text[0]&15])
		} else {
			out = append(out, text[:size]...)
		}
		text = text[size:]
	}
	return string(out)
}

// Collect is all dead letters in one collection. They are counted by code, in counters of the
// namespace "dlq".
//
// Inputs: PCollection<dlq.BadRecord>. Output: the same.
func Collect(s beam.Scope, dead ...beam.PCollection) beam.PCollection {
	s = s.Scope("dlq.Collect")
	return beam.ParDo(s, &CountFn{}, beam.Flatten(s, dead...))
}

// CountFn is the DoFn that counts in Collect.
type CountFn struct {
	counters map[string]beam.Counter
}

// ProcessElement passes the dead letter on.
func (fn *CountFn) ProcessElement(ctx context.Context, bad BadRecord) BadRecord {
	counter, ok := fn.counters[bad.Failure.Code]
	if !ok {
		if fn.counters == nil {
			fn.counters = map[string]beam.Counter{}
		}
		counter = beam.NewCounter("dlq", bad.Failure.Code)
		fn.counters[bad.Failure.Code] = counter
	}
	counter.Inc(ctx, 1)
	return bad
}

// Encode makes a JSON line of each dead letter, without end of line.
//
// Input: PCollection<dlq.BadRecord>. Output: PCollection<[]byte>.
func Encode(s beam.Scope, dead beam.PCollection) beam.PCollection {
	return beam.ParDo(s.Scope("dlq.Encode"), &EncodeFn{}, dead)
}

// EncodeFn is the DoFn behind Encode.
type EncodeFn struct{}

// ProcessElement is json.Marshal.
func (fn *EncodeFn) ProcessElement(bad BadRecord) ([]byte, error) {
	return json.Marshal(bad)
}
