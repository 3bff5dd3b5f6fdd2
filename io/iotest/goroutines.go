// SPDX-License-Identifier: Apache-2.0

package iotest

import (
	"bytes"
	"maps"
	"runtime"
	"slices"
	"testing"
	"time"
)

// uses is how often something is used to see whether each use leaves a goroutine.
const uses = 8

// allUses is how often ends uses a thing: before the uses that count, and after them, too.
const allUses = uses + 2

// ends checks that using something again and again does not leave goroutines. What the first use leaves, such as
// idle connections, is kept for the next, and what ends with the use after it, such as a connection that is replaced,
// is not left. Goroutines are told apart by their number, not only counted: older ones that end meanwhile hide none.
func ends(tb testing.TB, use func()) {
	tb.Helper()
	use()
	before := goroutines()
	for range uses {
		use()
	}
	left := goroutines()
	maps.DeleteFunc(left, func(id string, _ []byte) bool { return before[id] != nil })
	use()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(5 * time.Second); ; <-tick.C {
		now := goroutines()
		maps.DeleteFunc(left, func(id string, _ []byte) bool { return now[id] == nil })
		if len(left) < uses {
			return
		}
		if time.Now().After(deadline) {
			tb.Errorf("%d uses have left %d goroutines:\n%s", uses, len(left),
				bytes.Join(slices.Collect(maps.Values(left)), []byte("\n\n")))
			return
		}
	}
}

// goroutines returns the stacks of all goroutines but the caller's by their numbers.
func goroutines() map[string][]byte {
	all := make([]byte, 1<<16)
	for {
		n := runtime.Stack(all, true)
		if n < len(all) {
			all = all[:n]
			break
		}
		all = make([]byte, 2*len(all))
	}
	stacks := map[string][]byte{}
	for i, stack := range bytes.Split(all, []byte("\n\n")) {
		if fields := bytes.Fields(stack); i > 0 && len(fields) > 1 {
			stacks[string(fields[1])] = stack // goroutine 18 [running]: ...
		}
	}
	return stacks
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
