// SPDX-License-Identifier: Apache-2.0

package planner

import (
	"encoding/base64"
	"fmt"
	"strings"

	v1pb "github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx/v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/urn"
	"google.golang.org/protobuf/proto"
)

// checkParDo verifies a ParDo and keeps its payload.
func (d *draft) checkParDo(id string) error {
	m, name := d.transforms[id], d.names[id]
	p := &pipepb.ParDoPayload{}
	if err := proto.Unmarshal(m.GetSpec().GetPayload(), p); err != nil {
		return malformed("payload of %s: %v", name, err)
	}
	d.pardos[id] = p
	if !d.checkFunction(name, p.GetDoFn()) {
		return nil // How another SDK names inputs and maps windows says nothing to us.
	}
	d.checkSymbols(name, p.GetDoFn())
	if p.GetRequiresTimeSortedInput() {
		d.refuse(name, "input sorted by time (requires_time_sorted_input)")
	}
	if p.GetOnWindowExpirationTimerFamilySpec() != "" {
		d.refuse(name, "a callback when a window expires (on_window_expiration)")
	}
	if len(m.GetInputs()) != len(p.GetSideInputs())+1 {
		return malformed("%s has %d inputs, %d of them side inputs", name, len(m.GetInputs()), len(p.GetSideInputs()))
	}
	if !numbered(m.GetInputs()) || !numbered(m.GetOutputs()) {
		return malformed("inputs or outputs of %s are not named i0, i1, …", name)
	}
	for _, local := range sorted(p.GetSideInputs()) {
		if err := d.checkSide(id, local, p.GetSideInputs()[local]); err != nil {
			return err
		}
	}
	if _, ok := p.GetSideInputs()["i0"]; ok {
		return malformed("the first input of %s is a side input", name)
	}
	if c := p.GetRestrictionCoderId(); c != "" {
		if _, ok := d.coders.all[c]; !ok {
			return malformed("restriction coder %q of %s does not exist", c, name)
		}
		if keyed(p) {
			d.refuse(name, "a splittable DoFn with state or timers")
		}
	}
	if keyed(p) {
		return d.checkKeyed(name, mainInput(m, p), p)
	}
	return nil
}

// numbered tells whether names are i0, i1, … as the Go SDK needs them: it would mix up others.
// Where there is only one, its name does not matter.
func numbered(m map[string]string) bool {
	if len(m) < 2 {
		return true
	}
	for i := range len(m) {
		if _, ok := m[fmt.Sprintf("i%d", i)]; !ok {
			return false
		}
	}
	return true
}

// keyed tells whether elements with the same key must meet.
func keyed(p *pipepb.ParDoPayload) bool {
	return len(p.GetStateSpecs()) > 0 || len(p.GetTimerFamilySpecs()) > 0
}

// mainInput returns the collection that a ParDo reads element by element.
func mainInput(m *pipepb.PTransform, p *pipepb.ParDoPayload) string {
	for local, collection := range m.GetInputs() {
		if _, side := p.GetSideInputs()[local]; !side {
			return collection
		}
	}
	return ""
}

// checkSide verifies a side input.
func (d *draft) checkSide(id, local string, s *pipepb.SideInput) error {
	name := d.names[id]
	collection, ok := d.transforms[id].GetInputs()[local]
	if !ok {
		return malformed("side input %q of %s has no collection", local, name)
	}
	switch s.GetAccessPattern().GetUrn() {
	case urn.SideInputIterable:
	case urn.SideInputMultimap:
		if !d.coders.is(d.collections[collection].GetCoderId(), urn.CoderKV) {
			return malformed("side input %q of %s is read by key and has none", local, name)
		}
	default:
		d.refuse(name, "side input with access pattern %q", s.GetAccessPattern().GetUrn())
	}
	var kind plan.WindowKind
	switch got := s.GetWindowMappingFn().GetUrn(); got {
	case urn.MapToGlobal:
		kind = plan.GlobalWindows
	case urn.MapToFixed:
		kind = plan.FixedWindows
	case urn.MapToSliding:
		kind = plan.SlidingWindows
	default:
		d.refuse(name, "side input with window mapping %q", got)
		return nil
	}
	given := d.strategies[d.collections[collection].GetWindowingStrategyId()].GetWindowFn()
	fn, err := windowFn(given)
	if err != nil {
		return nil // Refused at the transform that writes the collection.
	}
	if fn.Kind == plan.SessionWindows {
		d.refuse(name, "side input in session windows")
	} else if fn.Kind != kind {
		return malformed("the window mapping of side input %q of %s does not fit its windows", local, name)
	}
	return nil
}

// checkKeyed verifies states and timers.
func (d *draft) checkKeyed(name, input string, p *pipepb.ParDoPayload) error {
	if !d.coders.is(d.collections[input].GetCoderId(), urn.CoderKV) {
		return malformed("%s has state or timers and its input has no key", name)
	}
	for _, id := range sorted(p.GetStateSpecs()) {
		s := p.GetStateSpecs()[id]
		if _, ok := stateKind(s); !ok {
			kind := strings.TrimPrefix(fmt.Sprintf("%T", s.GetSpec()), "*pipeline_v1.StateSpec_")
			d.refuse(name, "state %q, a %s with protocol %q", id, kind, s.GetProtocol().GetUrn())
			continue
		}
		d.checkSymbols(name, s.GetCombiningSpec().GetCombineFn())
		for _, c := range stateCoders(s) {
			if _, ok := d.coders.all[c]; !ok {
				return malformed("coder %q of state %q of %s does not exist", c, id, name)
			}
		}
	}
	for _, id := range sorted(p.GetTimerFamilySpecs()) {
		f := p.GetTimerFamilySpecs()[id]
		if _, ok := domain(f); !ok {
			d.refuse(name, "timers %q in time domain %v", id, f.GetTimeDomain())
		}
		c := f.GetTimerFamilyCoderId()
		if !d.coders.is(c, urn.CoderTimer) {
			return malformed("timers %q of %s have no timer coder", id, name)
		}
		key := d.coders.parts(d.collections[input].GetCoderId())[0]
		if !d.coders.same(d.coders.parts(c)[0], key) {
			return malformed("the key of timers %q of %s is not that of its input", id, name)
		}
	}
	return nil
}

// stateKind returns how a user state cell is kept.
func stateKind(s *pipepb.StateSpec) (plan.StateKind, bool) {
	protocol := s.GetProtocol().GetUrn()
	switch s.GetSpec().(type) {
	case *pipepb.StateSpec_ReadModifyWriteSpec, *pipepb.StateSpec_CombiningSpec:
		return plan.Value, protocol == urn.StateBag
	case *pipepb.StateSpec_BagSpec:
		return plan.Bag, protocol == urn.StateBag
	case *pipepb.StateSpec_MapSpec, *pipepb.StateSpec_SetSpec:
		return plan.Map, protocol == urn.StateMultimap
	case *pipepb.StateSpec_OrderedListSpec:
		return plan.OrderedList, protocol == urn.StateOrderedList
	}
	return 0, false
}

// stateCoders returns the IDs of the coders of a user state cell.
func stateCoders(s *pipepb.StateSpec) []string {
	switch s := s.GetSpec().(type) {
	case *pipepb.StateSpec_ReadModifyWriteSpec:
		return []string{s.ReadModifyWriteSpec.GetCoderId()}
	case *pipepb.StateSpec_CombiningSpec:
		return []string{s.CombiningSpec.GetAccumulatorCoderId()}
	case *pipepb.StateSpec_BagSpec:
		return []string{s.BagSpec.GetElementCoderId()}
	case *pipepb.StateSpec_MapSpec:
		return []string{s.MapSpec.GetKeyCoderId(), s.MapSpec.GetValueCoderId()}
	case *pipepb.StateSpec_SetSpec:
		return []string{s.SetSpec.GetElementCoderId()}
	case *pipepb.StateSpec_OrderedListSpec:
		return []string{s.OrderedListSpec.GetElementCoderId()}
	}
	return nil
}

// domain returns the clock of a timer family.
func domain(f *pipepb.TimerFamilySpec) (plan.Domain, bool) {
	switch f.GetTimeDomain() {
	case pipepb.TimeDomain_EVENT_TIME:
		return plan.EventTime, true
	case pipepb.TimeDomain_PROCESSING_TIME:
		return plan.ProcessingTime, true
	}
	return 0, false
}

// checkFunction refuses functions that are not the Go SDK's, and tells whether this one is.
func (d *draft) checkFunction(name string, f *pipepb.FunctionSpec) bool {
	switch f.GetUrn() {
	case urn.GoDoFn, urn.GoInject, urn.GoExpand, urn.GoFixedKey:
		return true
	}
	d.refuse(name, "function %q; other SDKs need the Fn API, which this version does not have", f.GetUrn())
	return false
}

// checkSymbols asks whether a worker can find the Go functions of f.
func (d *draft) checkSymbols(name string, f *pipepb.FunctionSpec) {
	if d.options.Function == nil {
		return
	}
	for _, symbol := range symbols(f) {
		if err := d.options.Function(symbol); err != nil {
			d.refuse(name, "function %s: %v", symbol, err)
		}
	}
}

// symbols returns the names under which a worker looks up the functions of a DoFn or CombineFn.
func symbols(f *pipepb.FunctionSpec) []string {
	b, err := base64.StdEncoding.DecodeString(string(f.GetPayload()))
	if err != nil {
		return nil // The worker reports it: the payload belongs to the SDK.
	}
	var t v1pb.TransformPayload
	if err := proto.Unmarshal(b, &t); err != nil {
		return nil
	}
	switch fn := t.GetEdge().GetFn(); {
	case fn.GetFn() != nil:
		return []string{fn.GetFn().GetName()}
	case fn.GetDynfn() != nil:
		return []string{fn.GetDynfn().GetGen()}
	}
	return nil // A struct, which travels with its fields.
}
