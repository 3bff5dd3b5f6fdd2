// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
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
)

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "hornbeam") }

func init() {
	register.Function1x1(place)
	register.Function1x1(code)
	register.Function1x1(content)
	register.Function2x0(stamp)
	register.Emitter2[beam.EventTime, string]()
	beam.RegisterFunction(seconds)
}

// place describes a record as file:line@offset=content.
func place(r Record) string {
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

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if strings.HasSuffix(path, ".gz") {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		content = b.String()
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(b)
	}
	return files
}

func TestWriteWindowed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	want := map[string]string{
		marker: "job-1\n",
		"part-19700101T000000Z-19700101T000100Z-00000-of-00001.jsonl": "1 a\n1 a\n2 b\n",
		"part-19700101T000100Z-19700101T000200Z-00000-of-00001.jsonl": "61 c\n",
	}
	// The second run is the same job again: it finds its files and changes nothing.
	for range 2 {
		p, s := beam.NewPipelineWithRoot()
		lines := beam.ParDo(s, stamp, beam.Create(s, "2 b", "61 c", "1 a", "1 a"))
		windowed := beam.WindowInto(s, window.NewFixedWindows(time.Minute), lines)
		_, dead := Write(s, WriteConfig{Dir: dir, JobID: "job-1"}, windowed)
		passert.Empty(s, dead)
		ptest.RunAndValidate(t, p)
		if diff := cmp.Diff(want, list(t, dir)); diff != "" {
			t.Fatalf("files (-want +got):\n%s", diff)
		}
	}
}

func TestWriteShards(t *testing.T) {
	dir := t.TempDir()
	var lines []any
	for i := range 1000 {
		lines = append(lines, fmt.Sprintf("line %04d", i))
	}
	p, s := beam.NewPipelineWithRoot()
	_, dead := Write(s, WriteConfig{Dir: dir, Shards: 3, Memory: 4000}, beam.Create(s, append(lines, "two\nlines")...))
	passert.Equals(s, beam.ParDo(s, code, dead), "NEWLINE:0@0 9")
	ptest.RunAndValidate(t, p)
	var got []string
	files := list(t, dir)
	for _, content := range files {
		shard := strings.Split(strings.TrimSuffix(content, "\n"), "\n")
		if !slices.IsSorted(shard) {
			t.Error("a shard is not sorted")
		}
		got = append(got, shard...)
	}
	slices.Sort(got)
	if len(files) != 3 || len(got) != 1000 || got[0] != "line 0000" || got[999] != "line 0999" {
		t.Errorf("got %d files and %d lines, want 3 and 1000", len(files), len(got))
	}
}

func TestPublishAfterCrash(t *testing.T) {
	write := func(w io.Writer) error { _, err := io.WriteString(w, "content\n"); return err }
	for name, crashed := range map[string]func(path, temp string) error{
		"nothing there":               func(_, _ string) error { return nil },
		"while writing the temporary": func(_, temp string) error { return os.WriteFile(temp, []byte("cont"), 0o644) },
		"longer temporary":            func(_, temp string) error { return os.WriteFile(temp, []byte("content\nand more"), 0o644) },
		"after the link": func(path, temp string) error {
			return errors.Join(os.WriteFile(path, []byte("content\n"), 0o644), os.Link(path, temp))
		},
		"after the temporary was gone": func(path, _ string) error { return os.WriteFile(path, []byte("content\n"), 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "f.jsonl")
			if err := crashed(path, filepath.Join(dir, ".f.jsonl.tmp")); err != nil {
				t.Fatal(err)
			}
			if size, err := publish(path, write); err != nil || size != 8 {
				t.Errorf("publish = %d, %v, want 8, nil", size, err)
			}
			if diff := cmp.Diff(map[string]string{"f.jsonl": "content\n"}, list(t, dir)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPublishRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f.jsonl")
	writeFile(t, path, "of another job\n")
	write := func(w io.Writer) error { _, err := io.WriteString(w, "content\n"); return err }
	if _, err := publish(path, write); err == nil || !strings.Contains(err.Error(), "another job's results") {
		t.Errorf("publish over other content = %v", err)
	}
	if diff := cmp.Diff(map[string]string{"f.jsonl": "of another job\n"}, list(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	other := filepath.Join(dir, "g.jsonl")
	nested := func(io.Writer) error { _, err := publish(other, write); return err }
	if _, err := publish(other, nested); err == nil || !strings.Contains(err.Error(), "another worker") {
		t.Errorf("publish while another attempt writes = %v", err)
	}
	if _, err := publish(other, func(io.Writer) error { return errors.New("no space") }); err == nil {
		t.Error("publish hides the error of its writer")
	}
	if got := list(t, dir); len(got) != 1 {
		t.Errorf("a failed attempt left %v", got)
	}
}

func TestClaim(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	for _, step := range []struct{ job, refusal string }{
		{"one", ""}, {"one", ""}, {"two", `results of job "one"`}, {"", "must be one line"}, {"x\ny", "must be one line"},
	} {
		err := Claim(dir, step.job)
		if (step.refusal == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), step.refusal) {
			t.Errorf("Claim(%q) = %v, want %q", step.job, err, step.refusal)
		}
	}
	foreign := t.TempDir()
	writeFile(t, filepath.Join(foreign, "thesis.doc"), "")
	if err := Claim(foreign, "one"); err == nil || !strings.Contains(err.Error(), "belongs to no job") {
		t.Errorf("Claim of a folder with files = %v", err)
	}
}

func TestFileName(t *testing.T) {
	cfg, err := WriteConfig{Dir: "d", Prefix: "clicks", Shards: 4}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	hour := window.IntervalWindow{Start: mtime.FromMilliseconds(1777636800000), End: mtime.FromMilliseconds(1777640400500)}
	only, early := beam.PaneInfo{IsFirst: true, IsLast: true}, beam.PaneInfo{IsFirst: true}
	for want, got := range map[string]string{
		"clicks-00003-of-00004.jsonl":                                             fileName(cfg, window.GlobalWindow{}, only, 3),
		"clicks-20260501T120000Z-20260501T130000.500Z-00000-of-00004.jsonl":       fileName(cfg, hour, only, 0),
		"clicks-20260501T120000Z-20260501T130000.500Z-pane0-00000-of-00004.jsonl": fileName(cfg, hour, early, 0),
		"clicks-20260501T120000Z-20260501T130000.500Z-pane7-00000-of-00004.jsonl": fileName(cfg, hour, beam.PaneInfo{Index: 7, IsLast: true}, 0),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestReadPipeline(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "a.jsonl"), "\ufeff{\"a\":1}\r\n\n{\"a\":2}\n{\"a\":\"much too long for this reader\"}\n{}")
	writeFile(t, filepath.Join(dir, "b.jsonl.gz"), "{\"b\":1}\n{\"b\":2}\n")
	p, s := beam.NewPipelineWithRoot()
	records, dead := Read(s, ReadConfig{Pattern: filepath.Join(dir, "*.jsonl*"), MaxRecord: 20})
	passert.Equals(s, beam.ParDo(s, place, records),
		`a.jsonl:1@0={"a":1}`, `a.jsonl:3@13={"a":2}`, `a.jsonl:5@59={}`, `b.jsonl.gz:1@0={"b":1}`, `b.jsonl.gz:2@8={"b":2}`)
	passert.Equals(s, beam.ParDo(s, code, dead), "TOO_LONG:4@21 22")
	ptest.RunAndValidate(t, p)
}

func TestReadEventTime(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "in"), "5 a\nx b\n65 c\n70 d\n")
	p, s := beam.NewPipelineWithRoot()
	records, dead := Read(s, ReadConfig{Pattern: filepath.Join(dir, "in"), EventTime: seconds})
	lines := beam.ParDo(s, content, records)
	Write(s, WriteConfig{Dir: filepath.Join(dir, "out")}, beam.WindowInto(s, window.NewFixedWindows(time.Minute), lines))
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
	if err := (&matchFn{Pattern: filepath.Join(dir, "none*")}).ProcessElement(context.Background(), nil, func(sourceFile) {}); err == nil {
		t.Error("no match is no error")
	}
	path := filepath.Join(dir, "f")
	writeFile(t, path, "a\n")
	file, _, err := describe(path)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, "a\nb\n")
	if _, err := openAt(file, 0); err == nil || !strings.Contains(err.Error(), "changed since it matched") {
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
