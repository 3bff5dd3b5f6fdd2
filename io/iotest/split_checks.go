// SPDX-License-Identifier: Apache-2.0

package iotest

import (
	"fmt"
	"testing"
	"time"
)

// A checkpoint after any element leaves a residual that starts behind it, also in another process.
func checkCheckpointAnywhere(tb testing.TB, c Source) { c.splitAnywhere(tb, 0, true) }

// A split after any element gives a part away; primary and residual together are what was there, each once.
func checkSplitAnywhere(tb testing.TB, c Source) { c.splitAnywhere(tb, 0.5, false) }

func (c Source) splitAnywhere(tb testing.TB, fraction float64, restart bool) {
	tb.Helper()
	all, good, bad := poisoned(2, 6)
	f := c.filled(tb, 2, all...)
	for _, until := range c.extents() {
		s := f.Splittable(tb, until)
		for stop := 1; stop <= len(all); stop++ {
			reader := s.open(tb)
			n := 0
			split := func(a *attempt) {
				if n++; n == stop {
					a.split(fraction)
				}
			}
			var got results
			for _, w := range reader.begin() {
				a := reader.process(w, split)
				got.add(a.results)
				if restart && n >= stop {
					reader.restart()
				}
				got.add(reader.all(a.residuals, nil))
			}
			reader.close()
			c.expect(tb, fmt.Sprintf("read %s, split at %v after element %d", until, fraction, stop), got, good, bad)
		}
	}
}

func (r *results) add(more results) {
	r.records = append(r.records, more.records...)
	r.dead = append(r.dead, more.dead...)
}

// A bundle that fails runs again from where it began, whatever the process has seen before.
func checkFailedBundle(tb testing.TB, c Source) {
	all, good, bad := poisoned(1, 9)
	f := c.filled(tb, 1, all...)
	for _, until := range c.extents() {
		reader := f.Splittable(tb, until).open(tb)
		todo := reader.begin()
		for range 2 {
			c.expect(tb, fmt.Sprintf("read %s, again", until), reader.all(todo, nil), good, bad)
		}
		// The first attempt is cut somewhere; its residual is not committed either.
		for _, w := range todo {
			reader.process(w, func(a *attempt) {
				if a.count() == 4 {
					a.split(0)
				}
			})
		}
		c.expect(tb, fmt.Sprintf("read %s, again after a checkpoint", until), reader.all(todo, nil), good, bad)
		reader.close()
	}
}

// The watermark follows the records, stays where it was over checkpoints and restarts, and no record is late.
func checkWatermark(tb testing.TB, c Source) {
	records := samples(1, 9)
	reader := c.filled(tb, 1, records...).Splittable(tb, c.longest()).open(tb)
	defer func() { reader.close() }()
	todo := reader.begin()
	var low, handed time.Time // handed is zero when nothing was handed on.
	for seen, steps := 0, 0; seen < len(records) && len(todo) > 0; steps++ {
		if steps > 1000 {
			tb.Fatalf("after %d steps %d of %d records have come", steps, seen, len(records))
		}
		a := reader.process(todo[0], func(a *attempt) {
			if a.count() == 2 {
				a.split(0)
			}
		})
		if a.estimator == nil {
			tb.Fatal("the source has no watermark")
		}
		if !handed.IsZero() && a.began.Before(handed) {
			tb.Errorf("the watermark of a residual was %d and is %d in another process", handed.UnixMilli(), a.began.UnixMilli())
		}
		low, handed = a.low, a.handed
		seen += a.count()
		todo = append(a.residuals, todo[1:]...)
		reader.restart()
	}
	if last := records[len(records)-1].Time; low.UnixMilli() < last {
		tb.Errorf("after all records the watermark is %d, want that of the last one, %d", low.UnixMilli(), last)
	}
}

// quietSteps is how often a runner looks at a caught-up partition before the suite says that it is never idle.
const quietSteps = 20

// A partition without records is idle after a while: its watermark follows the clock.
func checkIdlePartition(tb testing.TB, c Source) {
	if c.Ends {
		return
	}
	f := c.filled(tb, 2, samples(1, 3)...)
	reader := f.Splittable(tb, ForEver).open(tb)
	defer reader.close()
	for _, w := range reader.begin() {
		idle := false
		for i := 0; i < quietSteps && !idle; i++ {
			a := reader.process(w, nil)
			if len(a.residuals) != 1 || a.estimator == nil {
				tb.Fatalf("a read for ever leaves %d residuals, want one with a watermark", len(a.residuals))
			}
			w = a.residuals[0]
			idle = a.low.UnixMilli() > sample(0, 1_000_000).Time
		}
		if !idle {
			tb.Errorf("the watermark of %+v does not follow the clock after %d looks that found nothing", w.restriction, quietSteps)
		}
	}
}
