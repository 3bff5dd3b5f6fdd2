// SPDX-License-Identifier: Apache-2.0

package iotest

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/runner"
)

func init() {
	register.DoFn1x1[int64, Record](&sampleFn{})
	register.DoFn2x1[DeadLetter, func(DeadLetter), error](&fuseAfterFn{})
	register.DoFn2x0[[]byte, func(int64)](&noneFn{})
	register.DoFn2x0[[]byte, func(Record)](&noRecordFn{})
	register.Emitter1[DeadLetter]()
	register.Emitter1[int64]()
	register.Emitter1[Record]()
}

// Sink is the adapter of a sink.
type Sink struct {
	// Open makes an empty place, which lasts as long as the test.
	Open func(tb testing.TB) *Place

	Keys     bool     // The sink keeps keys.
	Headers  bool     // The sink keeps headers.
	Once     bool     // Contents has each element once, whatever is repeated; else at least once.
	LargeMax int      // The size of the largest value that the sink takes, in bytes.
	Refused  []Record // What the sink refuses for good, if there is anything like that. Time is in the value.

	// Secured is Open of a place that asks for a secret; see Source.
	Secured func(tb testing.TB, secret string) *Place

	Refusals []Refusal // What is refused before a pipeline runs.
}

// Place is where a sink writes.
type Place struct {
	// Write is the connector's write of a PCollection<Record>; it returns PCollection<DeadLetter>. It is always the
	// same sink: one that is named has the same name each time.
	Write func(s beam.Scope, col beam.PCollection) (dead beam.PCollection)

	// Contents is what a reader finds. Partition, Time and Position are not looked at.
	Contents func(tb testing.TB) []Record

	// Fail makes the next n requests that write fail in a way that passes.
	Fail func(n int)

	// Lose makes the next n requests that write succeed, and their answers get lost. Nil: the fake cannot.
	Lose func(n int)

	// Break makes all that follows fail for good. Want is what the error has to say.
	Break func(tb testing.TB)
	Want  []string

	// HangUp ends the connections to the place, which a client keeps on purpose for the next write, so that their
	// goroutines are not taken for left ones. Nil: there are none.
	HangUp func()
}

// RunSink checks a sink.
func RunSink(t *testing.T, c Sink) {
	for _, check := range sinkChecks {
		t.Run(check.name, func(t *testing.T) { check.run(t, c) })
	}
}

// sinkCheck is one thing that a sink has to keep.
type sinkCheck struct {
	name string
	run  func(tb testing.TB, c Sink)
}

var sinkChecks = []sinkCheck{
	{"Everything", checkWritesEverything},
	{"Empty", checkWritesNothing},
	{"Large", checkWritesLarge},
	{"Refused", checkWriteRefuses},
	{"TransientFailure", checkWriteTransientFailure},
	{"LostAnswers", checkWriteLostAnswers},
	{"BundleAgain", checkBundleAgain},
	{"Restart", checkWriteRestart},
	{"ErrorsSurface", checkErrorsSurface},
	{"GoroutinesEnd", checkWriteGoroutinesEnd},
	{"Secrets", checkWriteSecrets},
	{"Refusals", func(tb testing.TB, c Sink) { refusals(tb, c.Refusals) }},
}

// writing is a pipeline that writes records, and gathers the dead letters.
func writing(run string, place *Place, records []Record) *beam.Pipeline {
	begin()
	p, s := beam.NewPipelineWithRoot()
	find(run).input = records
	numbers := make([]int64, len(records))
	for i := range numbers {
		numbers[i] = int64(i)
	}
	var col beam.PCollection
	if len(records) > 0 {
		col = beam.CreateList(s, numbers)
	} else {
		col = beam.ParDo(s, &noneFn{}, beam.Impulse(s))
	}
	in := beam.ParDo(s, &fuseFn{Run: run}, beam.ParDo(s, &sampleFn{Run: run}, col))
	dead := beam.ParDo(s, &fuseAfterFn{Run: run}, place.Write(s, in))
	gather(s, run, beam.ParDo(s, &noRecordFn{}, beam.Impulse(s)), dead)
	return p
}

// sampleFn makes records of their numbers: a large one does not travel in the pipeline's model.
type sampleFn struct{ Run string }

// ProcessElement implements a DoFn.
func (f *sampleFn) ProcessElement(n int64) Record { return find(f.Run).input[n] }

type noneFn struct{}

// ProcessElement implements a DoFn.
func (*noneFn) ProcessElement([]byte, func(int64)) {}

type noRecordFn struct{}

// ProcessElement implements a DoFn.
func (*noRecordFn) ProcessElement([]byte, func(Record)) {}

// fuseAfterFn fails a bundle after the sink has ended it, when both are in one bundle.
type fuseAfterFn struct{ Run string }

// ProcessElement implements a DoFn.
func (*fuseAfterFn) ProcessElement(d DeadLetter, emit func(DeadLetter)) error {
	emit(d)
	return nil
}

// FinishBundle implements a DoFn.
func (f *fuseAfterFn) FinishBundle(func(DeadLetter)) error { return find(f.Run).after.next() }

// write runs a pipeline that has to succeed, and checks what is there then.
func (c Sink) write(tb testing.TB, o runner.Options, place *Place, set func(*ledger), records []Record) *ledger {
	tb.Helper()
	run, l := newRun(tb)
	if set != nil {
		set(l)
	}
	if err := hornbeam(tb, o, writing(run, place, records)); err != nil {
		tb.Errorf("the write failed: %v", err)
	}
	return l
}

// expect checks the contents of a place and the dead letters.
func (c Sink) expect(tb testing.TB, what string, place *Place, l *ledger, want, dead []Record) {
	tb.Helper()
	k := keeps{keys: c.Keys, headers: c.Headers}
	got := place.Contents(tb)
	if !c.Once {
		got = distinct(k, got)
	}
	k.compare(tb, what, timeless(want), timeless(got))
	k.compare(tb, what+", dead letters", timeless(dead), timeless(deadRecords(l.results.dead)))
	for _, d := range l.results.dead {
		if d.Reason == "" {
			tb.Errorf("%s: the dead letter of %s has no reason", what, k.text(d.Record))
		}
	}
}

// timeless takes out of records what sinks and dead letters do not have.
func timeless(records []Record) (all []Record) {
	for _, r := range records {
		r.Time = 0
		all = append(all, r)
	}
	return all
}

func distinct(k keeps, records []Record) (all []Record) {
	seen := map[string]bool{}
	for _, r := range timeless(records) {
		if text := k.text(r); !seen[text] {
			seen[text] = true
			all = append(all, r)
		}
	}
	return all
}

// Every element is there with all that belongs to it.
func checkWritesEverything(tb testing.TB, c Sink) {
	want := samples(2, 100)
	place := c.Open(tb)
	c.expect(tb, "hornbeam", place, c.write(tb, runner.Options{}, place, nil, want), want, nil)
}

// Nothing to write is no error.
func checkWritesNothing(tb testing.TB, c Sink) {
	place := c.Open(tb)
	c.expect(tb, "nothing", place, c.write(tb, runner.Options{}, place, nil, nil), nil, nil)
}

// The largest value is written as it is, and so is an empty one.
func checkWritesLarge(tb testing.TB, c Sink) {
	var want []Record
	for i, size := range []int{c.LargeMax, 0, c.LargeMax / 2, 1} {
		r := sample(0, i)
		r.Value = bytes.Repeat([]byte{byte('a' + i)}, size)
		want = append(want, r)
	}
	place := c.Open(tb)
	c.expect(tb, "large", place, c.write(tb, runner.Options{}, place, nil, want), want, nil)
}

// What is refused comes back with its reason, and the others are written.
func checkWriteRefuses(tb testing.TB, c Sink) {
	if len(c.Refused) == 0 {
		return
	}
	good := samples(1, 20)
	all := slices.Insert(slices.Clone(good), 10, c.Refused...)
	place := c.Open(tb)
	c.expect(tb, "refused", place, c.write(tb, runner.Options{}, place, nil, all), good, c.Refused)
}

// A service that fails for a while is asked again.
func checkWriteTransientFailure(tb testing.TB, c Sink) {
	want := samples(1, 50)
	place := c.Open(tb)
	place.Fail(2)
	c.expect(tb, "after failures", place, c.write(tb, runner.Options{Attempts: 1}, place, nil, want), want, nil)
}

// What was written although the answer was lost is not there twice.
func checkWriteLostAnswers(tb testing.TB, c Sink) {
	want := samples(1, 50)
	place := c.Open(tb)
	if place.Lose == nil {
		return
	}
	place.Lose(2)
	c.expect(tb, "after lost answers", place, c.write(tb, runner.Options{}, place, nil, want), want, nil)
}

// A bundle that fails before it comes to the sink, in the middle, or after the sink has ended it, runs again.
func checkBundleAgain(tb testing.TB, c Sink) {
	want := samples(1, 50)
	for name, set := range map[string]func(*ledger){
		"failed in the middle":   func(l *ledger) { l.fuse.at = 40 },
		"failed after the write": func(l *ledger) { l.after.at = 1 },
	} {
		place := c.Open(tb)
		l := c.write(tb, runner.Options{}, place, set, want)
		if !l.fuse.blown.Load() && !l.after.blown.Load() {
			tb.Errorf("%s: nothing has failed", name)
		}
		c.expect(tb, name, place, l, want, nil)
	}
}

// A job that fails in the middle and is resumed writes what is missing.
func checkWriteRestart(tb testing.TB, c Sink) {
	want := samples(1, 50)
	for _, at := range []int{1, 25, 50} {
		place := c.Open(tb)
		run, l := newRun(tb)
		l.fuse.at = int64(at)
		resume(tb, l, func() *beam.Pipeline { return writing(run, place, want) })
		c.expect(tb, fmt.Sprintf("failed at element %d and resumed", at), place, l, want, nil)
	}
}

// An error that lasts ends the job and says what is wrong, also when the bundle is already at its end.
func checkErrorsSurface(tb testing.TB, c Sink) {
	place := c.Open(tb)
	place.Break(tb)
	run, _ := newRun(tb)
	err := hornbeam(tb, runner.Options{Attempts: 1}, writing(run, place, samples(1, 3)))
	refusals(tb, []Refusal{{Name: "a broken place", Try: func(string) error { return err }, Want: place.Want}})
}

// A job that has ended has no goroutines. Each writes to a place of its own: the sink may belong to one job.
func checkWriteGoroutinesEnd(tb testing.TB, c Sink) {
	var places []*Place
	for range allUses {
		places = append(places, c.Open(tb))
	}
	ends(tb, func() {
		c.write(tb, runner.Options{}, places[0], nil, samples(1, 3))
		if places[0].HangUp != nil {
			places[0].HangUp()
		}
		places = places[1:]
	})
}

// A secret that is needed is seen by nobody.
func checkWriteSecrets(tb testing.TB, c Sink) {
	if c.Secured == nil {
		return
	}
	place, want := c.Secured(tb, canary), samples(1, 3)
	run, l := newRun(tb)
	if err := keepsSecret(tb, func() *beam.Pipeline { return writing(run, place, want) }); err != nil {
		tb.Errorf("with the secret the write failed: %v", err)
	}
	c.expect(tb, "with the secret", place, l, want, nil)
}
