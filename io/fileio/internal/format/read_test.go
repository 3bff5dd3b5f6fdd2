// SPDX-License-Identifier: Apache-2.0

package format

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/twmb/avro"
	"github.com/twmb/avro/ocf"
)

// elements reads a file to its end.
func elements[T any](f Format, content []byte) ([]T, error) {
	r, err := NewReader(f, bytes.NewReader(content), int64(len(content)), reflect.TypeFor[T]())
	if err != nil {
		return nil, err
	}
	var all []T
	for {
		e, err := r.Read()
		if err == io.EOF {
			return all, r.Close()
		}
		if err != nil {
			return all, errors.Join(err, r.Close())
		}
		all = append(all, e.(T))
	}
}

// equal compares as files do: an empty list is as good as none.
var equal = cmp.Options{
	cmpopts.EquateEmpty(), cmpopts.EquateNaNs(), cmp.AllowUnexported(every{}),
	cmp.Comparer(func(x, y big.Int) bool { return x.Cmp(&y) == 0 }),
}

func TestRoundTrip(t *testing.T) {
	for _, f := range []Format{Avro, Parquet} {
		for c := Usual; c <= Zstd; c++ {
			got, err := elements[every](f, file(t, f, c, someOfEvery...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(someOfEvery, got, equal); diff != "" {
				t.Errorf("format %d, compression %d: -written +read\n%s", f, c, diff)
			}
			if got, err := elements[every](f, file[every](t, f, c)); len(got) > 0 || err != nil {
				t.Errorf("format %d, compression %d: of an empty file: %v, %v", f, c, got, err)
			}
		}
	}
}

// The greatest numbers of Parquet are more than Avro has.
func TestUnsigned(t *testing.T) {
	type number struct{ N uint64 }
	want := []number{{0}, {1 << 63}, {1<<64 - 1}}
	got, err := elements[number](Parquet, file(t, Parquet, Usual, want...))
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	codec, err := New(Avro, Usual, reflect.TypeFor[number]())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := codec.Row(want[1]); err == nil || !strings.Contains(err.Error(), "above") {
		t.Errorf("Avro's row of 1<<63: %v", err)
	}
}

type numbered struct {
	N    int
	Text string
	List []string
}

// manyRows makes a file of several blocks or row groups.
func manyRows(t testing.TB, f Format, n int) []byte {
	t.Helper()
	codec, err := New(f, Usual, reflect.TypeFor[numbered]())
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := codec.(parquetCodec); ok {
		p.groupRows = 1000
		codec = p
	}
	var out bytes.Buffer
	w, err := codec.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		row, err := codec.Row(numberedRow(i))
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
	return out.Bytes()
}

func numberedRow(i int) numbered {
	e := numbered{N: i, Text: fmt.Sprintf("%0300d", i*7919)}
	for j := range i % 4 {
		e.List = append(e.List, fmt.Sprint(j))
	}
	return e
}

func TestSeekToRow(t *testing.T) {
	const rows = 3500
	for _, f := range []Format{Avro, Parquet} {
		content := manyRows(t, f, rows)
		r, err := NewReader(f, bytes.NewReader(content), int64(len(content)), reflect.TypeFor[numbered]())
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{0, 1, 999, 1000, 1001, 3499, 2, 2500, 2501, 500, rows, rows + 1, 700} {
			if err := r.SeekToRow(int64(at)); err != nil {
				t.Fatal(err)
			}
			for i := at; i < at+3; i++ {
				got, err := r.Read()
				if i >= rows {
					if err != io.EOF {
						t.Fatalf("format %d: row %d: %v, want EOF", f, i, err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(numberedRow(i), got, equal); diff != "" {
					t.Fatalf("format %d: row %d after seeking %d\n%s", f, i, at, diff)
				}
			}
		}
		if err := r.SeekToRow(-1); err == nil {
			t.Errorf("format %d: row -1 is there", f)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOtherColumns(t *testing.T) {
	type inner struct {
		A int32
		B string
	}
	type written struct {
		I32    int32
		F32    float32
		Maybe  *int32
		Text   string
		Extra  map[string][]inner
		Inner  inner
		Inners []inner
	}
	row := written{I32: -7, F32: 0.5, Maybe: ptr(int32(3)), Text: "t", Extra: map[string][]inner{"k": {{1, "x"}}}, Inner: inner{A: 1, B: "b"}, Inners: []inner{{2, "c"}, {3, "d"}}}
	type innerB struct {
		B string
		C *int
	}
	type wider struct {
		Inners []innerB
		Inner  innerB
		I32    int64
		F32    float64
		Maybe  int64
		New    *string
	}
	for _, f := range []Format{Avro, Parquet} {
		content := file(t, f, Usual, row, row)
		got, err := elements[wider](f, content)
		want := wider{I32: -7, F32: 0.5, Maybe: 3, Inner: innerB{B: "b"}, Inners: []innerB{{B: "c"}, {B: "d"}}}
		if diff := cmp.Diff([]wider{want, want}, got, equal); diff != "" || err != nil {
			t.Errorf("format %d: %v\n%s", f, err, diff)
		}
		for _, test := range []struct {
			err  error
			want string
		}{
			{readError[struct{ New string }](f, content), "field New: the file has no such column"},
			{readError[struct{ Inner struct{ C string } }](f, content), "field Inner: field C: the file has no such column"},
			{readError[struct{ Text int }](f, content), "field Text: the file has"},
			{readError[struct{ I32 float64 }](f, content), "field I32: the file has"},
			{readError[struct{ I32 uint8 }](f, content), "row 0: field I32: -7 does not fit in uint8"},
			{readError[struct{ Inners []int }](f, content), "field Inners: "},
			{readError[struct{ Text []string }](f, content), "field Text: the file has"},
			{readError[struct{ Inner string }](f, content), "field Inner: the file has"},
			{readError[struct{ Maybe int32 }](f, file(t, f, Usual, written{})), "row 0: field Maybe: it is null in the file"},
			{readError[struct{ N int32 }](f, file(t, f, Usual, struct{ N int64 }{})), "field N: the file has 64 bits"},
			{readError[struct{ N float32 }](f, file(t, f, Usual, struct{ N float64 }{})), "field N: the file has 64 bits"},
			{readError[struct{ Text upper }](f, content), "has no UnmarshalText"},
		} {
			if test.err == nil || !strings.Contains(test.err.Error(), test.want) {
				t.Errorf("format %d: got %v, want %q", f, test.err, test.want)
			}
		}
	}
	if err := readError[written](CSV, nil); err == nil {
		t.Error("CSV is read by columns")
	}
}

type upper string

func (u upper) MarshalText() ([]byte, error) { return []byte(strings.ToUpper(string(u))), nil }

func readError[T any](f Format, content []byte) error {
	_, err := elements[T](f, content)
	return err
}

// After an error it goes on behind the row that it was about.
func TestSeekAfterError(t *testing.T) {
	type written struct{ A, B *int32 }
	type read struct {
		A int32
		B *int32
	}
	for _, f := range []Format{Avro, Parquet} {
		content := file(t, f, Usual, written{ptr(int32(1)), ptr(int32(2))}, written{nil, ptr(int32(3))}, written{ptr(int32(4)), nil})
		r, err := NewReader(f, bytes.NewReader(content), int64(len(content)), reflect.TypeFor[read]())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := r.Read(); !errors.Is(err, errNull) {
				t.Errorf("format %d: row 1: %v", f, err)
			}
		}
		if err := r.SeekToRow(2); err != nil {
			t.Fatal(err)
		}
		if got, err := r.Read(); err != nil || got.(read).A != 4 {
			t.Errorf("format %d: row 2: %v, %v", f, got, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A file that is cut or changed is an error or other rows, but no panic.
func TestDamage(t *testing.T) {
	for _, f := range []Format{Avro, Parquet} {
		content := file(t, f, Usual, someOfEvery...)
		for n := 0; n < len(content); n += 11 {
			if _, err := elements[every](f, content[:n]); err == nil && f == Parquet {
				t.Errorf("format %d: cut after %d bytes it is no error", f, n)
			}
			changed := bytes.Clone(content)
			changed[n] ^= 0x55
			_, _ = elements[every](f, changed)
		}
	}
}

// A bad row is passed over without reading what is before it again.
func TestGoOnBehindBadRows(t *testing.T) {
	type element struct{ S *string }
	type written struct {
		N    *int64
		List []element
		Last string
	}
	type read struct {
		N    int64
		List []struct{ S string }
		Last string
	}
	const n = 5000
	var rows []written
	for i := range n {
		row := written{N: ptr(int64(i)), Last: fmt.Sprint(i)}
		for j := range i % 4 {
			row.List = append(row.List, element{ptr(fmt.Sprint(j))})
		}
		switch i % 10 {
		case 3:
			row.N = nil
		case 7: // It has three elements, or one.
			row.List[0].S = nil
		}
		rows = append(rows, row)
	}
	for _, f := range []Format{Avro, Parquet} {
		content := file(t, f, Usual, rows...)
		in := &counting{ReaderAt: bytes.NewReader(content)}
		r, err := NewReader(f, in, int64(len(content)), reflect.TypeFor[read]())
		if err != nil {
			t.Fatal(err)
		}
		for i := range int64(n) {
			got, err := r.Read()
			if i%10 == 3 || i%10 == 7 {
				var bad *RowError
				if !errors.As(err, &bad) || bad.Row != i || !errors.Is(err, errNull) {
					t.Fatalf("format %d: row %d: %v", f, i, err)
				}
				if err := r.SeekToRow(i + 1); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("format %d: row %d: %v", f, i, err)
			}
			if e := got.(read); e.N != i || len(e.List) != int(i%4) || e.Last != fmt.Sprint(i) {
				t.Fatalf("format %d: row %d is %+v", f, i, e)
			}
		}
		if _, err := r.Read(); err != io.EOF {
			t.Errorf("format %d: after all rows: %v", f, err)
		}
		if in.bytes > 3*len(content) {
			t.Errorf("format %d: %d bytes were read of a file of %d", f, in.bytes, len(content))
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// counting counts what is read.
type counting struct {
	io.ReaderAt
	bytes int
}

func (c *counting) ReadAt(p []byte, at int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, at)
	c.bytes += n
	return n, err
}

func TestParts(t *testing.T) {
	for _, f := range []Format{Avro, Parquet} {
		content := manyRows(t, f, 3500)
		r, err := NewReader(f, bytes.NewReader(content), int64(len(content)), reflect.TypeFor[numbered]())
		if err != nil {
			t.Fatal(err)
		}
		for size, want := range map[int64]int{1: 3, int64(len(content)): 1} {
			parts, err := r.Parts(size)
			if err != nil {
				t.Fatal(err)
			}
			var rows []int64
			for _, m := range parts {
				rows = append(rows, m.Row)
				r.SkipTo(m)
				if err := r.SeekToRow(m.Row); err != nil {
					t.Fatal(err)
				}
				if e, err := r.Read(); m.Row == 3500 && err != io.EOF || m.Row < 3500 && (err != nil || e.(numbered).N != int(m.Row)) {
					t.Errorf("format %d: at %+v: %v, %v", f, m, e, err)
				}
			}
			if len(rows) <= want || size > 1 && len(rows) != 2 || rows[0] != 0 || rows[len(rows)-1] != 3500 || !slices.IsSorted(rows) {
				t.Errorf("format %d: parts of %d bytes: %v", f, size, rows)
			}
			if f == Parquet && size == 1 {
				if diff := cmp.Diff([]int64{0, 1000, 2000, 3000, 3500}, rows); diff != "" {
					t.Error(diff)
				}
			}
		}
		if err := r.SeekToRow(7); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Parts(1); err != nil {
			t.Fatal(err)
		}
		if e, err := r.Read(); err != nil || e.(numbered).N != 7 {
			t.Errorf("format %d: after Parts: %v, %v", f, e, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		empty := file[numbered](t, f, Usual)
		if r, err = NewReader(f, bytes.NewReader(empty), int64(len(empty)), reflect.TypeFor[numbered]()); err != nil {
			t.Fatal(err)
		}
		if parts, err := r.Parts(1); err != nil || len(parts) != 2 || parts[0].Row != 0 || parts[1].Row != 0 {
			t.Errorf("format %d: parts of an empty file: %v, %v", f, parts, err)
		}
	}
}

// A value that a column does not name may hold itself as often as the file is long: it is an error, and not the end of
// the stack.
func TestDeepValues(t *testing.T) {
	for next, level := range map[string]string{
		`["null","Node"]`:                 "\x02",
		`{"type":"array","items":"Node"}`: "\x02",
		`{"type":"map","values":"Node"}`:  "\x02\x00",
		`["null",{"type":"record","name":"In","fields":[{"name":"a","type":["null",{"type":"array","items":["null","Node"]}]}]}]`: "\x02\x02\x02\x02",
	} {
		schema := `{"type":"record","name":"Row","fields":[{"name":"Skipped","type":{"type":"record","name":"Node","fields":[{"name":"next","type":` +
			next + `}]}},{"name":"N","type":"long"}]}`
		for levels, want := range map[int]error{1000: nil, 8 << 20: errDeep} {
			// Each level of a list or map ends with an empty block, of which as many zeros follow as can be needed.
			row := append(bytes.Repeat([]byte(level), levels), make([]byte, 4*1000)...)
			content := avroFile(t, schema, row)
			_, err := elements[struct{ N int64 }](Avro, content)
			if !errors.Is(err, want) {
				t.Errorf("%s, %d levels: got %v, want %v", next, levels, err, want)
			}
		}
	}
}

// avroFile is a file of one block that is compressed.
func avroFile(t *testing.T, schema string, rows []byte) []byte {
	t.Helper()
	parsed, err := avro.Parse(schema)
	if err != nil {
		t.Fatal(err)
	}
	codec, err := ocf.ZstdCodec(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := ocf.NewWriter(&out, parsed, ocf.WithCodec(codec))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
