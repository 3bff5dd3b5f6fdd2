// SPDX-License-Identifier: Apache-2.0

package ends

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/io/fileio"
	"github.com/hornbeam-dev/hornbeam/io/kafkaio"
	"github.com/hornbeam-dev/hornbeam/transforms/dlq"
)

func init() {
	register.Function1x1(fileLine)
	register.Function1x1(fileDead)
	register.Function1x1(kafkaValue)
	register.Function1x1(kafkaDead)
	register.Function1x1(deadLine)
	register.DoFn2x1[context.Context, []byte, []byte](&countFn{})
}

// Unknown is the event time of a record that cannot be read: what it is, the pipeline's parser says.
var Unknown = mtime.MinTimestamp.ToTime()

// Source says what a pipeline reads.
type Source struct {
	// Generate is the built-in generator: PCollection<[]byte>, with event times.
	Generate func(s beam.Scope) beam.PCollection
	// FileTime takes the event time out of a line of a file; it is Unknown if there is none. It has
	// to be a function with a name.
	FileTime func(line []byte) (time.Time, error)
	// KafkaTime takes it out of a record; nil takes the record's own time.
	KafkaTime func(kafkaio.Record) (time.Time, error)
}

// Records are what was read.
type Records struct {
	Lines beam.PCollection   // PCollection<[]byte>, with event times.
	Dead  []beam.PCollection // Each PCollection<dlq.BadRecord>: what could not be read as a record.
}

// Read reads the records of e, and counts them.
func Read(s beam.Scope, e Ends, src Source) (Records, error) {
	s = s.Scope("ends.Read")
	if path, ok := strings.CutPrefix(e.Input, filePrefix); ok {
		return readFiles(s, e, path, src)
	}
	if strings.HasPrefix(e.Input, kafkaPrefix) {
		return readTopic(s, e, src)
	}
	return counted(s, src.Generate(s)), nil
}

func readFiles(s beam.Scope, e Ends, path string, src Source) (Records, error) {
	if found, err := filepath.Glob(path); err != nil || len(found) == 0 {
		return Records{}, fmt.Errorf("--input=%s: no such file", e.Input)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return Records{}, err
	}
	lines, dead := fileio.Read(s, fileio.ReadConfig{
		Pattern:    absolute,
		EventTime:  src.FileTime,
		OutOfOrder: e.OutOfOrder,
	})
	return counted(s, beam.ParDo(s, fileLine, lines), beam.ParDo(s, fileDead, dead)), nil
}

func readTopic(s beam.Scope, e Ends, src Source) (Records, error) {
	cfg, err := kafkaio.ParseURL(e.Input)
	if err == nil {
		err = kafkaio.Check(context.Background(), cfg.Brokers, cfg.Access, cfg.Topic)
	}
	if err != nil {
		return Records{}, fmt.Errorf("--input: %w", err)
	}
	cfg.OutOfOrder, cfg.EventTime, cfg.Turn = e.OutOfOrder, src.KafkaTime, e.Turn
	records, dead := kafkaio.Read(s, cfg)
	return counted(s, beam.ParDo(s, kafkaValue, records), beam.ParDo(s, kafkaDead, dead)), nil
}

func counted(s beam.Scope, lines beam.PCollection, dead ...beam.PCollection) Records {
	for _, d := range dead {
		beam.ParDo(s, &countFn{}, beam.ParDo(s, deadLine, d))
	}
	return Records{Lines: beam.ParDo(s, &countFn{}, lines), Dead: dead}
}

const scopeName = "ends.Read"

// countFn counts records as they come in.
type countFn struct{ records beam.Counter }

func (f *countFn) Setup() { f.records = beam.NewCounter(scopeName, "records") }

func (f *countFn) ProcessElement(ctx context.Context, line []byte) []byte {
	f.records.Inc(ctx, 1)
	return line
}

// In returns the number of records that a job has read.
func In(m metrics.QueryResults) int64 {
	var n int64
	for _, c := range m.Counters() {
		if c.Namespace() == scopeName {
			n += c.Result()
		}
	}
	return n
}

func fileLine(r fileio.Record) []byte { return r.Bytes }

func fileDead(d fileio.DeadLetter) dlq.BadRecord {
	return dlq.New(d.Code, "fileio.Read", fmt.Sprintf("%s, line %d: %s", d.File, d.Line, d.Error), d.Bytes)
}

func kafkaValue(r kafkaio.Record) []byte { return r.Value }

func kafkaDead(d kafkaio.DeadLetter) dlq.BadRecord {
	where := fmt.Sprintf("topic %s, partition %d, offset %d", d.Record.Topic, d.Record.Partition, d.Record.Offset)
	return dlq.New(d.Code, "kafkaio.Read", where+": "+d.Error, d.Record.Value)
}

func deadLine(d dlq.BadRecord) []byte { return d.Record.Encoded }
