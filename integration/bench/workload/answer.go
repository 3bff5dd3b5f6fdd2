// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"
	"time"
)

// answers are what workloads have to sink that no other runner checks: the same, without Beam.
var answers = map[string]func(n int64) uint64{
	"empty":     func(int64) uint64 { return 0 },
	"gbk1k":     func(n int64) uint64 { return sums(emitFn{N: n, Keys: 1_000}, time.Hour) },
	"windowsum": func(n int64) uint64 { return sums(emitFn{N: n, Keys: 1_000, Pace: hourly}, sixMinutes) },
	"valuestate": func(n int64) (hash uint64) {
		for i := range n {
			hash += rowHash(i%1_000, i/1_000+1)
		}
		return hash
	},
}

// sums adds up the elements of fn by key and window.
func sums(fn emitFn, width time.Duration) (hash uint64) {
	type pane struct{ key, window int64 }
	of := map[pane]int64{}
	for i := range fn.N {
		of[pane{i % fn.Keys, int64(fn.time(i)) / width.Milliseconds()}] += textHash("v" + strconv.FormatInt(i, 10))
	}
	for p, sum := range of {
		hash += rowHash(p.key, sum)
	}
	return hash
}
