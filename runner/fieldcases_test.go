// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window/trigger"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/state"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/timers"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/log"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/teststream"

	"github.com/hornbeam-dev/hornbeam/runner"
)

// The tests of this file are what users of other runners have run into. FC and a number name the
// case in the collection that they come from.

func init() {
	register.Function1x1(triple)
	register.Function2x1(joined)
	register.Function2x0(five)
	register.Function1x2(modulo)
	register.Function2x0(manyLong)
	register.Function2x1(ignoring)
	register.Function2x1(ignoringText)
	register.Function2x1(firstOnly)
	register.Function2x1(firstText)
	register.Function2x2(halfWay)
	register.Function2x1(twice)
	register.Function3x1(secondOnly)
	register.Function1x2(suffixed)
	register.Function2x1(grouped)
	register.Function2x2(complaining)
	register.Function1x2(selfKeyed)
	register.Emitter1[int]()
	register.Emitter1[string]()
	register.Emitter2[string, string]()
	register.Iter1[string]()
	register.DoFn5x1[state.Provider, timers.Provider, string, string, func(string), error](&expiring{})
	register.DoFn5x1[state.Provider, timers.Provider, string, string, func(string), error](&held{})
	register.DoFn2x0[string, func(string)](&draining{})
}

// triple is a literal, but has a name by which it is found.
var triple = func(x int) int { return x * 3 }

// A literal that captures nothing is its code alone. Registered it runs; without that it is found in
// a program that has a symbol table, and refused in one that has none, such as that of a test (FC-1).
func TestLiteralWithoutCaptures(t *testing.T) {
	for name, fn := range map[string]func(int) int{
		"registered":     triple,
		"not registered": func(x int) int { return x * 3 },
	} {
		p, s := beam.NewPipelineWithRoot()
		passert.Equals(s, beam.ParDo(s, fn, beam.Create(s, 1, 2)), 3, 6)
		if err := ptest.Run(p); err != nil && (name == "registered" || !strings.Contains(err.Error(), "register it in init")) {
			t.Errorf("%s: got %v, want 3 and 6, or that it has to be registered", name, err)
		}
	}
}

// The clock of a TestStream stands at the epoch when it begins: a delay counts from there, and the first advance is no
// jump over it.
func TestClockOfATestStream(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	events := teststream.NewConfig()
	for at, element := range []string{"a", "b", "c"} {
		if err := events.AddElements(int64(1000*at), element); err != nil {
			t.Fatal(err)
		}
		events.AdvanceProcessingTime(40_000) // The first two are within a minute.
	}
	if err := events.AdvanceWatermarkToInfinity(); err != nil {
		t.Fatal(err)
	}
	minutes := beam.WindowInto(s, window.NewGlobalWindows(), beam.ParDo(s, selfKeyed, teststream.Create(s, events)),
		beam.Trigger(trigger.Repeat(trigger.AfterProcessingTime().PlusDelay(time.Minute))), beam.PanesDiscard())
	panes := beam.ParDo(s, joined, beam.GroupByKey(s, beam.AddFixedKey(s, beam.DropKey(s, minutes))))
	// With the default trigger, so that the comparison waits for all panes.
	passert.Equals(s, beam.WindowInto(s, window.NewGlobalWindows(), panes), "ab", "c")
	ptest.RunAndValidate(t, p)
}

func joined(_ int, each func(*string) bool) string {
	var all []string
	for element := ""; each(&element); {
		all = append(all, element)
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

func five(_ []byte, emit func(int)) {
	for i := range 5000 {
		emit(i)
	}
}

func modulo(x int) (string, int) { return fmt.Sprint("key ", x%5), x }

// manyLong emits a key with many values of 100 bytes.
func manyLong(_ []byte, emit func(string, string)) {
	for i := range 200_000 {
		emit("long", fmt.Sprintf("%0100d", i))
	}
}

func ignoring(key string, _ func(*int) bool) string        { return key }
func ignoringText(key string, _ func(*string) bool) string { return key }

func firstOnly(key string, next func(*int) bool) string {
	x := 0
	next(&x)
	return key
}

func firstText(key string, next func(*string) bool) string {
	text := ""
	next(&text)
	return key
}

// stopped is how many groups halfWay has left in their middle with an error.
var stopped atomic.Int32

// halfWay fails in the middle of its first group, and then counts.
func halfWay(key string, next func(*int) bool) (string, error) {
	n := 0
	for x := 0; next(&x); n++ {
		if n == 500 && stopped.Add(1) == 1 {
			return "", errors.New("half-way")
		}
	}
	return fmt.Sprint(key, ": ", n), nil
}

// secondOnly counts the second stream of a key and leaves the first alone.
func secondOnly(key string, _, second func(*int) bool) string {
	n := 0
	for x := 0; second(&x); n++ {
	}
	return fmt.Sprint(key, ": ", n)
}

// What a DoFn leaves unread of a group does not show in the next one (FC-3).
func TestUnreadGroupHarmsNobody(t *testing.T) {
	keys := []any{"key 0", "key 1", "key 2", "key 3", "key 4"}
	counts := []any{"key 0: 1000", "key 1: 1000", "key 2: 1000", "key 3: 1000", "key 4: 1000"}
	for _, c := range []struct {
		name  string
		build func(s beam.Scope, pairs beam.PCollection) beam.PCollection
		want  []any
	}{
		{"not touched", func(s beam.Scope, pairs beam.PCollection) beam.PCollection {
			return beam.ParDo(s, ignoring, beam.GroupByKey(s, pairs))
		}, keys},
		{"stopped after the first", func(s beam.Scope, pairs beam.PCollection) beam.PCollection {
			return beam.ParDo(s, firstOnly, beam.GroupByKey(s, pairs))
		}, keys},
		{"an error half-way", func(s beam.Scope, pairs beam.PCollection) beam.PCollection {
			return beam.ParDo(s, halfWay, beam.GroupByKey(s, pairs))
		}, counts},
		{"only the second of two streams", func(s beam.Scope, pairs beam.PCollection) beam.PCollection {
			return beam.ParDo(s, secondOnly, beam.CoGroupByKey(s, pairs, pairs))
		}, counts},
		{"one long group, not touched", func(s beam.Scope, _ beam.PCollection) beam.PCollection {
			return beam.ParDo(s, ignoringText, beam.GroupByKey(s, beam.ParDo(s, manyLong, beam.Impulse(s))))
		}, []any{"long"}},
		{"one long group, stopped after the first", func(s beam.Scope, _ beam.PCollection) beam.PCollection {
			return beam.ParDo(s, firstText, beam.GroupByKey(s, beam.ParDo(s, manyLong, beam.Impulse(s))))
		}, []any{"long"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			stopped.Store(0)
			p, s := beam.NewPipelineWithRoot()
			pairs := beam.ParDo(s, modulo, beam.ParDo(s, five, beam.Impulse(s)))
			passert.Equals(s, c.build(s, pairs), c.want...)
			ptest.RunAndValidate(t, p)
		})
	}
}

// twice reads its group two times and says whether both passes were the same.
func twice(key string, again func() func(*int) bool) string {
	var sums [2]int
	for i := range sums {
		next := again()
		for x := 0; next(&x); {
			sums[i] += x + 1
		}
	}
	return fmt.Sprint(key, " ", sums[0] > 0 && sums[0] == sums[1])
}

// A group that is to be read again is given twice, or the parameter is refused before anything runs
// (FC-3 C).
func TestGroupIsReadTwiceOrRefused(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	pairs := beam.ParDo(s, modulo, beam.ParDo(s, five, beam.Impulse(s)))
	passert.Equals(s, beam.ParDo(s, twice, beam.GroupByKey(s, pairs)),
		"key 0 true", "key 1 true", "key 2 true", "key 3 true", "key 4 true")
	err := ptest.Run(p)
	if err != nil && (!strings.Contains(err.Error(), "func() func(*int) bool") || strings.Contains(err.Error(), "panic")) {
		t.Errorf("got %v, want two equal passes, or a refusal that names the parameter", err)
	}
}

// suffixed makes two keys that differ in a byte that is not UTF-8.
func suffixed(x int) (string, int) { return "caf" + string([]byte{0xe8 + byte(x%2)}), x }

func grouped(key string, next func(*int) bool) string {
	sum := 0
	for x := 0; next(&x); {
		sum += x
	}
	return fmt.Sprintf("%q %d", key, sum)
}

// Keys that differ in a byte that is no text stay two keys (FC-2).
func TestKeysKeepTheirBytes(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	passert.Equals(s, beam.ParDo(s, grouped, beam.GroupByKey(s, beam.ParDo(s, suffixed, beam.Create(s, 0, 1, 2, 3)))),
		`"caf\xe8" 2`, `"caf\xe9" 4`)
	ptest.RunAndValidate(t, p)
}

// complaining logs and fails with a byte that is no text, and counts in a metric with such a name.
func complaining(ctx context.Context, x int) (int, error) {
	beam.NewCounter("caf\xe9", "seen\xe8").Inc(ctx, 1)
	if x == 57 {
		log.Errorf(ctx, "cannot parse %s", "caf\xe9")
		return 0, errors.New("cannot parse caf\xe9")
	}
	return x, nil
}

// The text of an error arrives whatever its bytes, with the transform (FC-2).
func TestBadBytesInAnErrorArrive(t *testing.T) {
	for _, elements := range [][]int{{1, 2, 3}, {1, 57, 3}} {
		o := runner.Options{Attempts: 1}
		job := open(t, o)
		p, s := beam.NewPipelineWithRoot()
		beam.ParDo(s, complaining, beam.CreateList(s, elements))
		result, err := job.Run(t.Context(), p)
		fails := elements[1] == 57
		switch {
		case fails && (err == nil || !strings.Contains(err.Error(), `cannot parse caf\xe9`) || !strings.Contains(err.Error(), "complaining")):
			t.Errorf("got error %q, want the text of the DoFn, escaped, and its name", err)
		case !fails && err != nil:
			t.Error(err)
		case !fails:
			metrics := result.Metrics()
			counters := metrics.AllMetrics().Counters()
			if len(counters) != 1 || counters[0].Namespace() != `caf\xe9` || counters[0].Name() != `seen\xe8` || counters[0].Result() != 3 {
				t.Errorf("got counters %+v, want 3 seen, with each such byte written as \\x and two digits", counters)
			}
		}
		if err := job.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func selfKeyed(text string) (string, string) { return text, text }

// held collects what a key has seen, and gives it out by a timer.
type held struct {
	Seen state.Bag[string]
	Wake timers.EventTime
}

func (fn *held) ProcessElement(sp state.Provider, tp timers.Provider, key, text string, emit func(string)) error {
	fn.Wake.Set(tp, time.UnixMilli(10_000))
	emit(fmt.Sprintf("%q comes", key))
	return fn.Seen.Add(sp, text)
}

func (fn *held) OnTimer(sp state.Provider, _ timers.Provider, key string, _ timers.Context, emit func(string)) error {
	seen, _, err := fn.Seen.Read(sp)
	emit(fmt.Sprintf("%q has %q", key, seen))
	return err
}

// lock holds draining up at its last element, and says when it has come there.
type lock struct{ come, leave chan struct{} }

var (
	locked  atomic.Pointer[lock]
	drained atomic.Int64
)

// draining passes on what has gone through all stages before it. If there is a lock, it waits there
// once Enough elements have come.
type draining struct{ Enough int64 }

func (fn *draining) ProcessElement(text string, emit func(string)) {
	if drained.Add(1) == fn.Enough {
		if l := locked.Swap(nil); l != nil {
			close(l.come)
			<-l.leave
		}
	}
	emit(text)
}

// runUntilDrained runs a pipeline with a draining until that has Enough, and stops it there.
func runUntilDrained(t *testing.T, o runner.Options, p *beam.Pipeline) {
	t.Helper()
	l := &lock{make(chan struct{}), make(chan struct{})}
	locked.Store(l)
	drained.Store(0)
	job := open(t, o)
	running, err := job.Start(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { // Ends with the job.
		_, err := running.Wait()
		ended <- err
	}()
	select {
	case <-l.come:
	case err := <-ended:
		t.Fatalf("the job ended before it was stopped: %v", err)
	}
	running.Stop()
	close(l.leave)
	if err := <-ended; !errors.Is(err, runner.ErrStopped) {
		t.Fatalf("the job ended with %v, want ErrStopped", err)
	}
	if err := job.Close(); err != nil {
		t.Fatal(err)
	}
}

// State and timers of such keys are the same after a restart (FC-2).
func TestKeysKeepTheirBytesInStateAndTimers(t *testing.T) {
	build := func() *beam.Pipeline {
		events := teststream.NewConfig()
		if err := events.AddElements(1000, "caf\xe9", "caf\xe8"); err != nil {
			t.Fatal(err)
		}
		events.AdvanceWatermark(5000)
		events.AdvanceWatermarkToInfinity()
		p, s := beam.NewPipelineWithRoot()
		keyed := beam.ParDo(s, selfKeyed, teststream.Create(s, events))
		texts := beam.ParDo(s, &held{Seen: state.MakeBagState[string]("seen"), Wake: timers.InEventTime("wake")}, keyed)
		passert.Equals(s, beam.ParDo(s, &draining{Enough: 2}, texts),
			`"caf\xe8" comes`, `"caf\xe9" comes`, `"caf\xe8" has ["caf\xe8"]`, `"caf\xe9" has ["caf\xe9"]`)
		return p
	}
	o := runner.Options{StateDir: filepath.Join(t.TempDir(), "state"), NoFusion: true}
	runUntilDrained(t, o, build())
	stages := inspected(t, o.StateDir).Stages
	rows, pending := 0, 0
	for _, s := range stages {
		rows, pending = rows+s.StateRows, pending+s.Timers
	}
	if rows < 2 || pending != 2 {
		t.Errorf("got %d rows and %d timers of two keys:\n%+v", rows, pending, stages)
	}
	job := open(t, o)
	defer job.Close()
	if _, err := job.Run(t.Context(), build()); err != nil {
		t.Fatal(err)
	}
}

func inspected(t *testing.T, dir string) *runner.Inspection {
	t.Helper()
	i, err := runner.Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// expiring keeps something for a key until a timer in processing time; or it only looks.
type expiring struct {
	OnlyReads bool
	Seen      state.Value[string]
	Bag       state.Bag[string]
	Expire    timers.ProcessingTime
}

func (fn *expiring) ProcessElement(sp state.Provider, tp timers.Provider, key, text string, emit func(string)) error {
	if fn.OnlyReads {
		_, _, err := fn.Seen.Read(sp)
		_, _, bag := fn.Bag.Read(sp)
		emit(key)
		return errors.Join(err, bag)
	}
	fn.Expire.Set(tp, time.Now().Add(20*time.Millisecond))
	return errors.Join(fn.Seen.Write(sp, text), fn.Bag.Add(sp, text))
}

func (fn *expiring) OnTimer(sp state.Provider, _ timers.Provider, key string, _ timers.Context, emit func(string)) error {
	emit(key)
	return errors.Join(fn.Seen.Clear(sp), fn.Bag.Clear(sp))
}

// A key of the global window that has cleared its state, or has only looked at it, leaves neither a
// row nor a timer behind, nor bytes on disk that grow with the number of keys (FC-6).
func TestClearedKeysLeaveNothing(t *testing.T) {
	const rounds, keys = 10, 2000
	for _, onlyReads := range []bool{false, true} {
		t.Run(fmt.Sprintf("onlyReads=%v", onlyReads), func(t *testing.T) {
			events := teststream.NewConfig()
			for round := range rounds {
				var texts []any
				for i := range keys {
					texts = append(texts, fmt.Sprintf("session %d of round %d", i, round))
				}
				if err := events.AddElements(int64(round)*1000, texts...); err != nil {
					t.Fatal(err)
				}
				events.AdvanceWatermark(int64(round) * 1000)
			}
			p, s := beam.NewPipelineWithRoot()
			kept := beam.ParDo(s, &expiring{
				OnlyReads: onlyReads,
				Seen:      state.MakeValueState[string]("seen"),
				Bag:       state.MakeBagState[string]("bag"),
				Expire:    timers.InProcessingTime("expire"),
			}, beam.ParDo(s, selfKeyed, teststream.Create(s, events)))
			beam.ParDo(s, &draining{Enough: rounds * keys}, kept)
			o := runner.Options{StateDir: filepath.Join(t.TempDir(), "state"), NoFusion: true}
			runUntilDrained(t, o, p)
			i := inspected(t, o.StateDir)
			for _, s := range i.Stages {
				if s.StateRows != 0 || s.Timers != 0 {
					t.Errorf("stage %d, %s: %d rows of state and %d timers are left of %d keys", s.ID, s.Name, s.StateRows, s.Timers, rounds*keys)
				}
			}
			// Opening it works the log off; what was deleted goes away with it.
			if err := open(t, o).Close(); err != nil {
				t.Fatal(err)
			}
			if got := inspected(t, o.StateDir).Bytes; got > 1<<20 {
				t.Errorf("got %d bytes on disk, and %d before compaction, want less than 1 MiB", got, i.Bytes)
			}
		})
	}
}

// A child process inherits nothing of the state directory, in particular not its lock (FC-19).
func TestChildrenDoNotHoldTheDirectory(t *testing.T) {
	o := runner.Options{StateDir: filepath.Join(t.TempDir(), "state")}
	job := open(t, o)
	defer job.Close()
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skipf("this system does not show what a process has open: %v", err)
	}
	out, err := exec.CommandContext(t.Context(), "ls", "-l", "/proc/self/fd").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if strings.Contains(string(out), o.StateDir) {
		t.Errorf("a child has files of the state directory open:\n%s", out)
	}
}
