// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"errors"
	"fmt"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/engine"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/planner"
	"github.com/hornbeam-dev/hornbeam/runner/internal/store"
)

// Inspection is what a state directory tells of its job. Times are RFC 3339, or "start", "end of
// global window" and "end" for those that stand before, near and at the end of event time.
type Inspection struct {
	Record
	State   string            `json:"state"` // UNFINISHED, DONE, FAILED or CANCELLED.
	Reason  string            `json:"reason,omitempty"`
	Clock   string            `json:"clock"` // The processing time of the latest commit.
	Bytes   uint64            `json:"bytes"` // On disk.
	Stages  []InspectedStage  `json:"stages"`
	Metrics []InspectedMetric `json:"metrics,omitempty"`
	Aside   []ElementAside    `json:"set_aside,omitempty"`
}

// ElementAside is an element that failed whenever it was tried, and was set aside.
type ElementAside struct {
	Stage   int    `json:"stage"`
	Reason  string `json:"reason"`
	Element []byte `json:"element"` // Encoded, as a windowed value.
}

// InspectedStage is a stage of an Inspection.
type InspectedStage struct {
	ID              int     `json:"id"`
	Kind            string  `json:"kind"`
	Name            string  `json:"name"`
	InputWatermark  string  `json:"input_watermark"`
	OutputWatermark string  `json:"output_watermark"`
	MailboxElements int     `json:"mailbox_elements"`
	MailboxBytes    int     `json:"mailbox_bytes"`
	Timers          int     `json:"timers"`
	StateRows       int     `json:"state_rows"` // Of keys' state, groups that have not fired, and views.
	In              int64   `json:"in"`
	Out             []int64 `json:"out"` // By output.
	Late            int64   `json:"late"`
	Dead            int64   `json:"dead"`    // Set aside.
	Retries         int     `json:"retries"` // Of what has not succeeded since.
	WaitsFor        string  `json:"waits_for,omitempty"`
}

// InspectedMetric is a metric of the pipeline's own code. Sum is the value of a gauge; Count, Min
// and Max belong to distributions.
type InspectedMetric struct {
	Transform string `json:"transform"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Kind      string `json:"kind"`
	Sum       int64  `json:"sum"`
	Count     int64  `json:"count,omitempty"`
	Min       int64  `json:"min,omitempty"`
	Max       int64  `json:"max,omitempty"`
}

// Inspect reads the state directory dir, which no process may have open, and changes nothing.
func Inspect(dir string) (*Inspection, error) {
	s, err := store.OpenReadOnly(dir, store.Options{})
	if err != nil {
		return nil, err
	}
	i, err := inspect(s)
	if err := errors.Join(err, s.Close()); err != nil {
		return nil, fmt.Errorf("inspect %s: %w", dir, err)
	}
	return i, nil
}

func inspect(s *store.Store) (*Inspection, error) {
	view := s.View()
	defer view.Close()
	record, err := readRecord(view)
	if err != nil {
		return nil, err
	}
	if record == nil {
		return nil, errors.New("no job has begun in this state directory")
	}
	p, err := readPlan(view, record)
	if err != nil {
		return nil, err
	}
	opt := engine.Defaults()
	opt.Epoch, opt.KeyGroups = record.Epoch, record.KeyGroups
	e, err := engine.New(p, opt, view)
	if err != nil {
		return nil, err
	}
	i := newInspection(*record, p, e.Snapshot())
	i.Bytes = s.Size()
	for k := range i.Stages {
		i.Stages[k].StateRows = stateRows(view, plan.StageID(i.Stages[k].ID))
	}
	err = engine.ReadDead(view, func(d engine.Dead) bool {
		i.Aside = append(i.Aside, ElementAside{Stage: int(d.Stage), Reason: d.Reason, Element: d.Element})
		return true
	})
	return i, errors.Join(err, view.Err())
}

func stateRows(view kv.View, s plan.StageID) (rows int) {
	view.Scan(engine.StatePrefix(s, 0), engine.StatePrefix(s+1, 0), func(_, _ []byte) bool {
		rows++
		return true
	})
	return rows
}

// readPlan plans the pipeline of the job again, which gives the plan it runs with.
func readPlan(view kv.View, r *Record) (*plan.Plan, error) {
	row, ok := view.Get(pipelineKey)
	if err := view.Err(); err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("job %s has not begun: its program ended before it gave it a pipeline", r.ID)
	}
	var pipeline pipepb.Pipeline
	if err := proto.Unmarshal(row, &pipeline); err != nil {
		return nil, fmt.Errorf("the job's pipeline is malformed: %w", err)
	}
	return planner.Plan(&pipeline, planner.Options{NoFusion: r.NoFusion, NoLifting: r.NoLifting})
}

func newInspection(r Record, p *plan.Plan, snap engine.Snapshot) *Inspection {
	i := &Inspection{Record: r, State: snap.State.String(), Reason: snap.Reason, Clock: moment(snap.Clock)}
	if snap.State == engine.Running { // It is not: nobody else has the directory.
		i.State = "UNFINISHED"
	}
	for _, s := range snap.Stages {
		i.Stages = append(i.Stages, InspectedStage{
			ID:              int(s.ID),
			Kind:            s.Kind.String(),
			Name:            s.Name,
			InputWatermark:  moment(s.In),
			OutputWatermark: moment(s.Out),
			MailboxElements: s.Elements,
			MailboxBytes:    s.Bytes,
			Timers:          s.Timers,
			In:              s.Counts.In,
			Out:             s.Counts.Out,
			Late:            s.Counts.Late,
			Dead:            s.Counts.Dead,
			Retries:         s.Retries,
			WaitsFor:        s.WaitsFor,
		})
	}
	kinds := [...]string{bundle.Counter: "counter", bundle.Distribution: "distribution", bundle.Gauge: "gauge"}
	for _, m := range snap.Metrics {
		i.Metrics = append(i.Metrics, InspectedMetric{
			Transform: p.Transforms[m.Transform], Namespace: m.Namespace, Name: m.Name,
			Kind: kinds[m.Kind], Sum: m.Sum, Count: m.Count, Min: m.Min, Max: m.Max,
		})
	}
	return i
}

// moment prints a time for people.
func moment(t event.Timestamp) string {
	switch t {
	case event.MinTimestamp:
		return "start"
	case event.EndOfGlobalWindow:
		return "end of global window"
	case event.MaxTimestamp:
		return "end"
	}
	return t.Time().Format(time.RFC3339Nano)
}
