// SPDX-License-Identifier: Apache-2.0

package format

import (
	"encoding/csv"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// FuzzRoundTrip makes rows out of its arguments, writes them in each typed format and reads them back.
func FuzzRoundTrip(f *testing.F) {
	f.Add(int64(1), uint64(2), 0.5, "text", []byte{3}, uint8(7))
	f.Add(int64(math.MinInt64), uint64(math.MaxUint64), math.NaN(), "", []byte(nil), uint8(255))
	f.Fuzz(func(t *testing.T, n int64, u uint64, x float64, text string, raw []byte, shape uint8) {
		e := every{
			I8: int8(n), I16: int16(n), I32: int32(n), I64: n, Int: int(n), U8: uint8(u), U16: uint16(u), U32: uint32(u), U64: u >> 1, Uint: uint(u >> 1),
			F32: float32(x), F64: x, Bytes: raw, Time: time.UnixMicro(n).UTC(), Duration: time.Duration(n), Bool: shape&1 > 0,
		}
		if utf8.ValidString(text) {
			e.String, e.Maybe, e.Lists = text, &text, [][]string{nil, {text}}
			e.Map = map[string]float64{text: x, text + "x": x}
			e.ByName = map[string]nested{text: {A: int16(n)}}
		}
		for i := range shape >> 4 {
			e.List = append(e.List, int32(i))
			e.Maybes = append(e.Maybes, &n, nil)
			e.Structs = append(e.Structs, nested{A: int16(i), B: e.Maybe, C: make([]bool, i)})
		}
		if shape&2 > 0 {
			e.MaybeOne = &nested{B: e.Maybe}
		}
		want := []every{e, {}, e}
		for _, format := range []Format{Avro, Parquet} {
			got, err := elements[every](format, file(t, format, Usual, want...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, equal); diff != "" {
				t.Errorf("format %d: -written +read\n%s", format, diff)
			}
		}
	})
}

// FuzzAvro reads files that may be anything. They are no panic, and cost no more memory than they are worth.
func FuzzAvro(f *testing.F) {
	f.Add(file(f, Avro, None, someCards...))
	f.Add(file(f, Avro, Usual, someCards...))
	f.Fuzz(func(t *testing.T, content []byte) {
		_, _ = elements[card](Avro, content)
	})
}

// FuzzRecord takes any text for a record of CSV. What is accepted is one record for a reader, too.
func FuzzRecord(f *testing.F) {
	for _, s := range []string{"a,b", `"a""b",`, "\"a\nb\"", "a\"", "\"a\" b", ",", "\r"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if checkRecord([]byte(s)) != nil {
			return
		}
		records, err := csv.NewReader(strings.NewReader(s + "\n" + s + "\n")).ReadAll()
		if len(records) != 2 || err != nil {
			t.Errorf("%q twice makes %d records, %v", s, len(records), err)
		}
	})
}
