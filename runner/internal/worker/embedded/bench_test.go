// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/state"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

func init() {
	register.Function1x1(passThrough)
	register.Function2x2(passPair)
	register.DoFn3x1[state.Provider, string, string, error](&counting{})
}

func passThrough(s string) string                  { return s }
func passPair(k string, v string) (string, string) { return k, v }

// counting reads and writes a value for each element.
type counting struct{ N state.Value[int64] }

func (f *counting) ProcessElement(p state.Provider, k, v string) error {
	n, _, err := f.N.Read(p)
	if err != nil {
		return err
	}
	return f.N.Write(p, n+1)
}

// load makes a bundle of n elements over the given number of keys for a stage of string pairs.
func load(s *plan.Stage, keys, n, groups int) bundle.Work {
	boxes := make([]bundle.Chunk, groups)
	h := coder.Header{Timestamp: 1000, Windows: []event.Window{event.Global}, Pane: event.NoFiring}
	for i := range n {
		key := prefixed(fmt.Sprintf("user-%06d", i%keys))
		g := 0
		if s.Keyed() {
			g = int(bundle.KeyGroupOf(key, groups))
		}
		b := coder.Windowed{Global: true}.AppendHeader(boxes[g].Bytes, h)
		b = append(append(b, key...), prefixed("a value of twenty b.")...)
		boxes[g].Bytes = b
		boxes[g].Count++
	}
	w := bundle.Work{ID: bundle.ID{Epoch: 1, N: 1}, Stage: s.ID, Watermark: event.MinTimestamp}
	for g, c := range boxes {
		if c.Count > 0 {
			w.Inputs = append(w.Inputs, bundle.Input{Group: bundle.KeyGroup(g), Chunks: []bundle.Chunk{c}})
		}
	}
	return w
}

func benchmarkStage(b *testing.B, name string, keys int, build func(beam.Scope)) {
	j := newJobWith(b, Options{KeyGroups: 128}, build)
	s := j.stage(name)
	const n = 10_000
	w := load(s, keys, n, 128)
	b.ReportAllocs()
	for b.Loop() {
		w.ID.N++
		r, err := j.worker.Run(context.Background(), w, jobState{j, s.ID})
		if err != nil {
			b.Fatal(err)
		}
		if w.ID.N == 3 {
			j.commit(s.ID, r) // From now on the state is in the table.
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/elem")
}

func BenchmarkPassThrough(b *testing.B) {
	benchmarkStage(b, "passPair", 1000, func(s beam.Scope) {
		pairs := beam.Reshuffle(s, beam.ParDo(s, noPairs, beam.Impulse(s)))
		beam.ParDo(s, passPair, beam.Reshuffle(s, beam.ParDo(s, passPair, pairs)))
	})
}

func BenchmarkKeyedOutput(b *testing.B) {
	benchmarkStage(b, "passPair", 1000, func(s beam.Scope) {
		pairs := beam.Reshuffle(s, beam.ParDo(s, noPairs, beam.Impulse(s)))
		beam.GroupByKey(s, beam.ParDo(s, passPair, pairs))
	})
}

func BenchmarkValueState(b *testing.B) {
	for _, keys := range []int{100, 10_000} {
		b.Run(fmt.Sprint("keys=", keys), func(b *testing.B) {
			benchmarkStage(b, "counting", keys, func(s beam.Scope) {
				beam.ParDo0(s, &counting{state.MakeValueState[int64]("n")}, beam.ParDo(s, noPairs, beam.Impulse(s)))
			})
		})
	}
}

func BenchmarkSink(b *testing.B) {
	for _, keyed := range []bool{false, true} {
		b.Run(fmt.Sprint("keyed=", keyed), func(b *testing.B) {
			j := newJobWith(b, Options{KeyGroups: 128}, func(s beam.Scope) {
				pairs := beam.Reshuffle(s, beam.ParDo(s, noPairs, beam.Impulse(s)))
				if out := beam.ParDo(s, passPair, pairs); keyed {
					beam.GroupByKey(s, out)
				} else {
					beam.ParDo(s, passPair, beam.Reshuffle(s, out))
				}
			})
			s := j.worker.stages[j.stage("passPair").ID]
			var elements [][]byte
			for i := range 1000 {
				h := coder.Header{Timestamp: 1000, Windows: []event.Window{event.Global}, Pane: event.NoFiring}
				e := coder.Windowed{Global: true}.AppendHeader(nil, h)
				e = append(append(e, prefixed(fmt.Sprintf("user-%06d", i))...), prefixed("a value of twenty b.")...)
				elements = append(elements, e)
			}
			r := newRun(context.Background(), j.worker, s, bundle.Work{}, nil)
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				if i++; i%100_000 == 0 {
					r.sinks[0].appendOutputs(nil, 0)
					r = newRun(context.Background(), j.worker, s, bundle.Work{}, nil)
				}
				if _, err := r.sinks[0].Write(elements[i%len(elements)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Bundles of different key groups run at once.
func TestConcurrentBundles(t *testing.T) {
	j := newJobWith(t, Options{KeyGroups: 8}, func(s beam.Scope) {
		beam.ParDo0(s, &counting{state.MakeValueState[int64]("n")}, beam.ParDo(s, noPairs, beam.Impulse(s)))
	})
	s := j.stage("counting")
	const rounds, n, keys = 5, 1000, 50
	for range rounds {
		all := load(s, keys, n, 8)
		var wait sync.WaitGroup
		for g, in := range all.Inputs {
			wait.Go(func() {
				w := all
				w.ID.N = uint64(g + 1)
				w.Inputs = []bundle.Input{in}
				r, err := j.worker.Run(context.Background(), w, jobState{j, s.ID})
				if err != nil {
					t.Error(err)
					return
				}
				j.commit(s.ID, r)
			})
		}
		wait.Wait()
	}
	v := j.tables[s.ID].View()
	defer v.Close()
	rows := 0
	v.Scan(nil, nil, func(_, value []byte) bool {
		rows++
		want := []byte{rounds * n / keys}
		if string(value) != string(want) {
			t.Errorf("got the count %x, want %x", value, want)
		}
		return true
	})
	if rows != keys {
		t.Errorf("%d rows, want %d", rows, keys)
	}
}
