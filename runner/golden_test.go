// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/state"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/timers"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"

	"github.com/hornbeam-dev/hornbeam/runner"
)

var writeGolden = flag.Bool("write_golden", false, "Write the state directory of the present format, for later versions to open.")

func init() {
	register.Function1x2(goldenStop)
	register.Function1x2(goldenKey)
	register.Function1x2(goldenStamp)
	register.DoFn5x1[state.Provider, timers.Provider, int, int, func(int, int), error](&goldenFn{})
	register.Emitter2[int, int]()
}

// goldenArmed makes goldenStop fail.
var goldenArmed atomic.Bool

func goldenStop(x int) (int, error) {
	if x == 150 && goldenArmed.Load() {
		return 0, errors.New("stopped here")
	}
	return x, nil
}

func goldenStamp(x int) (beam.EventTime, int) {
	return mtime.FromMilliseconds(int64(x) * 1000), x
}

func goldenKey(x int) (int, int) { return x % 7, x }

// goldenFn passes each value on with the number of values of its key so far, and once more, with
// their sum, when the key's window ends.
type goldenFn struct {
	Count state.Value[int]
	Seen  state.Bag[int]
	End   timers.EventTime
}

func (f *goldenFn) ProcessElement(s state.Provider, t timers.Provider, key, x int, emit func(int, int)) error {
	n, _, err := f.Count.Read(s)
	if err != nil {
		return err
	}
	f.End.Set(t, mtime.FromMilliseconds(300_000).ToTime())
	emit(key, n)
	return errors.Join(f.Count.Write(s, n+1), f.Seen.Add(s, x))
}

func (f *goldenFn) OnTimer(_ context.Context, s state.Provider, _ timers.Provider, key int, _ timers.Context, emit func(int, int)) error {
	all, _, err := f.Seen.Read(s)
	sum := 0
	for _, x := range all {
		sum += x
	}
	emit(key, sum)
	return err
}

// goldenPipeline has what a table can hold: chunks, state, timers, runs of windows, a side input and
// what is known of work that failed. It must never change: the directories name it.
func goldenPipeline() *beam.Pipeline {
	p, s := beam.NewPipelineWithRoot()
	all := make([]any, 200)
	for i := range all {
		all[i] = i
	}
	stamped := beam.ParDo(s, goldenStamp, beam.Reshuffle(s, beam.CreateList(s, all)))
	kept := beam.ParDo(s, goldenKey, beam.ParDo(s, goldenStop, beam.Reshuffle(s, stamped)))
	fn := &goldenFn{Count: state.MakeValueState[int]("count"), Seen: state.MakeBagState[int]("seen"), End: timers.InEventTime("end")}
	counted := beam.ParDo(s, fn, kept)
	windowed := beam.WindowInto(s, window.NewFixedWindows(50*time.Second), counted)
	sums := beam.ParDo(s, total, beam.GroupByKey(s, windowed))
	global := beam.WindowInto(s, window.NewGlobalWindows(), sums)
	passert.Sum(s, global, "sums", 7*5, 22658)
	return p
}

// TestGolden continues jobs that earlier versions have begun, of every format that was released.
func TestGolden(t *testing.T) {
	if *writeGolden {
		goldenArmed.Store(true)
		dir := filepath.Join(t.TempDir(), "state")
		job := open(t, runner.Options{Name: "golden", StateDir: dir, Attempts: 2, KeyGroups: 4})
		_, err := job.Run(t.Context(), goldenPipeline())
		if err == nil || !strings.Contains(err.Error(), "stopped here") {
			t.Fatalf("the job ended with %v", err)
		}
		if err := job.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS("testdata/state-1", os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	}
	found, err := filepath.Glob("testdata/state-*")
	if err != nil || len(found) == 0 {
		t.Fatalf("no golden directories: %v", err)
	}
	for _, golden := range found {
		goldenArmed.Store(false)
		dir := filepath.Join(t.TempDir(), "state")
		if err := os.CopyFS(dir, os.DirFS(golden)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		i, err := runner.Inspect(dir)
		if err != nil {
			t.Fatal(err)
		}
		if i.State != "FAILED" || !strings.Contains(i.Reason, "stopped here") {
			t.Errorf("%s: inspect says %s %s", golden, i.State, i.Reason)
		}
		job := open(t, runner.Options{Name: "golden", StateDir: dir})
		if !job.Resumed() {
			t.Errorf("%s: the job is not resumed", golden)
		}
		if _, err := job.Run(t.Context(), goldenPipeline()); err != nil {
			t.Errorf("%s: %v", golden, err)
		}
		if err := job.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSameProgramIsTheSamePipeline: the SDK encodes maps in random order, which must not make a
// program look like another one.
func TestSameProgramIsTheSamePipeline(t *testing.T) {
	goldenArmed.Store(true)
	defer goldenArmed.Store(false)
	dir := filepath.Join(t.TempDir(), "state")
	for range 10 {
		job := open(t, runner.Options{StateDir: dir, Attempts: 1, KeyGroups: 4})
		_, err := job.Run(t.Context(), goldenPipeline())
		if err == nil || !strings.Contains(err.Error(), "stopped here") {
			t.Errorf("got %v, want that the job begins and stops", err)
		}
		if err := job.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
