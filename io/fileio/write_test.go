// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"errors"
	"flag"
	"fmt"
	"maps"
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
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/teststream"
	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/io/blob"
)

func init() {
	register.Function1x1(key)
	register.Function1x2(byFirstWord)
	register.Function2x0(sold)
	register.Emitter2[beam.EventTime, sale]()
	beam.RegisterType(reflect.TypeFor[sale]())
	register.Function1x1(letterCode)
}

// key describes a file by its key, rows and bytes.
func key(f File) string { return fmt.Sprintf("%s %d %d", f.Key, f.Rows, f.Bytes) }

func byFirstWord(line string) (string, []byte) {
	word, _, _ := strings.Cut(line, " ")
	return word, []byte(line)
}

func letterCode(d DeadLetter) string { return d.Code }

// sale is an element with columns.
type sale struct {
	Unix    int64   `json:"unix"` // Its event time.
	Country string  `json:"country"`
	Shop    *string `json:"shop,omitempty"`
}

func sold(s sale, emit func(beam.EventTime, sale)) { emit(mtime.FromTime(time.Unix(s.Unix, 0)), s) }

// tries says how often the runner tries an element in this test.
func tries(t *testing.T, n string) {
	t.Helper()
	attempts := flag.Lookup("attempts")
	before := attempts.Value.String()
	if err := attempts.Value.Set(n); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { attempts.Value.Set(before) })
}

// minute writes the start and end of a window of one minute into a pattern of a name.
func minute(start int, name string) string {
	at := func(minutes int) string { return time.Unix(int64(minutes)*60, 0).UTC().Format("20060102T150405Z") }
	return strings.Replace(name, "W", at(start)+"-"+at(start+1), 1)
}

func TestWriteWindowed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	want := map[string]string{
		"_hornbeam_job":                          "job-1\n",
		minute(0, "part-W-00000-of-00001.jsonl"): "1 a\n1 a\n2 b\n",
		minute(1, "part-W-00000-of-00001.jsonl"): "61 c\n",
	}
	var first map[string]os.FileInfo
	// The second run is the same job again: it finds its files and changes nothing.
	for range 2 {
		p, s := beam.NewPipelineWithRoot()
		lines := beam.ParDo(s, stamp, beam.Create(s, "2 b", "61 c", "1 a", "1 a"))
		windowed := beam.WindowInto(s, window.NewFixedWindows(time.Minute), lines)
		w := Write(s, WriteConfig{URL: dir, JobID: "job-1"}, windowed)
		passert.Empty(s, w.Dead)
		passert.Equals(s, beam.WindowInto(s, window.NewGlobalWindows(), beam.ParDo(s, key, w.Files)),
			minute(0, "part-W-00000-of-00001.jsonl 3 12"), minute(1, "part-W-00000-of-00001.jsonl 1 5"))
		ptest.RunAndValidate(t, p)
		if diff := cmp.Diff(want, list(t, dir)); diff != "" {
			t.Fatalf("files (-want +got):\n%s", diff)
		}
		now := map[string]os.FileInfo{}
		for name := range want {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if now[name] = info; first != nil && !os.SameFile(first[name], info) {
				t.Errorf("%s was replaced", name)
			}
		}
		first = now
	}
}

func TestWriteShards(t *testing.T) {
	dir := t.TempDir()
	var lines []any
	for i := range 1000 {
		lines = append(lines, fmt.Sprintf("line %04d ", i)+strings.Repeat(".", 7000))
	}
	p, s := beam.NewPipelineWithRoot()
	w := Write(s, WriteConfig{URL: dir, Shards: 3, Memory: 1 << 20}, beam.Create(s, append(lines, "two\nlines")...))
	passert.Equals(s, beam.ParDo(s, code, w.Dead), "BAD_ROW:0@0 9")
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
	if len(files) != 3 || len(got) != 1000 || !strings.HasPrefix(got[0], "line 0000") || !strings.HasPrefix(got[999], "line 0999") {
		t.Errorf("got %d files and %d lines, want 3 and 1000", len(files), len(got))
	}
}

// The key chooses the shard and is not written.
func TestWriteKeyed(t *testing.T) {
	dir := t.TempDir()
	p, s := beam.NewPipelineWithRoot()
	Write(s, WriteConfig{URL: dir, Shards: 50}, beam.ParDo(s, byFirstWord, beam.Create(s, "a 1", "b 1", "a 2", "b 2", "a 3")))
	ptest.RunAndValidate(t, p)
	got := slices.Sorted(maps.Values(list(t, dir)))
	if diff := cmp.Diff([]string{"a 1\na 2\na 3\n", "b 1\nb 2\n"}, got); diff != "" {
		t.Errorf("contents (-want +got):\n%s", diff)
	}
}

func TestWriteParts(t *testing.T) {
	dir := t.TempDir()
	want := map[string]string{}
	var lines, keys []any
	for i := range 250 {
		line := fmt.Sprintf("line %04d", i)
		lines = append(lines, line)
		want[fmt.Sprintf("x-00000-of-00001-part%04d.jsonl", i/100)] += line + "\n"
	}
	for i, rows := range []int{100, 100, 50} {
		keys = append(keys, fmt.Sprintf("x-00000-of-00001-part%04d.jsonl %d %d", i, rows, 10*rows))
	}
	slices.Reverse(lines)
	p, s := beam.NewPipelineWithRoot()
	w := Write(s, WriteConfig{URL: dir, Prefix: "x", TargetSize: 1000}, beam.Create(s, lines...))
	passert.Equals(s, beam.ParDo(s, key, w.Files), keys...)
	result := ptest.RunAndValidate(t, p)
	if diff := cmp.Diff(want, list(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for name, want := range map[string]int64{"rows_written": 250, "files_written": 3, "bytes_written": 2500} {
		counters := result.Metrics().Query(func(r beam.MetricResult) bool { return r.Name() == name }).Counters()
		if len(counters) != 1 || counters[0].Committed != want {
			t.Errorf("counter %s is %v, want %d", name, counters, want)
		}
	}
}

// What the files of the formats look like inside is the business of package format.
func TestWriteTyped(t *testing.T) {
	for _, c := range []struct {
		cfg          WriteConfig
		name, begins string
	}{
		{WriteConfig{Format: JSONLines}, "part-00000-of-00001.jsonl", "{\"unix\":1,\"country\":\"DE\"}\n{\"unix\":2"},
		{WriteConfig{Format: CSV}, "part-00000-of-00001.csv", "unix,country,shop\n1,DE,\n2,FR,"},
		{WriteConfig{Format: CSV, Compression: Gzip}, "part-00000-of-00001.csv.gz", "\x1f\x8b"},
		{WriteConfig{Format: JSONLines, Compression: Zstd}, "part-00000-of-00001.jsonl.zst", "\x28\xb5\x2f\xfd"},
		{WriteConfig{Format: Avro}, "part-00000-of-00001.avro", "Obj\x01"},
		{WriteConfig{Format: Parquet}, "part-00000-of-00001.parquet", "PAR1"},
	} {
		c.cfg.URL = t.TempDir()
		p, s := beam.NewPipelineWithRoot()
		Write(s, c.cfg, beam.Create(s, sale{Unix: 2, Country: "FR"}, sale{Unix: 1, Country: "DE"}))
		ptest.RunAndValidate(t, p)
		files := list(t, c.cfg.URL)
		if got := files[c.name]; len(files) != 1 || !strings.HasPrefix(got, c.begins) {
			t.Errorf("got files %v, want %s with %q…", slices.Collect(maps.Keys(files)), c.name, c.begins)
		}
	}
}

// The dead letter of a struct says what its pointers point to.
func TestWrittenElement(t *testing.T) {
	type priced struct {
		Shop  *string
		Price float64
	}
	for _, c := range []struct {
		element any
		want    string
	}{
		{priced{ptr("<s>"), 1}, `{"Shop":"\u003cs\u003e","Price":1}`},
		{priced{nil, math.NaN()}, "{Shop:<nil> Price:NaN}"},
		{sale{Country: "\xff"}, "{Unix:0 Country:\xff Shop:<nil>}"},
		{sale{Country: "\ufffd"}, `{"unix":0,"country":"` + "\ufffd" + `"}`},
		{"text", "text"},
		{[]byte{0xff}, "\xff"},
	} {
		if got := string(written(c.element)); got != c.want {
			t.Errorf("%T: got %q, want %q", c.element, got, c.want)
		}
	}
}

func TestWriteFolders(t *testing.T) {
	dir := t.TempDir()
	shop := "s"
	unix := func(text string) int64 {
		at, err := time.Parse("2006-01-02T15:04Z07:00", text)
		if err != nil {
			t.Fatal(err)
		}
		return at.Unix()
	}
	sales := []sale{
		{Unix: unix("2018-03-25T00:30Z"), Country: "DE", Shop: &shop}, // The hour before the clocks go forward,
		{Unix: unix("2018-03-25T01:30Z"), Country: "DE", Shop: &shop}, // and the one after it.
		{Unix: unix("2018-03-25T22:30Z"), Country: "DE"},              // The next day has begun.
		{Unix: unix("2018-10-28T00:30Z"), Country: ".."},              // This hour
		{Unix: unix("2018-10-28T01:30Z"), Country: ".."},              // and the next have one name.
		{Unix: unix("2018-10-28T12:00Z"), Country: ""},
		{Unix: unix("2018-10-28T12:00Z"), Country: "a/../b=c%\n\"é"},
		{Unix: unix("2018-10-28T12:00Z"), Country: strings.Repeat("x", 300)},
		{Unix: unix("2018-10-28T12:00Z"), Country: "\xff"},
		{Unix: -1 << 40, Country: "DE"},
	}
	p, s := beam.NewPipelineWithRoot()
	w := Write(s, WriteConfig{
		URL: dir, Partition: []string{"date", "hour"}, Zone: "Europe/Berlin", Fields: []string{"country", "shop"},
	}, beam.ParDo(s, sold, beam.CreateList(s, sales)))
	passert.Equals(s, beam.ParDo(s, letterCode, w.Dead), "BAD_FOLDER", "BAD_ROW", "BAD_FOLDER")
	ptest.RunAndValidate(t, p)
	var got []string
	for path, content := range list(t, dir) {
		folder, ok := strings.CutSuffix(path, "/part-00000-of-00001.jsonl")
		if !ok {
			t.Errorf("file %s", path)
		}
		got = append(got, fmt.Sprintf("%s: %d", folder, strings.Count(content, "\n")))
	}
	slices.Sort(got)
	want := []string{
		"date=2018-03-25/hour=01/country=DE/shop=s: 1",
		"date=2018-03-25/hour=03/country=DE/shop=s: 1",
		"date=2018-03-26/hour=00/country=DE/shop=__HIVE_DEFAULT_PARTITION__: 1",
		"date=2018-10-28/hour=02/country=..: 2",
		"date=2018-10-28/hour=13/country=__HIVE_DEFAULT_PARTITION__: 1",
		"date=2018-10-28/hour=13/country=a%2F..%2Fb%3Dc%25%0A%22é: 1",
	}
	for i := 3; i < len(want); i++ {
		want[i] = strings.Replace(want[i], ": ", "/shop=__HIVE_DEFAULT_PARTITION__: ", 1)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("folders (-want +got):\n%s", diff)
	}
}

// events are a TestStream whose clock runs before its first element comes.
func events(t *testing.T, steps ...any) teststream.Config {
	t.Helper()
	c := teststream.NewConfig()
	c.AdvanceProcessingTime(1)
	for _, step := range steps {
		var err error
		switch step := step.(type) {
		case string: // "<seconds> text"
			at, _ := seconds([]byte(step))
			err = c.AddElements(at.UnixMilli(), step)
		case watermark:
			err = c.AdvanceWatermark(time.Duration(step).Milliseconds())
		case time.Duration:
			c.AdvanceProcessingTime(step.Milliseconds())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return c
}

type watermark time.Duration

// A group that breaks off leaves nothing.
func TestWriteBreaksOff(t *testing.T) {
	dir := t.TempDir()
	fn := &filesFn{Place: place{URL: dir}, WriteConfig: WriteConfig{URL: dir, Memory: 100}.withDefaults(), Type: beam.EncodedType{T: reflect.TypeFor[string]()}}
	if err := fn.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer fn.Teardown()
	n := 0
	rows := func(row *[]byte) bool {
		if n++; n == 10 {
			if files := list(t, dir); len(files) < 2 {
				t.Errorf("there are the runs %v, want some", files)
			}
			panic("the stream is broken")
		}
		*row = []byte("row")
		return true
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is lost")
			}
		}()
		_ = fn.ProcessElement(t.Context(), beam.PaneInfo{}, window.GlobalWindow{}, "0", rows, func(File) { t.Error("a file of some rows") })
	}()
	if files := list(t, dir); len(files) > 0 {
		t.Errorf("left are %v", files)
	}
}

func TestSorter(t *testing.T) {
	dir, open, most := t.TempDir(), 0, 0
	s := &sorter{limit: 100, spool: func() (*blob.Spool, error) {
		open++
		return blob.NewSpool(dir)
	}}
	rnd := rand.New(rand.NewPCG(1, 0))
	var want []string
	for range 2*fanIn*fanIn + 3 { // Two rows are a run.
		row := fmt.Sprintf("%03d", rnd.IntN(1000))
		want = append(want, row)
		if err := s.add([]byte(row)); err != nil {
			t.Fatal(err)
		}
		kept := 0
		for _, level := range s.levels {
			kept += len(level)
		}
		most = max(most, kept)
	}
	if runs := fanIn*fanIn + 1; open != runs+runs/fanIn+1 || most >= 2*fanIn {
		t.Errorf("%d runs were written, and %d kept at once", open, most)
	}
	m, err := s.sorted()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for row, ok := m.row(); ok; row, ok = m.row() {
		got = append(got, string(row))
		if err := m.skip(); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}

func TestWriteEarlyAndLate(t *testing.T) {
	dir := t.TempDir()
	p, s := beam.NewPipelineWithRoot()
	Write(s, WriteConfig{
		URL: dir, Window: time.Minute, Early: 10 * time.Second, Lateness: time.Hour, Late: 5 * time.Second,
	}, teststream.Create(s, events(t,
		"1 a", 9*time.Second, "2 b", 2*time.Second, // The first waits no longer than Early.
		"3 c", watermark(time.Minute),
		"4 d", 4*time.Second, "5 e", 2*time.Second,
		"61 f", watermark(2*time.Hour), "6 g", time.Minute,
	)))
	ptest.RunAndValidate(t, p)
	want := map[string]string{
		minute(0, "part-W-pane0-00000-of-00001.jsonl"): "1 a\n2 b\n",
		minute(0, "part-W-pane1-00000-of-00001.jsonl"): "3 c\n",
		minute(0, "part-W-pane2-00000-of-00001.jsonl"): "4 d\n5 e\n",
		minute(1, "part-W-pane0-00000-of-00001.jsonl"): "61 f\n",
	}
	if diff := cmp.Diff(want, list(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// Windows begin in 1970, and no element is in one that does not hold it.
func TestWriteBefore1970(t *testing.T) {
	dir := t.TempDir()
	p, s := beam.NewPipelineWithRoot()
	lines := beam.ParDo(s, stamp, beam.Create(s, "-1 a", "-90 b", "0 c", "59 d", "-99999999999 e"))
	w := Write(s, WriteConfig{URL: dir, Window: time.Minute, Complete: true}, lines)
	passert.Equals(s, beam.ParDo(s, letterCode, w.Dead), "BAD_TIME", "BAD_TIME", "BAD_TIME")
	ptest.RunAndValidate(t, p)
	files := list(t, dir)
	if got := files[minute(0, "part-W-00000-of-00001.jsonl")]; got != "0 c\n59 d\n" || len(files) != 2 {
		t.Errorf("got files %v", files)
	}
}

// A stream whose watermark stands still gets its last elements out.
func TestWriteIdle(t *testing.T) {
	dir := t.TempDir()
	p, s := beam.NewPipelineWithRoot()
	Write(s, WriteConfig{URL: dir, Window: 24 * time.Hour, Early: time.Minute}, teststream.Create(s, events(t,
		"1 a", 2*time.Minute, "2 last", 2*time.Minute)))
	ptest.RunAndValidate(t, p)
	want := map[string]string{
		"part-19700101T000000Z-19700102T000000Z-pane0-00000-of-00001.jsonl": "1 a\n",
		"part-19700101T000000Z-19700102T000000Z-pane1-00000-of-00001.jsonl": "2 last\n",
	}
	if diff := cmp.Diff(want, list(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestClaim(t *testing.T) {
	tries(t, "1")
	dir := filepath.Join(t.TempDir(), "out")
	if err := errors.Join(Claim(t.Context(), dir, "one"), Claim(t.Context(), dir, "one")); err != nil {
		t.Fatal(err)
	}
	if err := Claim(t.Context(), dir, "two"); err == nil || !strings.Contains(err.Error(), `results of job "one"`) {
		t.Errorf("Claim of another job's place = %v", err)
	}
	p, s := beam.NewPipelineWithRoot()
	Write(s, WriteConfig{URL: dir, JobID: "two"}, beam.Create(s, "a"))
	if err := ptest.Run(p); err == nil || !strings.Contains(err.Error(), `results of job "one"`) {
		t.Errorf("Write to another job's place = %v", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	_, s := beam.NewPipelineWithRoot()
	lines, sales := beam.Create(s, "a"), beam.Create(s, sale{})
	for _, c := range []struct {
		name string
		cfg  WriteConfig
		in   beam.PCollection
		want []string
	}{
		{"nothing", WriteConfig{}, lines, []string{"URL is empty"}},
		{"input", WriteConfig{URL: "d"}, beam.Create(s, 1), []string{"want string, []byte, KV<string, []byte> or a struct"}},
		{"scheme", WriteConfig{URL: "ftp://host/x"}, lines, []string{"no store is registered for ftp://"}},
		{"all at once", WriteConfig{
			URL: "d", Prefix: "_x/y", JobID: "a\nb", Early: time.Second, Lateness: -1, Late: time.Nanosecond, Shards: -1, TargetSize: -1, Memory: -1,
			Partition: []string{"week", "hour", "hour"}, Zone: "Mars/Olympus", Fields: []string{"country", ".x"},
		}, lines, []string{
			"has a slash", "begins with \"_\"", "JobID must be one line", "Early is 1s, but Window is 0", "Lateness is -1ns", "Late is 1ns",
			"Shards is -1", "TargetSize is -1", "Memory is -1", `"week"`, `"hour" twice`, "Mars/Olympus", "no column country", "begins with a dot",
		}},
		{"late", WriteConfig{URL: "d", Window: time.Hour, Late: time.Minute}, lines, []string{"Lateness is 0"}},
		{"column", WriteConfig{URL: "d", Fields: []string{"town"}}, sales, []string{"no column town"}},
		{"avro of lines", WriteConfig{URL: "d", Format: Avro}, lines, []string{"write structs"}},
		{"parquet of lines", WriteConfig{URL: "d", Format: Parquet}, lines, []string{"write structs"}},
		{"sessions", WriteConfig{URL: "d", Complete: true}, beam.WindowInto(s, window.NewSessions(time.Hour), lines), []string{"sessions"}},
		{"sliding", WriteConfig{URL: "d", Complete: true}, beam.WindowInto(s, window.NewSlidingWindows(time.Minute, time.Hour), lines), []string{"overlap"}},
		{"accumulating", WriteConfig{URL: "d", Complete: true}, beam.WindowInto(s, window.NewFixedWindows(time.Hour), lines, beam.PanesAccumulate()), []string{"repeat rows"}},
	} {
		_, err := TryWrite(s, c.cfg, c.in)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q", c.name, err, want)
			}
		}
	}
	defer func() {
		if r := recover(); r == nil {
			t.Error("Write does not panic")
		}
	}()
	Write(s, WriteConfig{}, lines)
}

func TestFileName(t *testing.T) {
	cfg := WriteConfig{Prefix: "clicks", Shards: 4}
	parts := cfg
	parts.TargetSize = 1
	hour := window.IntervalWindow{Start: mtime.FromMilliseconds(1777636800000), End: mtime.FromMilliseconds(1777640400500)}
	only, early := beam.PaneInfo{IsFirst: true, IsLast: true}, beam.PaneInfo{IsFirst: true}
	for want, got := range map[string]string{
		"clicks-00003-of-00004.x":                                             fileName(cfg, window.GlobalWindow{}, only, 3, 0, ".x"),
		"clicks-00003-of-00004-part0007.x":                                    fileName(parts, window.GlobalWindow{}, only, 3, 7, ".x"),
		"clicks-20260501T120000Z-20260501T130000.500Z-00000-of-00004.x":       fileName(cfg, hour, only, 0, 0, ".x"),
		"clicks-20260501T120000Z-20260501T130000.500Z-pane0-00000-of-00004.x": fileName(cfg, hour, early, 0, 0, ".x"),
		"clicks-20260501T120000Z-20260501T130000.500Z-pane7-00000-of-00004.x": fileName(cfg, hour, beam.PaneInfo{Index: 7, IsLast: true}, 0, 0, ".x"),
		"_complete-clicks.json":                                               manifestName("clicks", window.GlobalWindow{}, only),
		"_complete-clicks-20260501T120000Z-20260501T130000.500Z-pane2.json":   manifestName("clicks", hour, beam.PaneInfo{Index: 2}),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	ids := map[string]bool{}
	for _, id := range []string{commitID("a", "b"), commitID("", "b"), commitID("a", "c"), commitID("a b", ""), commitID("", "a b")} {
		ids[id] = true
	}
	if len(ids) != 5 || !ids[commitID("a", "b")] {
		t.Errorf("5 commits have %d ids", len(ids))
	}
}

func TestRowsHash(t *testing.T) {
	hash := func(rows ...string) string {
		var h RowsHash
		for _, row := range rows {
			h.Add([]byte(row))
		}
		return h.String()
	}
	if got := hash(); got != strings.Repeat("0", 64) {
		t.Errorf("hash of no rows = %s", got)
	}
	if got, want := hash("a"), "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"; got != want {
		t.Errorf("hash of a = %s, want its SHA-256, %s", got, want)
	}
	if hash("a", "b", "a") != hash("b", "a", "a") {
		t.Error("the order matters")
	}
	if hash("a", "b") == hash("a", "b", "b") || hash("a", "b", "b") == hash("a", "a", "b") || hash() == hash("a", "a") {
		t.Error("the number of equal rows does not matter")
	}
	var merged RowsHash
	for _, part := range []string{hash("x", "y"), hash(), hash("y", "z")} {
		h, err := ParseRowsHash(part)
		if err != nil {
			t.Fatal(err)
		}
		merged.Merge(h)
	}
	if got := merged.String(); got != hash("x", "y", "y", "z") {
		t.Error("the sum of hashes is not the hash of all rows")
	}
	// Carries go through all words, and past the last one.
	most, err := ParseRowsHash(strings.Repeat("f", 64))
	if err != nil {
		t.Fatal(err)
	}
	one, err := ParseRowsHash(strings.Repeat("0", 63) + "1")
	if err != nil {
		t.Fatal(err)
	}
	most.Merge(one)
	if most != (RowsHash{}) {
		t.Errorf("2^256 - 1 + 1 = %v", most)
	}
	if _, err := ParseRowsHash("00"); err == nil {
		t.Error("a short hash is no error")
	}
}
