// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/engine"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/worker"
)

// batch is a commit, and the actions that wait until it is durable.
type batch struct {
	sync    func() error
	actions []engine.Action
}

// perform does what was decided, in order, each batch once its commit is durable. An error is an
// unknown outcome: nothing that comes after it may be done.
func (j *Job) perform(ctx context.Context) error {
	var failed error
	for b := range j.synced {
		if failed != nil {
			continue
		}
		if err := b.sync(); err != nil {
			failed = fmt.Errorf("make a commit durable: %w", err)
			j.fail(failed)
			continue
		}
		for _, a := range b.actions {
			j.act(ctx, a)
		}
	}
	return failed
}

func (j *Job) act(ctx context.Context, a engine.Action) {
	switch a := a.(type) {
	case engine.RunBundle:
		if ctx.Err() == nil {
			j.workers.Go(func() { j.runBundle(ctx, a.Bundle) })
		}
	case engine.SplitBundle:
		j.Worker.Split(a.ID, a.Fraction)
	case engine.FinalizeBundle:
		j.workers.Go(func() {
			if err := j.Worker.Finalize(a.ID); err != nil {
				j.Log.Warn("bundle finalization failed; the bundle stays committed",
					slog.String("bundle", a.ID.String()), slog.Any("error", err))
			}
		})
	}
}

// fail ends the job. Only the first failure counts.
func (j *Job) fail(err error) {
	select {
	case j.failures <- err:
	default:
	}
}

// runBundle runs one bundle and reports how it ended, unless the job ended before.
func (j *Job) runBundle(ctx context.Context, o engine.Order) {
	m, err := j.attempt(ctx, o)
	if err != nil {
		j.fail(err)
		return
	}
	if ctx.Err() != nil {
		return // It did not fail by itself: it will run again.
	}
	select {
	case j.inbox <- m:
	case <-ctx.Done():
	}
}

// attempt runs a bundle. An error is one of the table; that of user code is in the message.
func (j *Job) attempt(ctx context.Context, o engine.Order) (engine.Message, error) {
	view := j.Table.View()
	defer view.Close()
	work, err := engine.Load(j.Plan, o, view)
	if err != nil {
		return nil, fmt.Errorf("load bundle %v: %w", o.ID, err)
	}
	w := j.Worker
	if j.Plan.Stages[o.Stage].Kind != plan.User {
		w = j.Builtin
	}
	state := &tableState{table: j.Table, stage: o.Stage}
	defer state.close()
	result, err := guard(ctx, w, work, state)
	if failure := state.err(); failure != nil {
		return nil, fmt.Errorf("read the state of bundle %v: %w", o.ID, failure)
	}
	if err != nil {
		return engine.BundleFailed{ID: o.ID, Err: err.Error()}, nil
	}
	return engine.BundleDone{Work: work, Result: result}, nil
}

// guard runs a worker and turns a panic into a failure of the bundle.
func guard(ctx context.Context, w worker.Worker, work bundle.Work, s worker.State) (r bundle.Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return w.Run(ctx, work, s)
}

// tableState gives a bundle its part of the table.
type tableState struct {
	table kv.Table
	stage plan.StageID
	views []kv.View
}

func (s *tableState) part(of plan.StageID, g bundle.KeyGroup) kv.View {
	view := kv.Prefixed(s.table.View(), engine.StatePrefix(of, g))
	s.views = append(s.views, view)
	return view
}

func (s *tableState) Group(g bundle.KeyGroup) kv.View { return s.part(s.stage, g) }

func (s *tableState) Other(of plan.StageID, g bundle.KeyGroup) kv.View { return s.part(of, g) }

func (s *tableState) err() error {
	for _, view := range s.views {
		if err := view.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (s *tableState) close() {
	for _, view := range s.views {
		view.Close()
	}
}
