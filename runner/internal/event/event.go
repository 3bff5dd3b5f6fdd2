// SPDX-License-Identifier: Apache-2.0

// Package event holds the words of event time: timestamps, windows and panes, with the bounds
// and the encodings that the Beam model gives them. It decides nothing.
package event

import (
	"fmt"
	"math"
	"time"
)

// Timestamp is a moment of event time (or of processing time, where the name says so) in
// milliseconds since the Unix epoch.
type Timestamp int64

// The bounds of event time, as Beam's SDKs define them: the range of a 64-bit count of
// microseconds. The global window ends one day before the end of time.
const (
	MinTimestamp      Timestamp = math.MinInt64 / 1000
	MaxTimestamp      Timestamp = math.MaxInt64 / 1000
	EndOfGlobalWindow Timestamp = MaxTimestamp - 24*60*60*1000
)

// FromTime rounds t down to a whole millisecond.
func FromTime(t time.Time) Timestamp { return Clamp(t.UnixMilli()) }

// Clamp puts milliseconds since the epoch inside the bounds of event time.
func Clamp(millis int64) Timestamp {
	return min(max(Timestamp(millis), MinTimestamp), MaxTimestamp)
}

// Add returns t+d rounded down to milliseconds; the ends of time absorb what goes beyond them.
func (t Timestamp) Add(d time.Duration) Timestamp {
	if t == MaxTimestamp || t == MinTimestamp {
		return t
	}
	return Clamp(int64(t) + d.Milliseconds())
}

// Time returns t in UTC.
func (t Timestamp) Time() time.Time { return time.UnixMilli(int64(t)).UTC() }

// String prints seconds since the epoch, or -inf, +inf and end (of the global window).
func (t Timestamp) String() string {
	switch t {
	case MinTimestamp:
		return "-inf"
	case MaxTimestamp:
		return "+inf"
	case EndOfGlobalWindow:
		return "end"
	}
	if t%1000 == 0 {
		return fmt.Sprintf("%ds", int64(t)/1000)
	}
	return fmt.Sprintf("%dms", int64(t))
}
