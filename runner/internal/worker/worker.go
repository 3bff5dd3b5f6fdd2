// SPDX-License-Identifier: Apache-2.0

// Package worker says what runs bundles. Its implementations are embedded, which calls Go DoFns in
// this process, and builtin, which does the runner's own work.
package worker

import (
	"context"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// Worker runs bundles. Its methods may be called by many goroutines at once.
type Worker interface {
	// Run runs a bundle to its end. Nothing it did may be visible outside before Finalize.
	Run(ctx context.Context, w bundle.Work, s State) (bundle.Result, error)
	// Split asks a running bundle to give up what it has not begun. What came of it is in the
	// bundle's Result. A bundle that does not run is not an error.
	Split(id bundle.ID, fraction float64)
	// Finalize tells that the result of a bundle is durable. It is best effort.
	Finalize(id bundle.ID) error
	// Close ends the worker after all bundles have.
	Close() error
}

// State is what a bundle may read of the table. The caller of Run closes the Views.
type State interface {
	// Group returns the rows of the stage's own state in one key group.
	Group(g bundle.KeyGroup) kv.View
	// Other returns the rows of another stage: of a View stage, whose only key group is 0, or of the
	// Group stage that keeps values of the bundle's input.
	Other(s plan.StageID, g bundle.KeyGroup) kv.View
}
