// SPDX-License-Identifier: Apache-2.0

// Package ends is the two ends of the example pipelines: where --input takes records from and where
// --output puts lines. It knows the generator, files and Kafka topics; what a record means is said
// by the pipeline.
package ends

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"reflect"
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
	beam.RegisterType(reflect.TypeFor[dlq.BadRecord]())
	register.DoFn2x1[context.Context, []byte, []byte](&countFn{})
	register.Function1x1(fileBytes)
	register.Function1x1(fileLetter)
	register.Function1x1(kafkaBytes)
	register.Function1x1(kafkaLetter)
}

// namespace is the namespace of the counter of records, which is named "in".
const namespace = "input"

// Generator is the input that is built in.
const Generator = "generator"

// Input says where records come from.
type Input struct {
	URL        string        // Generator, file:PATH or kafka://HOST:PORT/TOPIC.
	OutOfOrder time.Duration // How far a record of a file or topic may be behind the latest before it.
	Rate       float64       // Records a second of the generator; 0 is no limit.
}

// InputFlags are the names of the flags that Register adds.
var InputFlags = []string{"input", "out_of_order", "rate"}

// Register adds the flags of an input.
func (in *Input) Register(flags *flag.FlagSet) {
	flags.StringVar(&in.URL, "input", Generator,
		"Where records come from: generator (built in), file:PATH (a pattern such as 'in/*.csv' is allowed),\n"+
			"or kafka://HOST:PORT/TOPIC; with ?from=earliest&to=latest the read ends.")
	flags.DurationVar(&in.OutOfOrder, "out_of_order", 0,
		"For files and topics: how far, in event time, a record may come after later ones and be on time.\n"+
			"Example: --out_of_order=10m")
	flags.Float64Var(&in.Rate, "rate", 0, "For the generator: records a second; 0 is as fast as possible.")
}

// Endless tells whether reading the input has no end.
func (in Input) Endless() bool {
	cfg, err := kafkaio.ParseURL(in.URL)
	return err == nil && cfg.To == (kafkaio.Position{})
}

// Format is what is known of the records of a pipeline. The functions must have names and be
// registered. A record without a time has the time Unknown: parsing it is left to the pipeline.
type Format struct {
	Generate  func(s beam.Scope) beam.PCollection // PCollection<[]byte>.
	FileTime  func(line []byte) (time.Time, error)
	KafkaTime func(r kafkaio.Record) (time.Time, error)
}

// Unknown is the event time of a record that cannot be read.
var Unknown = mtime.MinTimestamp.ToTime()

// Lines reads the records of an input, and counts them.
//
// Output: PCollection<[]byte> with event times, and PCollections<dlq.BadRecord> of what the
// connector refused.
func Lines(s beam.Scope, in Input, format Format) (beam.PCollection, []beam.PCollection, error) {
	s = s.Scope("ends.Lines")
	if in.OutOfOrder < 0 || in.Rate < 0 {
		return beam.PCollection{}, nil, fmt.Errorf("--out_of_order %v and --rate %v: neither can be negative", in.OutOfOrder, in.Rate)
	}
	if path, ok := strings.CutPrefix(in.URL, "file:"); ok {
		return readFiles(s, path, in, format)
	}
	switch {
	case in.URL == Generator || in.URL == "":
		return count(s, format.Generate(s)), nil, nil
	case strings.HasPrefix(in.URL, "kafka://"):
		return readTopic(s, in, format)
	}
	return beam.PCollection{}, nil, fmt.Errorf("--input %q: want generator, file:PATH or kafka://HOST:PORT/TOPIC", in.URL)
}

func readFiles(s beam.Scope, path string, in Input, format Format) (beam.PCollection, []beam.PCollection, error) {
	found, err := filepath.Glob(path)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("no file matches %q", path)
	}
	if err != nil {
		return beam.PCollection{}, nil, fmt.Errorf("--input: %w", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return beam.PCollection{}, nil, fmt.Errorf("--input: %w", err)
	}
	records, dead := fileio.Read(s, fileio.ReadConfig{Pattern: path, EventTime: format.FileTime, OutOfOrder: in.OutOfOrder})
	refused := beam.ParDo(s, fileLetter, dead)
	count(s, beam.ParDo(s, letterBytes, refused))
	return count(s, beam.ParDo(s, fileBytes, records)), []beam.PCollection{refused}, nil
}

func readTopic(s beam.Scope, in Input, format Format) (beam.PCollection, []beam.PCollection, error) {
	cfg, err := kafkaio.ParseURL(in.URL)
	if err == nil {
		err = kafkaio.Check(context.Background(), cfg.Brokers, cfg.Topic)
	}
	if err != nil {
		return beam.PCollection{}, nil, fmt.Errorf("--input: %w", err)
	}
	cfg.EventTime, cfg.OutOfOrder = format.KafkaTime, in.OutOfOrder
	records, dead := kafkaio.Read(s, cfg)
	refused := beam.ParDo(s, kafkaLetter, dead)
	count(s, beam.ParDo(s, letterBytes, refused))
	return count(s, beam.ParDo(s, kafkaBytes, records)), []beam.PCollection{refused}, nil
}

func fileBytes(r fileio.Record) []byte     { return r.Bytes }
func kafkaBytes(r kafkaio.Record) []byte   { return r.Value }
func letterBytes(bad dlq.BadRecord) []byte { return bad.Record.Encoded }

func init() { register.Function1x1(letterBytes) }

func fileLetter(d fileio.DeadLetter) dlq.BadRecord {
	return dlq.New(d.Code, "fileio.Read", fmt.Sprintf("%s, line %d: %s", d.File, d.Line, d.Error), d.Bytes)
}

func kafkaLetter(d kafkaio.DeadLetter) dlq.BadRecord {
	where := fmt.Sprintf("topic %s, partition %d, offset %d", d.Record.Topic, d.Record.Partition, d.Record.Offset)
	return dlq.New(d.Code, "kafkaio.Read", where+": "+d.Error, d.Record.Value)
}

func count(s beam.Scope, records beam.PCollection) beam.PCollection {
	return beam.ParDo(s, &countFn{}, records)
}

// countFn counts what comes in.
type countFn struct{}

var came = beam.NewCounter(namespace, "in")

// ProcessElement passes the record on.
func (fn *countFn) ProcessElement(ctx context.Context, record []byte) []byte {
	came.Inc(ctx, 1)
	return record
}

// In is how many records came in, and Dead how many of them became dead letters.
func In(m metrics.QueryResults) int64 { return sum(m, namespace) }

// Dead is how many dead letters there are.
func Dead(m metrics.QueryResults) int64 { return sum(m, "dlq") }

// sum adds all counters of a namespace.
func sum(m metrics.QueryResults, namespace string) int64 {
	var n int64
	for _, c := range m.Counters() {
		if c.Namespace() == namespace {
			n += c.Result()
		}
	}
	return n
}
