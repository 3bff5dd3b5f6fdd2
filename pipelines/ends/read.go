// SPDX-License-Identifier: Apache-2.0

package ends

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/fileio"
	"github.com/hornbeam-dev/hornbeam/io/kafkaio"
	"github.com/hornbeam-dev/hornbeam/io/kinesisio"
	"github.com/hornbeam-dev/hornbeam/transforms/dlq"
)

func init() {
	register.Function1x1(fileLine)
	register.Function1x1(fileDead)
	register.Function1x1(kafkaValue)
	register.Function1x1(kafkaDead)
	register.Function1x1(kinesisData)
	register.Function1x1(kinesisDead)
	register.Function1x1(deadLine)
	register.DoFn2x1[context.Context, []byte, []byte](&countFn{})
}

// Unknown is the event time of a record that cannot be read: what it is, the pipeline's parser says.
var Unknown = mtime.MinTimestamp.ToTime()

// Source says what a pipeline reads.
type Source struct {
	// Generate is the built-in generator: PCollection<[]byte>, with event times.
	Generate func(s beam.Scope) beam.PCollection
	// FileTime takes the event time out of a line of a file; it is Unknown if there is none. This and
	// the other two have to be functions with names.
	FileTime func(line []byte) (time.Time, error)
	// KafkaTime takes it out of a record; nil takes the record's own time.
	KafkaTime func(kafkaio.Record) (time.Time, error)
	// KinesisTime takes it out of a record; nil takes the time of its arrival.
	KinesisTime func(kinesisio.Record) (time.Time, error)
}

// Records are what was read.
type Records struct {
	Lines beam.PCollection   // PCollection<[]byte>, with event times.
	Dead  []beam.PCollection // Each PCollection<dlq.BadRecord>: what could not be read as a record.
	All   beam.PCollection   // PCollection<[]byte>: both, in the global window.
}

// Read reads the records of e, and counts them.
func Read(s beam.Scope, e Ends, src Source) (Records, error) {
	s = s.Scope("ends.Read")
	switch path, isFile := strings.CutPrefix(e.Input, filePrefix); {
	case isFile || inStore(e.Input):
		return readFiles(s, e, path, src)
	case strings.HasPrefix(e.Input, kafkaPrefix):
		return readTopic(s, e, src)
	case strings.HasPrefix(e.Input, kinesisPrefix):
		return readStream(s, e, src)
	}
	return counted(s, src.Generate(s)), nil
}

func readFiles(s beam.Scope, e Ends, path string, src Source) (Records, error) {
	pattern, err := absolute(path)
	if err == nil {
		err = exists(pattern)
	}
	if err != nil {
		return Records{}, fmt.Errorf("--input=%s: %w", shown(e.Input), err)
	}
	lines, dead := fileio.Read(s, fileio.ReadConfig{
		Pattern:    pattern,
		EventTime:  src.FileTime,
		OutOfOrder: e.OutOfOrder,
	})
	return counted(s, beam.ParDo(s, fileLine, lines), beam.ParDo(s, fileDead, dead)), nil
}

// patience is how long a service may take to say whether a place is there, before a job begins.
const patience = 30 * time.Second

// exists tells whether a file matches.
func exists(pattern string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	base, glob := blob.SplitGlob(pattern)
	store, err := blob.Open(ctx, base)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	for _, err := range blob.Glob(ctx, store, glob) {
		return err
	}
	return errors.New("no such file")
}

func readTopic(s beam.Scope, e Ends, src Source) (Records, error) {
	cfg, err := kafkaio.ParseURL(e.Input)
	if err == nil {
		err = kafkaio.Check(context.Background(), cfg.Brokers, cfg.Access, cfg.Topic)
	}
	if err != nil {
		return Records{}, fmt.Errorf("--input: %w", err)
	}
	cfg.OutOfOrder, cfg.EventTime, cfg.Turn = e.OutOfOrder, src.KafkaTime, e.Job.Pace.Turn
	records, dead := kafkaio.Read(s, cfg)
	return counted(s, beam.ParDo(s, kafkaValue, records), beam.ParDo(s, kafkaDead, dead)), nil
}

func readStream(s beam.Scope, e Ends, src Source) (Records, error) {
	cfg, err := kinesisio.ParseURL(e.Input)
	if err == nil {
		err = kinesisio.Check(context.Background(), cfg)
	}
	if err != nil {
		return Records{}, fmt.Errorf("--input: %w", err)
	}
	cfg.OutOfOrder, cfg.EventTime, cfg.Turn = e.OutOfOrder, src.KinesisTime, e.Job.Pace.Turn
	cfg.Dedupe = true // What was not written by Hornbeam has no mark and goes through.
	records, dead := kinesisio.Read(s, cfg)
	return counted(s, beam.ParDo(s, kinesisData, records), beam.ParDo(s, kinesisDead, dead)), nil
}

func counted(s beam.Scope, lines beam.PCollection, dead ...beam.PCollection) Records {
	lines = beam.ParDo(s, &countFn{}, lines)
	all := []beam.PCollection{beam.WindowInto(s, window.NewGlobalWindows(), lines)}
	for _, d := range dead {
		bytes := beam.ParDo(s, &countFn{}, beam.ParDo(s, deadLine, d))
		all = append(all, beam.WindowInto(s, window.NewGlobalWindows(), bytes))
	}
	return Records{Lines: lines, Dead: dead, All: beam.Flatten(s, all...)}
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

func kinesisData(r kinesisio.Record) []byte { return r.Data }

func kinesisDead(d kinesisio.DeadLetter) dlq.BadRecord {
	where := fmt.Sprintf("stream %s, shard %s, sequence number %s, index %d", d.Record.Stream, d.Record.Shard, d.Record.Sequence, d.Record.Index)
	return dlq.New(d.Code, "kinesisio.Read", where+": "+d.Error, d.Record.Data)
}

func deadLine(d dlq.BadRecord) []byte { return d.Record.Encoded }
