// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
)

// machine has a clock that can be set, and one that only grows and stands still in its sleep.
type machine struct {
	wall time.Time
	mono time.Duration
}

func (m *machine) pass(d time.Duration) {
	m.wall = m.wall.Add(d)
	m.mono += d
}

func (m *machine) clock(floor event.Timestamp) *Clock {
	return newClock(func() time.Time { return m.wall }, func() time.Duration { return m.mono }, floor)
}

func TestClock(t *testing.T) {
	const hour = event.Timestamp(3_600_000)
	tests := []struct {
		name  string
		floor event.Timestamp // Relative to the machine's clock.
		live  func(m *machine, c *Clock)
		want  event.Timestamp // Relative to the machine's clock at the start.
	}{
		{"follows the machine", -hour, func(m *machine, c *Clock) { m.pass(time.Second) }, 1000},
		{"starts at the floor", hour, func(m *machine, c *Clock) {}, hour},
		{"goes on from the floor", hour, func(m *machine, c *Clock) { m.pass(time.Second) }, hour + 1000},
		{"set back, goes on", 0, func(m *machine, c *Clock) {
			m.wall = m.wall.Add(-time.Hour)
			m.pass(time.Second)
		}, 1000},
		{"set back and looked at often, does not slow down", 0, func(m *machine, c *Clock) {
			m.wall = m.wall.Add(-time.Hour)
			for range 1000 {
				m.pass(1900 * time.Microsecond)
				c.Now()
			}
		}, 1900},
		{"set forward, follows", 0, func(m *machine, c *Clock) { m.wall = m.wall.Add(time.Hour) }, hour},
		{"set forward and back, stays forward", 0, func(m *machine, c *Clock) {
			m.wall = m.wall.Add(time.Hour)
			c.Now()
			m.wall = m.wall.Add(-time.Hour)
			m.pass(time.Second)
		}, hour + 1000},
		{"after the machine slept, follows", 0, func(m *machine, c *Clock) { m.wall = m.wall.Add(time.Hour) }, hour},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := &machine{wall: time.UnixMilli(1_000_000_000)}
			c := m.clock(1_000_000_000 + test.floor)
			test.live(m, c)
			if got := c.Now() - 1_000_000_000; got != test.want {
				t.Errorf("got %d ms after the start, want %d", got, test.want)
			}
		})
	}
}

// A wait for a time of the clock ends when that comes, however it comes.
func TestClockWakes(t *testing.T) {
	tests := []struct {
		name string
		jump time.Duration // Of the machine's clock, at the first look.
		want int           // Looks at the clock until the time has come.
	}{
		{"time passes", 0, 5},
		{"the clock is set back", -time.Hour, 5},
		{"the clock is set forward", time.Hour, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &machine{wall: time.UnixMilli(1_000_000_000)}
				c := m.clock(0)
				c.WakeAt(c.Now() + 4500)
				for looks := 1; ; looks++ {
					before := time.Now()
					<-c.Wake()
					m.pass(time.Since(before))
					if looks == 1 {
						m.wall = m.wall.Add(test.jump)
					}
					if !c.Passed() {
						continue
					}
					if looks != test.want {
						t.Errorf("got %d looks, want %d", looks, test.want)
					}
					return
				}
			})
		})
	}
}
