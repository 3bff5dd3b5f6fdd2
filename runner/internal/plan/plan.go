// SPDX-License-Identifier: Apache-2.0

// Package plan is a pipeline after it was checked, lowered and fused: stages in topological order,
// each a unit that a worker runs in bundles. It is data only; package planner makes it.
package plan

import (
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
)

// StageID is the index of a stage in Plan.Stages.
type StageID int

// Plan is what a job runs.
type Plan struct {
	Stages []Stage // Every stage stands after the stages that feed it.
	// Transforms maps a transform ID of the pipeline to its unique name, for messages and metrics.
	Transforms map[string]string
}

// Kind says who does the work of a stage.
type Kind uint8

// The kinds of stages.
const (
	// Impulse puts one empty element into its outputs when the job is submitted.
	Impulse Kind = iota
	// TestStream plays the events of Stage.Events.
	TestStream
	// User is transforms of an SDK, run by a worker.
	User
	// Group is a GroupByKey, done by the runner.
	Group
	// View keeps a PCollection for those who read it as side input, done by the runner.
	View
)

// String returns the name of the kind, as inspect and specs print it.
func (k Kind) String() string {
	return [...]string{"impulse", "teststream", "user", "group", "view"}[k]
}

// Stage is a unit of fused work.
type Stage struct {
	ID   StageID
	Name string // For people: the unique names of its transforms.
	Kind Kind

	// Inputs are the collections that arrive in the stage's mailbox; several where the pipeline
	// flattens. All have the same coder.
	Inputs []Input
	// Key is the coder of the key if elements with the same key must meet: the stage has state or
	// timers, or groups. Nil for other stages.
	Key *coder.Coder
	// Element is the coder of an input element without its window.
	Element coder.Coder
	// Windowing is the windowing strategy of the input.
	Windowing WindowingStrategy

	Outputs []Output
	Sides   []SideInput // What the stage reads as side input.

	// The rest is for stages of kind User.

	Splittable bool // Elements are restrictions, which may be split while they are processed.
	Finalizes  bool // A transform asks for bundle finalization.
	States     []StateSpec
	Timers     []TimerFamily
	Descriptor []byte   // What the worker builds the stage from; opaque to the runner.
	Root       string   // The transform ID under which the worker reads its input.
	Transforms []string // IDs of the pipeline's transforms in the stage.

	Access Access            // Of kind View: how the side input is read.
	Events []TestStreamEvent // Of kind TestStream.
}

// Keeps tells whether a stage may keep values for its consumer instead of giving them out: there is
// one consumer, and it reads them and passes them to nobody as they are.
func (p *Plan) Keeps(s *Stage) bool {
	if s.Kind != Group || len(s.Outputs) != 1 || len(s.Outputs[0].Consumers) != 1 {
		return false
	}
	to := &p.Stages[s.Outputs[0].Consumers[0]]
	return to.Kind == User && !to.Splittable
}

// Keyed tells whether the stage's work is divided by key.
func (s *Stage) Keyed() bool { return s.Key != nil }

// Input is a producer that feeds a stage.
type Input struct {
	From   StageID
	Output int // Index in Outputs of the stage From.
}

// Output is a collection that leaves a stage.
type Output struct {
	Port       string // The transform ID under which a worker writes it.
	Collection string // The PCollection's ID in the pipeline.
	Consumers  []StageID
	Windowing  WindowingStrategy
	Element    coder.Coder
}

// SideInput is a collection that a transform of the stage reads as a whole.
type SideInput struct {
	Transform string // The ID of the transform that reads it.
	Local     string // Its name in that transform.
	View      StageID
}

// Access says how a side input is read.
type Access uint8

// The access patterns of side inputs.
const (
	Iterable Access = iota // All elements of a window.
	Multimap               // The values of a key in a window.
)

// StateKind is the shape of a user state cell.
type StateKind uint8

// The kinds of user state.
const (
	Value StateKind = iota // One value; also combining state, whose value is its accumulator.
	Bag
	Map // Map and set state: values by map key.
	OrderedList
)

// StateSpec declares a user state cell.
type StateSpec struct {
	Transform string
	ID        string
	Kind      StateKind
}

// Domain is the clock that a timer follows.
type Domain uint8

// The time domains.
const (
	EventTime Domain = iota
	ProcessingTime
)

// String returns the name of the domain.
func (d Domain) String() string { return [...]string{"event", "processing"}[d] }

// TimerFamily declares the timers of a transform.
type TimerFamily struct {
	Transform string
	ID        string
	Domain    Domain
}

// TestStreamEvent is one step of a TestStream. Exactly one field is set.
type TestStreamEvent struct {
	Add     *AddElements
	Advance *AdvanceWatermark
	Clock   int64 // Milliseconds of processing time to pass.
}

// AddElements puts elements into an output of a TestStream.
type AddElements struct {
	Output   int // Index in Outputs.
	Elements []TestElement
}

// TestElement is an element of a TestStream, in the global window.
type TestElement struct {
	Timestamp event.Timestamp
	Encoded   []byte
}

// AdvanceWatermark moves the watermark of an output of a TestStream.
type AdvanceWatermark struct {
	Output int
	To     event.Timestamp
}
