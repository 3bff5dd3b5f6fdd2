// SPDX-License-Identifier: Apache-2.0

package iotest

import (
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
)

// uses is how often something is used to see whether each use leaves a goroutine.
const uses = 8

// ends checks that using something again and again does not leave goroutines. What the first use leaves, such as
// idle connections, is kept for the next.
func ends(tb testing.TB, use func()) {
	tb.Helper()
	use()
	before := runtime.NumGoroutine()
	for range uses {
		use()
	}
	if n := settle(before + uses - 1); n >= before+uses {
		var stacks strings.Builder
		pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		tb.Errorf("%d uses have left %d goroutines:\n%s", uses, n-before, stacks.String())
	}
}

// settle waits until there are at most so many goroutines, but not long, and tells how many there are.
func settle(most int) (n int) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(5 * time.Second); ; <-tick.C {
		if n = runtime.NumGoroutine(); n <= most || time.Now().After(deadline) {
			return n
		}
	}
}

// A DoFn that was torn down has no goroutines.
func checkGoroutinesEnd(tb testing.TB, c Source) {
	s := c.filled(tb, 1, samples(1, 3)...).Splittable(tb, c.longest())
	ends(tb, func() {
		reader := s.open(tb)
		reader.all(reader.begin(), nil)
		reader.close()
	})
}
