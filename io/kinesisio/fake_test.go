// SPDX-License-Identifier: Apache-2.0

package kinesisio

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/hornbeam-dev/hornbeam/io/kinesisio/internal/fake"
)

func TestMain(m *testing.M) {
	fake.Environment(func(name, value string) { os.Setenv(name, value) })
	ptest.MainWithDefault(m, "hornbeam")
}

func init() {
	register.Function1x1(data)
	register.Function1x1(deadCode)
	register.Function1x2(pair)
	beam.RegisterFunction(dataMillis)
}

func data(r Record) string { return string(r.Data) }

func deadCode(d DeadLetter) string { return d.Code + " " + string(d.Record.Data) }

func pair(s string) ([]byte, []byte) { return []byte("key " + s), []byte(s) }

// start starts a service with one stream named "s".
func start(t testing.TB, shards int) *fake.Server {
	t.Helper()
	s := fake.Start(t)
	s.Create("s", shards)
	return s
}

// readOf is a read of the stream of start, with quick answers.
func readOf(s *fake.Server) ReadConfig {
	return ReadConfig{Stream: "s", Endpoint: s.URL, Timeout: 5 * time.Second, ReadGap: time.Millisecond}
}

// run is a read without a runner: the methods of the DoFn, called as a runner calls them.
type run struct {
	t     testing.TB
	fn    *readFn
	rests []Restriction
	got   []string
	recs  []Record
	dead  []string
	each  func(rt *sdf.LockRTracker) *Restriction // Called after each record; it may split.
	// state is that of the watermark, and moves from step to step.
	state WatermarkState
}

func newRun(t testing.TB, cfg ReadConfig) *run {
	t.Helper()
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	rests := restrictionsOf(t, cfg)
	fn := &readFn{reader: newReader(cfg)}
	if err := fn.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &run{t: t, fn: fn, rests: rests, state: WatermarkState{Process: process}}
}

// restrictionsOf are the restrictions with which a read begins.
func restrictionsOf(t testing.TB, cfg ReadConfig) []Restriction {
	t.Helper()
	l := &listFn{Place: newReader(cfg).Place, From: cfg.From, To: cfg.To, Timeout: cfg.Timeout}
	if err := l.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	rests, err := l.list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rests
}

// forget drops what the process knows of all streams.
func forget() { clients = newClients() }

// restart is a new process.
func (r *run) restart() {
	r.t.Helper()
	forget()
	if err := r.fn.Setup(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// step processes a restriction once and returns the residual a runner would keep, if there is one.
func (r *run) step(rest Restriction) (*Restriction, error) {
	r.t.Helper()
	rt := r.fn.CreateTracker(rest)
	we := r.fn.CreateWatermarkEstimator(r.state)
	var residual *Restriction
	emit := func(_ beam.EventTime, rec Record) {
		r.got = append(r.got, string(rec.Data))
		r.recs = append(r.recs, rec)
		if r.each != nil {
			if rest := r.each(rt); rest != nil {
				residual = rest
			}
		}
	}
	dead := func(d DeadLetter) { r.dead = append(r.dead, deadCode(d)) }
	again, err := r.fn.ProcessElement(context.Background(), we, rt, rest, emit, dead)
	if err != nil {
		return nil, err
	}
	if again.ShouldResume() {
		if again.ResumeDelay() < time.Second {
			r.t.Fatalf("resumes after %v, want a second or more", again.ResumeDelay())
		}
		residual = checkpoint(r.t, rt)
	}
	if !rt.IsDone() || rt.GetError() != nil {
		r.t.Fatalf("%v is not done: %v", rt.GetRestriction(), rt.GetError())
	}
	r.state = we.current()
	return residual, nil
}

// checkpoint splits as a runner does that wants to commit.
func checkpoint(t testing.TB, rt *sdf.LockRTracker) *Restriction {
	t.Helper()
	_, rest, err := rt.TrySplit(0)
	if err != nil {
		t.Fatal(err)
	}
	if rest == nil {
		return nil
	}
	q := rest.(Restriction)
	return &q
}

// caughtUp tells whether a restriction has not moved.
func caughtUp(a, b Restriction) bool {
	if len(a.Parts) != len(b.Parts) {
		return false
	}
	for i := range a.Parts {
		if a.Parts[i].id() != b.Parts[i].id() || !a.Parts[i].At.same(b.Parts[i].At) {
			return false
		}
	}
	return true
}

// all processes a restriction until nothing is left or it is caught up.
func (r *run) all(rest Restriction) Restriction {
	r.t.Helper()
	for {
		next, err := r.step(rest)
		if err != nil {
			r.t.Fatal(err)
		}
		if next == nil {
			rest.Parts = nil
			return rest
		}
		if caughtUp(rest, *next) {
			return *next
		}
		rest = *next
	}
}

// everything processes all restrictions of the read, in their order.
func (r *run) everything() {
	r.t.Helper()
	for i := range r.rests {
		r.rests[i] = r.all(r.rests[i])
	}
}

// numbers are the texts from 0 to n-1.
func numbers(n int) []string {
	var texts []string
	for i := range n {
		texts = append(texts, fmt.Sprint(i))
	}
	return texts
}
