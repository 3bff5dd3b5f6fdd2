// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
)

// Message is what has happened. The set is closed: these are all the ways in which the world
// reaches the engine.
type Message interface{ message() }

// Submitted starts a new job.
type Submitted struct{}

// Restarted resumes a job. One that has not begun, because its first commit was lost, begins.
type Restarted struct{}

// BundleDone reports that a worker ran a bundle to its end. Work is what Load filled.
type BundleDone struct {
	Work   bundle.Work
	Result bundle.Result
}

// BundleFailed reports that a bundle left no result.
type BundleFailed struct {
	ID  bundle.ID
	Err string
}

// ClockAdvanced tells the processing time. It never goes back. A job with a TestStream lives in
// the processing time of its TestStream and ignores it.
type ClockAdvanced struct{ Now event.Timestamp }

// Cancelled ends the job.
type Cancelled struct{ Reason string }

func (Submitted) message()     {}
func (Restarted) message()     {}
func (BundleDone) message()    {}
func (BundleFailed) message()  {}
func (ClockAdvanced) message() {}
func (Cancelled) message()     {}

// Action is what the driver has to do once the transaction in which it was decided is durable.
type Action interface{ action() }

// RunBundle asks for a bundle to be run. Its chunks and timers are still in the table: Load fetches
// them.
type RunBundle struct{ Bundle Order }

// SplitBundle asks a running bundle to give up what it has not begun.
type SplitBundle struct {
	ID       bundle.ID
	Fraction float64 // Of the remainder; 0 asks for a checkpoint now.
}

// FinalizeBundle tells the worker that the bundle is committed.
type FinalizeBundle struct{ ID bundle.ID }

// WakeAt asks for a ClockAdvanced at the given processing time. A later WakeAt replaces it.
type WakeAt struct{ At event.Timestamp }

// EndJob tells that the job is over.
type EndJob struct {
	State State
	Err   string // Why it failed or was cancelled.
}

func (RunBundle) action()      {}
func (SplitBundle) action()    {}
func (FinalizeBundle) action() {}
func (WakeAt) action()         {}
func (EndJob) action()         {}

// State is the state of a job.
type State uint8

// The states of a job.
const (
	Running State = iota
	Done
	Failed
	CancelledState
)

// String returns Beam's name of the state.
func (s State) String() string { return [...]string{"RUNNING", "DONE", "FAILED", "CANCELLED"}[s] }
