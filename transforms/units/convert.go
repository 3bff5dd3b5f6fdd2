// SPDX-License-Identifier: Apache-2.0

package units

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/transforms/dlq"
)

func init() {
	register.DoFn5x0[context.Context, beam.EventTime, []byte, func(beam.EventTime, Reading), func(dlq.BadRecord)](&ParseFn{})
	register.DoFn4x0[context.Context, Reading, func(Measurement), func(dlq.BadRecord)](&ConvertFn{})
	register.Emitter2[beam.EventTime, Reading]()
	register.Emitter1[Measurement]()
	register.Emitter1[dlq.BadRecord]()
}

// Result has an output or a dead letter for each input.
type Result struct {
	Out  beam.PCollection
	Dead beam.PCollection // PCollection<dlq.BadRecord>; the codes are the Code constants.
}

// Clock bounds how far the time in a record may be from the event time the record came with, as a
// topic gives it. It follows the record, so that old data can be read again. Zero is no bound, and
// records that came without an event time have none.
type Clock struct {
	Ahead  time.Duration // More is FUTURE.
	Behind time.Duration // More is BAD_TIME.
}

// Parse reads JSON records, see ParseReading. The event times of the readings are those in the
// records.
//
// Input: PCollection<[]byte>. Out: PCollection<units.Reading>.
func Parse(s beam.Scope, records beam.PCollection, clock Clock) Result {
	s = s.Scope("units.Parse")
	out, dead := beam.ParDo2(s, &ParseFn{AheadMillis: clock.Ahead.Milliseconds(), BehindMillis: clock.Behind.Milliseconds()}, records)
	return Result{Out: out, Dead: dead}
}

// ParseFn is the DoFn behind Parse.
type ParseFn struct {
	AheadMillis, BehindMillis int64 // See Clock.
}

var (
	parsed    = beam.NewCounter("units.Parse", "out")
	unparsed  = beam.NewCounter("units.Parse", "dead")
	converted = beam.NewCounter("units.Convert", "out")
	refused   = beam.NewCounter("units.Convert", "dead")
)

// ProcessElement emits one reading or one dead letter.
func (fn *ParseFn) ProcessElement(ctx context.Context, at beam.EventTime, raw []byte, emit func(beam.EventTime, Reading), dead func(dlq.BadRecord)) {
	r, err := ParseReading(raw)
	if err == nil {
		err = fn.check(at, r)
	}
	if err != nil {
		unparsed.Inc(ctx, 1)
		dead(dlq.New(codeOf(err), "units.Parse", err.Error(), raw))
		return
	}
	parsed.Inc(ctx, 1)
	emit(mtime.FromMilliseconds(r.Millis), r)
}

func (fn *ParseFn) check(at beam.EventTime, r Reading) error {
	if mtime.Time(at) == mtime.MinTimestamp {
		return nil
	}
	ahead := r.Millis - at.Milliseconds()
	switch {
	case fn.AheadMillis > 0 && ahead > fn.AheadMillis:
		return fail(CodeFuture, "the time is %v after that of the record; %v is allowed", milliseconds(ahead), milliseconds(fn.AheadMillis))
	case fn.BehindMillis > 0 && -ahead > fn.BehindMillis:
		return fail(CodeBadTime, "the time is %v before that of the record; %v is allowed", milliseconds(-ahead), milliseconds(fn.BehindMillis))
	}
	return nil
}

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// Option changes what Convert does.
type Option func(*ConvertFn)

// To converts a metric to a unit. The metric "" is any that is not named; it is Cel if nothing else
// is said.
func To(metric, unit string) Option {
	return func(fn *ConvertFn) { fn.Targets[metric] = unit }
}

// DefaultUnit is the unit of readings of a metric that name none. Without it they are dead letters.
func DefaultUnit(metric, unit string) Option {
	return func(fn *ConvertFn) { fn.Defaults[metric] = unit }
}

// Difference says that a metric is a difference, such as a rise of temperature: its units must not
// name points on a scale, and its target neither.
func Difference(metric string) Option {
	return func(fn *ConvertFn) { fn.Differences = append(fn.Differences, metric) }
}

// Digits is how many significant digits a value without an end is rounded to; see DefaultDigits.
func Digits(n int) Option {
	return func(fn *ConvertFn) { fn.Digits = n }
}

// Convert converts readings, exactly.
//
// Input: PCollection<units.Reading>. Out: PCollection<units.Measurement>. It panics if an option
// makes no sense; TryConvert returns an error.
func Convert(s beam.Scope, readings beam.PCollection, opts ...Option) Result {
	r, err := TryConvert(s, readings, opts...)
	if err != nil {
		panic(err)
	}
	return r
}

// TryConvert is Convert with an error for options that make no sense.
func TryConvert(s beam.Scope, readings beam.PCollection, opts ...Option) (Result, error) {
	fn := &ConvertFn{Targets: map[string]string{"": "Cel"}, Defaults: map[string]string{}, Digits: DefaultDigits}
	for _, opt := range opts {
		opt(fn)
	}
	if err := fn.validate(); err != nil {
		return Result{}, fmt.Errorf("units.Convert: %w", err)
	}
	s = s.Scope("units.Convert")
	out, dead := beam.ParDo2(s, fn, readings)
	return Result{Out: out, Dead: dead}, nil
}

// ConvertFn is the DoFn behind Convert.
type ConvertFn struct {
	Targets     map[string]string // Unit by metric; "" is any other metric.
	Defaults    map[string]string // Unit of readings without one, by metric.
	Differences []string          // Metrics that are differences.
	Digits      int               // Of values without an end.

	conversions map[conversion]prepared // What was asked for before.
}

type conversion struct{ metric, unit string }

type prepared struct {
	conv *Conv
	err  error
}

// maxPrepared bounds the memory for conversions, whatever the readings contain.
const maxPrepared = 1000

func (fn *ConvertFn) validate() error {
	var errs []error
	if fn.Digits < 1 || fn.Digits > maxDigits {
		errs = append(errs, fmt.Errorf("%d digits; it can be 1 to %d", fn.Digits, maxDigits))
	}
	for metric, unit := range fn.Targets {
		if err := fn.prepare(metric, unit).err; err != nil {
			errs = append(errs, fmt.Errorf("target of metric %q: %w", metric, err))
		}
	}
	for metric, unit := range fn.Defaults {
		if err := fn.prepare(metric, unit).err; err != nil {
			errs = append(errs, fmt.Errorf("default unit of metric %q: %w", metric, err))
		}
	}
	for _, metric := range fn.Differences {
		target, ok := fn.Targets[metric]
		if !ok {
			target = fn.Targets[""]
		}
		if err := fn.prepare(metric, target).err; err != nil {
			errs = append(errs, fmt.Errorf("target of the difference %q: %w", metric, err))
		}
	}
	return errors.Join(errs...)
}

// prepare finds the conversion of a metric from a unit.
func (fn *ConvertFn) prepare(metric, unit string) prepared {
	from, err := Lookup(unit)
	if err != nil {
		return prepared{err: err}
	}
	target, ok := fn.Targets[metric]
	if !ok {
		target = fn.Targets[""]
	}
	to, err := Lookup(target)
	if err != nil {
		return prepared{err: err}
	}
	var p prepared
	if slices.Contains(fn.Differences, metric) {
		p.conv, p.err = NewDifference(from, to)
	} else {
		p.conv, p.err = NewConv(from, to)
	}
	return p
}

// ProcessElement emits one measurement or one dead letter.
func (fn *ConvertFn) ProcessElement(ctx context.Context, r Reading, emit func(Measurement), dead func(dlq.BadRecord)) {
	m, err := fn.convert(r)
	if err != nil {
		refused.Inc(ctx, 1)
		dead(r.deadLetter("units.Convert", err))
		return
	}
	converted.Inc(ctx, 1)
	emit(m)
}

func (fn *ConvertFn) convert(r Reading) (Measurement, error) {
	if r.Device == "" {
		return Measurement{}, fail(CodeNoDevice, "the device is missing")
	}
	unit := r.Unit
	if unit == "" {
		unit = fn.Defaults[r.Metric]
	}
	p, ok := fn.conversions[conversion{r.Metric, unit}]
	if !ok {
		p = fn.prepare(r.Metric, unit)
		if fn.conversions == nil || len(fn.conversions) >= maxPrepared {
			fn.conversions = map[conversion]prepared{}
		}
		fn.conversions[conversion{r.Metric, unit}] = p
	}
	if p.err != nil {
		return Measurement{}, p.err
	}
	x, err := parseValue(r.Value)
	if err != nil {
		return Measurement{}, err
	}
	if x, err = p.conv.Rat(x); err != nil {
		return Measurement{}, err
	}
	m := Measurement{Device: r.Device, Metric: r.Metric, Millis: r.Millis, Unit: p.conv.to.Code}
	text, exact := formatDecimal(x, fn.Digits)
	m.Value = text
	if !exact {
		m.Exact = x.RatString()
	}
	return m, nil
}
