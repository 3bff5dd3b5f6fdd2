// SPDX-License-Identifier: Apache-2.0

package format

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
)

// footer writes each group of elements as a row group and returns the bounds of each column in each of them.
func footer[T any](t *testing.T, groups ...[]T) []map[string]string {
	t.Helper()
	codec, err := New(Parquet, Usual, reflect.TypeFor[T]())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := codec.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range groups {
		for _, e := range group {
			row, err := codec.Row(e)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Write(row); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.(*parquetWriter).endGroup(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]string
	for _, g := range f.Metadata().RowGroups {
		bounds := map[string]string{}
		for i, c := range g.Columns {
			if c.ColumnIndexOffset != 0 || c.OffsetIndexOffset != 0 {
				t.Errorf("column %v has an index of pages", c.MetaData.PathInSchema)
			}
			typ := f.Schema().Columns()[i]
			leaf, _ := f.Schema().Lookup(typ...)
			unsigned := leaf.Node.Type().ConvertedType() != nil && *leaf.Node.Type().ConvertedType() >= deprecated.Uint8 && *leaf.Node.Type().ConvertedType() <= deprecated.Uint64
			show := func(b []byte) string {
				if b == nil {
					return "-"
				}
				switch v := parquet.Kind(c.MetaData.Type).Value(b); {
				case unsigned && v.Kind() == parquet.Int32:
					return fmt.Sprint(v.Uint32())
				case unsigned:
					return fmt.Sprint(v.Uint64())
				default:
					return v.String()
				}
			}
			s := c.MetaData.Statistics
			if s.Min != nil || s.Max != nil {
				t.Errorf("column %v has the old bounds, which have no order", c.MetaData.PathInSchema)
			}
			text := show(s.MinValue) + " " + show(s.MaxValue)
			if s.NullCount > 0 {
				text += fmt.Sprintf(" %d null", s.NullCount)
			}
			bounds[strings.Join(c.MetaData.PathInSchema, ".")] = text
		}
		all = append(all, bounds)
	}
	return all
}

func TestBoundsOfFloats(t *testing.T) {
	type floats struct {
		F64  float64
		F32  float32
		Many []float64
	}
	nan, zero, minus := math.NaN(), 0.0, math.Copysign(0, -1)
	for _, test := range []struct {
		values []float64
		want   string
	}{
		{[]float64{1.5, -2}, "-2 1.5"},
		{[]float64{nan, 1.5, -2}, "- -"},
		{[]float64{-2, 1.5, nan}, "- -"},
		{[]float64{nan, nan}, "- -"},
		{[]float64{zero, minus}, "-0 0"},
		{[]float64{minus, zero}, "-0 0"},
		{[]float64{zero}, "-0 0"},
		{[]float64{minus}, "-0 0"},
		{[]float64{minus, -1}, "-1 0"},
		{[]float64{zero, 1}, "-0 1"},
		{[]float64{math.Inf(1), 0.5, math.Inf(-1)}, "-Inf +Inf"},
	} {
		var group []floats
		for _, f := range test.values {
			group = append(group, floats{f, float32(f), []float64{f, f}})
		}
		for column, got := range footer(t, group)[0] {
			if got != test.want {
				t.Errorf("bounds of %v in %s: got %s, want %s", test.values, column, got, test.want)
			}
		}
	}
	// The bounds of a row group are its own.
	groups := footer(t, []floats{{F64: 1}, {F64: nan}}, []floats{{F64: 5}, {F64: 7}})
	if got := fmt.Sprint(groups[0]["F64"], " ", groups[1]["F64"], " ", groups[1]["Many.list.element"]); got != "- - 5 7 - - 2 null" {
		t.Errorf("two groups: got %s", got)
	}
}

func TestBounds(t *testing.T) {
	type row struct {
		U8    uint8
		U32   uint32
		U64   uint64
		I8    int8
		I64   int64
		Bool  bool
		Time  time.Time
		Text  string
		Bytes []byte
		Maybe *string
	}
	prefix := strings.Repeat("a", 200)
	got := footer(t, []row{
		{U8: 128, U32: 1, U64: 1 << 63, I8: -1, I64: math.MinInt64, Time: time.UnixMicro(-1), Text: prefix + "b", Bytes: []byte{0x80}},
		{U8: 1, U32: math.MaxUint32, U64: 1, I8: 127, I64: 7, Bool: true, Time: time.UnixMicro(1), Text: prefix + "\U0010ffff", Bytes: []byte{1}, Maybe: ptr("x")},
	}, []row{
		{Text: prefix + prefix},
		{Text: ""},
	})
	want := []map[string]string{
		{
			"U8": "1 128", "U32": "1 4294967295", "U64": "1 9223372036854775808", "I8": "-1 127", "I64": "-9223372036854775808 7", "Bool": "false true",
			"Time": "-1 1", "Text": prefix + "b " + prefix + "\U0010ffff", "Bytes": "\x01 \x80", "Maybe": "x x 1 null",
		},
		{
			"U8": "0 0", "U32": "0 0", "U64": "0 0", "I8": "0 0", "I64": "0 0", "Bool": "false false",
			"Time": "-62135596800000000 -62135596800000000", "Text": "- -", "Bytes": " ", "Maybe": "- - 2 null",
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// Texts of which there are many are written without a dictionary from some page on, and with one again in the next
// row group.
func TestBoundsBeyondTheDictionary(t *testing.T) {
	type row struct{ Text string }
	text := func(i int) string { return fmt.Sprintf("%020d", i*7919%100_003) }
	var groups [2][]row
	for i := range 100_003 {
		groups[0] = append(groups[0], row{text(i)})
	}
	groups[1] = []row{{"b"}, {"a"}}
	got := footer(t, groups[:]...)
	want := fmt.Sprintf("%020d %020d", 0, 100_002)
	if got[0]["Text"] != want || got[1]["Text"] != "a b" {
		t.Errorf("got %q", got)
	}
	all, err := elements[row](Parquet, file(t, Parquet, Usual, groups[0]...))
	if err != nil || !reflect.DeepEqual(all, groups[0]) {
		t.Errorf("%d rows are read as %d others: %v", len(groups[0]), len(all), err)
	}
}
