// SPDX-License-Identifier: Apache-2.0

// Package embedded runs bundles of Go DoFns in this process, through the Go SDK's own executor.
// It takes the place of an SDK harness and of the Fn API: elements, timers and state pass as
// function calls. It decides nothing about when a bundle runs or becomes durable; its outcome is
// in the bundle.Result.
//
// A bundle goes through run.go; input.go, output.go, timer.go and state.go are what the SDK's
// executor reads from and writes to; split.go gives up the rest of a restriction.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/exec"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/worker"
)

// EnvironmentURN is the environment of transforms that run in this process.
const EnvironmentURN = "beam:env:hornbeam_embedded:v1"

// Options are the choices of a job that a worker has to know.
type Options struct {
	// KeyGroups is the number of key groups of the job.
	KeyGroups int
	// OutputLimit is the size of the output, in bytes, at which a bundle of a splittable stage
	// gives up the rest of its restriction. 0 means 16 MB.
	OutputLimit int64
}

const defaultOutputLimit = 16 << 20

// Worker runs bundles of the User stages of one plan. All methods may be called at any time from
// any goroutine, except that Close waits for no one: every Run must have returned before.
type Worker struct {
	plan    *plan.Plan
	options Options
	stages  []*stage // By StageID; nil where the stage is not for us.

	mu         sync.Mutex // Guards the fields below.
	running    map[bundle.ID]*run
	finalizing map[bundle.ID]*exec.Plan // Done bundles whose finalizers wait for the commit.
}

// New returns a worker for the plan.
func New(p *plan.Plan, o Options) *Worker {
	if o.OutputLimit == 0 {
		o.OutputLimit = defaultOutputLimit
	}
	w := &Worker{
		plan: p, options: o, stages: make([]*stage, len(p.Stages)),
		running:    make(map[bundle.ID]*run),
		finalizing: make(map[bundle.ID]*exec.Plan),
	}
	for i := range p.Stages {
		if p.Stages[i].Kind == plan.User {
			w.stages[i] = newStage(p, &p.Stages[i])
		}
	}
	return w
}

// Run runs a bundle to its end, or until ctx is done: then user code that does not watch its own
// context is waited for. An error of user code is an *Error.
func (w *Worker) Run(ctx context.Context, work bundle.Work, state worker.State) (bundle.Result, error) {
	if err := ctx.Err(); err != nil {
		return bundle.Result{}, err
	}
	if work.Stage < 0 || int(work.Stage) >= len(w.stages) || w.stages[work.Stage] == nil {
		return bundle.Result{}, fmt.Errorf("embedded: stage %d is not one of user code", work.Stage)
	}
	s := w.stages[work.Stage]
	if s.err != nil {
		return bundle.Result{}, s.err
	}
	r := newRun(ctx, w, s, work, state)
	w.mu.Lock()
	w.running[work.ID] = r
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.running, work.ID)
		w.mu.Unlock()
	}()
	return r.run()
}

// Split asks a running bundle of a splittable stage to give up the given fraction of what remains
// of its work, 0 for all of it. It returns at once; the outcome is in the bundle's Result. For any
// other bundle it does nothing.
func (w *Worker) Split(id bundle.ID, fraction float64) {
	w.mu.Lock()
	r := w.running[id]
	w.mu.Unlock()
	if r != nil {
		r.split.ask(fraction)
	}
}

// Finalize tells the bundle's user code that its outcome is durable.
func (w *Worker) Finalize(id bundle.ID) error {
	p := w.takeFinalizing(id)
	if p == nil {
		return fmt.Errorf("embedded: bundle %v does not wait for finalization", id)
	}
	// The SDK forgets to give the plan's transforms the new list of callbacks, so that those of
	// its next bundle would never run. Therefore the plan ends here.
	return errors.Join(finalize(p), down(p))
}

func (w *Worker) takeFinalizing(id bundle.ID) *exec.Plan {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.finalizing[id]
	delete(w.finalizing, id)
	return p
}

// Close tears down all DoFns.
func (w *Worker) Close() error {
	w.mu.Lock()
	finalizing := w.finalizing
	w.finalizing = make(map[bundle.ID]*exec.Plan)
	w.mu.Unlock()
	var all []error
	for _, p := range finalizing {
		all = append(all, down(p))
	}
	for _, s := range w.stages {
		if s != nil {
			all = append(all, s.close())
		}
	}
	return errors.Join(all...)
}
