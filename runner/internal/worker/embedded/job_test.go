// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/planner"
	"github.com/hornbeam-dev/hornbeam/runner/internal/view"
)

// job is a runner in miniature: it takes what bundles give out to the next stage, in the order of
// the stages, and keeps state in a kv.Mem for each stage. Time does not pass by itself.
type job struct {
	t      testing.TB
	plan   *plan.Plan
	worker *Worker
	groups int

	mu        sync.Mutex // Guards the rest; bundles may run at once.
	bundles   uint64
	tables    map[plan.StageID]*kv.Mem
	boxes     map[plan.StageID][]bundle.Input // By ascending key group.
	watermark event.Timestamp
	metrics   map[bundle.MetricName]bundle.Metric
	counts    map[plan.StageID]bundle.Counts
}

func newJob(t testing.TB, build func(s beam.Scope)) *job {
	t.Helper()
	return newJobWith(t, Options{KeyGroups: 4}, build)
}

func newJobWith(t testing.TB, o Options, build func(s beam.Scope)) *job {
	t.Helper()
	p, s := beam.NewPipelineWithRoot()
	build(s)
	edges, _, err := p.Build()
	if err != nil {
		t.Fatal(err)
	}
	proto, err := graphx.Marshal(edges, &graphx.Options{Environment: &pipepb.Environment{}})
	if err != nil {
		t.Fatal(err)
	}
	pl, err := planner.Plan(proto, planner.Options{})
	if err != nil {
		t.Fatal(err)
	}
	j := &job{
		t: t, plan: pl, worker: New(pl, o), groups: o.KeyGroups, watermark: event.MinTimestamp,
		tables:  map[plan.StageID]*kv.Mem{},
		boxes:   map[plan.StageID][]bundle.Input{},
		metrics: map[bundle.MetricName]bundle.Metric{},
		counts:  map[plan.StageID]bundle.Counts{},
	}
	for i := range pl.Stages {
		j.tables[plan.StageID(i)] = kv.NewMem()
	}
	t.Cleanup(func() {
		if err := j.worker.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

// stage returns the user stage with a transform whose unique name contains part.
func (j *job) stage(part string) *plan.Stage {
	j.t.Helper()
	for i := range j.plan.Stages {
		s := &j.plan.Stages[i]
		if s.Kind == plan.User && contains(s.Name, part) {
			return s
		}
	}
	j.t.Fatalf("no stage %q in %v", part, j.plan.Stages)
	return nil
}

func contains(s, part string) bool {
	for i := range len(s) - len(part) + 1 {
		if s[i:i+len(part)] == part {
			return true
		}
	}
	return false
}

type jobState struct {
	job   *job
	stage plan.StageID
}

func (s jobState) Group(g bundle.KeyGroup) kv.View {
	return kv.Prefixed(s.job.tables[s.stage].View(), binary.BigEndian.AppendUint16(nil, uint16(g)))
}

func (s jobState) Other(of plan.StageID, g bundle.KeyGroup) kv.View {
	return kv.Prefixed(s.job.tables[of].View(), binary.BigEndian.AppendUint16(nil, uint16(g)))
}

// work takes all that waits for a stage.
func (j *job) work(id plan.StageID) bundle.Work {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.bundles++
	w := bundle.Work{
		ID: bundle.ID{Epoch: 1, N: j.bundles}, Stage: id, Inputs: j.boxes[id], Watermark: j.watermark,
	}
	delete(j.boxes, id)
	return w
}

// box returns what waits for a key group of a stage.
func (j *job) box(id plan.StageID, g bundle.KeyGroup) *bundle.Input {
	all := j.boxes[id]
	at, ok := slices.BinarySearchFunc(all, g, func(in bundle.Input, g bundle.KeyGroup) int {
		return int(in.Group) - int(g)
	})
	if !ok {
		j.boxes[id] = slices.Insert(all, at, bundle.Input{Group: g})
	}
	return &j.boxes[id][at]
}

// commit makes what a bundle did visible.
func (j *job) commit(id plan.StageID, r bundle.Result) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := &j.plan.Stages[id]
	for _, o := range r.Outputs {
		in := j.box(s.Outputs[o.Output].Consumers[o.Consumer], o.Group)
		in.Chunks = append(in.Chunks, o.Chunk)
	}
	tx := j.tables[id].Begin()
	for _, g := range r.State {
		prefix := binary.BigEndian.AppendUint16(nil, uint16(g.Group))
		for _, w := range g.Writes {
			key := append(slices.Clip(prefix), w.Key...)
			if w.Delete {
				tx.Delete(key)
			} else {
				tx.Set(key, w.Value)
			}
		}
	}
	if _, err := tx.Commit(); err != nil {
		j.t.Fatal(err)
	}
	for _, m := range r.Metrics {
		if old, ok := j.metrics[m.MetricName]; ok {
			m = old.Add(m)
		}
		j.metrics[m.MetricName] = m
	}
	c := j.counts[id]
	c.In += r.Counts.In
	c.Late += r.Counts.Late
	j.counts[id] = c
}

// run runs one bundle of all that waits for a stage, and commits it.
func (j *job) run(ctx context.Context, id plan.StageID) (bundle.Result, error) {
	w := j.work(id)
	s := &j.plan.Stages[id]
	var r bundle.Result
	var err error
	switch s.Kind {
	case plan.Impulse:
		r = impulse(s)
	case plan.Group:
		r = j.group(s, w)
	case plan.View:
		r, err = view.Run(s, w)
	default:
		r, err = j.worker.Run(ctx, w, jobState{j, id})
	}
	if err == nil {
		j.commit(id, r)
		j.putBack(w, r)
	}
	return r, err
}

// putBack lets what a splittable stage did not do wait for its next bundle.
func (j *job) putBack(w bundle.Work, r bundle.Result) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, res := range r.Residuals {
		in := j.box(w.Stage, 0)
		in.Chunks = append(in.Chunks, bundle.Chunk{Count: 1, Bytes: res.Element})
	}
	if r.Unprocessed > 0 {
		chunks := w.Inputs[0].Chunks
		in := j.box(w.Stage, 0)
		in.Chunks = append(in.Chunks, chunks[len(chunks)-r.Unprocessed:]...)
	}
}

// all runs every stage once, in order.
func (j *job) all() map[plan.StageID]bundle.Result {
	j.t.Helper()
	results := map[plan.StageID]bundle.Result{}
	for i := range j.plan.Stages {
		r, err := j.run(context.Background(), plan.StageID(i))
		if err != nil {
			j.t.Fatal(err)
		}
		results[plan.StageID(i)] = r
	}
	return results
}

// upTo runs the stages before one, and returns the work that waits for it.
func (j *job) upTo(s *plan.Stage) bundle.Work {
	j.t.Helper()
	for i := range s.ID {
		if _, err := j.run(context.Background(), i); err != nil {
			j.t.Fatal(err)
		}
	}
	return j.work(s.ID)
}

// after runs the stages behind one.
func (j *job) after(s *plan.Stage) {
	j.t.Helper()
	for id := s.ID + 1; int(id) < len(j.plan.Stages); id++ {
		if _, err := j.run(context.Background(), id); err != nil {
			j.t.Fatal(err)
		}
	}
}

func impulse(s *plan.Stage) bundle.Result {
	b := coder.Windowed{Global: true}.AppendHeader(nil, coder.Header{
		Timestamp: event.MinTimestamp, Windows: []event.Window{event.Global}, Pane: event.NoFiring,
	})
	var r bundle.Result
	for i, o := range s.Outputs {
		for c := range o.Consumers {
			r.Outputs = append(r.Outputs, bundle.Output{Output: i, Consumer: c, Chunk: bundle.Chunk{
				Count: 1, Bytes: append(b, 0), MinTimestamp: event.MinTimestamp,
			}})
		}
	}
	return r
}

// group gathers the values of each key and window, in the order of the keys' arrival.
func (j *job) group(s *plan.Stage, work bundle.Work) bundle.Result {
	type grouped struct {
		head, values []byte
		count        uint32
	}
	w := coder.Windowed{Global: s.Windowing.Global()}
	key, _ := coder.Compile(*s.Key)
	element, _ := coder.Compile(s.Element)
	var r bundle.Result
	for _, in := range work.Inputs {
		index := map[string]*grouped{}
		var order []*grouped
		for _, chunk := range in.Chunks {
			for b := chunk.Bytes; len(b) > 0; {
				var h coder.Header
				n, err := w.ReadHeader(b, &h)
				if err != nil {
					j.t.Fatal(err)
				}
				size, err := element(b[n:])
				if err != nil {
					j.t.Fatal(err)
				}
				k, _ := key(b[n:])
				for _, win := range h.Windows {
					id := fmt.Sprint(win) + string(b[n:n+k])
					if index[id] == nil {
						head := w.AppendHeader(nil, coder.Header{Timestamp: h.Timestamp, Windows: []event.Window{win}, Pane: event.NoFiring})
						index[id] = &grouped{head: append(head, b[n:n+k]...)}
						order = append(order, index[id])
					}
					index[id].values = append(index[id].values, b[n+k:n+size]...)
					index[id].count++
				}
				b = b[n+size:]
			}
		}
		for c := range s.Outputs[0].Consumers {
			for _, g := range order {
				b := append(binary.BigEndian.AppendUint32(slices.Clip(g.head), g.count), g.values...)
				r.Outputs = append(r.Outputs, bundle.Output{Consumer: c, Chunk: bundle.Chunk{Count: 1, Bytes: b}})
			}
		}
	}
	return r
}

// record keeps what it is given, by its name, for the test to look at.
type record struct{ Name string }

var (
	recordMu sync.Mutex
	recorded = map[string][]string{}
)

func (r *record) ProcessElement(s string) {
	recordMu.Lock()
	defer recordMu.Unlock()
	recorded[r.Name] = append(recorded[r.Name], s)
}

// taken returns what was recorded since it was last asked for, sorted.
func taken(name string) []string {
	recordMu.Lock()
	defer recordMu.Unlock()
	all := recorded[name]
	delete(recorded, name)
	slices.Sort(all)
	return all
}

func init() { beam.RegisterDoFn(&record{}) }

// keyed makes input of string pairs for a keyed stage and puts it into its mailbox.
func (j *job) keyed(s *plan.Stage, t event.Timestamp, windows []event.Window, pairs ...string) {
	w := coder.Windowed{Global: s.Windowing.Global()}
	for i := 0; i < len(pairs); i += 2 {
		b := w.AppendHeader(nil, coder.Header{Timestamp: t, Windows: windows, Pane: event.NoFiring})
		key := prefixed(pairs[i])
		b = append(append(b, key...), prefixed(pairs[i+1])...)
		in := j.box(s.ID, bundle.KeyGroupOf(key, j.groups))
		in.Chunks = append(in.Chunks, bundle.Chunk{Count: 1, Bytes: b, MinTimestamp: t})
	}
}

func prefixed(s string) []byte {
	return append(binary.AppendUvarint(nil, uint64(len(s))), s...)
}
