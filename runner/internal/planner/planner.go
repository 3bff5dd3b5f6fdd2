// SPDX-License-Identifier: Apache-2.0

// Package planner turns a pipeline proto into a plan: it checks that everything in the pipeline
// can be run, lowers what has several steps, fuses steps into stages and writes what a worker
// builds each stage from. It is pure: the same pipeline always gives the same plan, byte for byte,
// because a job's plan is made again from the stored pipeline after a restart.
//
// The phases are in the files check.go, lower.go, fuse.go and describe.go. This is the only
// package of the runner's core that knows protos.
package planner

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// Options change a plan but never what the pipeline computes; tests use them to prove it.
type Options struct {
	NoFusion  bool // A durable boundary between all transforms.
	NoLifting bool // Combines run as their GroupByKey and the combining of whole groups.
	// Function, if set, says why a worker could not run the Go function with a symbol's name, or
	// nil. A pipeline has no more of a function than that name: what it captures is lost.
	Function func(symbol string) error
}

// Feature is something in a pipeline that cannot be run.
type Feature struct {
	Transform string // The unique name of the transform; empty if it is the pipeline as a whole.
	What      string
}

// Unsupported is the error that lists everything in a pipeline that cannot be run.
type Unsupported []Feature

// Error prints one line for each feature.
func (u Unsupported) Error() string {
	var b strings.Builder
	b.WriteString("the pipeline uses what this runner cannot run:")
	for _, f := range u {
		if f.Transform == "" {
			fmt.Fprintf(&b, "\n  the pipeline: %s", f.What)
			continue
		}
		fmt.Fprintf(&b, "\n  %s: %s", f.Transform, f.What)
	}
	return b.String()
}

// Plan makes the plan of a pipeline. It fails with Unsupported if the pipeline uses what cannot be
// run, and with another error if the pipeline is malformed. It does not change p.
func Plan(p *pipepb.Pipeline, o Options) (*plan.Plan, error) {
	d := newDraft(p, o)
	if err := d.check(p); err != nil {
		return nil, err
	}
	if err := d.lower(); err != nil {
		return nil, err
	}
	if err := d.refusal(); err != nil {
		return nil, err
	}
	stages, err := d.fuse()
	if err != nil {
		return nil, err
	}
	if err := d.refusal(); err != nil {
		return nil, err
	}
	result := &plan.Plan{Transforms: d.names}
	for _, s := range stages {
		if s.Kind == plan.User {
			if s.Descriptor, err = d.describe(s); err != nil {
				return nil, err
			}
		}
		result.Stages = append(result.Stages, s.Stage)
	}
	return result, nil
}

// draft is a pipeline on its way to a plan.
type draft struct {
	options     Options
	transforms  map[string]*pipepb.PTransform
	collections map[string]*pipepb.PCollection // With those that lowering adds.
	strategies  map[string]*pipepb.WindowingStrategy
	coders      *coders

	windowing   map[string]plan.WindowingStrategy // By the ID in strategies.
	leaves      []string                          // IDs of the transforms to be lowered.
	pardos      map[string]*pipepb.ParDoPayload
	names       map[string]string
	unsupported Unsupported

	steps    []*step              // After lower: what runs, producers first.
	producer map[string]*step     // By the collection.
	sources  map[string][]written // By the collection; only steps that are not virtual write.
}

func newDraft(p *pipepb.Pipeline, o Options) *draft {
	c := p.GetComponents()
	d := &draft{
		options:     o,
		transforms:  c.GetTransforms(),
		collections: map[string]*pipepb.PCollection{},
		strategies:  c.GetWindowingStrategies(),
		coders:      newCoders(c.GetCoders()),
		windowing:   map[string]plan.WindowingStrategy{},
		pardos:      map[string]*pipepb.ParDoPayload{},
		names:       map[string]string{},
		producer:    map[string]*step{},
		sources:     map[string][]written{},
	}
	maps.Copy(d.collections, c.GetPcollections())
	return d
}

// refuse notes a feature that cannot be run, once.
func (d *draft) refuse(transform, format string, args ...any) {
	f := Feature{Transform: transform, What: fmt.Sprintf(format, args...)}
	if !slices.Contains(d.unsupported, f) {
		d.unsupported = append(d.unsupported, f)
	}
}

func (d *draft) refusal() error {
	if len(d.unsupported) == 0 {
		return nil
	}
	return d.unsupported
}

// strategy returns the windowing strategy of a collection that was checked.
func (d *draft) strategy(collection string) plan.WindowingStrategy {
	return d.windowing[d.collections[collection].GetWindowingStrategyId()]
}

// windowCoder returns the ID of the coder of a collection's windows.
func (d *draft) windowCoder(collection string) string {
	return d.strategies[d.collections[collection].GetWindowingStrategyId()].GetWindowCoderId()
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("malformed pipeline: "+format, args...)
}

// only returns the single value of m.
func only(m map[string]string) string {
	for _, v := range m {
		return v
	}
	return ""
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
