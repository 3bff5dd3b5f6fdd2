// SPDX-License-Identifier: Apache-2.0

package ends

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/io/fileio"
	"github.com/hornbeam-dev/hornbeam/runner/launch"
	"github.com/hornbeam-dev/hornbeam/transforms/dlq"
)

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "hornbeam") }

func init() {
	beam.RegisterType(reflect.TypeFor[row]())
	register.Function3x0(parse)
	register.Function1x2(lineTime)
	register.Emitter1[row]()
	register.Emitter1[dlq.BadRecord]()
}

// row is a line of the form "SECONDS COUNTRY".
type row struct {
	At      time.Time `json:"at"`
	Country string    `json:"country"`
}

func parse(line []byte, emit func(row), dead func(dlq.BadRecord)) {
	var seconds int64
	var country string
	if _, err := fmt.Sscanf(string(line), "%d %s", &seconds, &country); err != nil {
		dead(dlq.New("PARSE", "test", err.Error(), line))
		return
	}
	emit(row{time.Unix(seconds, 0).UTC(), country})
}

func lineTime(line []byte) (time.Time, error) {
	var seconds int64
	if _, err := fmt.Sscanf(string(line), "%d", &seconds); err != nil {
		return Unknown, nil
	}
	return time.Unix(seconds, 0), nil
}

// run runs a pipeline from a file with these lines to its rows and dead letters.
func run(t *testing.T, e Ends, lines ...string) error {
	t.Helper()
	input := filepath.Join(t.TempDir(), "input.txt")
	if err := os.WriteFile(input, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.Input = filePrefix + input
	e.Job.ID = "test"
	if err := e.check(); err != nil {
		t.Fatal(err)
	}
	p, s := beam.NewPipelineWithRoot()
	read, err := Read(s, e, Source{FileTime: lineTime})
	if err != nil {
		t.Fatal(err)
	}
	rows, dead := beam.ParDo2(s, parse, read.Lines)
	refused, err := Write(s, e, "rows", rows)
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteDead(s, e, read, append(read.Dead, dead, refused)...); err != nil {
		t.Fatal(err)
	}
	return ptest.Run(p)
}

// defaults are the ends of a command line without flags.
func defaults(t *testing.T) Ends {
	t.Helper()
	e, err := FromFlags("test", launch.Job{ID: "test"})
	if err != nil {
		t.Fatal(err)
	}
	e.Output = filepath.Join(t.TempDir(), "out")
	return e
}

// tree returns the files below a folder that are not of the job, by their names.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasPrefix(entry.Name(), "_hornbeam") {
			return err
		}
		content, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func names(files map[string]string) []string {
	var all []string
	for name := range files {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func TestFoldersAndManifest(t *testing.T) {
	e := defaults(t)
	e.Files.Partition, e.Files.Zone, e.Files.Fields = []string{"date", "hour"}, "Europe/Berlin", []string{"country"}
	if err := run(t, e, "1522533600 DE", "1522533601 FR", "1522537200 DE"); err != nil { // In Berlin it is midnight of the 1st of April, 2018.
		t.Fatal(err)
	}
	files := tree(t, e.Output)
	const window = "rows-20180331T000000Z-20180401T000000Z"
	want := []string{
		"_complete-" + window + ".json",
		"date=2018-04-01/hour=00/country=DE/" + window + "-pane0-00000-of-00001-part0000.jsonl",
		"date=2018-04-01/hour=00/country=FR/" + window + "-pane0-00000-of-00001-part0000.jsonl",
		"date=2018-04-01/hour=01/country=DE/" + window + "-pane0-00000-of-00001-part0000.jsonl",
	}
	if diff := cmp.Diff(want, names(files)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if got, want := files[want[1]], `{"at":"2018-03-31T22:00:00Z","country":"DE"}`+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	var m fileio.Manifest
	if err := json.Unmarshal([]byte(files[want[0]]), &m); err != nil || m.Rows != 3 || len(m.Files) != 3 {
		t.Errorf("manifest %+v (%v), want 3 rows in 3 files", m, err)
	}
}

func TestFormats(t *testing.T) {
	for name, want := range map[string]struct{ suffix, magic string }{
		"csv": {".csv", "at,country\n"}, "avro": {".avro", "Obj\x01"}, "parquet": {".parquet", "PAR1"},
	} {
		e := defaults(t)
		e.Files.Format = formats[name]
		if err := run(t, e, "1 DE", "no row"); err != nil {
			t.Fatal(err)
		}
		found := false
		for file, content := range tree(t, e.Output) {
			found = found || strings.HasPrefix(file, "rows-") && strings.HasSuffix(file, want.suffix) && strings.HasPrefix(content, want.magic)
			if strings.HasPrefix(file, "dead-") && !strings.HasSuffix(file, ".jsonl") {
				t.Errorf("%s: dead letters are in %s, want JSON lines", name, file)
			}
		}
		if !found {
			t.Errorf("%s: got %v", name, names(tree(t, e.Output)))
		}
	}
}

func TestDeadLettersGoWhereTheyAreSent(t *testing.T) {
	e := defaults(t)
	e.DeadLetters = filepath.Join(t.TempDir(), "dead")
	if err := run(t, e, "1 DE", "no row"); err != nil {
		t.Fatal(err)
	}
	dead := tree(t, e.DeadLetters)
	if len(dead) != 1 {
		t.Fatalf("got %v, want one file of dead letters", names(dead))
	}
	for _, content := range dead {
		var bad dlq.BadRecord
		if err := json.Unmarshal([]byte(content), &bad); err != nil || bad.Failure.Code != "PARSE" || string(bad.Record.Encoded) != "no row" {
			t.Errorf("got %q (%v)", content, err)
		}
	}
	for name := range tree(t, e.Output) {
		if strings.HasPrefix(name, "dead") {
			t.Errorf("%s is in the output, too", name)
		}
	}
}

func TestTooManyDeadLetters(t *testing.T) {
	for _, c := range []struct {
		ratio   float64
		records int
		fails   bool
	}{{0.2, enough, true}, {0.25, enough, false}, {1, enough, false}, {0.2, 4, false}, {0, 4, true}} {
		e := defaults(t)
		e.MaxDeadRatio = c.ratio
		err := run(t, e, slices.Repeat([]string{"1 DE", "2 DE", "3 DE", "no row"}, c.records/4)...)
		want := fmt.Sprintf("%d of %d records are dead letters", c.records/4, c.records)
		if failed := err != nil && strings.Contains(err.Error(), want); failed != c.fails {
			t.Errorf("ratio %v, %d records: got %v, want a failure %v", c.ratio, c.records, err, c.fails)
		}
	}
}

// A limit needs a timer that some runners do not have; the pipeline for these has none.
func TestLimitIsLeftOut(t *testing.T) {
	build := func(limits launch.Limits) (steps int) {
		e := defaults(t)
		e.Job.Limits = limits
		p, s := beam.NewPipelineWithRoot()
		bad := beam.Create(s, dlq.New("A", "x", "", nil))
		if err := WriteDead(s, e, Records{All: beam.Create(s, []byte("x"))}, bad); err != nil {
			t.Fatal(err)
		}
		edges, _, err := p.Build()
		if err != nil {
			t.Fatal(err)
		}
		for _, edge := range edges {
			if strings.Contains(edge.Scope().String(), "dlq.Limit") {
				steps++
			}
		}
		return steps
	}
	if with, without := build(launch.Limits{}), build(launch.Limits{NoClock: true}); with == 0 || without != 0 {
		t.Errorf("got %d steps of the limit with a clock and %d without", with, without)
	}
}

func TestWrongFlags(t *testing.T) {
	for _, c := range []struct {
		limits launch.Limits
		args   []string
		want   string
	}{
		{args: []string{"input=ftp://x/y"}, want: "--input=ftp://…: use generator"},
		{args: []string{"input=file:"}, want: "names no file"},
		{args: []string{"input=kafka://nowhere/t"}, want: "not HOST:PORT"},
		{args: []string{"input=kinesis://"}, want: "--input: kinesisio"},
		{args: []string{"output=ftp://ann:secret@x/y"}, want: "--output=ftp://…: use a folder"},
		{args: []string{"dead_letters=kafka://x/t"}, want: "--dead_letters: kafkaio"},
		{args: []string{"dead_letters=kafka://h:1/t?from=earliest"}, want: "--dead_letters: from, to, registry"},
		{args: []string{"output=kafka://h:1/t?registry=http://r"}, want: "--output: from, to, registry"},
		{args: []string{"output=kinesis://s?to=latest"}, want: "--output: from, to and consumer are for --input"},
		{args: []string{"format=orc"}, want: "use jsonl, csv, avro or parquet"},
		{args: []string{"compression=lzo"}, want: "use usual, none, gzip or zstd"},
		{args: []string{"file_size=big"}, want: "--file_size"},
		{args: []string{"file_window=1ms"}, want: "at least a second"},
		{args: []string{"file_delay=-1s"}, want: "must not be negative"},
		{args: []string{"max_dead_ratio=1.5"}, want: "from 0 to 1"},
		{args: []string{"out_of_order=-1s"}, want: "--out_of_order=-1s"},
		{args: []string{"max_dead_ratio=0.5"}, limits: launch.Limits{NoClock: true}, want: "no timers in processing time"},
		{args: []string{"output=kafka://h:1/t"}, limits: launch.Limits{Rewinds: true}, want: "add --at_least_once"},
		{args: []string{"output=out"}, limits: launch.Limits{NoFiles: true}, want: "would write to their own disks"},
		{args: []string{"output=s3://b/p", "input=file:x"}, limits: launch.Limits{NoFiles: true}, want: "put them into a bucket"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			for _, arg := range c.args {
				name, value, _ := strings.Cut(arg, "=")
				f := flag.Lookup(name)
				before := f.Value.String()
				t.Cleanup(func() { f.Value.Set(before) })
				if err := f.Value.Set(value); err != nil {
					t.Fatal(err)
				}
			}
			_, err := FromFlags("test", launch.Job{ID: "test", Limits: c.limits})
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestMissingInput(t *testing.T) {
	e := defaults(t)
	e.Input = "file:" + filepath.Join(t.TempDir(), "**", "*.csv")
	_, s := beam.NewPipelineWithRoot()
	if _, err := Read(s, e, Source{}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v, want an error that says that there is no such file", err)
	}
}
