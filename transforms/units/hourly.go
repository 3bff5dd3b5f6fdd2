// SPDX-License-Identifier: Apache-2.0

package units

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math/big"
	"reflect"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window/trigger"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/state"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/transforms/dlq"
)

func init() {
	beam.RegisterType(reflect.TypeFor[Aggregate]())
	beam.RegisterType(reflect.TypeFor[Summary]())
	register.Function1x2(keyed)
	register.Function1x3(summarized)
	register.DoFn4x1[beam.PaneInfo, beam.Window, string, func(*Summary) bool, Aggregate](&AggregateFn{})
	register.Iter1[Summary]()
	register.DoFn7x1[context.Context, state.Provider, string, Measurement, func(Measurement), func(Measurement), func(dlq.BadRecord), error](&DedupeFn{})
}

// seriesKey names the measurements of one metric of a device in one unit. The parts are encoded by
// length, so that no two series share a key whatever their names contain.
func seriesKey(m Measurement) string {
	var b []byte
	for _, part := range []string{m.Device, m.Metric, m.Unit} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	return string(b)
}

func splitKey(key string) (device, metric, unit string) {
	var parts [3]string
	b := []byte(key)
	for i := range parts {
		size, n := binary.Uvarint(b)
		if n <= 0 || uint64(len(b)-n) < size {
			panic(fmt.Sprintf("units: %q is not the key of a series", key))
		}
		parts[i], b = string(b[n:n+int(size)]), b[n+int(size):]
	}
	return parts[0], parts[1], parts[2]
}

func keyed(m Measurement) (string, Measurement) { return seriesKey(m), m }

// DedupeResult has each input once.
type DedupeResult struct {
	Out     beam.PCollection // PCollection<units.Measurement>, the first of each device, metric and time.
	Doubled beam.PCollection // PCollection<units.Measurement> that repeat one exactly.
	Dead    beam.PCollection // PCollection<dlq.BadRecord> with CONFLICT: another value at the same time.
}

// Dedupe takes out what a device reports twice. It remembers the times of the hour until the
// watermark has passed the hour and the lateness; the output stays in windows of an hour.
//
// Input: PCollection<units.Measurement> with event times.
func Dedupe(s beam.Scope, measurements beam.PCollection, lateness time.Duration) DedupeResult {
	s = s.Scope("units.Dedupe")
	hours := beam.WindowInto(s, window.NewFixedWindows(time.Hour), measurements, beam.AllowedLateness(lateness))
	out, doubled, dead := beam.ParDo3(s, &DedupeFn{Seen: state.MakeValueState[[]byte]("seen/v1")}, beam.ParDo(s, keyed, hours))
	return DedupeResult{Out: out, Doubled: doubled, Dead: dead}
}

// DedupeFn is the DoFn behind Dedupe.
type DedupeFn struct {
	Seen state.Value[[]byte] // Time and hash of the value, 16 bytes each.
}

var (
	first    = beam.NewCounter("units.Dedupe", "out")
	again    = beam.NewCounter("units.Dedupe", "doubled")
	contrary = beam.NewCounter("units.Dedupe", "dead")
)

// ProcessElement sends a measurement to one of the three outputs.
func (fn *DedupeFn) ProcessElement(ctx context.Context, sp state.Provider, _ string, m Measurement, emit, doubled func(Measurement), dead func(dlq.BadRecord)) error {
	seen, _, err := fn.Seen.Read(sp)
	if err != nil {
		return err
	}
	hash := fnv.New64a()
	hash.Write([]byte(m.Value + "\x00" + m.Exact)) // Neither contains a NUL.
	for i := 0; i+16 <= len(seen); i += 16 {
		if int64(binary.BigEndian.Uint64(seen[i:])) != m.Millis {
			continue
		}
		if binary.BigEndian.Uint64(seen[i+8:]) == hash.Sum64() {
			again.Inc(ctx, 1)
			doubled(m)
			return nil
		}
		contrary.Inc(ctx, 1)
		dead(dlq.Of(CodeConflict, "units.Dedupe", fmt.Sprintf("device %.40q reported another value for %s before", m.Device, instant(m.Millis)), m))
		return nil
	}
	first.Inc(ctx, 1)
	emit(m)
	seen = binary.BigEndian.AppendUint64(seen, uint64(m.Millis))
	return fn.Seen.Write(sp, binary.BigEndian.AppendUint64(seen, hash.Sum64()))
}

// Aggregate sums up an hour of one metric of a device.
type Aggregate struct {
	Device   string `beam:"device" json:"device"`
	Metric   string `beam:"metric" json:"metric,omitempty"`
	Unit     string `beam:"unit" json:"unit"`
	Hour     int64  `beam:"hour" json:"-"` // When it begins, ms since 1970.
	Count    int64  `beam:"count" json:"count"`
	Min      string `beam:"min" json:"min"`   // Decimal text, as all values here.
	Max      string `beam:"max" json:"max"`   //
	Mean     string `beam:"mean" json:"mean"` // Of the exact values, rounded once.
	Sum      string `beam:"sum" json:"sum"`
	Revision int64  `beam:"revision" json:"revision,omitempty"` // Above 0 if late measurements changed what was written before.
}

// MarshalJSON writes the hour as RFC 3339.
func (a Aggregate) MarshalJSON() ([]byte, error) {
	type plain Aggregate
	return json.Marshal(struct {
		Hour string `json:"hour"`
		plain
	}{instant(a.Hour), plain(a)})
}

// Hourly sums up each hour of each metric of each device, once the watermark has passed it. A late
// measurement gives the aggregate once more, whole, with a higher Revision, until the lateness is
// over; then it is dropped and counted by the runner.
//
// Input: PCollection<units.Measurement> with event times. Output: PCollection<units.Aggregate>, in
// windows of an hour.
func Hourly(s beam.Scope, measurements beam.PCollection, lateness time.Duration) beam.PCollection {
	s = s.Scope("units.Hourly")
	hours := beam.WindowInto(s, window.NewFixedWindows(time.Hour), measurements,
		beam.Trigger(trigger.Default()), beam.AllowedLateness(lateness), beam.PanesAccumulate())
	// No Combine: the Go SDK's loses the pane, which has the revision.
	return beam.ParDo(s, &AggregateFn{}, beam.GroupByKey(s, beam.ParDo(s, summarized, hours)))
}

// Summary is what is known of some values: exact fractions as text.
type Summary struct {
	Count         int64
	Sum, Min, Max string
}

func summarized(m Measurement) (string, Summary, error) {
	x, err := m.rat()
	if err != nil {
		return "", Summary{}, fmt.Errorf("units.Hourly: measurement of %.40q at %s: %w", m.Device, instant(m.Millis), err)
	}
	text := x.RatString()
	return seriesKey(m), Summary{1, text, text, text}, nil
}

// merge is associative and commutative, because the sums are exact.
func merge(a, b Summary) Summary {
	return Summary{
		Count: a.Count + b.Count,
		Sum:   new(big.Rat).Add(fraction(a.Sum), fraction(b.Sum)).RatString(),
		Min:   pick(a.Min, b.Min, -1),
		Max:   pick(a.Max, b.Max, +1),
	}
}

func pick(a, b string, sign int) string {
	if fraction(b).Cmp(fraction(a)) == sign {
		return b
	}
	return a
}

// fraction reads what RatString wrote.
func fraction(text string) *big.Rat {
	x, ok := new(big.Rat).SetString(text)
	if !ok {
		panic(errors.New("units: " + text + " in a summary is not a fraction"))
	}
	return x
}

// AggregateFn makes an aggregate of the summaries of a window.
type AggregateFn struct{}

// ProcessElement rounds each value once.
func (fn *AggregateFn) ProcessElement(pane beam.PaneInfo, w beam.Window, key string, next func(*Summary) bool) Aggregate {
	var s, one Summary
	next(&s)
	for next(&one) {
		s = merge(s, one)
	}
	device, metric, unit := splitKey(key)
	decimal := func(x *big.Rat) string {
		text, _ := formatDecimal(x, DefaultDigits)
		return text
	}
	sum := fraction(s.Sum)
	return Aggregate{
		Device:   device,
		Metric:   metric,
		Unit:     unit,
		Hour:     hourOf(w),
		Count:    s.Count,
		Min:      decimal(fraction(s.Min)),
		Max:      decimal(fraction(s.Max)),
		Mean:     decimal(new(big.Rat).Quo(sum, new(big.Rat).SetInt64(s.Count))),
		Sum:      decimal(sum),
		Revision: max(pane.Index, 0),
	}
}

func hourOf(w beam.Window) int64 {
	return mtime.Time(w.MaxTimestamp()).Milliseconds() + 1 - time.Hour.Milliseconds()
}
