// SPDX-License-Identifier: Apache-2.0

package iotest

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Splittable is a splittable DoFn and what it is given, to be called as runners call it. Its first emitter is that
// of the records and takes event times, its second that of the dead letters.
type Splittable struct {
	New      func() any // Makes the DoFn. The suite calls its Setup and Teardown.
	Elements []any      // What it is given, in no windows.
	Record   func(any) Record
	Dead     func(any) DeadLetter
	Forget   func() // Drops what the process keeps for all DoFns. Nil: it keeps nothing.
}

// caller is a DoFn between Setup and Teardown. It finds the methods by the names that Beam gives them.
type caller struct {
	testing.TB
	Splittable
	fn reflect.Value
}

func (s Splittable) open(tb testing.TB) *caller {
	tb.Helper()
	c := &caller{TB: tb, Splittable: s, fn: reflect.ValueOf(s.New())}
	c.call("Setup")
	return c
}

func (c *caller) close() { c.call("Teardown") }

// call calls a method, if there is one, with a context before the arguments if it wants that.
func (c *caller) call(name string, args ...any) []any {
	c.Helper()
	m := c.fn.MethodByName(name)
	if !m.IsValid() {
		return nil
	}
	var in []reflect.Value
	if t := m.Type(); t.NumIn() > 0 && t.In(0) == reflect.TypeFor[context.Context]() {
		in = append(in, reflect.ValueOf(c.Context()))
	}
	for _, a := range args {
		in = append(in, reflect.ValueOf(a))
	}
	var out []any
	for _, v := range m.Call(in) {
		out = append(out, v.Interface())
	}
	if n := len(out); n > 0 {
		if err, ok := out[n-1].(error); ok {
			c.Fatalf("%s: %v", name, err)
		}
	}
	return out
}

// work is what a runner keeps of a restriction.
type work struct{ element, restriction, watermark any }

// begin is the work of the DoFn's elements, split as the DoFn splits them.
func (c *caller) begin() (all []work) {
	c.Helper()
	for _, e := range c.Elements {
		first := c.call("CreateInitialRestriction", e)[0]
		parts := reflect.ValueOf(c.call("SplitRestriction", e, first)[0])
		for i := range parts.Len() {
			w := work{element: e, restriction: parts.Index(i).Interface()}
			if out := c.call("InitialWatermarkEstimatorState", beam.EventTime(math.MinInt32), w.restriction, e); out != nil {
				w.watermark = out[0]
			}
			all = append(all, w)
		}
	}
	return all
}

// attempt is one call of ProcessElement.
type attempt struct {
	caller    *caller
	tracker   *sdf.LockRTracker
	estimator sdf.WatermarkEstimator // Nil without one.
	work      work
	each      func(*attempt) // Called after each element that was emitted; it may split.

	results
	residuals []work
	resumes   bool
	began     time.Time // The watermark at the beginning,
	low       time.Time // as last seen,
	handed    time.Time // and as the last residual took it.
	done      float64   // The progress as last seen.
}

// process calls ProcessElement, and takes the rest of what wants to be resumed.
func (c *caller) process(w work, each func(*attempt)) *attempt {
	c.Helper()
	a := &attempt{caller: c, work: w, each: each}
	a.tracker = c.call("CreateTracker", w.restriction)[0].(*sdf.LockRTracker)
	if w.watermark != nil {
		a.estimator = c.call("CreateWatermarkEstimator", w.watermark)[0].(sdf.WatermarkEstimator)
		a.began = a.estimator.CurrentWatermark()
		a.low = a.began
	}
	m := c.fn.MethodByName("ProcessElement")
	var in []reflect.Value
	emitters := 0
	for i := range m.Type().NumIn() {
		t := m.Type().In(i)
		switch {
		case t == reflect.TypeFor[context.Context]():
			in = append(in, reflect.ValueOf(c.Context()))
		case t == reflect.TypeFor[*sdf.LockRTracker]():
			in = append(in, reflect.ValueOf(a.tracker))
		case t.Implements(reflect.TypeFor[sdf.WatermarkEstimator]()):
			in = append(in, reflect.ValueOf(a.estimator))
		case t.Kind() == reflect.Func && emitters == 0:
			emitters++
			in = append(in, reflect.MakeFunc(t, a.record))
		case t.Kind() == reflect.Func:
			in = append(in, reflect.MakeFunc(t, a.letter))
		default:
			in = append(in, reflect.ValueOf(w.element))
		}
	}
	for _, v := range m.Call(in) {
		switch v := v.Interface().(type) {
		case error:
			c.Fatalf("ProcessElement: %v", v)
		case sdf.ProcessContinuation:
			a.resumes = v.ShouldResume()
			if a.resumes && v.ResumeDelay() > 0 && v.ResumeDelay() < time.Second {
				c.Errorf("a source wants to be resumed after %v: some runners do not survive less than a second", v.ResumeDelay())
			}
		}
	}
	a.look()
	if a.resumes {
		a.split(0)
	}
	if err := a.tracker.GetError(); err != nil || !a.tracker.IsDone() {
		c.Errorf("ProcessElement has left %+v: done %v, error %v; want that all was claimed", a.tracker.GetRestriction(), a.tracker.IsDone(), err)
	}
	return a
}

// record is the first emitter.
func (a *attempt) record(args []reflect.Value) []reflect.Value {
	r := a.caller.Record(args[1].Interface())
	at := args[0].Interface().(beam.EventTime)
	if a.estimator != nil && at.ToTime().Before(a.low) {
		a.caller.Errorf("%s comes when the watermark is already at %d: it is late", keeps{}.text(r), a.low.UnixMilli())
	}
	r.Time = at.Milliseconds()
	a.results.records = append(a.results.records, r)
	a.emitted()
	return nil
}

// letter is the second emitter.
func (a *attempt) letter(args []reflect.Value) []reflect.Value {
	a.dead = append(a.dead, a.caller.Dead(args[0].Interface()))
	a.emitted()
	return nil
}

func (a *attempt) emitted() {
	a.look()
	if a.each != nil {
		a.each(a)
	}
}

// count is how many elements were emitted.
func (a *attempt) count() int { return len(a.results.records) + len(a.dead) }

// look checks that neither the watermark nor the progress goes back.
func (a *attempt) look() {
	if a.estimator != nil {
		now := a.estimator.CurrentWatermark()
		if now.Before(a.low) {
			a.caller.Errorf("the watermark goes back, from %d to %d", a.low.UnixMilli(), now.UnixMilli())
		}
		a.low = now
	}
	done, remaining := a.tracker.GetProgress()
	if a.tracker.IsDone() {
		return // Nobody asks any more, and Beam's own trackers count what they refused.
	}
	if !(done >= a.done) || !(remaining >= 0) {
		a.caller.Errorf("progress is %v done and %v left after %v done; want that it does not go back", done, remaining, a.done)
	}
	a.done = done
}

// split does what a runner does that wants to checkpoint, at 0, or to give a fraction of the rest away.
func (a *attempt) split(fraction float64) {
	a.caller.Helper()
	primary, residual, err := a.tracker.TrySplit(fraction)
	if err != nil {
		a.caller.Errorf("TrySplit(%v): %v", fraction, err)
	}
	if residual == nil || reflect.ValueOf(residual).IsZero() {
		return
	}
	if got := a.tracker.GetRestriction(); !same(primary, got) {
		a.caller.Errorf("after TrySplit(%v) the restriction is %+v, want the primary, %+v", fraction, got, primary)
	}
	if fraction == 0 {
		if !a.tracker.IsDone() {
			a.caller.Errorf("after a checkpoint %+v is not done", primary)
		}
		if _, again, err := a.tracker.TrySplit(0); again != nil || err != nil {
			a.caller.Errorf("a second checkpoint gives %+v, %v, want nothing", again, err)
		}
	}
	w := work{element: a.caller.roundTrip(a.work.element), restriction: a.caller.roundTrip(residual)}
	if a.estimator != nil {
		a.handed = a.estimator.CurrentWatermark()
		w.watermark = a.caller.roundTrip(a.caller.call("WatermarkEstimatorState", a.estimator)[0])
	}
	a.residuals = append(a.residuals, w)
}

// roundTrip encodes and decodes a value as a runner does to keep it.
func (c *caller) roundTrip(v any) any {
	c.Helper()
	t := reflect.TypeOf(v)
	encode, decode := beam.NewElementEncoder(t), beam.NewElementDecoder(t)
	var b bytes.Buffer
	if err := encode.Encode(v, &b); err != nil {
		c.Fatalf("%T cannot be encoded: %v", v, err)
	}
	back, err := decode.Decode(&b)
	if err != nil {
		c.Fatalf("%T cannot be decoded: %v", v, err)
	}
	if !same(v, back) {
		c.Errorf("%+v is encoded and decoded as %+v", v, back)
	}
	return back
}

// same compares values with all their fields, exported or not.
func same(a, b any) bool {
	return cmp.Equal(a, b, cmpopts.EquateEmpty(), cmp.Exporter(func(reflect.Type) bool { return true }))
}

// restart is another process in place of this one.
func (c *caller) restart() {
	c.Helper()
	c.close()
	if c.Forget != nil {
		c.Forget()
	}
	c.fn = reflect.ValueOf(c.New())
	c.call("Setup")
}

// all processes work and what is left of it, until nothing is left or a read without an end is caught up.
func (c *caller) all(todo []work, each func(*attempt)) (r results) {
	c.Helper()
	for steps := 0; len(todo) > 0; steps++ {
		if steps > 10_000 {
			c.Fatalf("the read does not end; left is %+v", fmt.Sprint(todo))
		}
		w := todo[0]
		a := c.process(w, each)
		r.records = append(r.records, a.results.records...)
		r.dead = append(r.dead, a.dead...)
		todo = todo[1:]
		if !a.resumes || a.count() > 0 {
			todo = append(a.residuals, todo...)
		}
	}
	return r
}
