// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
)

const sixMinutes = 6 * time.Minute

// workloads compose pipelines that make n elements and sink what comes of them.
var workloads = map[string]func(s beam.Scope, n int64){
	"fused": func(s beam.Scope, n int64) {
		sink(s, beam.ParDo(s, weigh, beam.ParDo(s, double, generate(s, n, 1_000))))
	},
	"reshuffle": func(s beam.Scope, n int64) {
		sink(s, beam.ParDo(s, weigh, beam.Reshuffle(s, generate(s, n, 1_000))))
	},
	"gbk1k": func(s beam.Scope, n int64) {
		sink(s, beam.ParDo(s, fold, beam.GroupByKey(s, generate(s, n, 1_000))))
	},
	"gbk100k": func(s beam.Scope, n int64) {
		sink(s, beam.ParDo(s, fold, beam.GroupByKey(s, generate(s, n, 100_000))))
	},
	"combine": func(s beam.Scope, n int64) {
		sink(s, beam.CombinePerKey(s, &sumFn{}, generate(s, n, 1_000)))
	},
	"sliding": func(s beam.Scope, n int64) {
		windowed(s, window.NewSlidingWindows(10*time.Second, time.Minute), beam.ParDo(s, &emitFn{N: n, Keys: 1_000, Pace: hourly}, beam.Impulse(s)))
	},
	"sessions": func(s beam.Scope, n int64) {
		windowed(s, window.NewSessions(time.Minute), beam.ParDo(s, &emitFn{N: n, Keys: 1_000, Pace: visiting}, beam.Impulse(s)))
	},
	"windowsum": func(s beam.Scope, n int64) {
		elements := beam.ParDo(s, &emitFn{N: n, Keys: 1_000, Pace: hourly}, beam.Impulse(s))
		windows := beam.WindowInto(s, window.NewFixedWindows(sixMinutes), elements)
		sink(s, beam.WindowInto(s, window.NewGlobalWindows(), beam.CombinePerKey(s, &sumFn{}, windows)))
	},
	"empty": func(s beam.Scope, _ int64) {
		sink(s, beam.ParDo(s, weigh, generate(s, 0, 1)))
	},
	"valuestate": func(s beam.Scope, n int64) {
		sink(s, beam.ParDo(s, newCountFn(), generate(s, n, 1_000)))
	},
}

// generate makes n pairs of a key and a short text.
//
// Output: PCollection<KV<int64,string>>.
func generate(s beam.Scope, n, keys int64) beam.PCollection {
	return beam.ParDo(s, &emitFn{N: n, Keys: keys}, beam.Impulse(s))
}

func windowed(s beam.Scope, fn *window.Fn, col beam.PCollection) {
	grouped := beam.GroupByKey(s, beam.WindowInto(s, fn, col))
	sink(s, beam.WindowInto(s, window.NewGlobalWindows(), beam.ParDo(s, fold, grouped)))
}

// sink counts and hashes what comes. It has an output, because Prism burns CPU in stages without
// one while it waits for their end, and may even hang.
//
// Input: PCollection<KV<int64,int64>>.
func sink(s beam.Scope, col beam.PCollection) {
	bundles := beam.ParDo(s, &sinkFn{}, col)
	beam.ParDo0(s, &endFn{}, beam.GroupByKey(s, bundles))
}
