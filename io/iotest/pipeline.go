// SPDX-License-Identifier: Apache-2.0

package iotest

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"

	"github.com/hornbeam-dev/hornbeam/runner"
)

func init() {
	register.DoFn2x2[beam.EventTime, kept, string, kept](&timeFn{})
	register.DoFn2x0[string, func(*kept) bool](&keepFn{})
	register.DoFn1x2[Record, Record, error](&fuseFn{})
	register.Function1x1(keptRecord)
	register.Function1x1(keptLetter)
	register.Iter1[kept]()
}

// ledger is what a pipeline of this process leaves: its results, and the fuses that it has blown. DoFns find it by
// the name of the run, because they travel to the worker as data.
type ledger struct {
	mu      sync.Mutex // Guards results.
	results results
	input   []Record    // What a sink is given.
	fuse    fuse        // Fails an element.
	after   fuse        // Fails a bundle behind a sink.
	windows chan string // Each window that has closed.
}

// results are what a pipeline has brought.
type results struct {
	records []Record
	dead    []DeadLetter
}

// fuse fails one element, or bundle, once.
type fuse struct {
	at    int64 // The number of the element, from 1; 0: none.
	seen  atomic.Int64
	blown atomic.Bool
}

const blown = "failed on purpose"

func (f *fuse) next() error {
	if f.at > 0 && f.seen.Add(1) >= f.at && f.blown.CompareAndSwap(false, true) {
		return fmt.Errorf("element %d %s", f.at, blown)
	}
	return nil
}

var (
	ledgers sync.Map // Of *ledger, by the name of the run.
	runs    atomic.Int64
)

// newRun begins a ledger.
func newRun(tb testing.TB) (name string, l *ledger) {
	name, l = fmt.Sprint("run ", runs.Add(1)), &ledger{windows: make(chan string, 1000)}
	ledgers.Store(name, l)
	tb.Cleanup(func() { ledgers.Delete(name) })
	return name, l
}

func find(run string) *ledger {
	l, ok := ledgers.Load(run)
	if !ok {
		return &ledger{windows: make(chan string, 1)} // Of a test that has ended.
	}
	return l.(*ledger)
}

// kept is a record or a dead letter on its way to the ledger.
type kept struct {
	Record Record
	Dead   bool
	Reason string // Of a dead letter.
}

func keptRecord(r Record) kept { return kept{Record: r} }

func keptLetter(d DeadLetter) kept { return kept{Record: d.Record, Dead: true, Reason: d.Reason} }

// timeFn notes the event time of records, and gives all elements one key.
type timeFn struct{ Run string }

// ProcessElement implements a DoFn.
func (f *timeFn) ProcessElement(at beam.EventTime, k kept) (string, kept) {
	if !k.Dead {
		k.Record.Time = at.Milliseconds()
	}
	return f.Run, k
}

// keepFn writes all into the ledger at once: a group is committed exactly once, and a bundle that runs again
// writes the same.
type keepFn struct{}

// ProcessElement implements a DoFn.
func (*keepFn) ProcessElement(run string, next func(*kept) bool) {
	var r results
	for k := (kept{}); next(&k); k = (kept{}) {
		if k.Dead {
			r.dead = append(r.dead, DeadLetter{k.Record, k.Reason})
		} else {
			r.records = append(r.records, k.Record)
		}
	}
	l := find(run)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.results = r
}

// gather puts records and dead letters into the ledger of a run.
func gather(s beam.Scope, run string, records, dead beam.PCollection) {
	s = s.Scope("iotest.gather")
	global := func(col beam.PCollection) beam.PCollection {
		return beam.ParDo(s, &timeFn{Run: run}, beam.WindowInto(s, window.NewGlobalWindows(), col))
	}
	all := beam.Flatten(s, global(beam.ParDo(s, keptRecord, records)), global(beam.ParDo(s, keptLetter, dead)))
	beam.ParDo0(s, &keepFn{}, beam.GroupByKey(s, all))
}

// fuseFn passes records on until the fuse of its run blows.
type fuseFn struct{ Run string }

// ProcessElement implements a DoFn.
func (f *fuseFn) ProcessElement(r Record) (Record, error) { return r, find(f.Run).fuse.next() }

// engine is a runner.
type engine struct {
	name string
	run  func(tb testing.TB, p *beam.Pipeline) error
}

// engines are the runners on which what a connector brings is compared.
var engines = []engine{
	{"hornbeam", func(tb testing.TB, p *beam.Pipeline) error { return hornbeam(tb, runner.Options{}, p) }},
	{"prism", func(tb testing.TB, p *beam.Pipeline) error {
		_, err := prism.Execute(tb.Context(), p)
		return err
	}},
}

// hornbeam runs a pipeline to its end.
func hornbeam(tb testing.TB, o runner.Options, p *beam.Pipeline) error {
	tb.Helper()
	job, err := runner.Open(o)
	if err != nil {
		tb.Fatal(err)
	}
	_, err = job.Run(tb.Context(), p)
	if closed := job.Close(); closed != nil {
		tb.Error(closed)
	}
	return err
}

// bring runs a read and returns what it has brought.
func (e engine) bring(tb testing.TB, f *Feed) results {
	tb.Helper()
	run, l := newRun(tb)
	if err := e.run(tb, reading(run, f)); err != nil {
		tb.Errorf("%s: the read failed: %v", e.name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.results
}

// reading is the pipeline of a read that ends.
func reading(run string, f *Feed) *beam.Pipeline {
	begin()
	p, s := beam.NewPipelineWithRoot()
	records, dead := f.Read(s, ToNow)
	gather(s, run, beam.ParDo(s, &fuseFn{Run: run}, records), dead)
	return p
}

// begin is what a main function does before it builds a pipeline.
func begin() {
	if !beam.Initialized() {
		beam.Init()
	}
}

// stateDir is where a job lives that is resumed.
func stateDir(tb testing.TB) string { return filepath.Join(tb.TempDir(), "state") }
