// SPDX-License-Identifier: Apache-2.0

package ends

import (
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
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
}

// Source says what a pipeline reads.
type Source struct {
	// Generate is the built-in generator: PCollection<[]byte>, with event times.
	Generate func(s beam.Scope) beam.PCollection
	// FileTime takes the event time out of a line of a file. It has to be a function with a name.
	FileTime func(line []byte) (time.Time, error)
	// KafkaTime takes it out of a record; nil takes the record's own time.
	KafkaTime func(kafkaio.Record) (time.Time, error)
}

// Records are what was read.
type Records struct {
	Lines beam.PCollection   // PCollection<[]byte>, with event times.
	Dead  []beam.PCollection // Each PCollection<dlq.BadRecord>: what could not be read as a record.
}

// Read reads the records of e.
func Read(s beam.Scope, e Ends, src Source) (Records, error) {
	s = s.Scope("ends.Read")
	if path, ok := strings.CutPrefix(e.Input, filePrefix); ok {
		lines, dead := fileio.Read(s, fileio.ReadConfig{
			Pattern:    path,
			EventTime:  src.FileTime,
			OutOfOrder: e.OutOfOrder,
		})
		return Records{
			Lines: beam.ParDo(s, fileLine, lines),
			Dead:  []beam.PCollection{beam.ParDo(s, fileDead, dead)},
		}, nil
	}
	if strings.HasPrefix(e.Input, kafkaPrefix) {
		cfg, err := kafkaio.ParseURL(e.Input)
		if err != nil {
			return Records{}, err
		}
		cfg.OutOfOrder, cfg.EventTime = e.OutOfOrder, src.KafkaTime
		records, dead := kafkaio.Read(s, cfg)
		return Records{
			Lines: beam.ParDo(s, kafkaValue, records),
			Dead:  []beam.PCollection{beam.ParDo(s, kafkaDead, dead)},
		}, nil
	}
	return Records{Lines: src.Generate(s)}, nil
}

func fileLine(r fileio.Record) []byte { return r.Bytes }

func fileDead(d fileio.DeadLetter) dlq.BadRecord {
	return dlq.New(d.Code, "fileio.Read", d.Error, d.Bytes)
}

func kafkaValue(r kafkaio.Record) []byte { return r.Value }

func kafkaDead(d kafkaio.DeadLetter) dlq.BadRecord {
	return dlq.New(d.Code, "kafkaio.Read", d.Error, d.Record.Value)
}
