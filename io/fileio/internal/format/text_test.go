// SPDX-License-Identifier: Apache-2.0

package format

import (
	"bytes"
	"errors"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

type card struct {
	ID      int64     `json:"id"`
	Country *string   `json:"country"`
	At      time.Time `json:"at"`
	Amount  float64   `json:"amount,omitempty"`
	Note    string
	Skipped string `json:"-"`
}

var de = "DE"

// someCards have quotes, line ends, nulls and empty text.
var someCards = []card{
	{ID: 1, Country: &de, At: time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC), Amount: 1.5, Note: `<a> "b", c`},
	{ID: -2, At: time.Date(2018, 4, 1, 2, 0, 0, 0, time.FixedZone("", 7200)), Note: "two\nlines"},
}

// file writes rows of elements.
func file[T any](t testing.TB, f Format, c Compression, elements ...T) []byte {
	t.Helper()
	codec, err := New(f, c, reflect.TypeFor[T]())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := codec.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range elements {
		row, err := codec.Row(e)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(row); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.Size() != int64(out.Len()) {
		t.Errorf("size of %s file is %d, want %d", codec.Extension(), w.Size(), out.Len())
	}
	return out.Bytes()
}

func TestTextFiles(t *testing.T) {
	tests := []struct {
		name string
		got  []byte
		want string
	}{
		{"JSON lines", file(t, JSONLines, None, someCards...), `{"id":1,"country":"DE","at":"1969-12-31T23:59:59.999999Z","amount":1.5,"Note":"<a> \"b\", c"}` + "\n" +
			`{"id":-2,"country":null,"at":"2018-04-01T02:00:00+02:00","Note":"two\nlines"}` + "\n"},
		{"CSV", file(t, CSV, None, someCards...), "id,country,at,amount,Note\n" +
			`1,DE,1969-12-31T23:59:59.999999Z,1.5,"<a> ""b"", c"` + "\n" +
			"-2,,2018-04-01T00:00:00Z,0,\"two\nlines\"\n"},
		{"JSON records", file(t, JSONLines, None, `{"a": 1}`, `[]`), "{\"a\": 1}\n[]\n"},
		{"CSV records", file(t, CSV, None, []byte("a,\"b\n\"\"c\"\"\","), []byte(",")), "a,\"b\n\"\"c\"\"\",\n,\n"},
		{"CSV of one null", file(t, CSV, None, struct{ A *int }{}), "A\n\"\"\n"},
		{"no rows", file[card](t, CSV, Usual), "id,country,at,amount,Note\n"},
	}
	for _, test := range tests {
		if string(test.got) != test.want {
			t.Errorf("%s: got\n%s\nwant\n%s", test.name, test.got, test.want)
		}
	}
}

func TestTextIsCompressed(t *testing.T) {
	want := file(t, CSV, None, someCards...)
	for compression, open := range map[Compression]func(io.Reader) (io.Reader, error){
		Gzip: func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		Zstd: func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
	} {
		compressed := file(t, CSV, compression, someCards...)
		r, err := open(bytes.NewReader(compressed))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("compression %d: got %q, %v", compression, got, err)
		}
		if again := file(t, CSV, compression, someCards...); !bytes.Equal(again, compressed) {
			t.Errorf("compression %d: the same rows made other bytes", compression)
		}
	}
}

func TestRowsThatAreRefused(t *testing.T) {
	type text struct {
		S string
		T time.Time
		F float64
	}
	tests := []struct {
		format  Format
		element any
		want    string
	}{
		{JSONLines, "a\nb", "line end"},
		{JSONLines, "", "empty line"},
		{JSONLines, "a\r", "ends with \\r"},
		{JSONLines, []byte("\ufeffa"), "U+FEFF"},
		{CSV, "\ufeffa", "U+FEFF"},
		{JSONLines, text{S: "\xff"}, "not UTF-8"},
		{JSONLines, text{F: math.NaN()}, "unsupported value"},
		{CSV, "", "empty line"},
		{CSV, "a\nb", "line end"},
		{CSV, "a\rb", "line end"},
		{CSV, `a,"b`, "not closed"},
		{CSV, `a,"b"c`, "not followed by a comma"},
		{CSV, `a,b"c`, "inside a field without quotes"},
		{CSV, text{S: "\xff"}, "field S: the text is not UTF-8"},
		{CSV, text{T: time.Unix(0, 1)}, "field T: 1970-01-01 00:00:00.000000001 +0000 UTC is finer than a microsecond"},
		{CSV, text{T: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, "field T: the year 10000"},
	}
	for _, test := range tests {
		codec, err := New(test.format, None, reflect.TypeOf(test.element))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := codec.Row(test.element); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("format %d: row of %+v: got %v, want %q", test.format, test.element, err, test.want)
		}
	}
	codec, err := New(JSONLines, None, reflect.TypeFor[string]())
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []any{nil, 1, []byte("a")} {
		if _, err := codec.Row(wrong); err == nil {
			t.Errorf("a row of %T instead of a string is no error", wrong)
		}
	}
}

func TestReplacementCharacterIsText(t *testing.T) {
	got := string(file(t, JSONLines, None, struct{ S, T string }{"\ufffd", `\ufffd`}))
	if want := `{"S":"` + "\ufffd" + `","T":"\\ufffd"}` + "\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// failing is a file on a disk that is full after some bytes.
type failing struct{ left int }

var errFull = errors.New("disk full")

func (f *failing) Write(p []byte) (int, error) {
	if len(p) > f.left {
		n := f.left
		f.left = 0
		return n, errFull
	}
	f.left -= len(p)
	return len(p), nil
}

// Wherever the file fails, and however much of it is still in buffers, Write or Close says so.
func testFailures[T any](t *testing.T, f Format, step int, elements ...T) {
	t.Helper()
	for c := Usual; c <= Zstd; c++ {
		codec, err := New(f, c, reflect.TypeFor[T]())
		if err != nil {
			t.Fatal(err)
		}
		whole := len(file(t, f, c, elements...))
		for left := 0; left < whole; left += step {
			w, err := codec.NewWriter(&failing{left: left})
			if err != nil {
				if !errors.Is(err, errFull) {
					t.Fatal(err)
				}
				continue
			}
			var first error
			for _, e := range elements {
				row, err := codec.Row(e)
				if err != nil {
					t.Fatal(err)
				}
				if err := w.Write(row); err != nil && first == nil {
					first = err
				}
			}
			if err := w.Close(); !errors.Is(err, errFull) || first != nil && !errors.Is(first, errFull) {
				t.Fatalf("format %d, compression %d, full after %d of %d bytes: write %v, close %v", f, c, left, whole, first, err)
			}
		}
	}
}

func TestTextFailures(t *testing.T) {
	testFailures(t, JSONLines, 1, someCards...)
	testFailures(t, CSV, 1, someCards...)
}
