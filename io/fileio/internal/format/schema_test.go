// SPDX-License-Identifier: Apache-2.0

package format

import (
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
)

// every has a field of each kind.
type every struct {
	Bool     bool
	I8       int8
	I16      int16
	I32      int32
	I64      int64
	Int      int
	U8       uint8
	U16      uint16
	U32      uint32
	U64      uint64
	Uint     uint
	F32      float32
	F64      float64
	String   string
	Bytes    []byte
	Time     time.Time
	Duration time.Duration
	Number   json.Number
	Big      big.Int // Its MarshalText is that of the pointer.
	Maybe    *string
	MaybeAt  *time.Time
	List     []int32
	Lists    [][]string
	Maybes   []*int64
	Map      map[string]float64
	Struct   nested
	Structs  []nested
	MaybeOne *nested
	ByName   map[string]nested
	embedded
}

type nested struct {
	A int16   `json:"a"`
	B *string `json:"b,omitempty"`
	C []bool
}

type embedded struct {
	Inner string `json:"inner"`
	Bool  string // Deeper than the one of every, so it is none of the columns.
}

func (c Column) String() string {
	s := []string{"bool", "int", "uint", "float", "string", "bytes", "timestamp", "list", "map", "struct"}[c.Kind]
	if c.Bits > 0 {
		s += fmt.Sprint(c.Bits)
	}
	if c.Elem != nil {
		s += " of " + c.Elem.String()
	}
	if c.Fields != nil {
		s += fmt.Sprint(c.Fields)
	}
	if c.Optional {
		s += "?"
	}
	if c.Name != "" {
		s = c.Name + " " + s
	}
	return s
}

func TestColumns(t *testing.T) {
	columns, err := Columns(reflect.TypeFor[every]())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range columns {
		got = append(got, c.String())
	}
	want := []string{
		"Bool bool", "I8 int8", "I16 int16", "I32 int32", "I64 int64", "Int int64", "U8 uint8", "U16 uint16", "U32 uint32", "U64 uint64", "Uint uint64",
		"F32 float32", "F64 float64", "String string", "Bytes bytes", "Time timestamp", "Duration int64", "Number string", "Big string",
		"Maybe string?", "MaybeAt timestamp?", "List list of int32", "Lists list of list of string", "Maybes list of int64?", "Map map of float64",
		"Struct struct[a int16 b string? C list of bool]", "Structs list of struct[a int16 b string? C list of bool]",
		"MaybeOne struct[a int16 b string? C list of bool]?", "ByName map of struct[a int16 b string? C list of bool]", "inner string",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

type list []list

type tree struct{ Children []tree }

// twins is made here because go vet refuses it in a source.
var twins = reflect.StructOf([]reflect.StructField{
	{Name: "B", Type: reflect.TypeFor[int](), Tag: `json:"A"`},
	{Name: "C", Type: reflect.TypeFor[int](), Tag: `json:"A"`},
})

type loop struct{ *loop }

func TestColumnsThatAreRefused(t *testing.T) {
	for _, test := range []struct {
		element any
		want    string
	}{
		{0, "made of the fields of a struct"},
		{time.Time{}, "made of the fields of a struct"},
		{big.Int{}, "big.Int encodes itself"},
		{struct{ a int }{}, "no column"},
		{struct{ A any }{}, "field A: interface {} has no type"},
		{struct{ A chan int }{}, "field A: chan int has no type"},
		{struct{ A []func() }{}, "field A: elements of []func(): func() has no type"},
		{struct{ A complex64 }{}, "field A: complex64 has no type"},
		{struct{ A json.RawMessage }{}, "field A: json.RawMessage has a MarshalJSON"},
		{struct{ A [4]int }{}, "use a slice"},
		{struct{ A **int }{}, "pointer to a pointer"},
		{struct{ A map[int]string }{}, "keys that are no strings"},
		{struct{ A struct{} }{}, "field A: it has no exported field"},
		{struct{ A tree }{}, "field A: field Children: elements of []format.tree: it is recursive"},
		{struct{ A list }{}, "it is recursive"},
		{loop{}, "embedded by a pointer"},
		{reflect.New(twins).Elem().Interface(), "two fields are named A"},
		{struct{ A, B any }{}, "field B: interface {}"}, // All that is wrong at once.
	} {
		_, err := Columns(reflect.TypeOf(test.element))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%T: got %v, want %q", test.element, err, test.want)
		}
	}
}

func TestTextOf(t *testing.T) {
	type element struct {
		Country *string `json:"country"`
		Day     time.Time
		Amount  float64
		Small   float32
		Level   uint8
		Fraud   bool
		Raw     []byte
		Number  json.Number
		Big     big.Int
		Wait    time.Duration
		Many    []int
		Any     any
		Bad     string
	}
	e := element{
		Country: &de, Day: time.Date(2018, 4, 1, 0, 30, 0, 0, time.FixedZone("", 3600)), Amount: 1e21, Small: 0.1, Level: 255, Fraud: true,
		Raw: []byte{255}, Number: "1.50", Big: *big.NewInt(7), Wait: time.Second, Bad: "\xff",
	}
	for column, want := range map[string]string{
		"country": "DE", "Day": "2018-03-31T23:30:00Z", "Amount": "1e+21", "Small": "0.1", "Level": "255", "Fraud": "true", "Raw": "/w==",
		"Number": "1.50", "Big": "7", "Wait": "1000000000",
	} {
		text, err := TextOf(reflect.TypeFor[element](), column)
		if err != nil {
			t.Fatal(err)
		}
		if got, null, err := text(e); got != want || null || err != nil {
			t.Errorf("%s: got %q, %v, %v, want %q", column, got, null, err, want)
		}
	}
	country, err := TextOf(reflect.TypeFor[element](), "country")
	if err != nil {
		t.Fatal(err)
	}
	if _, null, err := country(element{}); !null || err != nil {
		t.Errorf("no country: got null %v, %v", null, err)
	}
	if _, _, err := country("DE"); err == nil {
		t.Error("the country of a string is no error")
	}
	bad, err := TextOf(reflect.TypeFor[element](), "Bad")
	if err != nil {
		t.Fatal(err)
	}
	if text, _, err := bad(e); err == nil {
		t.Errorf("text that is not UTF-8 is %q", text)
	}
	for column, want := range map[string]string{"Many": "several values", "Any": "no type", "country2": "no column country2"} {
		if _, err := TextOf(reflect.TypeFor[element](), column); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", column, err, want)
		}
	}
}
