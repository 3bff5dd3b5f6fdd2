// SPDX-License-Identifier: Apache-2.0

// Package ends is the two ends that all pipelines of this folder share: where records come from
// and where results and dead letters go, as the flags --input, --output and --dead_letters name
// them. What is between is the pipeline's own.
package ends

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hornbeam-dev/hornbeam/io/fileio"
	_ "github.com/hornbeam-dev/hornbeam/io/gcsio" // Files of gs://.
	"github.com/hornbeam-dev/hornbeam/io/kafkaio"
	"github.com/hornbeam-dev/hornbeam/io/kinesisio"
	_ "github.com/hornbeam-dev/hornbeam/io/s3io" // Files of s3://.
	"github.com/hornbeam-dev/hornbeam/runner/launch"
)

// Ends are where the records of a pipeline come from and where its results go.
type Ends struct {
	Input       string     // As --input.
	Output      string     // As --output, not empty.
	DeadLetters string     // As --dead_letters; empty is where the output is.
	Job         launch.Job // Who owns a folder, or writes to a topic.

	OutOfOrder   time.Duration // How far records may lie behind the latest one.
	AtLeastOnce  bool          // A topic may get records again after a crash.
	MaxDeadRatio float64       // The part of all records, from 0 to 1, that may be dead letters; 1 is no limit.
	Files        Files
}

// Files says how results are written to files.
type Files struct {
	Format      fileio.Format
	Compression fileio.Compression
	Window      time.Duration // Event time that one set of files covers; at least a second.
	Delay       time.Duration // The longest time that a result waits for the end of its window; 0 is for ever.
	Lateness    time.Duration // How late a result may be and still be written.
	Size        int64         // Bytes after which another file begins; 0 is never.
	Partition   []string      // As fileio.WriteConfig has them.
	Zone        string
	Fields      []string
}

// Schemes of places that are not files.
const (
	generator     = "generator"
	filePrefix    = "file:"
	kafkaPrefix   = "kafka://"
	kinesisPrefix = "kinesis://"
)

// stores are the schemes of places for files besides folders.
var stores = []string{"s3", "gs"}

// inStore tells whether a place is one for files that every machine reaches.
func inStore(place string) bool {
	scheme, _, ok := strings.Cut(place, "://")
	return ok && slices.Contains(stores, scheme)
}

func (e *Ends) check() error {
	errs := []error{e.checkInput(), e.checkPlace("output", e.Output)}
	if e.DeadLetters != "" {
		errs = append(errs, e.checkPlace("dead_letters", e.DeadLetters))
	}
	if e.OutOfOrder < 0 {
		errs = append(errs, fmt.Errorf("--out_of_order=%v: give a positive duration", e.OutOfOrder))
	}
	if !(e.MaxDeadRatio >= 0 && e.MaxDeadRatio <= 1) {
		errs = append(errs, fmt.Errorf("--max_dead_ratio=%v: give a number from 0 to 1", e.MaxDeadRatio))
	} else if e.MaxDeadRatio < 1 && e.Job.Limits.NoClock {
		errs = append(errs, fmt.Errorf("--max_dead_ratio=%v: this runner has no timers in processing time, which the limit needs; leave it out, or use another runner", e.MaxDeadRatio))
	}
	return errors.Join(append(errs, e.Files.check())...)
}

func (e *Ends) checkInput() error {
	path, isFile := strings.CutPrefix(e.Input, filePrefix)
	switch {
	case e.Input == generator, inStore(e.Input):
	case isFile && path == "":
		return errors.New("--input=file: names no file: write --input=file:PATH")
	case isFile && e.Job.Limits.NoFiles:
		return fmt.Errorf("--input=%s: the workers of this runner do not see this machine's files; put them into a bucket", e.Input)
	case isFile:
	case strings.HasPrefix(e.Input, kafkaPrefix):
		if _, err := kafkaio.ParseURL(e.Input); err != nil {
			return fmt.Errorf("--input: %w", err)
		}
	case strings.HasPrefix(e.Input, kinesisPrefix):
		if _, err := kinesisio.ParseURL(e.Input); err != nil {
			return fmt.Errorf("--input: %w", err)
		}
	default:
		return fmt.Errorf("--input=%s: use generator, file:PATH, s3://BUCKET/PATH, gs://BUCKET/PATH, kafka://HOST:PORT/TOPIC or kinesis://STREAM", shown(e.Input))
	}
	return nil
}

func (e *Ends) checkPlace(flag, place string) error {
	var err error
	switch {
	case inStore(place):
	case strings.HasPrefix(place, kafkaPrefix):
		var cfg kafkaio.ReadConfig
		cfg, err = kafkaio.ParseURL(place)
		switch {
		case err != nil:
		case cfg.From != (kafkaio.Position{}) || cfg.To != (kafkaio.Position{}) || cfg.Registry != "" || cfg.RegistryAuth != "":
			err = errors.New("from, to, registry and registry_auth are for --input")
		case e.Job.Limits.Rewinds && !e.AtLeastOnce:
			err = errors.New("this runner goes back to its last checkpoint after a failure, which writes without repeats cannot follow: add --at_least_once")
		}
	case strings.HasPrefix(place, kinesisPrefix):
		var cfg kinesisio.ReadConfig
		cfg, err = kinesisio.ParseURL(place)
		if err == nil && (cfg.From != kinesisio.Position{} || cfg.To != kinesisio.Position{} || cfg.Consumer != "") {
			err = errors.New("from, to and consumer are for --input")
		}
	case strings.Contains(place, "://"):
		return fmt.Errorf("--%s=%s: use a folder, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, kafka://HOST:PORT/TOPIC or kinesis://STREAM", flag, shown(place))
	case e.Job.Limits.NoFiles:
		return fmt.Errorf("--%s=%s: the workers of this runner would write to their own disks; use s3://, gs://, kafka:// or kinesis://", flag, place)
	}
	if err != nil {
		return fmt.Errorf("--%s: %w", flag, err)
	}
	return nil
}

// shown is as much of a place as cannot be a secret.
func shown(place string) string {
	scheme, rest, ok := strings.Cut(place, "://")
	if !ok {
		return place
	}
	rest, _, _ = strings.Cut(rest, "?")
	if !inStore(place) || strings.Contains(rest, "@") {
		rest = "…"
	}
	return scheme + "://" + rest
}

func (f *Files) check() error {
	var errs []error
	if f.Window < time.Second {
		errs = append(errs, fmt.Errorf("--file_window=%v: give at least a second", f.Window))
	}
	if f.Delay < 0 || f.Lateness < 0 || f.Size < 0 {
		errs = append(errs, errors.New("--file_delay, --file_lateness and --file_size must not be negative"))
	}
	return errors.Join(errs...)
}

// deadPlace is where dead letters go.
func (e *Ends) deadPlace() string {
	if e.DeadLetters != "" {
		return e.DeadLetters
	}
	return e.Output
}

// absolute makes the path of a folder independent of where a worker is started.
func absolute(place string) (string, error) {
	if inStore(place) {
		return strings.TrimRight(place, "/"), nil
	}
	return filepath.Abs(place)
}
