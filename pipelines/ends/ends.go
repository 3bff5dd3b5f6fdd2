// SPDX-License-Identifier: Apache-2.0

// Package ends is the two ends that all pipelines of this folder share: where records come from
// and where results go, as the flags --input and --output name them. What is between is the
// pipeline's own.
package ends

import (
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/hornbeam-dev/hornbeam/io/kafkaio"
)

// Flags that every pipeline has, in the order in which its help shows them.
var Flags = []string{"input", "out_of_order", "output", "at_least_once", "file_window"}

var (
	input = flag.String("input", "generator",
		"Where records come from: generator, file:PATH (a glob; .gz is read too), or\n"+
			"kafka://HOST:PORT/TOPIC?from=POSITION&to=POSITION, where a position is earliest, latest, offset:N\n"+
			"or time:RFC3339. Without to= the read does not end by itself.\n"+
			"Example: --input='kafka://localhost:9092/cards?from=earliest&to=latest'")
	output = flag.String("output", "",
		"Where results go: a folder, or kafka://HOST:PORT/TOPIC.\n"+
			"Default: out/PIPELINE/JOB. A folder that holds the results of another job is refused.")
	atLeastOnce = flag.Bool("at_least_once", false,
		"Write to a topic without transactions: sooner and cheaper, but after a crash records come again.")
	outOfOrder = flag.Duration("out_of_order", 0,
		"How far a record from a file or a topic may lie behind the latest one and still be on time.")
	fileWindow = flag.Duration("file_window", 24*time.Hour,
		"Event time that one output file covers.")
)

// Ends are where the records of a pipeline come from and where its results go.
type Ends struct {
	Input      string // As --input.
	Output     string // As --output, not empty.
	OutOfOrder time.Duration
	FileWindow time.Duration
	JobID      string // Who owns an output folder, or writes to a topic.
	// Turn is the longest time that a source reads on before it asks to be resumed; 0 is any.
	Turn time.Duration

	AtLeastOnce bool // A topic may get records again after a crash.
}

// FromFlags returns the ends that the command line names, for a job of a pipeline.
func FromFlags(pipeline, jobID string) (Ends, error) {
	e := Ends{
		Input:      *input,
		Output:     *output,
		OutOfOrder: *outOfOrder,
		FileWindow: *fileWindow,
		JobID:      jobID,

		AtLeastOnce: *atLeastOnce,
	}
	if e.Output == "" {
		e.Output = filepath.Join("out", pipeline, jobID)
	}
	return e, e.check()
}

const (
	generator   = "generator"
	filePrefix  = "file:"
	kafkaPrefix = "kafka://"
)

func (e *Ends) check() error {
	var errs []error
	switch {
	case e.Input == generator:
	case strings.HasPrefix(e.Input, filePrefix):
		if e.Input == filePrefix {
			errs = append(errs, errors.New("--input=file: names no file: write --input=file:PATH"))
		}
	case strings.HasPrefix(e.Input, kafkaPrefix):
		if _, err := kafkaio.ParseURL(e.Input); err != nil {
			errs = append(errs, fmt.Errorf("--input: %w", err))
		}
	default:
		errs = append(errs, fmt.Errorf("--input=%s: use generator, file:PATH or kafka://HOST:PORT/TOPIC", e.Input))
	}
	if strings.HasPrefix(e.Output, kafkaPrefix) {
		if _, err := kafkaio.ParseURL(e.Output); err != nil {
			errs = append(errs, fmt.Errorf("--output: %w", err))
		}
	} else if strings.Contains(e.Output, "://") {
		errs = append(errs, fmt.Errorf("--output=%s: use a folder or kafka://HOST:PORT/TOPIC", e.Output))
	}
	if e.FileWindow < time.Second {
		errs = append(errs, fmt.Errorf("--file_window=%v: give at least a second", e.FileWindow))
	}
	if e.OutOfOrder < 0 {
		errs = append(errs, fmt.Errorf("--out_of_order=%v: give a positive duration", e.OutOfOrder))
	}
	return errors.Join(errs...)
}
