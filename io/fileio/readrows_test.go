// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/fileio/internal/format"
)

func init() {
	beam.RegisterType(reflect.TypeFor[visit]())
	beam.RegisterFunction(visitTime)
	register.Function1x1(page)
	register.Function1x1(rowCode)
	register.Function1x1(longVisit)
	register.Function1x1(briefly)
}

// visit is an element with columns.
type visit struct {
	Page string     `json:"page"`
	Took int8       `json:"took"`
	At   *time.Time `json:"at"`
	Tags []string   `json:"tags"`
}

// wideVisit writes what does not fit in a visit.
type wideVisit struct {
	Page  *string    `json:"page"`
	Took  int32      `json:"took"`
	At    *time.Time `json:"at"`
	Tags  []string   `json:"tags"`
	Extra float64    `json:"extra"`
}

func page(v visit) string { return fmt.Sprint(v.Page, " ", v.Took, " ", len(v.Tags)) }

func rowCode(d DeadLetter) string {
	return fmt.Sprintf("%s %s %d %s %s", filepath.Base(d.File), d.Code, d.Row, d.Error, d.Bytes)
}

// visitTime refuses visits of the page "unknown".
func visitTime(v visit) (time.Time, error) {
	if v.Page == "unknown" {
		return time.Time{}, errors.New("nobody knows when")
	}
	return time.Unix(int64(v.Took), 0), nil
}

// writeRows writes a file as Write does.
func writeRows[T any](t testing.TB, path string, f Format, rows ...T) {
	t.Helper()
	codec, err := format.New(f, Usual, reflect.TypeFor[T]())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := codec.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		row, err := codec.Row(r)
		if err := errors.Join(err, w.Write(row)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func visits(from, to int) (all []visit) {
	for i := from; i < to; i++ {
		at := time.Unix(int64(i), 0).UTC()
		all = append(all, visit{Page: fmt.Sprintf("page %05d", i), Took: int8(i % 100), At: &at, Tags: make([]string, i%3)})
	}
	return all
}

// What Write has written, in folders and parts, is what ReadRows reads, from any store.
func TestReadRowsOfWrite(t *testing.T) {
	for _, f := range []Format{Avro, Parquet} {
		dir := t.TempDir()
		want := visits(0, 300)
		p, s := beam.NewPipelineWithRoot()
		Write(s, WriteConfig{URL: dir, Format: f, Fields: []string{"took"}, Shards: 2}, beam.CreateList(s, want))
		ptest.RunAndValidate(t, p)
		var pages []any
		for _, v := range want {
			pages = append(pages, page(v))
		}
		for _, url := range []string{dir, "remote://" + dir} {
			p, s := beam.NewPipelineWithRoot()
			rows, dead := ReadRows(s, RowsConfig{Pattern: url + "/**/part-*"}, reflect.TypeFor[visit]())
			passert.Equals(s, beam.ParDo(s, page, rows), pages...)
			passert.Empty(s, dead)
			ptest.RunAndValidate(t, p)
		}
	}
}

// longVisit has a page of a MiB that begins with a number.
func longVisit(n int) visit {
	return visit{Page: fmt.Sprintf("%03d", n) + strings.Repeat(" long", 1<<20/5), Took: int8(n), Tags: []string{"t"}}
}

// briefly tells a long visit from any other.
func briefly(v visit) string {
	n, _, _ := strings.Cut(v.Page, " ")
	return fmt.Sprint(n, " ", len(v.Page), " ", v.Took, " ", v.Tags)
}

// What is more than a row group takes becomes several in one file, which is read in parts.
func TestReadRowsOfRowGroups(t *testing.T) {
	dir := t.TempDir()
	const n = 70 // A row group ends at 64 MiB.
	var numbers []int
	var want []any
	for i := range n {
		numbers = append(numbers, i)
		want = append(want, briefly(longVisit(i)))
	}
	p, s := beam.NewPipelineWithRoot()
	Write(s, WriteConfig{URL: dir, Format: Parquet}, beam.ParDo(s, longVisit, beam.CreateList(s, numbers)))
	ptest.RunAndValidate(t, p)
	path := dir + "/part-00000-of-00001.parquet"
	fn, file := rowsOf(t, path, 1)
	parts, err := fn.SplitRestriction(t.Context(), file, fn.CreateInitialRestriction(file))
	if err := errors.Join(err, fn.Teardown()); err != nil {
		t.Fatal(err)
	}
	if len(parts) != 2 || parts[1].End != n {
		t.Errorf("the parts are %v, want two of %d rows", parts, n)
	}
	p, s = beam.NewPipelineWithRoot()
	rows, dead := ReadRows(s, RowsConfig{Pattern: path, Block: 1}, reflect.TypeFor[visit]())
	passert.Equals(s, beam.ParDo(s, briefly, rows), want...)
	passert.Empty(s, dead)
	ptest.RunAndValidate(t, p)
}

func ptr[T any](v T) *T { return &v }

// Files of both formats are read by their first bytes; what a row has wrong is told of the row.
func TestReadRowsDeadLetters(t *testing.T) {
	dir := t.TempDir()
	rows := []wideVisit{
		{Page: ptr("a"), Took: 1}, {Took: 2}, {Page: ptr("unknown"), Tags: []string{"x"}}, {Page: ptr("b"), Took: 1000, Tags: []string{"y", "z"}}, {Page: ptr("c"), Took: -3},
	}
	writeRows(t, filepath.Join(dir, "avro"), Avro, rows...)
	writeRows(t, filepath.Join(dir, "parquet"), Parquet, rows...)
	p, s := beam.NewPipelineWithRoot()
	read, dead := ReadRows(s, RowsConfig{Pattern: dir + "/*", EventTime: visitTime}, reflect.TypeFor[visit]())
	passert.Equals(s, beam.ParDo(s, page, read), "a 1 0", "c -3 0", "a 1 0", "c -3 0")
	var want []any
	for _, name := range []string{"avro", "parquet"} {
		want = append(want, name+" BAD_VALUE 1 field page: it is null in the file: make the field a pointer ",
			name+` BAD_TIME 2 nobody knows when {"page":"unknown","took":0,"at":null,"tags":["x"]}`,
			name+" BAD_VALUE 3 field took: 1000 does not fit in int8 ")
	}
	passert.Equals(s, beam.ParDo(s, rowCode, dead), want...)
	ptest.RunAndValidate(t, p)
}

func TestReadRowsTimeColumn(t *testing.T) {
	dir := t.TempDir()
	rows := visits(58, 62)
	rows[0].At = nil
	writeRows(t, filepath.Join(dir, "in.parquet"), Parquet, rows...)
	p, s := beam.NewPipelineWithRoot()
	read, dead := ReadRows(s, RowsConfig{Pattern: dir + "/in.parquet", TimeColumn: "at"}, reflect.TypeFor[visit]())
	Write(s, WriteConfig{URL: filepath.Join(dir, "out")}, beam.ParDo(s, page, beam.WindowInto(s, window.NewFixedWindows(time.Minute), read)))
	passert.Equals(s, beam.ParDo(s, rowCode, dead),
		`in.parquet BAD_TIME 0 column at is null, but it is the event time {"page":"page 00058","took":58,"at":null,"tags":[""]}`)
	ptest.RunAndValidate(t, p)
	want := map[string]string{
		minute(0, "part-W-00000-of-00001.jsonl"): "page 00059 59 2\n",
		minute(1, "part-W-00000-of-00001.jsonl"): "page 00060 60 0\npage 00061 61 1\n",
	}
	if diff := cmp.Diff(want, list(t, filepath.Join(dir, "out"))); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// rowsOf is a file as ReadRows finds it, and a DoFn that reads it.
func rowsOf(t *testing.T, pattern string, block int64) (*readRowsFn, sourceFile) {
	t.Helper()
	match := &matchFn{Rows: true}
	match.URL, match.Pattern = blob.SplitGlob(pattern)
	var file sourceFile
	if err := match.ProcessElement(t.Context(), nil, func(f sourceFile) { file = f }); err != nil {
		t.Fatal(err)
	}
	fn := &readRowsFn{URL: match.URL, Type: beam.EncodedType{T: reflect.TypeFor[visit]()}, Block: block}
	if err := fn.Setup(); err != nil {
		t.Fatal(err)
	}
	return fn, file
}

// readRestriction processes a restriction, calls each after every row, and then reads the residuals.
func readRestriction(t *testing.T, fn *readRowsFn, file sourceFile, rest rowRange, each func(split func(fraction float64))) (got []string) {
	t.Helper()
	rt := fn.CreateTracker(rest)
	var residuals []rowRange
	split := func(fraction float64) {
		_, residual, err := rt.TrySplit(fraction)
		if err != nil {
			t.Fatal(err)
		}
		if residual != nil {
			residuals = append(residuals, residual.(rowRange))
		}
	}
	emit := func(_ beam.EventTime, row beam.X) {
		got = append(got, row.(visit).Page)
		each(split)
	}
	dead := func(d DeadLetter) { t.Errorf("dead letter %+v", d) }
	if err := fn.ProcessElement(t.Context(), fn.CreateWatermarkEstimator(0), rt, file, emit, dead); err != nil {
		t.Fatal(err)
	}
	if !rt.IsDone() || rt.GetError() != nil {
		t.Fatalf("restriction %v is not done: %v", rt.GetRestriction(), rt.GetError())
	}
	slices.SortFunc(residuals, func(a, b rowRange) int { return int(a.Start - b.Start) })
	for _, r := range residuals {
		got = append(got, readRestriction(t, fn, file, r, each)...)
	}
	return got
}

// However a file is split, each row comes once, in the order of the file.
func TestRowSplitsTile(t *testing.T) {
	dir := t.TempDir()
	const n = 40
	var want []string
	for _, v := range visits(0, n) {
		want = append(want, v.Page)
	}
	for name, f := range map[string]Format{"a.avro": Avro, "p.parquet": Parquet} {
		writeRows(t, filepath.Join(dir, name), f, visits(0, n)...)
		for _, url := range []string{dir, "remote://" + dir} {
			fn, file := rowsOf(t, url+"/"+name, 1)
			parts, err := fn.SplitRestriction(t.Context(), file, fn.CreateInitialRestriction(file))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]rowRange{{Start: 0, End: n, FromByte: parts[0].FromByte}}, parts); diff != "" {
				t.Fatal(diff)
			}
			for at := 1; at <= n; at++ {
				for _, fraction := range []float64{0, 0.5, 1} {
					seen := 0
					got := readRestriction(t, fn, file, parts[0], func(split func(float64)) {
						if seen++; seen == at {
							split(fraction)
						}
					})
					if diff := cmp.Diff(want, got); diff != "" {
						t.Fatalf("%s/%s split at row %d by %v (-want +got):\n%s", url, name, at, fraction, diff)
					}
				}
			}
			for seed := range uint64(20) {
				rnd := rand.New(rand.NewPCG(seed, 0))
				got := readRestriction(t, fn, file, parts[0], func(split func(float64)) {
					if rnd.IntN(4) == 0 {
						split([]float64{0, 0.3, 0.9}[rnd.IntN(3)])
					}
				})
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("%s/%s, seed %d (-want +got):\n%s", url, name, seed, diff)
				}
			}
			if err := fn.Teardown(); err != nil {
				t.Error(err)
			}
		}
	}
}

// A large file is cut at its blocks or row groups, and the parts have all of its rows.
func TestRowParts(t *testing.T) {
	dir := t.TempDir()
	const n = 60_000
	writeRows(t, filepath.Join(dir, "a.avro"), Avro, visits(0, n)...)
	fn, file := rowsOf(t, "remote://"+dir+"/a.avro", 10_000)
	defer fn.Teardown()
	parts, err := fn.SplitRestriction(t.Context(), file, fn.CreateInitialRestriction(file))
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, p := range parts {
		rows += len(readRestriction(t, fn, file, p, func(func(float64)) {}))
	}
	if rows != n || len(parts) < 3 {
		t.Errorf("got %d rows in %d parts, want %d in some", rows, len(parts), n)
	}
}

// What is read of a file in a bucket does not grow with the number of its parts, of splits, or of checkpoints.
func TestRowPartsCost(t *testing.T) {
	dir := t.TempDir()
	const n = 12_000
	rnd := rand.New(rand.NewPCG(1, 0))
	var rows []visit
	for range n {
		page := make([]byte, 1000)
		for i := range page {
			page[i] = 'a' + byte(rnd.IntN(26))
		}
		rows = append(rows, visit{Page: string(page)})
	}
	writeRows(t, filepath.Join(dir, "a.avro"), Avro, rows...)
	fn, file := rowsOf(t, "remote://"+dir+"/a.avro", 500_000)
	defer fn.Teardown()
	whole := fn.CreateInitialRestriction(file)
	parts, err := fn.SplitRestriction(t.Context(), file, whole)
	if err != nil {
		t.Fatal(err)
	}
	if len(parts) < 8 {
		t.Fatalf("there are %d parts of %d bytes", len(parts), file.Size)
	}
	whole.End = n
	for name, read := range map[string]func() int{
		"parts": func() (rows int) {
			for _, p := range parts {
				rows += len(readRestriction(t, fn, file, p, func(func(float64)) {}))
			}
			return rows
		},
		"checkpoints": func() int {
			seen := 0
			return len(readRestriction(t, fn, file, whole, func(split func(float64)) {
				if seen++; seen%(n/len(parts)) == 0 {
					split(0)
				}
			}))
		},
	} {
		before := remoteAt(dir).bytes.Load()
		if got := read(); got != n {
			t.Errorf("%s: got %d rows, want %d", name, got, n)
		}
		// Each reads its header, and the blocks of a store in which it begins and ends.
		most := file.Size + int64(len(parts)+1)*3*rangeBlock
		if cost := remoteAt(dir).bytes.Load() - before; cost > most {
			t.Errorf("%s: %d bytes were read of a file of %d in %d, want at most %d", name, cost, file.Size, len(parts), most)
		}
	}
}

func TestReadRowsRefusesFiles(t *testing.T) {
	dir := t.TempDir()
	writeRows(t, filepath.Join(dir, "short"), Parquet, struct{ Page string }{"no such name"})
	writeRows(t, filepath.Join(dir, "good"), Avro, visits(0, 3)...)
	whole, err := os.ReadFile(filepath.Join(dir, "good"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "cut"), string(whole[:len(whole)-5]))
	writeFile(t, filepath.Join(dir, "text"), "{}\n")
	writeFile(t, filepath.Join(dir, "empty"), "")
	writeFile(t, filepath.Join(dir, "x.gz"), "{}\n")
	read := func(pattern string) error {
		match := &matchFn{URL: dir, Pattern: pattern, Rows: true}
		var file sourceFile
		if err := match.ProcessElement(t.Context(), nil, func(f sourceFile) { file = f }); err != nil {
			return err
		}
		fn := &readRowsFn{URL: dir, Type: beam.EncodedType{T: reflect.TypeFor[visit]()}, Block: 1}
		_, err := fn.SplitRestriction(t.Context(), file, fn.CreateInitialRestriction(file))
		return err
	}
	for pattern, words := range map[string][]string{
		"good":  nil,
		"none*": {"fileio.ReadRows", "no file below", "none*"},
		"text":  {"fileio.ReadRows", dir + "/text", "neither Avro nor Parquet", "fileio.Read"},
		"empty": {dir + "/empty", "neither Avro nor Parquet"},
		"x.gz":  {dir + "/x.gz", "compressed as a whole"},
		"short": {"fileio.ReadRows", dir + "/short", "field page: the file has no such column"},
		"cut":   {"fileio.ReadRows", dir + "/cut", "row 0", "damaged"},
	} {
		err := read(pattern)
		if (err == nil) != (words == nil) {
			t.Errorf("%s: %v", pattern, err)
		}
		for _, word := range words {
			if err != nil && !strings.Contains(err.Error(), word) {
				t.Errorf("%s: got %v, want %q", pattern, err, word)
			}
		}
	}
}

// A damaged block ends the read with the file and the row; rows before it have come.
func TestReadRowsDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	codec, err := format.New(Avro, None, reflect.TypeFor[visit]())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := codec.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range visits(0, 20) {
		row, err := codec.Row(v)
		if err := errors.Join(err, w.Write(row)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// The length of the page of row 15 becomes negative.
	content := out.Bytes()
	content[bytes.Index(content, []byte("page 00015"))-1] = 1
	writeFile(t, path, string(content))
	fn, file := rowsOf(t, path, 1)
	rt := fn.CreateTracker(rowRange{End: 20})
	rows := 0
	err = fn.ProcessElement(t.Context(), fn.CreateWatermarkEstimator(0), rt, file, func(beam.EventTime, beam.X) { rows++ }, func(DeadLetter) {})
	for _, word := range []string{"fileio.ReadRows", path, "row 15", "damaged"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("got %v, want %q", err, word)
		}
	}
	if rows != 15 {
		t.Errorf("%d rows have come before the damage, want 15", rows)
	}
}

// A file that changes after it matched is an error, whether it is open or not.
func TestReadRowsChanged(t *testing.T) {
	for _, scheme := range []string{"", "remote://"} {
		for name, f := range map[string]Format{"avro": Avro, "parquet": Parquet} {
			path := filepath.Join(t.TempDir(), name)
			writeRows(t, path, f, visits(0, 30_000)...)
			fn, file := rowsOf(t, scheme+path, 1)
			rest := rowRange{End: 30_000}
			rows := 0
			change := func(beam.EventTime, beam.X) {
				if rows++; rows == 1 {
					writeRows(t, path, f, visits(0, 31_000)...)
				}
			}
			read := func(emit func(beam.EventTime, beam.X)) error {
				return fn.ProcessElement(t.Context(), fn.CreateWatermarkEstimator(0), fn.CreateTracker(rest), file, emit, func(DeadLetter) {})
			}
			// A remote object that is opened goes on as it was: a service reads one version.
			if err := read(change); scheme == "" && !errors.Is(err, blob.ErrChanged) {
				t.Errorf("%s%s changes after a row: %v", scheme, name, err)
			}
			err := read(func(beam.EventTime, beam.X) { t.Error("a row of a changed file") })
			if !errors.Is(err, blob.ErrChanged) || !strings.Contains(err.Error(), "read files that are finished") || !strings.Contains(err.Error(), path) {
				t.Errorf("%s%s has changed: %v", scheme, name, err)
			}
		}
	}
}

func TestTryReadRowsRefuses(t *testing.T) {
	type unknown struct{ A int }
	_, s := beam.NewPipelineWithRoot()
	for _, c := range []struct {
		name string
		cfg  RowsConfig
		t    reflect.Type
		want []string
	}{
		{"nothing", RowsConfig{}, nil, []string{"fileio.ReadRows", "Pattern is empty", "want a struct"}},
		{"lines", RowsConfig{Pattern: "x"}, reflect.TypeFor[string](), []string{"want a struct", "fileio.Read"}},
		{"type", RowsConfig{Pattern: "x"}, reflect.TypeFor[unknown](), []string{"beam.RegisterType(reflect.TypeFor[fileio.unknown]())"}},
		{"pattern", RowsConfig{Pattern: "a//b["}, reflect.TypeFor[visit](), []string{"Pattern", "\"b[\""}},
		{"numbers", RowsConfig{Pattern: "x", Block: -1, TimeColumn: "took"}, reflect.TypeFor[visit](), []string{"negative", "field took is int8"}},
		{"column", RowsConfig{Pattern: "x", TimeColumn: "when", EventTime: visitTime}, reflect.TypeFor[visit](), []string{"no column when", "both set"}},
		{"closure", RowsConfig{Pattern: "x", EventTime: func(visit) (time.Time, error) { return time.Time{}, nil }}, reflect.TypeFor[visit](), []string{"closure"}},
		{"function", RowsConfig{Pattern: "x", EventTime: seconds}, reflect.TypeFor[visit](), []string{"want a func(fileio.visit) (time.Time, error)"}},
	} {
		_, _, err := TryReadRows(s, c.cfg, c.t)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q", c.name, err, want)
			}
		}
	}
	if _, _, err := TryReadRows(beam.Scope{}, RowsConfig{}, nil); err == nil {
		t.Error("no scope is no error")
	}
}

// Any part of an object can be read, in any order, from few requests where reads go forward.
func TestRanged(t *testing.T) {
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(1, 0))
	content := make([]byte, rangeBlock*(rangeBlocks+20)+77)
	for i := range content {
		content[i] = byte(rnd.Uint32())
	}
	writeFile(t, filepath.Join(dir, "x"), string(content))
	store, err := blob.Open(t.Context(), "remote://"+dir)
	if err != nil {
		t.Fatal(err)
	}
	o, err := store.Stat(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	r := &ranged{ctx: t.Context(), store: store, object: o}
	for range 300 {
		p := make([]byte, rnd.IntN(3*rangeBlock))
		at := rnd.Int64N(o.Size + 10)
		n, err := r.ReadAt(p, at)
		want := content[min(at, o.Size):min(at+int64(len(p)), o.Size)]
		if !bytes.Equal(want, p[:n]) || (err == nil) != (n == len(p)) || err != nil && err != io.EOF {
			t.Fatalf("ReadAt %d of %d bytes = %d, %v", at, len(p), n, err)
		}
		if len(r.blocks) > rangeBlocks || len(r.streams) > rangeStreams {
			t.Fatalf("%d blocks and %d streams are kept", len(r.blocks), len(r.streams))
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	// Ten places that go forward side by side are ten requests.
	before := remoteAt(dir).opens.Load()
	p := make([]byte, 4096)
	for step := range int64(10 * rangeBlock / len(p)) {
		for column := range int64(10) {
			if _, err := r.ReadAt(p, column*10*rangeBlock+step*int64(len(p))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := remoteAt(dir).opens.Load() - before; n != 10 {
		t.Errorf("%d requests, want 10", n)
	}
	if _, err := r.ReadAt(p, math.MinInt64); err == nil {
		t.Error("a negative offset is no error")
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
