// SPDX-License-Identifier: Apache-2.0

package format

import (
	"bytes"
	"encoding/json"
	"math/big"
	"testing"
	"time"
)

func ptr[T any](v T) *T { return &v }

// someOfEvery has all kinds of values, and their extremes.
var someOfEvery = []every{
	{},
	{
		Bool: true, I8: -128, I16: -32768, I32: -1 << 31, I64: -1 << 63, Int: -1, U8: 255, U16: 65535, U32: 1<<32 - 1, U64: 1<<63 - 1, Uint: 7,
		F32: 0.1, F64: -1e300, String: "ü", Bytes: []byte{0, 255}, Time: time.UnixMicro(-1).UTC(), Duration: -time.Second, Number: json.Number("1.50"),
		Big: *big.NewInt(1 << 62), Maybe: ptr(""), MaybeAt: ptr(time.UnixMicro(1<<53 + 1).UTC()), List: []int32{1, -2}, Lists: [][]string{{}, {"a", "b"}, {}},
		Maybes: []*int64{nil, ptr(int64(1)), nil}, Map: map[string]float64{"b": 1, "a": 2, "": 0}, Struct: nested{A: 1, B: ptr("x"), C: []bool{true}},
		Structs: []nested{{A: 2}, {B: ptr(""), C: []bool{false, true}}}, MaybeOne: &nested{A: 3}, ByName: map[string]nested{"n": {A: 4, C: []bool{true}}},
		embedded: embedded{Inner: "in"},
	},
	{Maybes: []*int64{nil}, Lists: [][]string{{"c"}}, Structs: []nested{{}}},
}

func TestTypedFailures(t *testing.T) {
	testFailures(t, Avro, 7, someCards...)
	testFailures(t, Parquet, 7, someCards...)
}

func TestSameBytes(t *testing.T) {
	for _, f := range []Format{Avro, Parquet} {
		for c := Usual; c <= Zstd; c++ {
			first := file(t, f, c, someOfEvery...)
			for range 5 { // Go takes the keys of a map in another order each time.
				if !bytes.Equal(first, file(t, f, c, someOfEvery...)) {
					t.Fatalf("format %d, compression %d: the same rows made other bytes", f, c)
				}
			}
		}
	}
	if a, b := manyRows(t, Parquet, 2500), manyRows(t, Parquet, 2500); !bytes.Equal(a, b) {
		t.Error("the same rows made other row groups")
	}
}
