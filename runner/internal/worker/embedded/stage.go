// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/exec"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/protobuf/proto"

	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// stage is what the worker prepares once for a stage: how to walk over its elements, and plans of
// the SDK that wait for a bundle.
type stage struct {
	*plan.Stage
	err      error // The stage cannot be run.
	windowed coder.Windowed
	element  coder.Skip
	key      coder.Skip // Nil if not keyed.
	outputs  []outputSpec
	ports    map[string]int // Index in outputs, by port.
	states   map[stateName]plan.StateKind
	timers   map[stateName]plan.Domain
	sides    map[stateName]plan.StageID
	desc     *fnpb.ProcessBundleDescriptor

	mu   sync.Mutex // Guards idle.
	idle []*exec.Plan
}

// stateName is a state, timer family or side input of a transform.
type stateName struct{ transform, local string }

// outputSpec is what the consumers of an output need.
type outputSpec struct {
	windowed coder.Windowed
	header   bool // A consumer needs more of an element's header than the timestamp.
	classes  []class
}

// class is consumers that take the same chunks.
type class struct {
	key       coder.Skip  // Of keyed consumers.
	coder     coder.Coder // Of the key.
	single    bool        // One element in a chunk, because each is a restriction.
	maxWindow bool
	consumers []int
}

func newStage(p *plan.Plan, ps *plan.Stage) *stage {
	s := &stage{
		Stage:    ps,
		windowed: coder.Windowed{Global: ps.Windowing.Global()},
		ports:    make(map[string]int),
		states:   make(map[stateName]plan.StateKind),
		timers:   make(map[stateName]plan.Domain),
		sides:    make(map[stateName]plan.StageID),
		desc:     &fnpb.ProcessBundleDescriptor{},
	}
	for _, spec := range ps.States {
		s.states[stateName{spec.Transform, spec.ID}] = spec.Kind
	}
	for _, family := range ps.Timers {
		s.timers[stateName{family.Transform, family.ID}] = family.Domain
	}
	for _, side := range ps.Sides {
		s.sides[stateName{side.Transform, side.Local}] = side.View
	}
	if err := s.compile(p); err != nil {
		s.err = fmt.Errorf("embedded: stage %q: %w", ps.Name, err)
	}
	return s
}

func (s *stage) compile(p *plan.Plan) error {
	if err := proto.Unmarshal(s.Descriptor, s.desc); err != nil {
		return fmt.Errorf("read descriptor: %w", err)
	}
	var err error
	if s.element, err = coder.Compile(s.Element); err != nil {
		return err
	}
	if s.Keyed() {
		if s.key, err = coder.Compile(*s.Key); err != nil {
			return err
		}
	}
	for i, o := range s.Outputs {
		s.ports[o.Port] = i
		spec := outputSpec{windowed: coder.Windowed{Global: o.Windowing.Global()}}
		for j, id := range o.Consumers {
			if err := spec.add(&p.Stages[id], j); err != nil {
				return fmt.Errorf("key of the consumer %q: %w", p.Stages[id].Name, err)
			}
		}
		s.outputs = append(s.outputs, spec)
	}
	return nil
}

// add puts a consumer into the class of those with the same needs.
func (o *outputSpec) add(consumer *plan.Stage, index int) error {
	c := class{single: consumer.Splittable, maxWindow: len(consumer.Sides) > 0, consumers: []int{index}}
	if consumer.Keyed() {
		var err error
		if c.key, err = coder.Compile(*consumer.Key); err != nil {
			return err
		}
		c.coder = *consumer.Key
	}
	o.header = o.header || c.key != nil || c.maxWindow
	for i := range o.classes {
		old := &o.classes[i]
		if old.single == c.single && old.maxWindow == c.maxWindow && reflect.DeepEqual(old.coder, c.coder) {
			old.consumers = append(old.consumers, index)
			return nil
		}
	}
	o.classes = append(o.classes, c)
	return nil
}

// take returns a plan that no bundle uses.
func (s *stage) take() (p *exec.Plan, err error) {
	if p := s.takeIdle(); p != nil {
		return p, nil
	}
	defer func() {
		if r := recover(); r != nil { // The SDK panics on user types that it does not know.
			err = fmt.Errorf("embedded: stage %q cannot be built: %s", s.Name, escape(fmt.Sprint(r)))
		}
	}()
	if p, err = exec.UnmarshalPlan(s.desc, nil); err != nil {
		return nil, fmt.Errorf("embedded: stage %q cannot be built: %s", s.Name, escape(err.Error()))
	}
	return p, nil
}

func (s *stage) takeIdle() *exec.Plan {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.idle) - 1
	if last < 0 {
		return nil
	}
	p := s.idle[last]
	s.idle = s.idle[:last]
	return p
}

// give returns a plan whose bundle has succeeded.
func (s *stage) give(p *exec.Plan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, p)
}

func (s *stage) close() error {
	s.mu.Lock()
	idle := s.idle
	s.idle = nil
	s.mu.Unlock()
	var all []error
	for _, p := range idle {
		all = append(all, down(p))
	}
	return errors.Join(all...)
}

// down runs the Teardown of a plan's DoFns. The bundle's context may be done by now, but tearing
// down is not to be skipped.
func down(p *exec.Plan) error {
	if err := p.Down(context.Background()); err != nil {
		return fmt.Errorf("embedded: teardown: %s", escape(err.Error()))
	}
	return nil
}

// finalize runs the callbacks that the plan's bundle registered.
func finalize(p *exec.Plan) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("embedded: finalization: panic: %s", escape(fmt.Sprint(r)))
		}
	}()
	if err := p.Finalize(); err != nil {
		return fmt.Errorf("embedded: finalization: %s", escape(err.Error()))
	}
	return nil
}
