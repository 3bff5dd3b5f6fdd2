// SPDX-License-Identifier: Apache-2.0

package planner

import (
	"encoding/binary"
	"fmt"
	"slices"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/urn"
	"google.golang.org/protobuf/proto"
)

// checkTestStream verifies a TestStream, by reading its events.
func (d *draft) checkTestStream(name string, m *pipepb.PTransform) error {
	var p pipepb.TestStreamPayload
	if err := proto.Unmarshal(m.GetSpec().GetPayload(), &p); err != nil {
		return malformed("payload of %s: %v", name, err)
	}
	if len(m.GetInputs()) > 0 || len(m.GetOutputs()) == 0 {
		return malformed("%s has %d inputs and %d outputs", name, len(m.GetInputs()), len(m.GetOutputs()))
	}
	if p.GetEndpoint().GetUrl() != "" {
		d.refuse(name, "a TestStream that takes its events from a service")
	}
	for _, local := range sorted(m.GetOutputs()) {
		if s := d.strategy(m.GetOutputs()[local]); !s.Global() {
			d.refuse(name, "a TestStream that does not write into the global window")
		}
	}
	_, err := d.testStreamEvents(name, m, &p)
	return err
}

func (d *draft) lowerTestStream(id string, m *pipepb.PTransform) {
	var p pipepb.TestStreamPayload
	mustUnmarshal(m.GetSpec().GetPayload(), &p)
	events, err := d.testStreamEvents(d.names[id], m, &p)
	if err != nil {
		panic("planner: a TestStream that was checked cannot be read: " + err.Error())
	}
	d.steps = append(d.steps, &step{id: id, proto: m, work: byRunner, kind: plan.TestStream, events: events})
}

// testStreamEvents reads the events of a TestStream.
func (d *draft) testStreamEvents(name string, m *pipepb.PTransform, p *pipepb.TestStreamPayload) ([]plan.TestStreamEvent, error) {
	locals := outputsInOrder(&step{proto: m})
	// output returns the index of the output with a tag. An event without a tag is for the only one.
	output := func(tag string) (int, error) {
		if tag == "" && len(locals) == 1 {
			return 0, nil
		}
		i := slices.Index(locals, tag)
		if i < 0 {
			return 0, malformed("an event of %s is for output %q, which it does not have", name, tag)
		}
		return i, nil
	}
	var events []plan.TestStreamEvent
	for _, e := range p.GetEvents() {
		switch e := e.GetEvent().(type) {
		case *pipepb.TestStreamPayload_Event_WatermarkEvent:
			i, err := output(e.WatermarkEvent.GetTag())
			if err != nil {
				return nil, err
			}
			to := event.Clamp(e.WatermarkEvent.GetNewWatermark())
			events = append(events, plan.TestStreamEvent{Advance: &plan.AdvanceWatermark{Output: i, To: to}})
		case *pipepb.TestStreamPayload_Event_ProcessingTimeEvent:
			n := e.ProcessingTimeEvent.GetAdvanceDuration()
			if n < 0 {
				return nil, malformed("%s sets the clock back", name)
			}
			if n > 0 {
				events = append(events, plan.TestStreamEvent{Clock: int64(event.Clamp(n))})
			}
		case *pipepb.TestStreamPayload_Event_ElementEvent:
			i, err := output(e.ElementEvent.GetTag())
			if err != nil {
				return nil, err
			}
			add := &plan.AddElements{Output: i}
			cut := d.elementForm(m.GetOutputs()[locals[i]])
			for _, el := range e.ElementEvent.GetElements() {
				b, err := cut(el.GetEncodedElement())
				if err != nil {
					d.refuse(name, "elements in another coder than that of the output: %v", err)
					return events, nil
				}
				add.Elements = append(add.Elements, plan.TestElement{Timestamp: event.Clamp(el.GetTimestamp()), Encoded: b})
			}
			events = append(events, plan.TestStreamEvent{Add: add})
		default:
			return nil, malformed("an event of %s of type %T", name, e)
		}
	}
	return events, nil
}

// elementForm returns a function that puts an element of a TestStream into the form of the wire.
//
// The Go SDK names as coder the first of the pipeline, which may be a part of the real one, so the
// coder of the output counts. Whether the bytes are in it is verified.
func (d *draft) elementForm(collection string) func(b []byte) ([]byte, error) {
	own := d.collections[collection].GetCoderId()
	wire := d.coders.onWire(own)
	prefix := wire != own && d.coders.is(wire, urn.CoderLengthPrefix)
	skip, err := coder.Compile(d.coders.tree(wire))
	return func(b []byte) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		if wire != own && !prefix {
			return nil, fmt.Errorf("coder %q has parts that the runner does not know", d.coders.urn(own))
		}
		if prefix {
			b = append(binary.AppendUvarint(nil, uint64(len(b))), b...)
		}
		n, err := skip(b)
		if err != nil {
			return nil, err
		}
		if n != len(b) {
			return nil, fmt.Errorf("%d bytes are too many", len(b)-n)
		}
		return b, nil
	}
}
