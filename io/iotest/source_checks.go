// SPDX-License-Identifier: Apache-2.0

package iotest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/runner"
)

func init() {
	register.DoFn2x2[beam.Window, Record, string, int64](&windowFn{})
	register.DoFn2x0[string, func(*int64) bool](&closedFn{})
	register.Iter1[int64]()
}

// Every record comes once, with all that belongs to it, on each runner.
func checkEverything(tb testing.TB, c Source) {
	want := samples(3, 20)
	f := c.filled(tb, 3, want...)
	for _, e := range engines {
		c.expect(tb, e.name, e.bring(tb, f), want, nil)
	}
}

// A source without records ends, with and without partitions that have some.
func checkEmpty(tb testing.TB, c Source) {
	for _, e := range engines {
		c.expect(tb, e.name+", nothing", e.bring(tb, c.filled(tb, 2)), nil, nil)
		one := sample(1, 0)
		c.expect(tb, e.name+", one partition", e.bring(tb, c.filled(tb, 3, one)), []Record{one}, nil)
	}
}

// The largest value comes as it was, and so do an empty one and one of a byte.
func checkLarge(tb testing.TB, c Source) {
	var want []Record
	for i, size := range []int{c.LargeMax, 0, c.LargeMax / 2, 20} {
		r := sample(0, i)
		r.Value = bytes.Repeat(fmt.Append(nil, r.Time, " large "), size/10)
		r.Value = r.Value[:min(size, len(r.Value))]
		if size == 0 {
			r.Time = epoch
		}
		want = append(want, r)
	}
	e := engines[0]
	c.expect(tb, e.name, e.bring(tb, c.filled(tb, 1, want...)), want, nil)
}

// poisoned are samples of which some are poison.
func poisoned(partitions, n int) (all, good, bad []Record) {
	for _, r := range samples(partitions, n) {
		if r.Time/1000%3 == 1 {
			r.Value = append([]byte(poison+" "), r.Value...)
			bad = append(bad, r)
		} else {
			good = append(good, r)
		}
		all = append(all, r)
	}
	return all, good, bad
}

// What is poisoned becomes a dead letter with its place, and the others are read.
func checkPoison(tb testing.TB, c Source) {
	all, good, bad := poisoned(2, 10)
	f := c.filled(tb, 2, all...)
	for _, e := range engines {
		c.expect(tb, e.name, e.bring(tb, f), good, bad)
	}
}

// patient leaves it to the connector to try again.
var patient = engine{"hornbeam", func(tb testing.TB, p *beam.Pipeline) error {
	return hornbeam(tb, runner.Options{Attempts: 1}, p)
}}

// A service that fails for a while is asked again.
func checkTransientFailure(tb testing.TB, c Source) {
	want := samples(2, 10)
	f := c.filled(tb, 2, want...)
	f.Fail(2)
	c.expect(tb, "hornbeam", patient.bring(tb, f), want, nil)
}

// A job that fails in the middle and is resumed loses and doubles nothing.
func checkRestart(tb testing.TB, c Source) {
	all, good, bad := poisoned(2, 12)
	for _, at := range []int{1, len(good) / 2, len(good)} {
		f := c.filled(tb, 2, all...)
		run, l := newRun(tb)
		l.fuse.at = int64(at)
		resume(tb, l, func() *beam.Pipeline { return reading(run, f) })
		c.expect(tb, fmt.Sprintf("failed at record %d and resumed", at), l.results, good, bad)
	}
}

// resume runs a job that fails once, at the fuse of l, and continues it.
func resume(tb testing.TB, l *ledger, build func() *beam.Pipeline) {
	tb.Helper()
	o := runner.Options{StateDir: stateDir(tb), Attempts: 1, BundleElements: 3, CommitInterval: time.Millisecond}
	if err := hornbeam(tb, o, build()); err == nil || !strings.Contains(err.Error(), blown) {
		tb.Errorf("the job that is to fail ended with %v", err)
	}
	if !l.fuse.blown.Load() {
		tb.Errorf("element %d has not come, so nothing failed", l.fuse.at)
	}
	if err := hornbeam(tb, o, build()); err != nil {
		tb.Errorf("the resumed job failed: %v", err)
	}
}

// silence is how long an endless read may take to notice that there is nothing to read, and longer than that.
const silence = time.Minute

// windowFn gives the records of a window one key.
type windowFn struct{ Run string }

// ProcessElement implements a DoFn.
func (f *windowFn) ProcessElement(w beam.Window, _ Record) (string, int64) {
	return f.Run, w.MaxTimestamp().Milliseconds()
}

// closedFn tells of a window that its watermark has passed.
type closedFn struct{}

// ProcessElement implements a DoFn.
func (*closedFn) ProcessElement(run string, next func(*int64) bool) {
	n, end := 0, int64(0)
	for next(&end) {
		n++
	}
	find(run).windows <- fmt.Sprintf("until %d: %d records", end, n)
}

// An endless read closes its windows although partitions are empty, and when all are silent.
func checkWindowsClose(tb testing.TB, c Source) {
	if c.Ends {
		return
	}
	f := c.filled(tb, 3, samples(1, 20)...)
	begin()
	run, l := newRun(tb)
	p, s := beam.NewPipelineWithRoot()
	records, _ := f.Read(s, ForEver)
	windows := beam.WindowInto(s, window.NewFixedWindows(10*time.Second), records)
	beam.ParDo0(s, &closedFn{}, beam.GroupByKey(s, beam.ParDo(s, &windowFn{Run: run}, windows)))
	job, err := runner.Open(runner.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	defer job.Close()
	running, err := job.Start(tb.Context(), p)
	if err != nil {
		tb.Fatal(err)
	}
	want := map[string]bool{}
	for _, end := range []int64{9_999, 19_999} {
		want[fmt.Sprintf("until %d: 10 records", epoch+end)] = true
	}
	timeout := time.NewTimer(silence)
	defer timeout.Stop()
	for len(want) > 0 {
		select {
		case got := <-l.windows:
			if !want[got] {
				tb.Errorf("got window %q, want one of %v", got, want)
			}
			delete(want, got)
			continue
		case <-timeout.C:
			tb.Errorf("windows %v are open after %v: does an idle partition hold the watermark?", want, silence)
		}
		break
	}
	running.Stop()
	if _, err := running.Wait(); !errors.Is(err, runner.ErrStopped) {
		tb.Errorf("the read ended with %v, want that it was stopped", err)
	}
}
