// SPDX-License-Identifier: Apache-2.0

package ends

import (
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hornbeam-dev/hornbeam/io/fileio"
	"github.com/hornbeam-dev/hornbeam/runner"
	"github.com/hornbeam-dev/hornbeam/runner/launch"
)

// Flags that every pipeline has, in the order in which its help shows them.
var Flags = []string{
	"input", "out_of_order", "output", "at_least_once", "dead_letters", "max_dead_ratio",
	"format", "compression", "file_window", "file_delay", "file_lateness", "file_size", "partition", "partition_zone", "partition_fields",
}

var (
	input = flag.String("input", generator,
		"Where records come from: generator; file:PATH, s3://BUCKET/PATH or gs://BUCKET/PATH, a glob in which\n"+
			"** stands for any folders (.gz and .zst are read too); kafka://HOST:PORT/TOPIC?from=POSITION&to=POSITION,\n"+
			"where a position is earliest, latest, offset:N or time:RFC3339; or kinesis://STREAM?region=REGION, with\n"+
			"the same, but sequence:N, and &consumer=ARN for enhanced fan-out. Without to= the read does not end by itself.\n"+
			"Example: --input='kafka://localhost:9092/cards?from=earliest&to=latest'")
	output = flag.String("output", "",
		"Where results go: a folder, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, kafka://HOST:PORT/TOPIC or\n"+
			"kinesis://STREAM. Each result is there once, but in Kinesis, where it carries a mark by which readers\n"+
			"drop repeats. A runner that goes back to checkpoints, as Flink, repeats results in topics, which need\n"+
			"--at_least_once there, and in streams, without marks. Default: out/PIPELINE/JOB. A place that holds the results of another job is refused.")
	deadLetters = flag.String("dead_letters", "",
		"Where records go that cannot be used, with the reason: a place like that of --output, which is the default.")
	maxDeadRatio = flag.Float64("max_dead_ratio", 1,
		"The part of all records that may be dead letters, from 0 to 1. With more the job stops, and keeps what it\n"+
			"has done: the same command with a higher ratio continues it. Fewer than 1,000 records are not judged, but 0\n"+
			"allows no dead letter at all.")
	atLeastOnce = flag.Bool("at_least_once", false,
		"Write to a topic without transactions: sooner and cheaper, but after a crash records come again.")
	outOfOrder = flag.Duration("out_of_order", 0,
		"How far a record from a file, a topic or a stream may lie behind the latest one and still be on time.")

	format = flag.String("format", "jsonl",
		"How results are written to files: jsonl, csv, avro or parquet. Dead letters are JSON lines always.")
	compression = flag.String("compression", "usual",
		"Of these files: none, gzip, zstd, or what is usual: zstd for avro and parquet, none for text.")
	fileWindow = flag.Duration("file_window", 24*time.Hour,
		"Event time that one set of files covers. When all of it is there, a file _complete-*.json says so.")
	fileDelay = flag.Duration("file_delay", 10*time.Minute,
		"The longest time that a result waits for the end of its window; what came by then makes a file. 0 is for ever.")
	fileLateness = flag.Duration("file_lateness", 24*time.Hour,
		"How late a result may be after the end of its window; it makes a file of its own. What is later is counted as late.")
	fileSize = flag.String("file_size", "256MiB",
		"Size at which a file ends and another one begins; 0 is never.")
	partition = flag.String("partition", "",
		"Folders by event time: some of year, month, day, date, hour.\n"+
			"Example: --partition=date,hour makes date=2018-04-01/hour=13")
	partitionZone = flag.String("partition_zone", "UTC",
		"The time zone of --partition. Example: --partition_zone=Europe/Berlin")
	partitionFields = flag.String("partition_fields", "",
		"Folders by columns of the results, after those of --partition. Example: --partition_fields=rule")
)

var formats = map[string]fileio.Format{
	"jsonl": fileio.JSONLines, "csv": fileio.CSV, "avro": fileio.Avro, "parquet": fileio.Parquet,
}

var compressions = map[string]fileio.Compression{
	"usual": fileio.Usual, "none": fileio.None, "gzip": fileio.Gzip, "zstd": fileio.Zstd,
}

// FromFlags returns the ends that the command line names, for a job of a pipeline.
func FromFlags(pipeline string, job launch.Job) (Ends, error) {
	e := Ends{
		Input:        *input,
		Output:       *output,
		DeadLetters:  *deadLetters,
		Job:          job,
		OutOfOrder:   *outOfOrder,
		AtLeastOnce:  *atLeastOnce,
		MaxDeadRatio: *maxDeadRatio,
		Files: Files{
			Window:    *fileWindow,
			Delay:     *fileDelay,
			Lateness:  *fileLateness,
			Partition: words(*partition),
			Zone:      *partitionZone,
			Fields:    words(*partitionFields),
		},
	}
	if e.Output == "" {
		e.Output = filepath.Join("out", pipeline, job.ID)
	}
	var errs []error
	var ok bool
	if e.Files.Format, ok = formats[*format]; !ok {
		errs = append(errs, fmt.Errorf("--format=%s: use jsonl, csv, avro or parquet", *format))
	}
	if e.Files.Compression, ok = compressions[*compression]; !ok {
		errs = append(errs, fmt.Errorf("--compression=%s: use usual, none, gzip or zstd", *compression))
	}
	if *fileSize != "0" {
		var err error
		if e.Files.Size, err = runner.ParseBytes(*fileSize); err != nil {
			errs = append(errs, fmt.Errorf("--file_size: %w", err))
		}
	}
	return e, errors.Join(append(errs, e.check())...)
}

// words are the parts of a list with commas.
func words(list string) []string {
	parts := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
	return slices.Clip(parts)
}
