// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"regexp"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/util/reflectx"

	"github.com/hornbeam-dev/hornbeam/io/blob"
)

// Read reads the files that match when the pipeline starts and returns PCollection<Record> and
// PCollection<DeadLetter>. Gzip and zstd are recognized by their first bytes. Empty lines are counted, not emitted.
// A plain file can be split at any record, a compressed one is checkpointed at a record and read from its
// beginning when it resumes.
func Read(s beam.Scope, cfg ReadConfig) (records, dead beam.PCollection) {
	s = s.Scope("fileio.Read")
	cfg, err := cfg.withDefaults()
	if err != nil {
		panic(fmt.Sprintf("fileio.Read: %v", err))
	}
	url, pattern := blob.SplitGlob(cfg.Pattern)
	fn := &readFn{URL: url, Format: cfg.Format, Header: cfg.Header, MaxRecord: cfg.MaxRecord, Block: cfg.Block, OutOfOrder: cfg.OutOfOrder}
	if cfg.EventTime != nil {
		fn.EventTime = reflectx.FunctionName(cfg.EventTime)
		if closureName.MatchString(fn.EventTime) {
			panic(fmt.Sprintf("fileio.Read: EventTime %s is a closure or a method, which cannot travel to a worker; write a function with a name", fn.EventTime))
		}
	}
	files := beam.ParDo(s, &matchFn{URL: url, Pattern: pattern, AllowNone: cfg.AllowNone}, beam.Impulse(s))
	return beam.ParDo2(s, fn, files)
}

// closureName matches the names that the compiler gives to functions without one, and to method values.
var closureName = regexp.MustCompile(`\.func\d+|-fm$`)

// matchFn finds the files.
type matchFn struct {
	URL       string // Of the store.
	Pattern   string // Below URL.
	AllowNone bool   // As in ReadConfig.
	Rows      bool   // For ReadRows: only Avro and Parquet will do.
}

// ProcessElement implements a DoFn.
func (f *matchFn) ProcessElement(ctx context.Context, _ []byte, emit func(sourceFile)) error {
	name := "fileio.Read"
	if f.Rows {
		name = "fileio.ReadRows"
	}
	found, err := f.match(ctx, emit)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if found == 0 && !f.AllowNone {
		return fmt.Errorf("%s: no file below %s matches %q", name, f.URL, f.Pattern)
	}
	return nil
}

func (f *matchFn) match(ctx context.Context, emit func(sourceFile)) (found int, err error) {
	store, err := blob.Open(ctx, f.URL)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	for o, err := range blob.Glob(ctx, store, f.Pattern) {
		if err != nil {
			return found, err
		}
		file, err := source{store}.describe(ctx, o)
		if err != nil {
			return found, err
		}
		if f.Rows && file.compressed() {
			return found, fmt.Errorf("%s is compressed as a whole: files of Avro and Parquet compress their own blocks; lines of text are for fileio.Read", source{store}.path(file))
		}
		if f.Rows && Format(file.Format) == JSONLines {
			return found, fmt.Errorf("%s is neither Avro nor Parquet by its first bytes: files of text are for fileio.Read", source{store}.path(file))
		}
		found++
		emit(file)
	}
	return found, nil
}

// readFn reads one restriction of one file.
type readFn struct {
	URL        string        // Of the store.
	Format     Format        // As in ReadConfig.
	Header     bool          // As in ReadConfig.
	MaxRecord  int           // As in ReadConfig.
	Block      int64         // As in ReadConfig.
	EventTime  string        // The name of the function, or empty.
	OutOfOrder time.Duration // As in ReadConfig.

	source                source // Open once it is needed: splits are asked of a DoFn without Setup.
	eventTime             func([]byte) (time.Time, error)
	records, blanks, dead beam.Counter
}

func (f *readFn) Setup() error {
	f.records = beam.NewCounter(namespace, "records_read")
	f.blanks = beam.NewCounter(namespace, "blank_lines")
	f.dead = beam.NewCounter(namespace, "dead_letters")
	if f.EventTime == "" {
		return nil
	}
	fn, err := runtime.ResolveFunction(f.EventTime, reflect.TypeOf(f.eventTime))
	if err != nil {
		return fmt.Errorf("fileio.Read: event time function %s is not in this worker: %w", f.EventTime, err)
	}
	eventTime, ok := fn.(func([]byte) (time.Time, error))
	if !ok {
		return fmt.Errorf("fileio.Read: %s is a %T in this worker", f.EventTime, fn)
	}
	f.eventTime = eventTime
	return nil
}

// Teardown implements a DoFn.
func (f *readFn) Teardown() error {
	if f.source.Store == nil {
		return nil
	}
	return f.source.Close()
}

// openAt opens a file at a position.
func (f *readFn) openAt(ctx context.Context, file sourceFile, pos int64) (io.ReadCloser, error) {
	if f.source.Store == nil {
		store, err := blob.Open(ctx, f.URL)
		if err != nil {
			return nil, fmt.Errorf("fileio.Read: %w", err)
		}
		f.source = source{store}
	}
	return f.source.openAt(ctx, file, pos)
}

// CreateInitialRestriction implements a splittable DoFn.
func (f *readFn) CreateInitialRestriction(file sourceFile) Restriction {
	end := file.Size
	if file.compressed() {
		end = math.MaxInt64
	}
	return Restriction{End: end, FromLine: 1}
}

// SplitRestriction reads a large plain file once to find where its blocks begin, and in what lines: the line
// numbers must not depend on how a file was split.
func (f *readFn) SplitRestriction(ctx context.Context, file sourceFile, rest Restriction) ([]Restriction, error) {
	if file.compressed() || f.Format == CSV || rest.End-rest.Start < 2*f.Block {
		return []Restriction{rest}, nil
	}
	fd, err := f.openAt(ctx, file, rest.From)
	if err != nil {
		return nil, err
	}
	defer fd.Close()
	sc := &scanner{in: bufio.NewReaderSize(fd, 1<<18), offset: rest.From, line: rest.FromLine}
	var blocks []Restriction
	for next := rest.Start + f.Block; next+f.Block/2 < rest.End; next += f.Block {
		for sc.offset < next {
			if _, err := sc.next(); err != nil {
				return nil, fmt.Errorf("fileio.Read: find blocks of %s: %w", f.source.path(file), err)
			}
		}
		if sc.offset >= rest.End {
			break
		}
		if sc.offset > rest.Start {
			blocks = append(blocks, Restriction{Start: rest.Start, End: sc.offset, From: rest.From, FromLine: rest.FromLine})
			rest.Start, rest.From, rest.FromLine = sc.offset, sc.offset, sc.line
		}
	}
	return append(blocks, rest), nil
}

// RestrictionSize implements a splittable DoFn.
func (f *readFn) RestrictionSize(file sourceFile, rest Restriction) float64 {
	if rest.End == math.MaxInt64 {
		return float64(file.Size)
	}
	return float64(rest.End - rest.Start)
}

// CreateTracker implements a splittable DoFn.
func (f *readFn) CreateTracker(rest Restriction) *sdf.LockRTracker {
	return sdf.NewLockRTracker(newTracker(rest))
}

// InitialWatermarkEstimatorState implements a splittable DoFn; the state is the watermark in milliseconds.
func (f *readFn) InitialWatermarkEstimatorState(et beam.EventTime, _ Restriction, _ sourceFile) int64 {
	return et.Milliseconds()
}

// CreateWatermarkEstimator implements a splittable DoFn.
func (f *readFn) CreateWatermarkEstimator(ms int64) *estimator {
	e := &estimator{}
	e.ms.Store(ms)
	return e
}

// WatermarkEstimatorState implements a splittable DoFn.
func (f *readFn) WatermarkEstimatorState(e *estimator) int64 { return e.ms.Load() }

// ProcessElement emits the records that start in the restriction.
func (f *readFn) ProcessElement(ctx context.Context, we *estimator, rt *sdf.LockRTracker, file sourceFile, emit func(beam.EventTime, Record), dead func(DeadLetter)) error {
	rest := rt.GetRestriction().(Restriction)
	fd, err := f.openAt(ctx, file, rest.From)
	if err != nil {
		return err
	}
	defer fd.Close()
	sc := &scanner{in: bufio.NewReaderSize(fd, 1<<18), csv: f.Format == CSV, limit: f.MaxRecord, offset: rest.From, line: rest.FromLine}
	header, err := f.header(ctx, file)
	if err != nil {
		return err
	}
	out := &output{we: we, start: mtime.FromMilliseconds(we.ms.Load()), emit: emit, dead: dead}
	for {
		rec, err := sc.next()
		if err == io.EOF {
			rt.TryClaim(endOfFile)
			return nil
		}
		if err != nil {
			return fmt.Errorf("fileio.Read: %s at byte %d: %w", f.source.path(file), sc.offset, err)
		}
		if rec.start < rest.Start {
			continue
		}
		if !rt.TryClaim(rec.claim) {
			return nil
		}
		if f.Header && rec.start == 0 {
			continue
		}
		if len(rec.bytes) == 0 {
			f.blanks.Inc(ctx, 1)
			continue
		}
		f.emit(ctx, out, Record{File: f.source.path(file), Line: rec.line, Offset: rec.start, Header: header, Bytes: rec.bytes}, rec.tooLong)
	}
}

// output is where the records of one restriction go.
type output struct {
	we    *estimator
	start beam.EventTime // Of records when there is no event time function.
	emit  func(beam.EventTime, Record)
	dead  func(DeadLetter)
}

func (f *readFn) emit(ctx context.Context, out *output, r Record, tooLong bool) {
	letter := DeadLetter{File: r.File, Line: r.Line, Offset: r.Offset, Bytes: r.Bytes}
	if tooLong {
		letter.Code, letter.Bytes = CodeTooLong, r.Bytes[:min(len(r.Bytes), 1024)]
		letter.Error = fmt.Sprintf("the record is longer than %d bytes; raise MaxRecord", f.MaxRecord)
		f.dead.Inc(ctx, 1)
		out.dead(letter)
		return
	}
	at := out.start
	if f.eventTime != nil {
		t, err := f.eventTime(r.Bytes)
		if err != nil {
			letter.Code, letter.Error = CodeBadTime, err.Error()
			f.dead.Inc(ctx, 1)
			out.dead(letter)
			return
		}
		at = mtime.Normalize(mtime.FromTime(t))
	}
	f.records.Inc(ctx, 1)
	out.emit(at, r)
	if f.eventTime != nil {
		out.we.advance(at.Milliseconds() - f.OutOfOrder.Milliseconds())
	}
}

// header reads the first record of a CSV file, which every restriction of it needs.
func (f *readFn) header(ctx context.Context, file sourceFile) ([]byte, error) {
	if !f.Header {
		return nil, nil
	}
	fd, err := f.openAt(ctx, file, 0)
	if err != nil {
		return nil, err
	}
	defer fd.Close()
	rec, err := (&scanner{in: bufio.NewReader(fd), csv: true, limit: f.MaxRecord}).next()
	if err == io.EOF {
		return nil, nil
	}
	if err == nil && rec.tooLong {
		err = fmt.Errorf("it is longer than %d bytes", f.MaxRecord)
	}
	if err != nil {
		return nil, fmt.Errorf("fileio.Read: header of %s: %w", f.source.path(file), err)
	}
	return rec.bytes, nil
}
