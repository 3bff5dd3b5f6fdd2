// SPDX-License-Identifier: Apache-2.0

package ends

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window/trigger"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/io/fileio"
	"github.com/hornbeam-dev/hornbeam/io/kafkaio"
	"github.com/hornbeam-dev/hornbeam/io/kinesisio"
	"github.com/hornbeam-dev/hornbeam/transforms/dlq"
)

func init() {
	register.DoFn1x3[beam.X, []byte, []byte, error](&messageFn{})
	register.Function1x1(fileRefused)
	register.Function1x1(kafkaRefused)
	register.Function1x1(kinesisRefused)
	register.Function1x1(refusedFn)
}

// Write writes results, a PCollection<T> of a struct type with event times, to the output of e: as files
// NAME-*, a set for each window of Files; or, as JSON, as records with the key NAME to its topic, or spread over
// the shards of its stream. It returns PCollection<dlq.BadRecord>: the results that the place does not take.
func Write(s beam.Scope, e Ends, name string, results beam.PCollection) (dead beam.PCollection, err error) {
	s = s.Scope("ends.Write." + name)
	dead, err = write(s, e, e.Output, results, fileio.WriteConfig{
		Prefix:      name,
		Format:      e.Files.Format,
		Compression: e.Files.Compression,
		Window:      e.Files.Window,
		Early:       e.Files.Delay,
		Lateness:    e.Files.Lateness,
		Late:        min(e.Files.Lateness, lateEvery),
		Partition:   e.Files.Partition,
		Zone:        e.Files.Zone,
		Fields:      e.Files.Fields,
		TargetSize:  e.Files.Size,
		Complete:    true,
	})
	if err != nil {
		return dead, fmt.Errorf("--output: %w", err)
	}
	return dead, nil
}

const (
	lateEvery = time.Minute      // Late results are collected for this long.
	deadEvery = 10 * time.Second // How often dead letters are written while a job runs.
	enough    = 1000             // Records below which no part of them is too many.
)

// WriteDead counts and writes dead letters, each a PCollection<dlq.BadRecord>, as files dead-*.jsonl or as
// records with the key "dead". They may have no event time, so they are not divided by it: none can be late.
// The job fails when there are too many for the number of records.
func WriteDead(s beam.Scope, e Ends, records Records, dead ...beam.PCollection) error {
	s = s.Scope("ends.WriteDead")
	windowed := make([]beam.PCollection, len(dead))
	for i, col := range dead {
		windowed[i] = beam.WindowInto(s, window.NewGlobalWindows(), col,
			beam.Trigger(trigger.Repeat(trigger.AfterProcessingTime().PlusDelay(deadEvery))), beam.PanesDiscard())
	}
	all := dlq.Collect(s, windowed...)
	if !e.Job.Limits.NoClock {
		if err := dlq.SetMaxRatio(e.MaxDeadRatio); err != nil {
			return fmt.Errorf("--max_dead_ratio: %w", err)
		}
		dlq.Limit(s, enough, records.All, all)
	}
	refused, err := write(s, e, e.deadPlace(), all, fileio.WriteConfig{Prefix: "dead"})
	if err != nil {
		return fmt.Errorf("--dead_letters: %w", err)
	}
	beam.ParDo0(s, refusedFn, refused)
	return nil
}

// write writes results to a place; files is how, if it is one for files.
func write(s beam.Scope, e Ends, place string, results beam.PCollection, files fileio.WriteConfig) (dead beam.PCollection, err error) {
	switch {
	case strings.HasPrefix(place, kafkaPrefix):
		return writeTopic(s, e, place, files.Prefix, results)
	case strings.HasPrefix(place, kinesisPrefix):
		return writeStream(s, e, place, results)
	}
	files.JobID = e.Job.ID
	if files.URL, err = absolute(place); err != nil {
		return dead, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := fileio.Claim(ctx, files.URL, e.Job.ID); err != nil {
		return dead, err
	}
	written, err := fileio.TryWrite(s, files, results)
	if err != nil {
		return dead, err
	}
	return beam.ParDo(s, fileRefused, written.Dead), nil
}

func writeTopic(s beam.Scope, e Ends, place, name string, results beam.PCollection) (dead beam.PCollection, err error) {
	cfg, err := kafkaio.ParseURL(place)
	if err == nil {
		err = kafkaio.Check(context.Background(), cfg.Brokers, cfg.Access, cfg.Topic)
	}
	if err != nil {
		return dead, err
	}
	refused := kafkaio.Write(s, kafkaio.WriteConfig{
		Brokers:     cfg.Brokers,
		Topic:       cfg.Topic,
		Access:      cfg.Access,
		AtLeastOnce: e.AtLeastOnce,
		ID:          e.Job.ID + "/" + name,
	}, beam.ParDo(s, &messageFn{Key: []byte(name)}, results))
	return beam.ParDo(s, kafkaRefused, refused), nil
}

func writeStream(s beam.Scope, e Ends, place string, results beam.PCollection) (dead beam.PCollection, err error) {
	cfg, err := kinesisio.ParseURL(place)
	if err == nil {
		err = kinesisio.Check(context.Background(), cfg)
	}
	if err != nil {
		return dead, err
	}
	refused := kinesisio.Write(s, kinesisio.WriteConfig{
		Stream:   cfg.Stream,
		Region:   cfg.Region,
		Endpoint: cfg.Endpoint,
		Unmarked: e.Job.Limits.Rewinds, // A mark would come again with another record.
	}, beam.ParDo(s, &messageFn{}, results))
	return beam.ParDo(s, kinesisRefused, refused), nil
}

func fileRefused(d fileio.DeadLetter) dlq.BadRecord {
	return dlq.New(d.Code, "fileio.Write", d.Error, d.Bytes)
}

func kafkaRefused(d kafkaio.DeadLetter) dlq.BadRecord {
	return dlq.New(d.Code, "kafkaio.Write", d.Error, d.Record.Value)
}

func kinesisRefused(d kinesisio.DeadLetter) dlq.BadRecord {
	return dlq.New(d.Code, "kinesisio.Write", d.Error, d.Record.Data)
}

// refusedFn ends a job whose dead letters are not taken: there is no other place for them.
func refusedFn(d dlq.BadRecord) error {
	return fmt.Errorf("--dead_letters: one of %d bytes is refused (%s): %s", len(d.Record.Encoded), d.Failure.Code, d.Failure.Description)
}

// messageFn makes messages of results.
type messageFn struct {
	Key []byte // Of all of them; may be empty.
}

// ProcessElement makes JSON of a result.
func (f *messageFn) ProcessElement(result beam.X) (key, message []byte, err error) {
	message, err = json.Marshal(result)
	return f.Key, message, err
}
