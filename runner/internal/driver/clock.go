// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"time"

	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
)

// Clock tells processing time: that of the machine, but it never goes back. While the machine's
// clock stands behind a time that was already told, it advances with the monotonic clock, so that
// a timer set before the machine's clock was turned back still fires after the time it asked for.
type Clock struct {
	wall  func() time.Time     // May be set, forward and back.
	mono  func() time.Duration // Only grows; stands still while the machine sleeps.
	last  event.Timestamp      // What was told.
	when  time.Duration        // What mono said then, but for less than a millisecond.
	timer *time.Timer
	at    event.Timestamp
}

// maxSleep bounds one wait. Timers run on the monotonic clock, which stands still while a machine
// sleeps and does not follow a change of the wall clock; looking again each second does.
const maxSleep = time.Second

// NewClock returns a clock that tells no time before floor.
func NewClock(floor event.Timestamp) *Clock {
	start := time.Now()
	return newClock(time.Now, func() time.Duration { return time.Since(start) }, floor)
}

func newClock(wall func() time.Time, mono func() time.Duration, floor event.Timestamp) *Clock {
	c := &Clock{wall: wall, mono: mono, at: event.MaxTimestamp, timer: time.NewTimer(maxSleep)}
	c.timer.Stop()
	c.last, c.when = max(floor, event.FromTime(wall())), mono()
	return c
}

// Now returns the processing time.
func (c *Clock) Now() event.Timestamp {
	passed := (c.mono() - c.when).Truncate(time.Millisecond)
	c.when += passed
	c.last = max(c.last.Add(passed), event.FromTime(c.wall()))
	return c.last
}

// WakeAt makes Wake deliver at the given time, and at least once a second until then.
func (c *Clock) WakeAt(at event.Timestamp) {
	c.at = at
	c.arm()
}

func (c *Clock) arm() {
	wait := time.Duration(c.at-c.Now()) * time.Millisecond
	if c.at-c.last > event.Timestamp(maxSleep/time.Millisecond) {
		wait = maxSleep
	}
	c.timer.Reset(max(wait, 0))
}

// Wake delivers when it is time to look at the clock.
func (c *Clock) Wake() <-chan time.Time { return c.timer.C }

// Passed tells whether the time of WakeAt has come; if not, it makes Wake deliver again.
func (c *Clock) Passed() bool {
	if c.at == event.MaxTimestamp {
		return false
	}
	if c.Now() < c.at {
		c.arm()
		return false
	}
	c.at = event.MaxTimestamp
	return true
}
