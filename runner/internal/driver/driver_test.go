// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/engine"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/worker"
)

// world is what a job runs in: a table whose syncs can be held back and fail, and a worker whose
// bundles do what run says.
type world struct {
	*kv.Mem
	engine.Options
	busy chan bool  // Begin waits for what it returns; nil does not.
	gate chan error // A sync waits for what it returns; nil lets all pass.
	run  func(ctx context.Context, w bundle.Work) (bundle.Result, error)

	mu  sync.Mutex // Guards did.
	did []string   // What the job asked of the worker.
}

func newWorld() *world {
	return &world{
		Mem: kv.NewMem(), Options: engine.Defaults(),
		run: func(_ context.Context, w bundle.Work) (bundle.Result, error) { return result(w), nil },
	}
}

// result is that of a bundle that gives one element out, if the stage has an output.
func result(w bundle.Work) bundle.Result {
	r := bundle.Result{ID: w.ID, Counts: bundle.Counts{In: 1, Out: []int64{1}}, Finalize: true}
	if w.Stage == 1 {
		chunk := bundle.Chunk{Count: 1, Bytes: []byte("x"), MinTimestamp: 1}
		r.Outputs = []bundle.Output{{Chunk: chunk}}
	}
	return r
}

// pipeline is an impulse and two stages.
func pipeline() *plan.Plan {
	return &plan.Plan{Stages: []plan.Stage{
		{ID: 0, Kind: plan.Impulse, Outputs: []plan.Output{{Consumers: []plan.StageID{1}}}},
		{ID: 1, Kind: plan.User, Inputs: []plan.Input{{From: 0}}, Outputs: []plan.Output{{Consumers: []plan.StageID{2}}}},
		{ID: 2, Kind: plan.User, Inputs: []plan.Input{{From: 1}}, Outputs: []plan.Output{{}}},
	}}
}

func (w *world) start(t *testing.T, first engine.Message) *Job {
	t.Helper()
	p := pipeline()
	e, err := engine.New(p, w.Options, w.View())
	if err != nil {
		t.Fatal(err)
	}
	return Start(t.Context(), Config{
		Plan: p, Engine: e, Table: w, Worker: w, First: first,
		Clock: NewClock(event.MinTimestamp), Log: slog.New(slog.DiscardHandler),
	})
}

func (w *world) Begin() kv.Tx {
	if w.busy != nil {
		<-w.busy
	}
	return &heldTx{w.Mem.Begin(), w}
}

type heldTx struct {
	kv.Tx
	world *world
}

func (t *heldTx) Commit() (func() error, error) {
	sync, err := t.Tx.Commit()
	if t.world.gate == nil {
		return sync, err
	}
	return func() error { return <-t.world.gate }, err
}

func (w *world) note(what string, id bundle.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.did = append(w.did, what+" "+id.String())
}

// expect compares what the worker was asked for since the last time, once nothing moves any more.
func (w *world) expect(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.Sort(w.did); !slices.Equal(w.did, want) {
		t.Errorf("the worker was asked to %q, want %q", w.did, want)
	}
	w.did = nil
}

func (w *world) Run(ctx context.Context, work bundle.Work, _ worker.State) (bundle.Result, error) {
	w.note("run", work.ID)
	return w.run(ctx, work)
}

func (w *world) Split(id bundle.ID, _ float64) { w.note("split", id) }

func (w *world) Finalize(id bundle.ID) error {
	w.note("finalize", id)
	return nil
}

func (w *world) Close() error { return nil }

func (w *world) state(t *testing.T) engine.State {
	t.Helper()
	s, _, err := engine.ReadState(w.View())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNothingIsDoneBeforeItIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.gate = make(chan error)
		j := w.start(t, engine.Submitted{})
		w.expect(t)
		w.gate <- nil // The submission.
		w.expect(t, "run 1.1")
		w.gate <- nil // The result of 1.1.
		w.expect(t, "finalize 1.1", "run 1.2")
		w.gate <- nil
		w.expect(t, "finalize 1.2")
		if snap, err := j.Wait(); err != nil || snap.State != engine.Done {
			t.Errorf("got %v, %v, want DONE", snap.State, err)
		}
	})
}

func TestFailedSyncEndsTheJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.gate = make(chan error)
		j := w.start(t, engine.Submitted{})
		w.gate <- nil
		w.expect(t, "run 1.1")
		broken := errors.New("input/output error")
		w.gate <- broken
		if _, err := j.Wait(); !errors.Is(err, broken) {
			t.Errorf("got %v, want %v", err, broken)
		}
		w.expect(t)
	})
}

// What comes after a sync that failed is not done, even if its own sync would say that it is durable.
func TestNothingIsDoneAfterAFailedSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.gate = make(chan error)
		j := w.start(t, engine.Submitted{})
		synctest.Wait()
		j.Cancel("a second commit")
		synctest.Wait()
		w.gate <- errors.New("input/output error")
		close(w.gate)
		if _, err := j.Wait(); err == nil {
			t.Error("got no error")
		}
		w.expect(t)
	})
}

func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.run = func(ctx context.Context, _ bundle.Work) (bundle.Result, error) {
			<-ctx.Done()
			return bundle.Result{}, ctx.Err()
		}
		w.Attempts = 1
		j := w.start(t, engine.Submitted{})
		w.expect(t, "run 1.1")
		j.Stop()
		if _, err := j.Wait(); !errors.Is(err, ErrStopped) {
			t.Errorf("got %v, want %v", err, ErrStopped)
		}
		if got := w.state(t); got != engine.Running {
			t.Errorf("the job is %v, want RUNNING: being stopped is no failure of a bundle", got)
		}

		w.run = func(_ context.Context, work bundle.Work) (bundle.Result, error) { return result(work), nil }
		w.Epoch++
		if snap, err := w.start(t, engine.Restarted{}).Wait(); err != nil || snap.State != engine.Done {
			t.Errorf("got %v, %v, want DONE", snap.State, err)
		}
		w.expect(t, "finalize 2.1", "finalize 2.2", "run 2.1", "run 2.2")
	})
}

// A bundle that fails because its job is stopped has not failed, also if the loop sees its report.
func TestStopIsNoFailure(t *testing.T) {
	for range 50 { // The loop chooses at random what it sees first.
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			w.Attempts = 1
			w.run = func(ctx context.Context, _ bundle.Work) (bundle.Result, error) {
				<-ctx.Done()
				return bundle.Result{}, ctx.Err()
			}
			j := w.start(t, engine.Submitted{})
			synctest.Wait()
			w.busy = make(chan bool)
			j.inbox <- engine.BundleFailed{} // Of an unknown bundle; the loop begins a step.
			synctest.Wait()
			j.Stop()
			synctest.Wait()
			close(w.busy)
			if _, err := j.Wait(); !errors.Is(err, ErrStopped) || w.state(t) != engine.Running {
				t.Fatalf("got %v and a job that is %v, want %v and RUNNING", err, w.state(t), ErrStopped)
			}
		})
	}
}

func TestPanicFailsTheBundle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.run = func(_ context.Context, work bundle.Work) (bundle.Result, error) {
			if work.ID.N < 3 {
				panic("user code")
			}
			return result(work), nil
		}
		if snap, err := w.start(t, engine.Submitted{}).Wait(); err != nil || snap.State != engine.Done {
			t.Errorf("got %v, %v, want DONE", snap.State, err)
		}
		w.expect(t, "finalize 1.3", "finalize 1.4", "run 1.1", "run 1.2", "run 1.3", "run 1.4")
	})
}

func TestPanicFailsTheJobInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.run = func(context.Context, bundle.Work) (bundle.Result, error) { panic("user code") }
		snap, err := w.start(t, engine.Submitted{}).Wait()
		if err != nil || snap.State != engine.Failed || !strings.Contains(snap.Reason, "user code") {
			t.Errorf("got %v %q, %v, want FAILED and the reason", snap.State, snap.Reason, err)
		}
		w.expect(t, "run 1.1", "run 1.2", "run 1.3", "run 1.4")
	})
}

// A broken invariant ends the job and not the process.
func TestInternalErrorEndsTheJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.run = func(_ context.Context, work bundle.Work) (bundle.Result, error) {
			r := result(work)
			r.Unprocessed = 99
			return r, nil
		}
		if _, err := w.start(t, engine.Submitted{}).Wait(); err == nil || !strings.Contains(err.Error(), "internal error") {
			t.Errorf("got %v, want an internal error", err)
		}
		if got := w.state(t); got != engine.Running {
			t.Errorf("the job is %v, want RUNNING: nothing of the message is committed", got)
		}
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.run = func(ctx context.Context, _ bundle.Work) (bundle.Result, error) {
			<-ctx.Done()
			return bundle.Result{}, ctx.Err()
		}
		j := w.start(t, engine.Submitted{})
		w.expect(t, "run 1.1")
		j.Cancel("enough")
		if snap, err := j.Wait(); err != nil || snap.State != engine.CancelledState || snap.Reason != "enough" {
			t.Errorf("got %v %q, %v, want CANCELLED", snap.State, snap.Reason, err)
		}
		if got := w.state(t); got != engine.CancelledState {
			t.Errorf("the table says %v, want CANCELLED", got)
		}
	})
}

func TestSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.gate = make(chan error)
		j := w.start(t, engine.Submitted{})
		synctest.Wait()
		if snap := j.Snapshot(); snap.State != engine.Running || snap.Stages[1].Running != 1 {
			t.Errorf("got %+v, want a bundle of stage 1", snap)
		}
		close(w.gate)
		want, _ := j.Wait()
		if got := j.Snapshot(); got.State != want.State {
			t.Errorf("got %v after the end, want %v", got.State, want.State)
		}
	})
}
