// SPDX-License-Identifier: Apache-2.0

// Package outage knows since when a service is away. A reader that waits for it is interrupted by checkpoints, and
// must not begin to count anew after each.
package outage

import (
	"sync"
	"time"
)

// Clock is one service's. The zero value is of one that is there.
type Clock struct {
	mu    sync.Mutex // Guards what follows.
	since time.Time  // The first failure after the last success; zero if there is none.
	last  time.Time  // The last failure.
}

// silence is how long nobody may have asked for two failures to be of one outage.
const silence = 30 * time.Second

// Failed notes a failure, and returns since when the service is away.
func (c *Clock) Failed(now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.since.IsZero() || now.Sub(c.last) > silence {
		c.since = now
	}
	c.last = now
	return c.since
}

// Over notes a success, or that somebody was told of the outage and counts anew.
func (c *Clock) Over() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = time.Time{}
}
