// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"slices"
	"strings"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
)

// URNs of what is looked for in a pipeline.
const (
	urnParDo      = "beam:transform:pardo:v1"
	urnTestStream = "beam:transform:teststream:v1"
	urnBagState   = "beam:user_state:bag:v1"
)

// checkFlink refuses, in one error, all that Beam's portable Flink runner cannot do. What it knows
// is Beam's own list of tests of the Go SDK that are left out for Flink (sdks/go/test/integration,
// flinkFilters), and the issues of Beam that are named.
func checkFlink(model *pipepb.Pipeline, options optionList) error {
	var found []string
	refuse := func(t *pipepb.PTransform, format string, args ...any) {
		found = append(found, fmt.Sprintf("  %s: %s", t.GetUniqueName(), fmt.Sprintf(format, args...)))
	}
	for _, t := range model.GetComponents().GetTransforms() {
		switch t.GetSpec().GetUrn() {
		case urnTestStream:
			refuse(t, "TestStream: Flink puts lengths before its elements, which the Go SDK cannot read; use it on hornbeam or prism")
		case urnParDo:
			p := &pipepb.ParDoPayload{}
			if err := proto.Unmarshal(t.GetSpec().GetPayload(), p); err != nil {
				return fmt.Errorf("payload of %s: %w", t.GetUniqueName(), err)
			}
			checkFlinkParDo(p, isUnbounded(model), options, func(format string, args ...any) { refuse(t, format, args...) })
		}
	}
	if len(found) == 0 {
		return nil
	}
	slices.Sort(found)
	return fmt.Errorf("Beam's Flink runner cannot do this, so nothing was submitted; --runner=hornbeam can:\n%s", strings.Join(found, "\n"))
}

func checkFlinkParDo(p *pipepb.ParDoPayload, unbounded bool, options optionList, refuse func(format string, args ...any)) {
	for _, name := range sortedKeys(p.GetStateSpecs()) {
		spec := p.GetStateSpecs()[name]
		if protocol := spec.GetProtocol().GetUrn(); protocol != urnBagState {
			refuse("%s state %q (%s): it keeps value, bag and combining state only; use one of these", stateKind(spec), name, protocol)
		}
	}
	for _, family := range sortedKeys(p.GetTimerFamilySpecs()) {
		if p.GetTimerFamilySpecs()[family].GetTimeDomain() == pipepb.TimeDomain_PROCESSING_TIME {
			refuse("timer %q in processing time: of these Beam says that Flink does not support them; use a timer in event time", family)
		}
	}
	if p.GetOnWindowExpirationTimerFamilySpec() != "" {
		refuse("a callback when a window expires: it has none; use a timer in event time at the end of the window")
	}
	if p.GetRequestsFinalization() && !unbounded {
		refuse("bundle finalization: it is called after a checkpoint, and a bounded pipeline has none")
	} else if interval, ok := options.get(optCheckpointing); p.GetRequestsFinalization() && (!ok || interval == "-1") {
		refuse("bundle finalization: it is called after a checkpoint; set --runner_option=%s=10000", optCheckpointing)
	}
}

// stateKind names a kind of state as users know it.
func stateKind(s *pipepb.StateSpec) string {
	switch s.GetSpec().(type) {
	case *pipepb.StateSpec_MapSpec, *pipepb.StateSpec_MultimapSpec:
		return "map"
	case *pipepb.StateSpec_SetSpec:
		return "set"
	case *pipepb.StateSpec_OrderedListSpec:
		return "ordered list"
	}
	return "other"
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
