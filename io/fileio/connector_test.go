// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/iotest"
)

func init() {
	beam.RegisterType(reflect.TypeFor[suiteRow]())
	beam.RegisterFunction(suiteLineTime)
	beam.RegisterFunction(suiteRowTime)
	register.Function1x1(lineToSuite)
	register.Function1x1(deadLineToSuite)
	register.Function1x1(lineOfSuite)
	register.Function1x1(rowToSuite)
	register.Function1x1(deadRowToSuite)
	register.Function1x1(rowOfSuite)
}

// A line of the suite is a value behind a mark, because an empty line is none.
const suiteMark = "="

func suiteLineTime(line []byte) (time.Time, error) { return iotest.TimeOf(line[len(suiteMark):]) }

func lineOfSuite(r iotest.Record) []byte { return append([]byte(suiteMark), r.Value...) }

// suiteFile is the file of a partition.
func suiteFile(dir string, partition int) string { return fmt.Sprintf("%s/part-%d", dir, partition) }

func suitePartition(file string) (n int) {
	fmt.Sscanf(path.Base(file), "part-%d", &n)
	return n
}

func lineToSuite(r Record) iotest.Record {
	return iotest.Record{Partition: suitePartition(r.File), Value: r.Bytes[len(suiteMark):], Position: fmt.Sprint(r.Offset)}
}

func deadLineToSuite(d DeadLetter) iotest.DeadLetter {
	return iotest.DeadLetter{
		Record: lineToSuite(Record{File: d.File, Offset: d.Offset, Bytes: d.Bytes}), Reason: d.Code + ": " + d.Error,
	}
}

// suiteRow is a record of the suite as a row of columns.
type suiteRow struct {
	Partition int
	Number    int64
	Key       []byte
	Value     []byte
	Headers   []iotest.Header
}

func suiteRowTime(r suiteRow) (time.Time, error) { return iotest.TimeOf(r.Value) }

func rowOfSuite(r iotest.Record) suiteRow {
	return suiteRow{Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: r.Headers}
}

func rowToSuite(r suiteRow) iotest.Record {
	return iotest.Record{Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: r.Headers, Position: fmt.Sprint(r.Number)}
}

func deadRowToSuite(d DeadLetter) iotest.DeadLetter {
	var r suiteRow
	if err := json.Unmarshal(d.Bytes, &r); err != nil || d.Row != r.Number || suitePartition(d.File) != r.Partition {
		return iotest.DeadLetter{} // It is of another row, which the suite tells.
	}
	return iotest.DeadLetter{Record: rowToSuite(r), Reason: d.Code + ": " + d.Error}
}

// linesFeed is a folder of a file of lines for each partition.
func linesFeed(tb testing.TB, partitions int) *iotest.Feed {
	dir := tb.TempDir()
	cfg, err := ReadConfig{Pattern: "remote://" + dir + "/part-*", EventTime: suiteLineTime, MaxRecord: 1 << 20}.withDefaults()
	if err != nil {
		tb.Fatal(err)
	}
	fill := func(tb testing.TB, records ...iotest.Record) {
		lines := make([]bytes.Buffer, partitions)
		for _, r := range records {
			lines[r.Partition].Write(append(lineOfSuite(r), '\n'))
		}
		for i := range lines {
			if err := os.WriteFile(suiteFile(dir, i), lines[i].Bytes(), 0o644); err != nil {
				tb.Fatal(err)
			}
		}
	}
	fill(tb)
	return &iotest.Feed{
		Fill: fill,
		Read: func(s beam.Scope, _ iotest.Extent) (records, dead beam.PCollection) {
			records, dead = Read(s, cfg)
			return beam.ParDo(s, lineToSuite, records), beam.ParDo(s, deadLineToSuite, dead)
		},
		Splittable: func(tb testing.TB, _ iotest.Extent) iotest.Splittable {
			url, pattern := blob.SplitGlob(cfg.Pattern)
			return iotest.Splittable{
				New: func() any {
					return &readFn{URL: url, MaxRecord: cfg.MaxRecord, Block: cfg.Block, EventTime: suiteName("suiteLineTime")}
				},
				Elements: matched(tb, &matchFn{URL: url, Pattern: pattern}),
				Record:   func(r any) iotest.Record { return lineToSuite(r.(Record)) },
				Dead:     func(d any) iotest.DeadLetter { return deadLineToSuite(d.(DeadLetter)) },
			}
		},
		Fail: func(n int) { remoteAt(dir).fail.Store(int64(n)) },
	}
}

// suiteName is the name of a function of this package.
func suiteName(name string) string { return reflect.TypeFor[Record]().PkgPath() + "." + name }

func matched(tb testing.TB, f *matchFn) (files []any) {
	tb.Helper()
	if err := f.ProcessElement(tb.Context(), nil, func(f sourceFile) { files = append(files, f) }); err != nil {
		tb.Fatal(err)
	}
	return files
}

// rowsFeed is a folder of a file of rows for each partition.
func rowsFeed(tb testing.TB, f Format, partitions int) *iotest.Feed {
	dir := tb.TempDir()
	cfg := RowsConfig{Pattern: "remote://" + dir + "/part-*", EventTime: suiteRowTime}
	fill := func(tb testing.TB, records ...iotest.Record) {
		rows := make([][]suiteRow, partitions)
		for _, r := range records {
			row := rowOfSuite(r)
			row.Number = int64(len(rows[r.Partition]))
			rows[r.Partition] = append(rows[r.Partition], row)
		}
		for i := range rows {
			writeRows(tb, suiteFile(dir, i), f, rows[i]...)
		}
	}
	fill(tb)
	return &iotest.Feed{
		Fill: fill,
		Read: func(s beam.Scope, _ iotest.Extent) (records, dead beam.PCollection) {
			records, dead = ReadRows(s, cfg, reflect.TypeFor[suiteRow]())
			return beam.ParDo(s, rowToSuite, records), beam.ParDo(s, deadRowToSuite, dead)
		},
		Splittable: func(tb testing.TB, _ iotest.Extent) iotest.Splittable {
			url, pattern := blob.SplitGlob(cfg.Pattern)
			return iotest.Splittable{
				New: func() any {
					return &readRowsFn{URL: url, Type: beam.EncodedType{T: reflect.TypeFor[suiteRow]()}, Block: 1, EventTime: suiteName("suiteRowTime")}
				},
				Elements: matched(tb, &matchFn{URL: url, Pattern: pattern, Rows: true}),
				Record:   func(r any) iotest.Record { return rowToSuite(r.(suiteRow)) },
				Dead:     func(d any) iotest.DeadLetter { return deadRowToSuite(d.(DeadLetter)) },
			}
		},
		Fail: func(n int) { remoteAt(dir).fail.Store(int64(n)) },
	}
}

func TestConnectorSource(t *testing.T) {
	for name, source := range map[string]iotest.Source{
		"lines": {Open: linesFeed, LargeMax: 1<<20 - len(suiteMark)},
		"avro": {
			Open: func(tb testing.TB, partitions int) *iotest.Feed { return rowsFeed(tb, Avro, partitions) },
			Keys: true, Headers: true, LargeMax: 4 << 20,
		},
		"parquet": {
			Open: func(tb testing.TB, partitions int) *iotest.Feed { return rowsFeed(tb, Parquet, partitions) },
			Keys: true, Headers: true, LargeMax: 4 << 20,
		},
	} {
		t.Run(name, func(t *testing.T) {
			source.Ends, source.Refusals = true, refusals()
			iotest.RunSource(t, source)
		})
	}
}

// refusals are what is refused before a pipeline runs.
func refusals() []iotest.Refusal {
	return []iotest.Refusal{
		{Name: "read of nothing", Try: func(string) error {
			Read(beam.NewPipeline().Root(), ReadConfig{})
			return nil
		}, Want: []string{"fileio.Read", "name the files to read"}},
		{Name: "rows of no store", Try: func(string) error {
			_, _, err := TryReadRows(beam.NewPipeline().Root(), RowsConfig{Pattern: "ftp://host/x/*"}, reflect.TypeFor[visit]())
			return err
		}, Want: []string{"fileio.ReadRows", "no store is registered for ftp://"}},
		{Name: "write to no store", Try: func(string) error {
			s := beam.NewPipeline().Root()
			_, err := TryWrite(s, WriteConfig{URL: "ftp://host/x"}, beam.Create(s, "a"))
			return err
		}, Want: []string{"fileio.Write", "no store is registered for ftp://"}},
	}
}

// placeOf is a folder that is written as the suite's elements are encoded, and read by contents.
func placeOf(tb testing.TB, cfg WriteConfig, encode, refused any, contents func(testing.TB, string) []iotest.Record) *iotest.Place {
	dir := filepath.Join(tb.TempDir(), "out")
	cfg.URL, cfg.Shards = "remote://"+dir, 2
	return &iotest.Place{
		Write: func(s beam.Scope, col beam.PCollection) beam.PCollection {
			return beam.ParDo(s, refused, Write(s, cfg, beam.ParDo(s, encode, col)).Dead)
		},
		Contents: func(tb testing.TB) (all []iotest.Record) {
			for _, file := range matched(tb, &matchFn{URL: dir, Pattern: "part-*", AllowNone: true}) {
				all = append(all, contents(tb, filepath.Join(dir, file.(sourceFile).Key))...)
			}
			return all
		},
		Fail: func(n int) { remoteAt(dir).fail.Store(int64(n)) },
		Lose: func(n int) { remoteAt(dir).lose.Store(int64(n)) },
		Break: func(tb testing.TB) {
			if cfg.JobID != "" {
				if err := Claim(tb.Context(), dir, cfg.JobID); err != nil {
					tb.Fatal(err)
				}
			}
			for _, extension := range []string{".jsonl", ".avro", ".parquet"} {
				for shard := range cfg.Shards {
					writeFile(tb, fmt.Sprintf("%s/part-%05d-of-%05d%s", dir, shard, cfg.Shards, extension), "of another job\n")
				}
			}
		},
		Want: []string{"fileio.Write", "-of-00002", "another job's results", "name another place"},
	}
}

func linesIn(tb testing.TB, path string) (all []iotest.Record) {
	tb.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		all = append(all, iotest.Record{Value: []byte(strings.TrimSuffix(line, "\n")[len(suiteMark):])})
	}
	return all
}

func rowsIn(tb testing.TB, path string) (all []iotest.Record) {
	tb.Helper()
	url, pattern := blob.SplitGlob(path)
	fn := &readRowsFn{URL: url, Type: beam.EncodedType{T: reflect.TypeFor[suiteRow]()}, Block: 1}
	for _, file := range matched(tb, &matchFn{URL: url, Pattern: pattern, Rows: true}) {
		f, err := fn.open(tb.Context(), file.(sourceFile))
		if err != nil {
			tb.Fatal(err)
		}
		cuts, err := f.parts(1 << 40)
		if err != nil {
			tb.Fatal(err)
		}
		for row := range cuts[1].Row {
			element, bad, err := f.next(row)
			if bad != nil || err != nil {
				tb.Fatal(bad, err)
			}
			all = append(all, rowToSuite(element.(suiteRow)))
		}
		if err := f.Close(); err != nil {
			tb.Error(err)
		}
	}
	return all
}

func TestConnectorSink(t *testing.T) {
	for name, sink := range map[string]iotest.Sink{
		"lines": {
			Open: func(tb testing.TB) *iotest.Place {
				return placeOf(tb, WriteConfig{JobID: "suite"}, lineOfSuite, deadLineToSuite, linesIn)
			},
			LargeMax: 1 << 20,
			Refused:  []iotest.Record{{Value: []byte("two\nlines")}},
		},
		"avro": {
			Open: func(tb testing.TB) *iotest.Place {
				return placeOf(tb, WriteConfig{Format: Avro}, rowOfSuite, deadRowToSuite, rowsIn)
			},
			Keys: true, Headers: true, LargeMax: 4 << 20,
		},
		"parquet": {
			Open: func(tb testing.TB) *iotest.Place {
				return placeOf(tb, WriteConfig{Format: Parquet}, rowOfSuite, deadRowToSuite, rowsIn)
			},
			Keys: true, Headers: true, LargeMax: 4 << 20,
		},
	} {
		t.Run(name, func(t *testing.T) {
			sink.Once, sink.Refusals = true, refusals()
			iotest.RunSink(t, sink)
		})
	}
}
