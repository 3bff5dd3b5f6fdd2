// SPDX-License-Identifier: Apache-2.0

// Package bundle says what goes to a worker and what comes back: a Work and its Result. It is
// data only. Elements are inside Chunks and stay bytes.
package bundle

import (
	"fmt"

	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// KeyGroup numbers the parts into which the keys of a stage are divided. Stages without keys have
// only the group 0.
type KeyGroup uint16

// ID names a bundle. IDs grow over the life of a job and are never used twice, also not over a
// restart: Epoch is the count of the runner's starts.
type ID struct {
	Epoch uint64
	N     uint64
}

// String prints the epoch and the number.
func (id ID) String() string { return fmt.Sprintf("%d.%d", id.Epoch, id.N) }

// Chunk is a block of encoded windowed values of one PCollection, whole elements only, for one
// key group if its consumer is keyed.
type Chunk struct {
	Count int
	Bytes []byte
	// MinTimestamp is a lower bound of the elements' timestamps.
	MinTimestamp event.Timestamp
	// MaxWindow is the greatest last timestamp of the elements' windows. It is set only for
	// consumers with side inputs, which wait until their side inputs are complete up to it.
	MaxWindow event.Timestamp
	// Kept is the values that elements name instead of containing them. Such a chunk has one consumer.
	Kept []Kept
}

// Timer is a timer of a user's transform, or one that the runner sets for itself. A timer is
// identified by all fields above Due, within its stage and key group.
type Timer struct {
	Kind      TimerKind
	Transform string // Of a user timer.
	Family    string // Of a user timer.
	Tag       string // Of a user timer.
	Key       []byte // The encoded key.
	Window    []byte // The encoded window.

	Domain plan.Domain
	Due    event.Timestamp // When to fire, on the clock of Domain.
	// Hold is the output timestamp: the output watermark of the stage stays at or before it
	// until the timer fires or is cleared. MaxTimestamp holds nothing.
	Hold event.Timestamp
	Pane event.Pane // Of a user timer: the pane of the element that set it.
}

// TimerKind says whom a timer is for.
type TimerKind uint8

// The kinds of timers.
const (
	UserTimer   TimerKind = iota
	GroupTimer            // Package grouping sets it for a window.
	ExpiryTimer           // The user state of a key and window is to be removed.
)

// Input is the part of a Work that belongs to one key group.
type Input struct {
	Group  KeyGroup
	Chunks []Chunk // In the order of arrival.
	Timers []Timer // Due, in the order in which they are to fire.
}

// Work is a bundle to be run.
type Work struct {
	ID     ID
	Stage  plan.StageID
	Inputs []Input // By ascending key group. Of a splittable stage, chunks of one restriction each.
	// Watermark is the input watermark of the stage when the bundle was made.
	Watermark event.Timestamp
	// Now is the processing time when the bundle was made.
	Now event.Timestamp
}

// Result is what a bundle did. Nothing of it is visible before it is committed.
type Result struct {
	ID      ID
	Outputs []Output
	State   []GroupState
	// Residuals is work that remains: restrictions that were split off.
	Residuals []Residual
	// Unprocessed counts, for a bundle that was split between elements, the restrictions at the
	// end of Work.Inputs that were not begun; they stay where they are.
	Unprocessed int
	Counts      Counts
	Metrics     []Metric // What user code counted in the bundle.
	Finalize    bool     // The worker waits for FinalizeBundle.
}

// Output is a chunk for one consumer of one output.
type Output struct {
	Output   int // Index in plan.Stage.Outputs.
	Consumer int // Index in plan.Output.Consumers.
	Group    KeyGroup
	Chunk    Chunk
}

// GroupState is what a bundle changed for one key group: rows of the stage's own state, and timers.
type GroupState struct {
	Group  KeyGroup
	Writes []Write       // At most one for a key.
	Timers []TimerChange // Applied in order, after the timers of Work were removed.
}

// Write changes one row of the state of a stage and key group. Key is relative to them.
type Write struct {
	Key    []byte
	Value  []byte
	Delete bool
}

// TimerChange sets or clears a timer. Clearing uses only what identifies it.
type TimerChange struct {
	Timer Timer
	Clear bool
}

// Residual is a restriction to be processed later.
type Residual struct {
	Element []byte // The encoded windowed value.
	// Watermark tells that no later output of the residual is earlier.
	Watermark event.Timestamp
	// Delay is the time to wait before it is resumed, in milliseconds.
	Delay int64
}

// Counts accounts for every element that entered the bundle.
type Counts struct {
	In    int64   // Elements taken in.
	Out   []int64 // Elements given out, by output of the stage.
	Late  int64   // Elements dropped because their window had expired.
	Bytes int64   // Size of the input.
	Dead  int64   // Elements set aside by the engine because they failed whenever they were tried.
}
