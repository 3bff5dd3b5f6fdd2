// SPDX-License-Identifier: Apache-2.0

// Package grouping does GroupByKey for one key group of a stage, as a pure function of its rows,
// the chunks that arrived, the timers that are due, and the time: it buffers values, merges
// windows, runs triggers and emits panes. It follows Beam's ReduceFnRunner to the letter, except
// that a trigger is asked after every element and not after every bundle, so that where bundles
// are cut does not show in the panes.
//
// There are two ways through it. Where the trigger cannot fire before the end of the window, the
// elements of a bundle are appended as one row for the window, a run, and a key is first looked
// at when its window ends (run.go). Else each key and window has a row with its pane and values
// (row.go, cell.go); keys with merging windows have one row for all their windows. Package trigger
// decides when to fire, package window where windows end, emit.go writes what was grouped.
//
// A key may have more values than fit into memory. Both ways put them into rows of their own as they
// come (spill.go), and a pane that is too large to be one piece goes out with the names of these
// rows in place of the values.
package grouping

import (
	"fmt"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/grouping/trigger"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/urn"
)

// Options are about groups that are large. Zero values take the defaults.
type Options struct {
	// HandOver lets a pane name its values, as the iterable of a token, instead of containing them.
	// Its consumer must be the only one, and own the rows that are named from then on.
	HandOver bool
	Spill    int // Bytes of the values of a key above which they get rows of their own; 16 KiB.
	Row      int // Bytes of such a row, at most; 256 KiB.
	Large    int // Bytes of the values of a pane above which it names them; 1 MiB.
	Merge    int // One bundle in this many puts small runs together; 64.
}

func (o Options) withDefaults() Options {
	if o.Spill == 0 {
		o.Spill = 16 << 10
	}
	if o.Row == 0 {
		o.Row = 256 << 10
	}
	if o.Large == 0 {
		o.Large = 1 << 20
	}
	if o.Merge == 0 {
		o.Merge = 64
	}
	return o
}

// Grouper does the grouping of one stage. It is immutable and safe for concurrent use.
type Grouper struct {
	stage     plan.StageID
	options   Options
	windowing plan.WindowingStrategy
	windowed  coder.Windowed
	key       coder.Skip
	element   coder.Skip
	trigger   *trigger.Trigger
	more      bool // Elements may come after the end of their window.
	runs      bool // Elements are buffered as runs until their window ends.
}

// New returns the Grouper of a stage of kind Group.
func New(s *plan.Stage, o Options) (*Grouper, error) {
	if s.Kind != plan.Group || s.Key == nil {
		return nil, fmt.Errorf("grouping: stage %d is not a grouping stage with a key", s.ID)
	}
	if s.Element.URN != urn.CoderKV || len(s.Element.Parts) != 2 {
		return nil, fmt.Errorf("grouping: elements of stage %d are %s, not KVs", s.ID, s.Element.URN)
	}
	key, err := coder.Compile(*s.Key)
	if err != nil {
		return nil, fmt.Errorf("grouping: key of stage %d: %w", s.ID, err)
	}
	element, err := coder.Compile(s.Element)
	if err != nil {
		return nil, fmt.Errorf("grouping: element of stage %d: %w", s.ID, err)
	}
	t, err := trigger.New(s.Windowing.Trigger, s.Windowing.Merges)
	if err != nil {
		return nil, fmt.Errorf("grouping: stage %d: %w", s.ID, err)
	}
	g := &Grouper{
		stage:     s.ID,
		options:   o.withDefaults(),
		windowing: s.Windowing,
		windowed:  coder.Windowed{Global: s.Windowing.Global()},
		key:       key,
		element:   element,
		trigger:   t,
	}
	// After the end of a window its keys get rows of their own if more can come. Their state must
	// then be known without having seen each element.
	g.more = g.windowing.AllowedLateness > 0 && !g.windowing.Global()
	g.runs = !g.windowing.Merges && !t.Early() && (!g.more || t.AtEnd())
	return g, nil
}

// Clock is the time of a bundle.
type Clock struct {
	Bundle    bundle.ID       // Names the rows the bundle adds: unique, and growing for a key group.
	Watermark event.Timestamp // The input watermark of the stage.
	Now       event.Timestamp // Processing time.
}

// Output is what a bundle did for one key group.
type Output struct {
	Chunks []bundle.Chunk // The panes: encoded windowed KV<K, Iterable<V>>.
	State  bundle.GroupState

	In     int64 // Elements taken in.
	Late   int64 // Elements dropped because a window had expired, one for each such window.
	Closed int64 // Elements dropped because the trigger had finished, one for each such window.
	Out    int64 // Panes given out.
}

// Run groups one key group's share of a bundle. View reads the rows of the stage and key group;
// nothing of Output is in effect before the engine commits it.
func (g *Grouper) Run(view kv.View, in bundle.Input, at Clock) (Output, error) {
	p := &pass{
		g: g, view: view, at: at, group: in.Group,
		rows:    map[string]*row{},
		windows: map[event.Window]*windowState{},
		emit:    emitter{windowed: g.windowed},
	}
	for _, c := range in.Chunks {
		if err := p.chunk(c); err != nil {
			return Output{}, err
		}
	}
	for _, t := range in.Timers {
		if err := p.timer(t); err != nil {
			return Output{}, err
		}
	}
	p.finish()
	if p.err == nil {
		p.err = view.Err()
	}
	if p.err != nil {
		return Output{}, p.err
	}
	p.out.State.Group = in.Group
	p.out.Chunks, p.out.Out = p.emit.chunks, p.emit.count
	return p.out, nil
}
