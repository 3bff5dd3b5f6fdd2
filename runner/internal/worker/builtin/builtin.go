// SPDX-License-Identifier: Apache-2.0

// Package builtin is the worker of the stages that the runner does itself: GroupByKey and keeping
// side inputs. What they do is in packages grouping and view; here they are given their share of a
// bundle, and what they give out finds its way to the consumers.
package builtin

import (
	"context"
	"fmt"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/grouping"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/view"
	"github.com/hornbeam-dev/hornbeam/runner/internal/worker"
)

// Worker runs bundles of the stages of kinds Group and View. It keeps nothing between bundles.
type Worker struct {
	plan     *plan.Plan
	groupers []*grouping.Grouper // By stage; nil for those of other kinds.
}

var _ worker.Worker = (*Worker)(nil)

// New returns the worker of a plan.
func New(p *plan.Plan) (*Worker, error) {
	w := &Worker{plan: p, groupers: make([]*grouping.Grouper, len(p.Stages))}
	for i := range p.Stages {
		if p.Stages[i].Kind != plan.Group {
			continue
		}
		g, err := grouping.New(&p.Stages[i], grouping.Options{HandOver: p.Keeps(&p.Stages[i])})
		if err != nil {
			return nil, err
		}
		w.groupers[i] = g
	}
	return w, nil
}

// Run runs a bundle of a Group or View stage.
func (w *Worker) Run(ctx context.Context, work bundle.Work, s worker.State) (bundle.Result, error) {
	stage := &w.plan.Stages[work.Stage]
	switch stage.Kind {
	case plan.Group:
		return w.group(ctx, stage, work, s)
	case plan.View:
		return view.Run(stage, work)
	}
	return bundle.Result{}, fmt.Errorf("stage %q of kind %v is not the runner's own", stage.Name, stage.Kind)
}

func (w *Worker) group(ctx context.Context, stage *plan.Stage, work bundle.Work, s worker.State) (bundle.Result, error) {
	result := bundle.Result{ID: work.ID}
	result.Counts.Out = make([]int64, len(stage.Outputs))
	clock := grouping.Clock{Bundle: work.ID, Watermark: work.Watermark, Now: work.Now}
	for _, in := range work.Inputs {
		if err := ctx.Err(); err != nil {
			return bundle.Result{}, err
		}
		out, err := w.groupers[stage.ID].Run(s.Group(in.Group), in, clock)
		if err != nil {
			return bundle.Result{}, fmt.Errorf("stage %q: %w", stage.Name, err)
		}
		for _, c := range in.Chunks {
			result.Counts.Bytes += int64(len(c.Bytes))
		}
		result.State = append(result.State, out.State)
		result.Counts.In += out.In
		result.Counts.Late += out.Late + out.Closed
		w.deliver(stage, in.Group, &out, &result)
	}
	return result, nil
}

// deliver gives panes to all consumers. A keyed consumer has the same keys in the same groups.
func (w *Worker) deliver(stage *plan.Stage, g bundle.KeyGroup, out *grouping.Output, result *bundle.Result) {
	for o := range stage.Outputs {
		result.Counts.Out[o] += out.Out
		for c, id := range stage.Outputs[o].Consumers {
			to := bundle.KeyGroup(0)
			if w.plan.Stages[id].Keyed() {
				to = g
			}
			for _, chunk := range out.Chunks {
				result.Outputs = append(result.Outputs, bundle.Output{Output: o, Consumer: c, Group: to, Chunk: chunk})
			}
		}
	}
}

// Split does nothing: these bundles are short.
func (w *Worker) Split(bundle.ID, float64) {}

// Finalize is never asked for.
func (w *Worker) Finalize(bundle.ID) error { return nil }

// Close does nothing.
func (w *Worker) Close() error { return nil }
