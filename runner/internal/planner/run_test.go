// SPDX-License-Identifier: Apache-2.0

package planner

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/exec"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"github.com/google/go-cmp/cmp"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"google.golang.org/protobuf/proto"
)

func init() {
	for _, fn := range []any{gather, three, tag, joinRows, joinInts, showCount, readRows, lookUpRows} {
		beam.RegisterFunction(fn)
	}
}

// collected is what the pipelines of this test gave out.
var collected []string

func gather(s string) { collected = append(collected, s) }

func three(_ []byte, emit func(string)) {
	for _, s := range []string{"a", "b", "a"} {
		emit(s)
	}
}
func tag(s string) (row, row) { return row{Name: s}, row{Name: s, N: len(s)} }
func joinRows(k row, vs func(*row) bool, emit func(string)) {
	s, v := k.Name+":", row{}
	for vs(&v) {
		s += strconv.Itoa(v.N)
	}
	emit(s)
}
func joinInts(k string, as, bs func(*int) bool, emit func(string)) {
	s, v := k+":", 0
	for as(&v) {
		s += "a" + strconv.Itoa(v)
	}
	for bs(&v) {
		s += "b" + strconv.Itoa(v)
	}
	emit(s)
}
func showCount(k string, n int) string { return k + strconv.Itoa(n) }
func readRows(s string, side []row, emit func(string)) {
	emit(s + strconv.Itoa(len(side)) + side[0].Name)
}
func lookUpRows(s string, side func(row) func(*row) bool, emit func(string)) {
	n, v := 0, row{}
	for next := side(row{Name: s}); next(&v); {
		n++
	}
	emit(s + strconv.Itoa(n))
}

// TestPlansRun runs plans with the SDK's own executor. The coders of the plan must fit what the
// worker writes and reads, and the options must not change results.
func TestPlansRun(t *testing.T) {
	source := func(s beam.Scope) beam.PCollection { return beam.ParDo(s, three, beam.Impulse(s)) }
	for name, test := range map[string]struct {
		make func(s beam.Scope) beam.PCollection
		want []string
	}{
		"combine": {func(s beam.Scope) beam.PCollection {
			return beam.ParDo(s, showCount, beam.CombinePerKey(s, sum, beam.ParDo(s, one, source(s))))
		}, []string{"a2", "b1"}},
		"windows": {func(s beam.Scope) beam.PCollection {
			in := beam.WindowInto(s, window.NewFixedWindows(time.Minute), beam.ParDo(s, one, source(s)))
			return beam.ParDo(s, showCount, beam.CombinePerKey(s, sum, in))
		}, []string{"a2", "b1"}},
		"group of rows": {func(s beam.Scope) beam.PCollection {
			return beam.ParDo(s, joinRows, beam.GroupByKey(s, beam.ParDo(s, tag, source(s))))
		}, []string{"a:11", "b:1"}},
		"cogroup": {func(s beam.Scope) beam.PCollection {
			a := beam.ParDo(s, one, source(s))
			return beam.ParDo(s, joinInts, beam.CoGroupByKey(s, a, a))
		}, []string{"a:a1a1b1b1", "b:a1b1"}},
		"flatten twice": {func(s beam.Scope) beam.PCollection {
			a := source(s)
			return beam.Flatten(s, a, beam.ParDo(s, words, a), a)
		}, []string{"a", "a", "a", "a", "a", "a", "b", "b", "b"}},
		"reshuffle": {func(s beam.Scope) beam.PCollection { return beam.Reshuffle(s, source(s)) }, []string{"a", "a", "b"}},
		"sides": {func(s beam.Scope) beam.PCollection {
			a := source(s)
			list := beam.ParDo(s, readRows, a, beam.SideInput{Input: beam.ParDo(s, rows, a)})
			found := beam.ParDo(s, lookUpRows, a, beam.SideInput{Input: beam.ParDo(s, tag, a)})
			return beam.Flatten(s, list, found)
		}, []string{"a2", "a2", "a3a", "a3a", "b1", "b3a"}},
		"splittable": {func(s beam.Scope) beam.PCollection { return beam.ParDo(s, &countDown{N: 2}, source(s)) },
			[]string{"a", "a", "b"}},
	} {
		for i := range 4 {
			o := Options{NoFusion: i&1 > 0, NoLifting: i&2 > 0}
			pipelines[""] = func(s beam.Scope) { beam.ParDo0(s, gather, test.make(s)) }
			p, err := Plan(build(t, ""), o)
			delete(pipelines, "")
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			collected = nil
			r := runner{T: t, plan: p, mail: make([][][]byte, len(p.Stages)), views: map[string][]byte{}}
			for i := range p.Stages {
				r.run(&p.Stages[i])
			}
			slices.Sort(collected)
			if d := cmp.Diff(test.want, collected); d != "" {
				t.Errorf("%s %+v (-want +got):\n%s", name, o, d)
			}
		}
	}
}

// runner runs a bounded plan, stage by stage. It ignores time.
type runner struct {
	*testing.T
	plan  *plan.Plan
	mail  [][][]byte // Encoded elements, by stage.
	views map[string][]byte
	exec.StateReader
}

func (r *runner) run(s *plan.Stage) {
	switch s.Kind {
	case plan.Impulse:
		b := coder.Windowed{Global: true}.AppendHeader(nil, coder.Header{
			Timestamp: event.MinTimestamp, Windows: []event.Window{event.Global}, Pane: event.NoFiring,
		})
		r.send(s, 0, append(b, 0))
	case plan.User:
		r.work(s)
	case plan.Group:
		r.group(s)
	case plan.View:
		r.view(s)
	}
}

// send gives the elements in b to all who read an output. They must be in the output's coder.
func (r *runner) send(s *plan.Stage, output int, b []byte) {
	out := s.Outputs[output]
	for len(b) > 0 {
		n, _ := r.cut(b, out.Windowing, out.Element)
		for _, c := range out.Consumers {
			r.mail[c] = append(r.mail[c], b[:n])
		}
		b = b[n:]
	}
}

// cut returns the length of the element at the head of b, and of its header.
func (r *runner) cut(b []byte, w plan.WindowingStrategy, c coder.Coder) (length, header int) {
	r.Helper()
	var h coder.Header
	header, err := coder.Windowed{Global: w.Global()}.ReadHeader(b, &h)
	if err != nil {
		r.Fatal(err)
	}
	return header + r.skip(b[header:], c), header
}

func (r *runner) skip(b []byte, c coder.Coder) int {
	r.Helper()
	skip, err := coder.Compile(c)
	if err != nil {
		r.Fatal(err)
	}
	n, err := skip(b)
	if err != nil {
		r.Fatal(err)
	}
	return n
}

func (r *runner) group(s *plan.Stage) {
	type values struct {
		head  []byte
		count int
		b     []byte
	}
	groups := map[string]*values{}
	for _, b := range r.mail[s.ID] {
		_, header := r.cut(b, s.Windowing, s.Element)
		n := header + r.skip(b[header:], *s.Key)
		// All elements of these pipelines have one timestamp, so the header stands for the window.
		if groups[string(b[:n])] == nil {
			groups[string(b[:n])] = &values{head: b[:n]}
		}
		g := groups[string(b[:n])]
		g.count++
		g.b = append(g.b, b[n:]...)
	}
	for _, k := range sorted(groups) {
		g := groups[k]
		b := binary.BigEndian.AppendUint32(slices.Clone(g.head), uint32(g.count))
		r.send(s, 0, append(b, g.b...))
	}
}

func (r *runner) view(s *plan.Stage) {
	id := strconv.Itoa(int(s.ID))
	for _, b := range r.mail[s.ID] {
		_, header := r.cut(b, s.Windowing, s.Element)
		b = b[header:]
		key := id
		if s.Access == plan.Multimap {
			n := r.skip(b, s.Element.Parts[0])
			key, b = id+"/"+string(b[:n]), b[n:]
		}
		r.views[key] = append(r.views[key], b...)
	}
}

func (r *runner) work(s *plan.Stage) {
	var desc fnpb.ProcessBundleDescriptor
	must(proto.Unmarshal(s.Descriptor, &desc))
	p, err := exec.UnmarshalPlan(&desc, nil)
	if err != nil {
		r.Fatal(err)
	}
	b := &bundle{runner: r, stage: s, out: make([]bytes.Buffer, len(s.Outputs))}
	if err := p.Execute(context.Background(), "1", exec.DataContext{Data: b, State: b}); err != nil {
		r.Fatalf("stage %s: %v", s.Name, err)
	}
	for i := range s.Outputs {
		r.send(s, i, b.out[i].Bytes())
	}
}

// bundle is the world of one stage that runs.
type bundle struct {
	*runner
	stage *plan.Stage
	out   []bytes.Buffer
}

func (b *bundle) OpenElementChan(context.Context, exec.StreamID, []string) (<-chan exec.Elements, error) {
	c := make(chan exec.Elements, 1)
	c <- exec.Elements{Data: bytes.Join(b.mail[b.stage.ID], nil), PtransformID: b.stage.Root}
	close(c)
	return c, nil
}

func (b *bundle) OpenWrite(_ context.Context, id exec.StreamID) (io.WriteCloser, error) {
	i := slices.IndexFunc(b.stage.Outputs, func(o plan.Output) bool { return o.Port == id.PtransformID })
	return writer{&b.out[i]}, nil
}

func (b *bundle) OpenTimerWrite(context.Context, exec.StreamID, string) (io.WriteCloser, error) {
	return nil, io.ErrUnexpectedEOF
}

type writer struct{ *bytes.Buffer }

func (writer) Close() error { return nil }

func (b *bundle) side(id exec.StreamID, local string) string {
	for _, s := range b.stage.Sides {
		if s.Transform == id.PtransformID && s.Local == local {
			return strconv.Itoa(int(s.View))
		}
	}
	panic("no side input " + local)
}

func (b *bundle) OpenIterableSideInput(_ context.Context, id exec.StreamID, local string, _ []byte) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(b.views[b.side(id, local)])), nil
}

func (b *bundle) OpenMultiMapSideInput(_ context.Context, id exec.StreamID, local string, key, _ []byte) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(b.views[b.side(id, local)+"/"+string(key)])), nil
}

func (b *bundle) GetSideInputCache() exec.SideCache { return noCache{} }

type noCache struct{}

func (noCache) QueryCache(context.Context, string, string, []byte, []byte) exec.ReStream { return nil }
func (noCache) SetCache(_ context.Context, _, _ string, _, _ []byte, r exec.ReStream) exec.ReStream {
	return r
}
