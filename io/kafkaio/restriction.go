// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"fmt"
	"math"
)

// Restriction is the offsets [Start, End) of a partition. Start is the position: no record before it is read
// again, and it need not be the offset of any record.
type Restriction struct {
	Topic     string
	TopicID   string // As kadm.TopicID prints it; a topic that was deleted and created again has another one.
	Partition int32
	Start     int64
	End       int64 // math.MaxInt64 when the read is unbounded.
}

func (r Restriction) bounded() bool { return r.End != math.MaxInt64 }

// The two claims. Their order is the order of the log: a position claimed once is never claimed again.
type (
	record int64 // The record with this offset.
	reach  int64 // That nothing is left to read before this offset.
)

// tracker implements sdf.RTracker.
type tracker struct {
	rest Restriction
	next int64 // The position; rest.Start <= next.
	high int64 // The end of the partition as last seen; 0 before that.
	over bool  // A claim was refused.
	err  error
}

func newTracker(rest Restriction) *tracker { return &tracker{rest: rest, next: rest.Start} }

// TryClaim takes a record or a reach.
func (t *tracker) TryClaim(pos any) bool {
	var at, after int64
	switch pos := pos.(type) {
	case record:
		at, after = int64(pos), int64(pos)+1
	case reach:
		at, after = int64(pos), int64(pos)
	default:
		t.err = fmt.Errorf("kafkaio: position is %T, want record or reach", pos)
	}
	switch {
	case t.err != nil:
	case t.over:
		t.err = fmt.Errorf("kafkaio: claim of %d after the restriction has ended", at)
	case at < t.next:
		t.err = fmt.Errorf("kafkaio: claim of %d, but the position is %d", at, t.next)
	}
	if t.err != nil || at >= t.rest.End {
		t.over = true
		if t.err == nil {
			t.next = max(t.next, t.rest.End)
		}
		return false
	}
	t.next = after
	return true
}

// GetError implements sdf.RTracker.
func (t *tracker) GetError() error { return t.err }

// TrySplit implements sdf.RTracker. An unbounded restriction is only checkpointed: two that follow each other
// in one partition would read no faster. A bounded one is split only where there are records already: a residual
// that starts past the end could not be told from a log that was truncated.
func (t *tracker) TrySplit(fraction float64) (primary, residual any, err error) {
	if t.over || t.IsDone() || fraction > 0 && !t.rest.bounded() {
		return t.rest, nil, nil
	}
	at, end := t.next, t.rest.End
	if fraction > 0 {
		end = min(end, t.high)
		at += int64(math.Ceil(min(fraction, 1) * float64(end-t.next)))
	}
	if at >= end {
		return t.rest, nil, nil
	}
	rest := t.rest
	rest.Start = at
	t.rest.End = at
	return t.rest, rest, nil
}

// GetProgress implements sdf.RTracker.
func (t *tracker) GetProgress() (done, remaining float64) {
	end := t.rest.End
	if !t.rest.bounded() {
		end = t.high
	}
	return float64(t.next - t.rest.Start), float64(max(end-t.next, 0))
}

// IsDone implements sdf.RTracker.
func (t *tracker) IsDone() bool { return t.err == nil && t.next >= t.rest.End }

// GetRestriction implements sdf.RTracker.
func (t *tracker) GetRestriction() any { return t.rest }

// IsBounded implements sdf.BoundableRTracker.
func (t *tracker) IsBounded() bool { return t.rest.bounded() }
