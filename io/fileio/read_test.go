// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/fileio/internal/format"
)

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "hornbeam") }

func init() {
	register.Function1x1(spot)
	register.Function1x1(code)
	register.Function1x1(content)
	register.Function2x0(stamp)
	register.Emitter2[beam.EventTime, string]()
	beam.RegisterFunction(seconds)
}

// spot describes a record as file:line@offset=content.
func spot(r Record) string {
	return fmt.Sprintf("%s:%d@%d=%s%s", filepath.Base(r.File), r.Line, r.Offset, r.Header, r.Bytes)
}

func content(r Record) string { return string(r.Bytes) }

func code(d DeadLetter) string {
	return fmt.Sprintf("%s:%d@%d %d", d.Code, d.Line, d.Offset, len(d.Bytes))
}

// stamp gives a line of the form "<seconds> text" its event time.
func stamp(line string, emit func(beam.EventTime, string)) {
	t, err := seconds([]byte(line))
	if err != nil {
		panic(err)
	}
	emit(mtime.FromTime(t), line)
}

func seconds(line []byte) (time.Time, error) {
	text, _, _ := strings.Cut(string(line), " ")
	n, err := strconv.ParseInt(text, 10, 64)
	return time.Unix(n, 0), err
}

// writeFile writes a file that is compressed as its name says.
func writeFile(t testing.TB, path, content string) {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch filepath.Ext(path) {
	case ".gz":
		w = gzip.NewWriter(&b)
	case ".zst":
		z, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	}
	if w != nil {
		_, err := io.WriteString(w, content)
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		content = b.String()
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// list returns the files below a folder by their paths in it.
func list(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// sourceOf is a local file as Read finds it.
func sourceOf(t *testing.T, path string) (url string, file sourceFile) {
	t.Helper()
	fn := &matchFn{}
	fn.URL, fn.Pattern = blob.SplitGlob(path)
	if err := fn.ProcessElement(t.Context(), nil, func(f sourceFile) { file = f }); err != nil {
		t.Fatal(err)
	}
	return fn.URL, file
}
func TestReadPipeline(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "a.jsonl"), "\ufeff{\"a\":1}\r\n\n{\"a\":2}\n{\"a\":\"much too long for this reader\"}\n{}")
	writeFile(t, filepath.Join(dir, "b.jsonl.gz"), "{\"b\":1}\n{\"b\":2}\n")
	writeFile(t, filepath.Join(dir, "c", "d", "c.jsonl.zst"), "{\"c\":1}\n")
	writeFile(t, filepath.Join(dir, "c", "other.txt"), "not read\n")
	p, s := beam.NewPipelineWithRoot()
	records, dead := Read(s, ReadConfig{Pattern: filepath.Join(dir, "**", "*.jsonl*"), MaxRecord: 20})
	passert.Equals(s, beam.ParDo(s, spot, records),
		`a.jsonl:1@0={"a":1}`, `a.jsonl:3@13={"a":2}`, `a.jsonl:5@59={}`, `b.jsonl.gz:1@0={"b":1}`, `b.jsonl.gz:2@8={"b":2}`,
		`c.jsonl.zst:1@0={"c":1}`)
	passert.Equals(s, beam.ParDo(s, code, dead), "TOO_LONG:4@21 22")
	ptest.RunAndValidate(t, p)
}

// What Write says about its files is none of them, and options of a URL are no part of the pattern.
func TestReadOfWrite(t *testing.T) {
	dir := t.TempDir()
	p, s := beam.NewPipelineWithRoot()
	Write(s, WriteConfig{URL: dir, JobID: "job", Complete: true}, beam.Create(s, "a", "b"))
	ptest.RunAndValidate(t, p)
	for _, pattern := range []string{dir + "/*", "remote://" + dir + "/**?timeout=1m"} {
		p, s = beam.NewPipelineWithRoot()
		records, dead := Read(s, ReadConfig{Pattern: pattern})
		passert.Equals(s, beam.ParDo(s, spot, records), "part-00000-of-00001.jsonl:1@0=a", "part-00000-of-00001.jsonl:2@2=b")
		passert.Empty(s, dead)
		ptest.RunAndValidate(t, p)
	}
	store, err := blob.Open(t.Context(), "remote://"+dir+"?timeout=1m")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := (source{store}).path(sourceFile{Key: "x"}), "remote://"+dir+"/x"; got != want {
		t.Errorf("the path of a file is %s, want %s", got, want)
	}
}

func TestReadEventTime(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "in"), "5 a\nx b\n65 c\n70 d\n")
	p, s := beam.NewPipelineWithRoot()
	records, dead := Read(s, ReadConfig{Pattern: filepath.Join(dir, "in"), EventTime: seconds})
	lines := beam.ParDo(s, content, records)
	Write(s, WriteConfig{URL: filepath.Join(dir, "out")}, beam.WindowInto(s, window.NewFixedWindows(time.Minute), lines))
	passert.Equals(s, beam.ParDo(s, code, dead), "BAD_TIME:2@4 3")
	ptest.RunAndValidate(t, p)
	want := map[string]string{
		"part-19700101T000000Z-19700101T000100Z-00000-of-00001.jsonl": "5 a\n",
		"part-19700101T000100Z-19700101T000200Z-00000-of-00001.jsonl": "65 c\n70 d\n",
	}
	if diff := cmp.Diff(want, list(t, filepath.Join(dir, "out"))); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := (&matchFn{URL: dir, Pattern: "none*"}).ProcessElement(t.Context(), nil, func(sourceFile) {}); err == nil {
		t.Error("no match is no error")
	}
	path := filepath.Join(dir, "f")
	writeFile(t, path, "a\n")
	url, file := sourceOf(t, path)
	writeFile(t, path, "a\nb\n")
	if _, err := (&readFn{URL: url}).openAt(t.Context(), file, 0); !errors.Is(err, blob.ErrChanged) {
		t.Errorf("open a changed file = %v", err)
	}
	n := 0
	defer func() {
		if r := recover(); r == nil || !strings.Contains(fmt.Sprint(r), "closure") {
			t.Errorf("a closure as event time: %v", r)
		}
	}()
	Read(beam.NewPipeline().Root(), ReadConfig{Pattern: "x", EventTime: func([]byte) (time.Time, error) { n++; return time.Time{}, nil }})
}

// What Write takes for a record, Read gives back as it is, wherever it is in a file.
func TestRecordsOfWrite(t *testing.T) {
	for _, of := range []Format{JSONLines, CSV} {
		codec, err := format.New(of, None, reflect.TypeFor[string]())
		if err != nil {
			t.Fatal(err)
		}
		taken := 0
		for _, record := range []string{"", "a", "a\r", "\r", "a\rb", "\ufeffa", "\ufeff", "a\ufeff", "\"a\nb\"", `"`, `""`, "\"a\r\"", " "} {
			if _, err := codec.Row(record); err != nil {
				continue
			}
			taken++
			sc := &scanner{in: bufio.NewReader(strings.NewReader(record + "\n" + record + "\n")), csv: of == CSV, limit: len(record)}
			for range 2 {
				if got, err := sc.next(); record == "" || string(got.bytes) != record || got.tooLong || err != nil {
					t.Errorf("format %d: %q is read as %q, %v", of, record, got.bytes, err)
				}
			}
			if _, err := sc.next(); err != io.EOF {
				t.Errorf("format %d: %q twice is more than two records, %v", of, record, err)
			}
		}
		if taken < 5 {
			t.Errorf("format %d takes %d records", of, taken)
		}
	}
}
