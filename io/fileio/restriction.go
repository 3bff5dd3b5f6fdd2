// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/io/rtrackers/offsetrange"

	"github.com/hornbeam-dev/hornbeam/io/fileio/internal/format"
)

// Restriction is the part of a file whose records start in [Start, End), in bytes after decompression.
type Restriction struct {
	Start int64
	End   int64 // math.MaxInt64 for a gzip file, whose size nobody knows before it is read.

	// A record starts at From, at or before Start, in line FromLine. From there the reader finds the first
	// record at or after Start, and what line that is.
	From     int64
	FromLine int64
}

// claim is the record [start, next); nextLine is the line at next.
type claim struct {
	start, next, nextLine int64
}

// endOfFile claims that no record is left.
var endOfFile = claim{start: math.MaxInt64, next: math.MaxInt64}

// tracker implements sdf.RTracker. Unlike an offset range it knows where the next record starts, so a
// checkpoint leaves a residual that starts exactly there.
type tracker struct {
	rest     Restriction
	next     int64 // Where the first record that is not claimed starts, if it is known, else rest.Start.
	nextLine int64 // 0 as long as nothing is claimed.
	stopped  bool
	err      error
}

func newTracker(rest Restriction) *tracker {
	return &tracker{rest: rest, next: rest.Start}
}

// TryClaim takes a claim.
func (t *tracker) TryClaim(pos any) bool {
	c, ok := pos.(claim)
	switch {
	case !ok:
		t.err = fmt.Errorf("fileio: position is %T, want a claim", pos)
	case t.stopped:
		t.err = fmt.Errorf("fileio: claim of %d after the restriction has ended", c.start)
	case c.start < t.next:
		t.err = fmt.Errorf("fileio: claim of %d, but %d is the next to claim", c.start, t.next)
	}
	if t.err != nil || c.start >= t.rest.End {
		t.stopped = true
		t.next = max(t.next, t.rest.End)
		return false
	}
	t.next, t.nextLine = c.next, c.nextLine
	return true
}

// GetError implements sdf.RTracker.
func (t *tracker) GetError() error { return t.err }

// TrySplit implements sdf.RTracker. A file that is not split by position is only checkpointed.
func (t *tracker) TrySplit(fraction float64) (primary, residual any, err error) {
	if t.stopped || t.IsDone() {
		return t.rest, nil, nil
	}
	at := t.next
	if fraction > 0 {
		if t.rest.End == math.MaxInt64 {
			return t.rest, nil, nil
		}
		at += int64(math.Ceil(min(fraction, 1) * float64(t.rest.End-t.next)))
	}
	if at >= t.rest.End {
		return t.rest, nil, nil
	}
	rest := Restriction{Start: at, End: t.rest.End, From: t.next, FromLine: t.nextLine}
	if t.nextLine == 0 {
		rest.From, rest.FromLine = t.rest.From, t.rest.FromLine
	}
	t.rest.End = at
	return t.rest, rest, nil
}

// GetProgress implements sdf.RTracker.
func (t *tracker) GetProgress() (done, remaining float64) {
	return float64(t.next - t.rest.Start), float64(max(t.rest.End-t.next, 0))
}

// IsDone implements sdf.RTracker.
func (t *tracker) IsDone() bool { return t.err == nil && t.next >= t.rest.End }

// GetRestriction implements sdf.RTracker.
func (t *tracker) GetRestriction() any { return t.rest }

// IsBounded implements sdf.BoundableRTracker.
func (t *tracker) IsBounded() bool { return true }

// rowRange is the part [Start, End) of the rows of a file.
type rowRange struct {
	Start, End int64

	// The block at FromByte begins with FromRow, at or before Start: what is before it need not be read.
	FromRow, FromByte int64
}

func (r rowRange) from() format.Mark { return format.Mark{Row: r.FromRow, Byte: r.FromByte} }

// rowClaim is a row, and the block that it is in or behind.
type rowClaim struct {
	row  int64
	mark format.Mark
}

// rowTracker tracks a rowRange. A residual begins with the block of the last claim.
type rowTracker struct {
	*offsetrange.Tracker
	mark format.Mark
}

func newRowTracker(r rowRange) *rowTracker {
	return &rowTracker{offsetrange.NewTracker(offsetrange.Restriction{Start: r.Start, End: r.End}), r.from()}
}

// TryClaim takes a rowClaim.
func (t *rowTracker) TryClaim(pos any) bool {
	c := pos.(rowClaim)
	ok := t.Tracker.TryClaim(c.row)
	if ok {
		t.mark = c.mark
	}
	return ok
}

// TrySplit implements sdf.RTracker.
func (t *rowTracker) TrySplit(fraction float64) (primary, residual any, err error) {
	_, residual, err = t.Tracker.TrySplit(fraction)
	if residual != nil {
		residual = t.rows(residual)
	}
	return t.GetRestriction(), residual, err
}

// GetRestriction implements sdf.RTracker.
func (t *rowTracker) GetRestriction() any { return t.rows(t.Tracker.GetRestriction()) }

func (t *rowTracker) rows(rest any) rowRange {
	r := rest.(offsetrange.Restriction)
	return rowRange{Start: r.Start, End: r.End, FromRow: t.mark.Row, FromByte: t.mark.Byte}
}

// estimator implements sdf.WatermarkEstimator; a split reads it while the record loop writes it.
type estimator struct {
	ms atomic.Int64 // The watermark.
}

// CurrentWatermark implements sdf.WatermarkEstimator.
func (e *estimator) CurrentWatermark() time.Time { return time.UnixMilli(e.ms.Load()) }

func (e *estimator) advance(ms int64) {
	if ms > e.ms.Load() {
		e.ms.Store(ms)
	}
}
