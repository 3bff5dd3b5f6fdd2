// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"time"

	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
)

// WindowKind names a WindowFn.
type WindowKind uint8

// The WindowFns of the Go SDK.
const (
	GlobalWindows WindowKind = iota
	FixedWindows
	SlidingWindows
	SessionWindows
)

// WindowFn is a WindowFn with its parameters.
type WindowFn struct {
	Kind   WindowKind
	Size   time.Duration // Of fixed and sliding windows; the gap of sessions.
	Period time.Duration // Of sliding windows.
	Offset time.Duration
}

// WindowingStrategy says how a PCollection is grouped.
type WindowingStrategy struct {
	Fn WindowFn
	// Merges tells whether grouping has to merge windows. It comes from the pipeline's merge
	// status, which after a GroupByKey differs by SDK, and not from the WindowFn.
	Merges          bool
	Trigger         Trigger
	Accumulating    bool
	AllowedLateness time.Duration
	Output          OutputTime
	Closing         ClosingBehavior
	OnTime          OnTimeBehavior
}

// Global tells whether the windows are the global one.
func (s *WindowingStrategy) Global() bool { return s.Fn.Kind == GlobalWindows }

// Expiry returns the last moment of the input watermark at which w still takes elements: the end
// of the window plus the allowed lateness. The global window never expires before the end of time.
func (s *WindowingStrategy) Expiry(w event.Window) event.Timestamp {
	if w.IsGlobal() {
		return event.EndOfGlobalWindow
	}
	return w.MaxTimestamp().Add(s.AllowedLateness)
}

// Expired tells whether an element of w is dropped at the given input watermark. An element is
// not yet late while the watermark stands at the last moment of the window plus the lateness.
func (s *WindowingStrategy) Expired(w event.Window, watermark event.Timestamp) bool {
	return s.Expiry(w) < watermark
}

// OutputTime says which timestamp a grouped pane gets.
type OutputTime uint8

// The output times of the model.
const (
	EndOfWindow OutputTime = iota
	Latest
	Earliest
)

// ClosingBehavior says whether the last pane of a window is emitted when it is empty.
type ClosingBehavior uint8

// The closing behaviors of the model.
const (
	EmitIfNonempty ClosingBehavior = iota
	EmitAlways
)

// OnTimeBehavior says whether the on-time pane is emitted when it is empty.
type OnTimeBehavior uint8

// The on-time behaviors of the model.
const (
	FireAlways OnTimeBehavior = iota
	FireIfNonempty
)

// Trigger is a trigger expression. Kind says which of the other fields have a meaning.
type Trigger struct {
	Kind  TriggerKind
	Parts []Trigger // Subtriggers; of OrFinally the main and the final one; of Repeat the repeated one.

	// Of AfterEndOfWindow, nil where absent.
	Early, Late *Trigger

	Count  int64            // Of ElementCount.
	Delays []TimestampDelay // Of AfterProcessingTime.
}

// TriggerKind names a trigger.
type TriggerKind uint8

// The triggers of the model.
const (
	Default TriggerKind = iota // Repeatedly at the end of the window, then for each late element.
	Never
	Always
	ElementCount
	AfterProcessingTime
	AfterSynchronizedProcessingTime
	AfterEndOfWindow
	AfterAll
	AfterAny
	AfterEach
	OrFinally
	Repeat
)

// TimestampDelay changes the moment at which AfterProcessingTime fires: it adds Delay, or rounds
// up to the next multiple of Period (counted from Offset) if Period is set.
type TimestampDelay struct {
	Delay  time.Duration
	Period time.Duration
	Offset time.Duration
}
