// SPDX-License-Identifier: Apache-2.0

// Job is a pipeline for the tests of integration/crash: fraud detection and sessions of cards side
// by side, with state, timers, merging windows and files, and ways to go wrong.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/fixtures/cards"
	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/fileio"
	_ "github.com/hornbeam-dev/hornbeam/io/gcsio" // Files of gs://.
	"github.com/hornbeam-dev/hornbeam/io/kafkaio"
	_ "github.com/hornbeam-dev/hornbeam/io/s3io" // Files of s3://.
	"github.com/hornbeam-dev/hornbeam/runner/launch"
	"github.com/hornbeam-dev/hornbeam/transforms/dlq"
	"github.com/hornbeam-dev/hornbeam/transforms/fraud"
	"github.com/hornbeam-dev/hornbeam/transforms/sessions"
)

var (
	input   = flag.String("input", "generator", "generator, lines:FILE or kafka://HOST:PORT/TOPIC?to=latest.")
	output  = flag.String("output", "", "Folder of the output, or s3:// or gs://.")
	days    = flag.Int("days", 1, "Days of generated cards.")
	rate    = flag.Float64("rate", 0, "Generated transactions a second; 0 is no limit.")
	shuffle = flag.Duration("shuffle", 10*time.Minute, "How far generated transactions are out of order.")
	naive   = flag.Bool("naive", false, "Write at once: append to one file, or make an object of a random name. A bundle that runs again does it twice.")
	panicAt = flag.Int64("panic_at", -1, "ID of the transaction at which a DoFn panics.")
)

func init() {
	register.DoFn2x1[context.Context, []byte, error](&appendFn{})
	register.DoFn2x1[context.Context, []byte, error](&randomNameFn{})
	register.DoFn1x1[cards.Transaction, cards.Transaction](&panicFn{})
	register.DoFn2x0[string, func([]byte)](&readLinesFn{})
	register.Function1x1(transaction)
	register.Function1x2(visit)
	register.Function1x2(alertLine)
	register.Function1x2(sessionLine)
	register.Function1x1(value)
	register.Emitter1[[]byte]()
}

func main() {
	launch.Main(launch.Program{
		Name:  "crash-job",
		Usage: "crash-job is the pipeline of integration/crash.",
		Flags: []string{"input", "output", "days", "rate", "shuffle", "naive", "panic_at"},
		Build: build,
		Totals: func(m metrics.QueryResults) launch.Totals {
			return launch.Totals{
				In:   launch.Counter(m, "fraud.Detect", "transactions"),
				Out:  launch.Counter(m, "fraud.Detect", "alerts"),
				Dead: launch.Counter(m, "fraud.Detect", "dead") + launch.Counter(m, "fraud.Detect", "late"),
			}
		},
	})
}

func build(s beam.Scope, job launch.Job) error {
	if *output == "" {
		return fmt.Errorf("--output: name a folder")
	}
	lines, err := read(s)
	if err != nil {
		return err
	}
	parsed := cards.Parse(s, lines)
	checked := beam.ParDo(s, &panicFn{At: *panicAt}, parsed.Out)
	found := fraud.Detect(s, beam.ParDo(s, transaction, checked), fraud.DefaultRules())
	visits := sessions.Sessionize(s, beam.ParDo(s, visit, checked), sessions.Config{})
	bad := dlq.Encode(s, beam.Flatten(s, parsed.Dead, found.Dead, visits.Dead))
	if err := write(s, "alerts", job, beam.ParDo(s, alertLine, found.Alerts)); err != nil {
		return err
	}
	if err := write(s, "sessions", job, beam.ParDo(s, sessionLine, visits.Sessions)); err != nil {
		return err
	}
	return write(s, "dead", job, bad)
}

func read(s beam.Scope) (beam.PCollection, error) {
	switch {
	case *input == "generator":
		return cards.ReadLines(s, cards.ReadConfig{Days: *days, Rate: *rate, Shuffle: *shuffle}), nil
	case strings.HasPrefix(*input, "lines:"):
		return beam.ParDo(s, &readLinesFn{}, beam.Create(s, strings.TrimPrefix(*input, "lines:"))), nil
	}
	cfg, err := kafkaio.ParseURL(*input)
	if err != nil {
		return beam.PCollection{}, fmt.Errorf("--input: %w", err)
	}
	cfg.OutOfOrder = *shuffle
	cfg.Timeout = 5 * time.Second
	records, _ := kafkaio.Read(s, cfg)
	return beam.ParDo(s, value, records), nil
}

func value(r kafkaio.Record) []byte { return r.Value }

func write(s beam.Scope, name string, job launch.Job, lines beam.PCollection) error {
	if !*naive {
		_, err := fileio.TryWrite(s, fileio.WriteConfig{URL: *output, Prefix: name, Shards: 2, JobID: job.ID}, lines)
		return err
	}
	if strings.Contains(*output, "://") {
		beam.ParDo0(s, &randomNameFn{URL: *output}, lines)
		return nil
	}
	if err := os.MkdirAll(*output, 0o777); err != nil {
		return err
	}
	beam.ParDo0(s, &appendFn{Path: filepath.Join(*output, name)}, lines)
	return nil
}

func transaction(t cards.Transaction) fraud.Transaction {
	return fraud.Transaction{ID: t.ID, Customer: t.Customer, Millis: t.UnixMilli(), Cents: t.Cents}
}

func visit(t cards.Transaction) (string, sessions.Visit) {
	return strconv.FormatInt(t.Customer, 10), sessions.Visit{Cents: t.Cents}
}

func alertLine(a fraud.Alert) ([]byte, error)        { return json.Marshal(a) }
func sessionLine(x sessions.Session) ([]byte, error) { return json.Marshal(x) }

// panicFn passes transactions on, but for one.
type panicFn struct{ At int64 }

func (fn *panicFn) ProcessElement(t cards.Transaction) cards.Transaction {
	if t.ID == fn.At {
		panic(fmt.Sprintf("transaction %d is not liked", t.ID))
	}
	return t
}

// readLinesFn reads a small file.
type readLinesFn struct{}

func (*readLinesFn) ProcessElement(path string, emit func([]byte)) {
	f, err := os.Open(path)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		emit(append([]byte(nil), in.Bytes()...))
	}
}

// appendFn does at once what it is told, each time it is told: the effects of a bundle that runs
// again come twice.
type appendFn struct{ Path string }

func (fn *appendFn) ProcessElement(_ context.Context, line []byte) error {
	fd, err := syscall.Open(fn.Path, syscall.O_WRONLY|syscall.O_APPEND|syscall.O_CREAT, 0o666)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if _, err = syscall.Write(fd, append(line, '\n')); err != nil {
		return err
	}
	time.Sleep(appendTakes)
	return nil
}

// appendTakes is what the answer of a remote sink would take.
const appendTakes = 300 * time.Microsecond

// randomNameFn makes objects of a few lines, with names that another attempt does not have.
type randomNameFn struct {
	URL string

	lines bytes.Buffer
	count int
}

const linesOfObject = 20

func (fn *randomNameFn) StartBundle() {
	fn.lines.Reset()
	fn.count = 0
}

func (fn *randomNameFn) ProcessElement(ctx context.Context, line []byte) error {
	fn.lines.Write(line)
	fn.lines.WriteByte('\n')
	if fn.count++; fn.count < linesOfObject {
		return nil
	}
	return fn.FinishBundle(ctx)
}

func (fn *randomNameFn) FinishBundle(ctx context.Context) (err error) {
	if fn.count == 0 {
		return nil
	}
	defer fn.StartBundle()
	store, err := blob.Open(ctx, fn.URL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	key := "random-" + rand.Text()
	spool, err := store.Spool(key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, spool.Discard()) }()
	if _, err := spool.Write(fn.lines.Bytes()); err != nil {
		return err
	}
	_, err = store.Create(ctx, key, spool.Content(key))
	return err
}
