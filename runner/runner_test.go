// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"github.com/hornbeam-dev/hornbeam/runner"
)

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "hornbeam") }

func init() {
	register.Function1x2(pair)
	register.Function2x1(total)
	register.Function1x1(gated)
	register.Function2x2(failing)
	register.Function1x2(unlucky)
	register.Iter1[int]()
}

func pair(x int) (int, int) { return x % 3, x }

func total(_ int, next func(*int) bool) int {
	sum, x := 0, 0
	for next(&x) {
		sum += x
	}
	return sum
}

// gate holds up gated until it is closed; entered tells that gated waits.
var gate, entered atomic.Pointer[chan struct{}]

func gated(x int) int {
	if wait := gate.Load(); wait != nil {
		if in := entered.Swap(nil); in != nil {
			close(*in)
		}
		<-*wait
	}
	return x
}

// failures is how often failing fails before it passes its element on.
var failures atomic.Int32

func failing(ctx context.Context, x int) (int, error) {
	if failures.Add(-1) >= 0 {
		return 0, errors.New("not yet: caf\xe9")
	}
	return x, nil
}

func sums() *beam.Pipeline {
	p, s := beam.NewPipelineWithRoot()
	keyed := beam.ParDo(s, pair, beam.ParDo(s, gated, beam.Create(s, 1, 2, 3, 4, 5, 6, 7)))
	passert.Equals(s, beam.ParDo(s, total, beam.GroupByKey(s, keyed)), 9, 12, 7)
	return p
}

func TestGroupByKey(t *testing.T) { ptest.RunAndValidate(t, sums()) }

func open(t *testing.T, o runner.Options) *runner.Job {
	t.Helper()
	job, err := runner.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func TestFinishedJobStartsAnew(t *testing.T) {
	o := runner.Options{Name: "sums", StateDir: filepath.Join(t.TempDir(), "state")}
	var ids []string
	for range 2 {
		job := open(t, o)
		if job.Resumed() {
			t.Errorf("job %s is resumed, want a new one", job.ID())
		}
		ids = append(ids, job.ID())
		if _, err := job.Run(t.Context(), sums()); err != nil {
			t.Fatal(err)
		}
		if err := job.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if ids[0] == ids[1] {
		t.Errorf("both jobs are %s", ids[0])
	}
}

func TestStoppedJobContinues(t *testing.T) {
	o := runner.Options{Name: "sums", StateDir: filepath.Join(t.TempDir(), "state")}
	wait, in := make(chan struct{}), make(chan struct{})
	entered.Store(&in)
	gate.Store(&wait)
	first := open(t, o)
	running, err := first.Start(t.Context(), sums())
	if err != nil {
		t.Fatal(err)
	}
	<-in
	running.Stop()
	gate.Store(nil)
	close(wait)
	if _, err := running.Wait(); !errors.Is(err, runner.ErrStopped) {
		t.Fatalf("the job ended with %v, want ErrStopped", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	other := open(t, o)
	p, s := beam.NewPipelineWithRoot()
	beam.Create(s, 1)
	if _, err := other.Run(t.Context(), p); err == nil || !strings.Contains(err.Error(), "another pipeline") {
		t.Errorf("another pipeline in the same directory: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}

	second := open(t, o)
	defer second.Close()
	if !second.Resumed() || second.ID() != first.ID() {
		t.Errorf("job %s, resumed %v; want %s, resumed", second.ID(), second.Resumed(), first.ID())
	}
	if _, err := second.Run(t.Context(), sums()); err != nil {
		t.Fatal(err)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	o := runner.Options{StateDir: filepath.Join(t.TempDir(), "state")}
	first := open(t, o)
	defer first.Close()
	if second, err := runner.Open(o); err == nil {
		second.Close()
		t.Error("two jobs have the same state directory")
	}
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), []byte("years of work"), 0o600); err != nil {
		t.Fatal(err)
	}
	if job, err := runner.Open(runner.Options{StateDir: dir}); err == nil {
		job.Close()
		t.Error("a directory with foreign files was taken")
	}
}

func TestFailedBundleIsRetried(t *testing.T) {
	failures.Store(2)
	p, s := beam.NewPipelineWithRoot()
	passert.Equals(s, beam.ParDo(s, failing, beam.Create(s, 1, 2, 3)), 1, 2, 3)
	ptest.RunAndValidate(t, p)
}

func TestFailedJobContinues(t *testing.T) {
	o := runner.Options{StateDir: filepath.Join(t.TempDir(), "state"), Attempts: 2}
	build := func() *beam.Pipeline {
		p, s := beam.NewPipelineWithRoot()
		passert.Equals(s, beam.ParDo(s, failing, beam.Create(s, 1, 2, 3)), 1, 2, 3)
		return p
	}
	failures.Store(1000)
	job := open(t, o)
	_, err := job.Run(t.Context(), build())
	if err == nil || !strings.Contains(err.Error(), `not yet: caf\xe9`) || !strings.Contains(err.Error(), "failing") {
		t.Errorf("error %q does not say what failed", err)
	}
	if err := job.Close(); err != nil {
		t.Fatal(err)
	}
	failures.Store(0)
	job = open(t, o)
	defer job.Close()
	if !job.Resumed() {
		t.Error("the failed job is not resumed")
	}
	if _, err := job.Run(t.Context(), build()); err != nil {
		t.Fatal(err)
	}
}

// TestElementIsSetAside has one element among many that always fails: it is kept, with its reason,
// and the others come through.
func TestElementIsSetAside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	var all, want []any
	for i := range 1000 {
		if all = append(all, i); i != 617 {
			want = append(want, i)
		}
	}
	p, s := beam.NewPipelineWithRoot()
	passert.Equals(s, beam.ParDo(s, unlucky, beam.Reshuffle(s, beam.CreateList(s, all))), want...)
	job := open(t, runner.Options{StateDir: dir, SetAside: true})
	if _, err := job.Run(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if err := job.Close(); err != nil {
		t.Fatal(err)
	}
	i, err := runner.Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(i.Aside) != 1 || !strings.Contains(i.Aside[0].Reason, "617 is unlucky") {
		t.Errorf("set aside: got %+v, want 617", i.Aside)
	}
	var dead int64
	for _, s := range i.Stages {
		dead += s.Dead
	}
	if dead != 1 {
		t.Errorf("got %d dead elements in the counts, want 1", dead)
	}
}

func unlucky(x int) (int, error) {
	if x == 617 {
		return 0, errors.New("617 is unlucky")
	}
	return x, nil
}

func TestCapturingLiteralIsRefused(t *testing.T) {
	factor := 3
	p, s := beam.NewPipelineWithRoot()
	beam.ParDo(s, func(x int) int { return x * factor }, beam.Create(s, 1, 2))
	err := ptest.Run(p)
	if err == nil || !strings.Contains(err.Error(), "register") {
		t.Errorf("got %v, want a refusal that says what to do", err)
	}
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{"400MiB": 400 << 20, "2GB": 2e9, "1000": 1000, "7 KiB": 7 << 10} {
		if got, err := runner.ParseBytes(text); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "4 parsecs", "99999999999GiB"} {
		if got, err := runner.ParseBytes(text); err == nil {
			t.Errorf("%q is %d, want an error", text, got)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []runner.Options{
		{Name: "../up"}, {KeyGroups: -1}, {KeyGroups: 1 << 16}, {CommitInterval: -1}, {MemoryBudget: 1}, {Parallelism: -2},
	} {
		if job, err := runner.Open(o); err == nil {
			job.Close()
			t.Errorf("options %+v are accepted", o)
		}
	}
}

func TestJobKeepsItsIDFromTheFirstMoment(t *testing.T) {
	o := runner.Options{StateDir: filepath.Join(t.TempDir(), "state")}
	first := open(t, o)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := open(t, o)
	defer second.Close()
	if first.ID() != second.ID() {
		t.Errorf("a job that had not begun is %s, and then %s", first.ID(), second.ID())
	}
	if _, err := second.Run(t.Context(), sums()); err != nil {
		t.Fatal(err)
	}
}

// A process may be killed when its job is done but nobody was told. The next one tells.
func TestEndIsToldUntilItWasHeard(t *testing.T) {
	dir := t.TempDir()
	o := runner.Options{StateDir: filepath.Join(dir, "state")}
	first := open(t, o)
	defer first.Close()
	if _, err := first.Run(t.Context(), sums()); err != nil {
		t.Fatal(err)
	}
	o.StateDir = filepath.Join(dir, "killed")
	if err := os.CopyFS(o.StateDir, os.DirFS(filepath.Join(dir, "state"))); err != nil {
		t.Fatal(err)
	}
	second := open(t, o)
	if second.ID() != first.ID() {
		t.Errorf("job %s, want %s, whose end nobody has heard of", second.ID(), first.ID())
	}
	if _, err := second.Run(t.Context(), sums()); err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	third := open(t, o)
	defer third.Close()
	if third.Resumed() {
		t.Errorf("job %s is resumed, though its end was told", third.ID())
	}
}
