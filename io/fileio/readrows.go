// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/util/reflectx"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/fileio/internal/format"
)

// RowsConfig says which rows to read.
type RowsConfig struct {
	// Pattern is that of ReadConfig. The first bytes of a file tell whether it is Avro or Parquet.
	Pattern   string
	AllowNone bool  // No matching file is not an error.
	Block     int64 // Files are split into parts of about this size at first, where they can be; 64 MiB by default.

	// EventTime takes the event time out of a row of type T: it is a func(T) (time.Time, error) with a name, because a
	// closure cannot travel to a worker. TimeColumn names a column of times instead. With neither of them rows have the
	// timestamp of the impulse. A row without an event time is a dead letter.
	EventTime  any
	TimeColumn string
	OutOfOrder time.Duration // How far a row may lie before the latest one of its part and still be on time.
}

// ReadRows is TryReadRows for pipelines that are known to be right: it panics with the error.
func ReadRows(s beam.Scope, cfg RowsConfig, t reflect.Type) (rows, dead beam.PCollection) {
	rows, dead, err := TryReadRows(s, cfg, t)
	if err != nil {
		panic(err)
	}
	return rows, dead
}

// TryReadRows reads the files of Avro and Parquet that match when the pipeline starts, and returns PCollection<T> and
// PCollection<DeadLetter>. T is a registered struct with the columns that Write makes of it. They are found by name: a
// column that a file does not have is left nil if its field is a pointer, and an error if not; what a file has beyond
// them is not read. Numbers may be narrower in a file.
//
// A row with a value that its field cannot hold, as a null that needs a pointer, is a dead letter; a file that is damaged
// is an error. A file can be split at any row. Avro has no index, so that its blocks are counted first: in a bucket that
// takes a read of the whole file. A part is then read from its own first block on.
func TryReadRows(s beam.Scope, cfg RowsConfig, t reflect.Type) (rows, dead beam.PCollection, err error) {
	if !s.IsValid() {
		return rows, dead, errors.New("fileio.ReadRows: the scope is no part of a pipeline")
	}
	if cfg.Block == 0 {
		cfg.Block = 64 << 20
	}
	if err := cfg.check(t); err != nil {
		return rows, dead, fmt.Errorf("fileio.ReadRows: %w", err)
	}
	s = s.Scope("fileio.ReadRows")
	url, pattern := blob.SplitGlob(cfg.Pattern)
	fn := &readRowsFn{URL: url, Type: beam.EncodedType{T: t}, Block: cfg.Block, TimeColumn: cfg.TimeColumn, OutOfOrder: cfg.OutOfOrder}
	if cfg.EventTime != nil {
		fn.EventTime = reflectx.FunctionName(cfg.EventTime)
	}
	files := beam.ParDo(s, &matchFn{URL: url, Pattern: pattern, AllowNone: cfg.AllowNone, Rows: true}, beam.Impulse(s))
	cols, err := beam.TryParDo(s, fn, files, beam.TypeDefinition{Var: beam.XType, T: t})
	if err != nil {
		return rows, dead, fmt.Errorf("fileio.ReadRows: %w", err)
	}
	return cols[0], cols[1], nil
}

// check says all that is wrong with a read of elements of a type.
func (c RowsConfig) check(t reflect.Type) error {
	var errs []error
	if c.Pattern == "" {
		errs = append(errs, errors.New("Pattern is empty: name the files to read"))
	} else if err := blob.CheckSplit(c.Pattern); err != nil {
		errs = append(errs, fmt.Errorf("Pattern: %w", err))
	} else {
		url, _ := blob.SplitGlob(c.Pattern)
		errs = append(errs, tryOpen(url))
	}
	if c.Block < 0 || c.OutOfOrder < 0 {
		errs = append(errs, errors.New("Block and OutOfOrder must not be negative"))
	}
	if t == nil || t.Kind() != reflect.Struct {
		return errors.Join(append(errs, fmt.Errorf("rows are to be %v: want a struct, whose fields are the columns; lines of text are for fileio.Read", t))...)
	}
	_, err := format.Columns(t)
	errs = append(errs, err)
	if !isRegistered(t) {
		errs = append(errs, fmt.Errorf("%v is not known to workers: call beam.RegisterType(reflect.TypeFor[%v]()) in an init", t, t))
	}
	if c.TimeColumn != "" {
		_, err := format.TimeOf(t, c.TimeColumn)
		errs = append(errs, err)
	}
	if c.EventTime != nil {
		errs = append(errs, checkRowTime(c.EventTime, t))
	}
	if c.EventTime != nil && c.TimeColumn != "" {
		errs = append(errs, errors.New("EventTime and TimeColumn are both set: set one"))
	}
	return errors.Join(errs...)
}

func isRegistered(t reflect.Type) bool {
	key, ok := runtime.TypeKey(t)
	if !ok {
		return false
	}
	known, ok := runtime.LookupType(key)
	return ok && known == t
}

// rowTimeOf is the type of an event time function for elements of type t.
func rowTimeOf(t reflect.Type) reflect.Type {
	return reflect.FuncOf([]reflect.Type{t}, []reflect.Type{reflect.TypeFor[time.Time](), reflect.TypeFor[error]()}, false)
}

func checkRowTime(fn any, t reflect.Type) error {
	v := reflect.ValueOf(fn)
	if v.Kind() != reflect.Func || !v.Type().ConvertibleTo(rowTimeOf(t)) || v.IsNil() {
		return fmt.Errorf("EventTime is a %T: want a %v", fn, rowTimeOf(t))
	}
	if name := reflectx.FunctionName(fn); closureName.MatchString(name) {
		return fmt.Errorf("EventTime %s is a closure or a method, which cannot travel to a worker; write a function with a name", name)
	}
	return nil
}

// readRowsFn reads some rows of one file. A restriction is a range of row numbers.
type readRowsFn struct {
	URL        string           // Of the store.
	Type       beam.EncodedType // Of the elements.
	Block      int64            // As in RowsConfig.
	EventTime  string           // The name of the function, or empty.
	TimeColumn string           // As in RowsConfig.
	OutOfOrder time.Duration    // As in RowsConfig.

	source     source // Open once it is needed: splits are asked of a DoFn without Setup.
	eventTime  func(row any) (time.Time, error)
	rows, dead beam.Counter
}

// Setup implements a DoFn.
func (f *readRowsFn) Setup() (err error) {
	f.rows = beam.NewCounter(namespace, "rows_read")
	f.dead = beam.NewCounter(namespace, "dead_letters")
	switch {
	case f.TimeColumn != "":
		f.eventTime, err = columnTime(f.Type.T, f.TimeColumn)
	case f.EventTime != "":
		f.eventTime, err = namedTime(f.Type.T, f.EventTime)
	}
	if err != nil {
		return fmt.Errorf("fileio.ReadRows: %w", err)
	}
	return nil
}

func columnTime(t reflect.Type, column string) (func(row any) (time.Time, error), error) {
	of, err := format.TimeOf(t, column)
	if err != nil {
		return nil, err
	}
	return func(row any) (time.Time, error) {
		at, ok := of(row)
		if !ok {
			return at, fmt.Errorf("column %s is null, but it is the event time", column)
		}
		return at, nil
	}, nil
}

func namedTime(t reflect.Type, name string) (func(row any) (time.Time, error), error) {
	fn, err := runtime.ResolveFunction(name, rowTimeOf(t))
	if err != nil {
		return nil, fmt.Errorf("event time function %s is not in this worker: %w", name, err)
	}
	if err := checkRowTime(fn, t); err != nil {
		return nil, err
	}
	call := reflectx.MakeFunc(fn)
	return func(row any) (time.Time, error) {
		out := call.Call([]any{row})
		err, _ := out[1].(error)
		return out[0].(time.Time), err
	}, nil
}

// Teardown implements a DoFn.
func (f *readRowsFn) Teardown() error {
	if f.source.Store == nil {
		return nil
	}
	return f.source.Close()
}

func (f *readRowsFn) open(ctx context.Context, file sourceFile) (*rowFile, error) {
	if f.source.Store == nil {
		store, err := blob.Open(ctx, f.URL)
		if err != nil {
			return nil, fmt.Errorf("fileio.ReadRows: %w", err)
		}
		f.source = source{store}
	}
	return f.source.openRows(ctx, file, f.Type.T)
}

// allRows is more than a file has.
const allRows = 1 << 53

// CreateInitialRestriction implements a splittable DoFn. How many rows there are is known when it is split.
func (f *readRowsFn) CreateInitialRestriction(sourceFile) rowRange {
	return rowRange{End: allRows}
}

// SplitRestriction implements a splittable DoFn. It cuts where it is cheap to begin.
func (f *readRowsFn) SplitRestriction(ctx context.Context, file sourceFile, rest rowRange) (parts []rowRange, err error) {
	in, err := f.open(ctx, file)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	cuts, err := in.parts(f.Block)
	if err != nil {
		return nil, err
	}
	for i := range len(cuts) - 1 {
		part := rowRange{Start: max(rest.Start, cuts[i].Row), End: min(rest.End, cuts[i+1].Row), FromRow: cuts[i].Row, FromByte: cuts[i].Byte}
		if part.Start < part.End || len(cuts) == 2 {
			parts = append(parts, part)
		}
	}
	return parts, nil
}

// RestrictionSize implements a splittable DoFn. Once they are split, sizes of restrictions are numbers of rows.
func (f *readRowsFn) RestrictionSize(_ sourceFile, rest rowRange) float64 {
	return float64(rest.End - rest.Start)
}

// CreateTracker implements a splittable DoFn.
func (f *readRowsFn) CreateTracker(rest rowRange) *sdf.LockRTracker {
	return sdf.NewLockRTracker(newRowTracker(rest))
}

// InitialWatermarkEstimatorState implements a splittable DoFn; the state is the watermark in milliseconds.
func (f *readRowsFn) InitialWatermarkEstimatorState(et beam.EventTime, _ rowRange, _ sourceFile) int64 {
	return et.Milliseconds()
}

// CreateWatermarkEstimator implements a splittable DoFn.
func (f *readRowsFn) CreateWatermarkEstimator(ms int64) *estimator {
	e := &estimator{}
	e.ms.Store(ms)
	return e
}

// WatermarkEstimatorState implements a splittable DoFn.
func (f *readRowsFn) WatermarkEstimatorState(e *estimator) int64 { return e.ms.Load() }

// ProcessElement emits the rows of the restriction.
func (f *readRowsFn) ProcessElement(ctx context.Context, we *estimator, rt *sdf.LockRTracker, file sourceFile, emit func(beam.EventTime, beam.X), dead func(DeadLetter)) (err error) {
	rest := rt.GetRestriction().(rowRange)
	start := mtime.FromMilliseconds(we.ms.Load()) // Of rows when there is no event time.
	in, err := f.open(ctx, file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	in.rows.SkipTo(rest.from())
	if err := in.seek(rest.Start); err != nil {
		return err
	}
	for row := rest.Start; rt.TryClaim(rowClaim{row, in.rows.Mark()}); row++ {
		element, bad, err := in.next(row)
		if err != nil {
			return err
		}
		if bad != nil {
			f.dead.Inc(ctx, 1)
			dead(DeadLetter{Code: CodeBadValue, File: in.path, Row: row, Error: bad.Err.Error()})
			continue
		}
		at := start
		if f.eventTime != nil {
			t, err := f.eventTime(element)
			if err != nil {
				f.dead.Inc(ctx, 1)
				dead(DeadLetter{Code: CodeBadTime, File: in.path, Row: row, Error: err.Error(), Bytes: asJSON(element)})
				continue
			}
			at = mtime.Normalize(mtime.FromTime(t))
		}
		f.rows.Inc(ctx, 1)
		emit(at, element)
		if f.eventTime != nil {
			we.advance(at.Milliseconds() - f.OutOfOrder.Milliseconds())
		}
	}
	return nil
}
