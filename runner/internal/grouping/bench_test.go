// SPDX-License-Identifier: Apache-2.0

package grouping

import (
	"fmt"
	"testing"
	"time"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// split makes bundles of a million small elements, as the engine would cut them: 50,000 elements
// to a bundle, by key group.
func split(fn plan.WindowFn, keys, groups int, spacing event.Timestamp) (bundles [][]bundle.Chunk) {
	const elements, size = 1_000_000, 50_000
	for from := 0; from < elements; from += size {
		parts := make([][]input, groups)
		for i := from; i < from+size; i++ {
			key := i * 7919 % keys
			at := event.Timestamp(i/keys) * spacing
			parts[key%groups] = append(parts[key%groups], input{
				key: fmt.Sprintf("key%06d", key), value: fmt.Sprintf("v%07d", i), at: at, windows: assign(fn, at),
			})
		}
		chunks := make([]bundle.Chunk, groups)
		for g, part := range parts {
			chunks[g] = encode(fn.Kind == plan.GlobalWindows, part)
		}
		bundles = append(bundles, chunks)
	}
	return bundles
}

// BenchmarkGroup is a million elements from first to last, over a table that costs next to nothing.
// What counts is cpu-ns/element, the processor time spent in Run, garbage collection included.
func BenchmarkGroup(b *testing.B) {
	for _, c := range []struct {
		name    string
		s       plan.WindowingStrategy
		keys    int
		groups  int
		spacing event.Timestamp
	}{
		{"global/keys=1k", plan.WindowingStrategy{}, 1000, 128, 1},
		{"global/keys=100k", plan.WindowingStrategy{}, 100_000, 128, 1},
		{"global/keys=100k/groups=1", plan.WindowingStrategy{}, 100_000, 1, 1},
		{"fixed/keys=1k", plan.WindowingStrategy{Fn: plan.WindowFn{Kind: plan.FixedWindows, Size: 100 * time.Millisecond}}, 1000, 128, 1},
		{"fixed-late/keys=100k", plan.WindowingStrategy{
			Fn: plan.WindowFn{Kind: plan.FixedWindows, Size: time.Second}, AllowedLateness: time.Hour,
		}, 100_000, 128, 1},
		{"sessions/keys=1k", plan.WindowingStrategy{
			Fn: plan.WindowFn{Kind: plan.SessionWindows, Size: 5 * time.Second}, Merges: true,
		}, 1000, 128, 1000},
		{"sessions/keys=100k", plan.WindowingStrategy{
			Fn: plan.WindowFn{Kind: plan.SessionWindows, Size: 5 * time.Second}, Merges: true,
		}, 100_000, 128, 1000},
		{"count/keys=1k", plan.WindowingStrategy{Trigger: plan.Trigger{Kind: plan.Repeat, Parts: []plan.Trigger{
			{Kind: plan.ElementCount, Count: 100}}}}, 1000, 128, 1},
		{"count/keys=100k", plan.WindowingStrategy{Trigger: plan.Trigger{Kind: plan.Repeat, Parts: []plan.Trigger{
			{Kind: plan.ElementCount, Count: 4}}}}, 100_000, 128, 1},
	} {
		b.Run(c.name, func(b *testing.B) {
			bundles := split(c.s.Fn, c.keys, c.groups, c.spacing)
			b.ReportAllocs()
			b.ResetTimer()
			total := time.Duration(0)
			for range b.N {
				worlds := make([]*world, c.groups)
				for g := range worlds {
					worlds[g] = newWorld(b, c.s)
				}
				values, spent := int64(0), time.Duration(0)
				for _, chunks := range bundles {
					for g, chunk := range chunks {
						worlds[g].run(chunk)
					}
				}
				for _, w := range worlds {
					w.at.Watermark = event.MaxTimestamp
					w.settle()
					values, spent = values+w.in, spent+w.spent
				}
				total += spent
				if values != 1_000_000 {
					b.Fatalf("%d elements came in", values)
				}
			}
			b.ReportMetric(float64(total.Nanoseconds())/float64(b.N)/1e6, "cpu-ns/element")
		})
	}
}
