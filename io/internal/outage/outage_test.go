// SPDX-License-Identifier: Apache-2.0

package outage

import (
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	var c Clock
	start := time.Unix(1000, 0)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	for _, step := range []struct {
		over bool
		now  int
		want int // Since when it is away.
	}{
		{now: 0, want: 0},
		{now: 10, want: 0},
		{over: true, now: 20, want: 20},
		{now: 49, want: 20},
		{now: 79, want: 20},
		{now: 110, want: 110}, // Nobody has asked for longer than silence.
	} {
		if step.over {
			c.Over()
		}
		if got := c.Failed(at(step.now)); !got.Equal(at(step.want)) {
			t.Errorf("a failure after %d s: away since %v, want %v", step.now, got, at(step.want))
		}
	}
}
