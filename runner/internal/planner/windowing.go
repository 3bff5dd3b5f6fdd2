// SPDX-License-Identifier: Apache-2.0

package planner

import (
	"fmt"
	"math"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/urn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// maxTriggerDepth bounds the nesting of triggers, which the runner walks recursively.
const maxTriggerDepth = 100

// millis makes a duration of a count of milliseconds; what is too long for one is cut to the
// longest, which is longer than anything but all of event time.
func millis(n int64) time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond)
	return time.Duration(min(max(n, -most), most)) * time.Millisecond
}

// windowingOf reads a windowing strategy. Everything about it that cannot be run is in the list.
func windowingOf(m *pipepb.WindowingStrategy) (plan.WindowingStrategy, []string) {
	var s plan.WindowingStrategy
	var no []string
	refuse := func(format string, args ...any) { no = append(no, fmt.Sprintf(format, args...)) }

	fn, err := windowFn(m.GetWindowFn())
	if err != nil {
		refuse("%v", err)
	}
	s.Fn = fn
	switch m.GetMergeStatus() {
	case pipepb.MergeStatus_NON_MERGING, pipepb.MergeStatus_ALREADY_MERGED:
	case pipepb.MergeStatus_NEEDS_MERGE:
		s.Merges = true
		if err == nil && fn.Kind != plan.SessionWindows {
			refuse("merging of windows that are not sessions")
		}
	default:
		refuse("merge status %v", m.GetMergeStatus())
	}
	switch m.GetAccumulationMode() {
	case pipepb.AccumulationMode_DISCARDING:
	case pipepb.AccumulationMode_ACCUMULATING:
		s.Accumulating = true
	default:
		refuse("accumulation mode %v", m.GetAccumulationMode())
	}
	switch m.GetOutputTime() {
	case pipepb.OutputTime_END_OF_WINDOW:
		s.Output = plan.EndOfWindow
	case pipepb.OutputTime_LATEST_IN_PANE:
		s.Output = plan.Latest
	case pipepb.OutputTime_EARLIEST_IN_PANE:
		s.Output = plan.Earliest
	default:
		refuse("output time %v", m.GetOutputTime())
	}
	switch m.GetClosingBehavior() {
	case pipepb.ClosingBehavior_EMIT_IF_NONEMPTY:
		s.Closing = plan.EmitIfNonempty
	case pipepb.ClosingBehavior_EMIT_ALWAYS:
		s.Closing = plan.EmitAlways
	default:
		refuse("closing behavior %v", m.GetClosingBehavior())
	}
	switch m.GetOnTimeBehavior() {
	case pipepb.OnTimeBehavior_FIRE_ALWAYS:
		s.OnTime = plan.FireAlways
	case pipepb.OnTimeBehavior_FIRE_IF_NONEMPTY:
		s.OnTime = plan.FireIfNonempty
	default:
		refuse("on-time behavior %v", m.GetOnTimeBehavior())
	}
	if m.GetAllowedLateness() < 0 {
		refuse("allowed lateness below zero")
	}
	s.AllowedLateness = millis(m.GetAllowedLateness())
	if s.Trigger, err = triggerOf(m.GetTrigger(), 0); err != nil {
		refuse("%v", err)
	}
	return s, no
}

// windowFn reads a WindowFn.
func windowFn(m *pipepb.FunctionSpec) (plan.WindowFn, error) {
	var fn plan.WindowFn
	var err error
	switch m.GetUrn() {
	case urn.GlobalWindows:
		return fn, nil
	case urn.FixedWindows:
		var p pipepb.FixedWindowsPayload
		if err := proto.Unmarshal(m.GetPayload(), &p); err != nil {
			return fn, fmt.Errorf("fixed windows that cannot be read: %w", err)
		}
		fn.Kind = plan.FixedWindows
		fn.Offset = sinceEpoch(p.GetOffset().GetSeconds(), p.GetOffset().GetNanos())
		fn.Size, err = positive("size", p.GetSize())
	case urn.SlidingWindows:
		var p pipepb.SlidingWindowsPayload
		if err := proto.Unmarshal(m.GetPayload(), &p); err != nil {
			return fn, fmt.Errorf("sliding windows that cannot be read: %w", err)
		}
		fn.Kind = plan.SlidingWindows
		fn.Offset = sinceEpoch(p.GetOffset().GetSeconds(), p.GetOffset().GetNanos())
		if fn.Size, err = positive("size", p.GetSize()); err == nil {
			fn.Period, err = positive("period", p.GetPeriod())
		}
	case urn.SessionWindows:
		var p pipepb.SessionWindowsPayload
		if err := proto.Unmarshal(m.GetPayload(), &p); err != nil {
			return fn, fmt.Errorf("session windows that cannot be read: %w", err)
		}
		fn.Kind = plan.SessionWindows
		fn.Size, err = positive("gap", p.GetGapSize())
	default:
		return fn, fmt.Errorf("custom WindowFn %q; use global, fixed, sliding or session windows", m.GetUrn())
	}
	if err == nil && fn.Offset != 0 {
		// The Go SDK assigns windows without looking at the offset.
		return fn, fmt.Errorf("windows with an offset, which the Go SDK ignores")
	}
	return fn, err
}

func positive(what string, m *durationpb.Duration) (time.Duration, error) {
	if err := m.CheckValid(); err != nil {
		return 0, fmt.Errorf("windows whose %s cannot be read: %w", what, err)
	}
	d := m.AsDuration()
	if d < time.Millisecond || d%time.Millisecond != 0 {
		return 0, fmt.Errorf("windows whose %s, %v, is not a count of whole milliseconds above zero", what, d)
	}
	return d, nil
}

func sinceEpoch(seconds int64, nanos int32) time.Duration {
	return (&durationpb.Duration{Seconds: seconds, Nanos: nanos}).AsDuration()
}

// triggerOf reads a trigger.
func triggerOf(m *pipepb.Trigger, depth int) (plan.Trigger, error) {
	if depth > maxTriggerDepth {
		return plan.Trigger{}, fmt.Errorf("triggers nested more than %d deep", maxTriggerDepth)
	}
	all := func(kind plan.TriggerKind, ms ...*pipepb.Trigger) (plan.Trigger, error) {
		t := plan.Trigger{Kind: kind}
		for _, m := range ms {
			part, err := triggerOf(m, depth+1)
			if err != nil {
				return t, err
			}
			t.Parts = append(t.Parts, part)
		}
		if len(t.Parts) == 0 {
			return t, fmt.Errorf("a composite trigger without parts")
		}
		return t, nil
	}
	switch m := m.GetTrigger().(type) {
	case nil, *pipepb.Trigger_Default_:
		return plan.Trigger{Kind: plan.Default}, nil
	case *pipepb.Trigger_Never_:
		return plan.Trigger{Kind: plan.Never}, nil
	case *pipepb.Trigger_Always_:
		return plan.Trigger{Kind: plan.Always}, nil
	case *pipepb.Trigger_ElementCount_:
		n := int64(m.ElementCount.GetElementCount())
		if n < 1 {
			return plan.Trigger{}, fmt.Errorf("a trigger after %d elements", n)
		}
		return plan.Trigger{Kind: plan.ElementCount, Count: n}, nil
	case *pipepb.Trigger_AfterProcessingTime_:
		return afterProcessingTime(m.AfterProcessingTime)
	case *pipepb.Trigger_AfterSynchronizedProcessingTime_:
		return plan.Trigger{Kind: plan.AfterSynchronizedProcessingTime}, nil
	case *pipepb.Trigger_AfterEndOfWindow_:
		return afterEndOfWindow(m.AfterEndOfWindow, depth)
	case *pipepb.Trigger_AfterAll_:
		return all(plan.AfterAll, m.AfterAll.GetSubtriggers()...)
	case *pipepb.Trigger_AfterAny_:
		return all(plan.AfterAny, m.AfterAny.GetSubtriggers()...)
	case *pipepb.Trigger_AfterEach_:
		return all(plan.AfterEach, m.AfterEach.GetSubtriggers()...)
	case *pipepb.Trigger_OrFinally_:
		return all(plan.OrFinally, m.OrFinally.GetMain(), m.OrFinally.GetFinally())
	case *pipepb.Trigger_Repeat_:
		return all(plan.Repeat, m.Repeat.GetSubtrigger())
	}
	return plan.Trigger{}, fmt.Errorf("trigger %T", m.GetTrigger())
}

func afterEndOfWindow(m *pipepb.Trigger_AfterEndOfWindow, depth int) (plan.Trigger, error) {
	t := plan.Trigger{Kind: plan.AfterEndOfWindow}
	// The Go SDK writes the default trigger for "no early firings". It never fires early, so
	// the two are the same.
	if early := m.GetEarlyFirings(); early != nil && early.GetDefault() == nil {
		part, err := triggerOf(early, depth+1)
		if err != nil {
			return t, err
		}
		t.Early = &part
	}
	if late := m.GetLateFirings(); late != nil {
		part, err := triggerOf(late, depth+1)
		if err != nil {
			return t, err
		}
		t.Late = &part
	}
	return t, nil
}

func afterProcessingTime(m *pipepb.Trigger_AfterProcessingTime) (plan.Trigger, error) {
	t := plan.Trigger{Kind: plan.AfterProcessingTime}
	for _, m := range m.GetTimestampTransforms() {
		var d plan.TimestampDelay
		if m.GetAlignTo() != nil {
			d.Period, d.Offset = millis(m.GetAlignTo().GetPeriod()), millis(m.GetAlignTo().GetOffset())
			if d.Period <= 0 {
				return t, fmt.Errorf("a trigger aligned to a period of %v", d.Period)
			}
		} else {
			d.Delay = millis(m.GetDelay().GetDelayMillis())
		}
		t.Delays = append(t.Delays, d)
	}
	return t, nil
}

// countsElements tells whether a trigger depends on the number of elements, which combining
// before the grouping changes.
func countsElements(t *plan.Trigger) bool {
	if t == nil {
		return false
	}
	if t.Kind == plan.ElementCount || t.Kind == plan.Always {
		return true
	}
	for i := range t.Parts {
		if countsElements(&t.Parts[i]) {
			return true
		}
	}
	return countsElements(t.Early) || countsElements(t.Late)
}
