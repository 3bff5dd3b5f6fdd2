// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/exec"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/worker"
)

// run is a bundle that is being run. It is what the SDK's executor sees of the runner: its
// exec.DataManager and its exec.StateReader. Except for split and failing it belongs to the
// goroutine that executes the plan.
type run struct {
	worker *Worker
	stage  *stage
	work   bundle.Work
	state  worker.State

	caller context.Context
	ctx    context.Context // Of caller; also done when the bundle has failed. Holds the metrics.
	cancel context.CancelCauseFunc

	blocks  []exec.Elements // What the executor reads.
	panes   []event.Pane    // Of a splittable stage: the different panes of the input.
	expired []expiry
	groups  []*group // Of a keyed stage, by key group; nil where the bundle has no input.
	sides   sides
	sinks   []sink
	counts  bundle.Counts
	split   *split
}

var (
	_ exec.DataManager = (*run)(nil)
	_ exec.StateReader = (*run)(nil)
)

func newRun(ctx context.Context, w *Worker, s *stage, work bundle.Work, state worker.State) *run {
	r := &run{worker: w, stage: s, work: work, state: state, caller: ctx}
	ctx, r.cancel = context.WithCancelCause(ctx)
	r.ctx = metrics.SetBundleID(ctx, work.ID.String())
	r.split = newSplit(r)
	r.sinks = make([]sink, len(s.outputs))
	for i := range r.sinks {
		r.sinks[i].init(r, &s.outputs[i], s.Outputs[i].Collection)
	}
	return r
}

func (r *run) run() (bundle.Result, error) {
	defer r.cancel(nil)
	if err := r.readInput(); err != nil {
		return bundle.Result{}, err
	}
	p, err := r.stage.take()
	if err != nil {
		return bundle.Result{}, err
	}
	registered := p.GetExpirationTime()
	r.split.start(p)
	err = execute(r.ctx, r.work.ID.String(), p, r)
	r.split.stop()
	var result bundle.Result
	if err = r.outcome(err); err == nil {
		result, err = r.result(p)
	}
	if err != nil {
		// Teardown only repeats the error of the bundle.
		_ = down(p)
		return bundle.Result{}, err
	}
	if p.GetExpirationTime().Equal(registered) {
		r.stage.give(p)
		return result, nil
	}
	result.Finalize = time.Now().Before(p.GetExpirationTime())
	if !result.Finalize {
		return result, down(p)
	}
	r.worker.mu.Lock()
	r.worker.finalizing[r.work.ID] = p
	r.worker.mu.Unlock()
	return result, nil
}

// execute runs the plan. The SDK promises not to panic, but this process has other jobs to lose.
func execute(ctx context.Context, id string, p *exec.Plan, r *run) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v %s", v, debug.Stack())
		}
	}()
	return p.Execute(ctx, id, exec.DataContext{Data: r, State: r})
}

// fail ends the bundle with an error that is not of user code. It returns err for the SDK, which
// in places ignores errors.
func (r *run) fail(err error) error {
	r.cancel(err)
	return err
}

// outcome tells whether the bundle has succeeded. The SDK takes a done context for the end of
// input and returns no error then.
func (r *run) outcome(err error) error {
	if cause := context.Cause(r.ctx); cause != nil {
		if r.caller.Err() != nil {
			return r.caller.Err()
		}
		return fmt.Errorf("embedded: stage %q: %w", r.stage.Name, cause)
	}
	if err != nil {
		return userError(r.stage, r.worker.plan.Transforms, err)
	}
	return nil
}

func (r *run) result(p *exec.Plan) (bundle.Result, error) {
	state, err := r.groupStates()
	if err != nil {
		return bundle.Result{}, err
	}
	result := bundle.Result{ID: r.work.ID, State: state, Metrics: userMetrics(r.ctx)}
	r.counts.Out = make([]int64, len(r.sinks))
	for i := range r.sinks {
		r.counts.Out[i] = r.sinks[i].count
		result.Outputs = r.sinks[i].appendOutputs(result.Outputs, i)
	}
	for _, c := range p.Checkpoint() {
		if err := r.split.addResiduals(c.SR, c.Reapply); err != nil {
			return bundle.Result{}, err
		}
	}
	result.Residuals = r.split.residuals
	n, size := r.split.unprocessed()
	result.Unprocessed = n
	r.counts.In -= int64(n)
	r.counts.Bytes -= size
	result.Counts = r.counts
	return result, nil
}

// OpenElementChan is how the executor asks for its input.
func (r *run) OpenElementChan(context.Context, exec.StreamID, []string) (<-chan exec.Elements, error) {
	if r.stage.Splittable {
		return r.split.feed(r.blocks), nil
	}
	all := make(chan exec.Elements, len(r.blocks))
	for _, b := range r.blocks {
		all <- b
	}
	close(all)
	return all, nil
}

// OpenWrite is how the executor asks where to put the elements of an output.
func (r *run) OpenWrite(_ context.Context, id exec.StreamID) (io.WriteCloser, error) {
	i, ok := r.stage.ports[id.PtransformID]
	if !ok {
		return nil, r.fail(fmt.Errorf("an output for the unknown port %q", id.PtransformID))
	}
	return &r.sinks[i], nil
}
