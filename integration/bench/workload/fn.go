// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/state"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
)

func init() {
	register.DoFn2x0[[]byte, func(beam.EventTime, int64, string)](&emitFn{})
	register.DoFn3x0[int64, int64, func(int64, int64)](&sinkFn{})
	register.DoFn2x0[int64, func(*int64) bool](&endFn{})
	register.DoFn3x3[state.Provider, int64, string, int64, int64, error](&countFn{})
	register.Combiner3[int64, string, int64](&sumFn{})
	register.Function2x2(double)
	register.Function2x2(weigh)
	register.Function2x2(fold)
	register.Emitter3[beam.EventTime, int64, string]()
	register.Emitter2[int64, int64]()
	register.Iter1[string]()
	register.Iter1[int64]()
}

// Paces of an emitFn: how the event times of its elements follow each other.
const (
	still    = iota // All at once.
	hourly          // Spread evenly over an hour.
	visiting        // Each key comes 20 times, 7 s apart, and again after 17 min.
)

// emitFn makes the elements.
type emitFn struct {
	N    int64
	Keys int64
	Pace int
}

func (fn *emitFn) ProcessElement(_ []byte, emit func(beam.EventTime, int64, string)) {
	for i := range fn.N {
		emit(fn.time(i), i%fn.Keys, "v"+strconv.FormatInt(i, 10))
	}
}

func (fn *emitFn) time(i int64) beam.EventTime {
	var millis int64
	switch fn.Pace {
	case hourly:
		millis = i * time.Hour.Milliseconds() / fn.N
	case visiting:
		turn := i / fn.Keys
		millis = turn/20*1_000_003 + turn%20*7_001 + i%fn.Keys
	}
	return mtime.FromMilliseconds(millis)
}

func double(key int64, text string) (int64, string) { return key, text + text }

func weigh(key int64, text string) (int64, int64) { return key, textHash(text) }

// fold is the sum of the hashes of a group, which does not depend on its order.
func fold(key int64, texts func(*string) bool) (int64, int64) {
	var sum int64
	for text := ""; texts(&text); {
		sum += textHash(text)
	}
	return key, sum
}

// textHash is FNV-1a.
func textHash(text string) int64 {
	h := uint64(14695981039346656037)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 1099511628211
	}
	return int64(h)
}

// sumFn is fold as a combiner.
type sumFn struct{}

func (*sumFn) CreateAccumulator() int64              { return 0 }
func (*sumFn) AddInput(sum int64, text string) int64 { return sum + textHash(text) }
func (*sumFn) MergeAccumulators(a, b int64) int64    { return a + b }
func (*sumFn) ExtractOutput(sum int64) int64         { return sum }

// countFn reads and writes a value for each element.
type countFn struct {
	Count state.Value[int64]
}

func newCountFn() *countFn { return &countFn{Count: state.MakeValueState[int64]("count")} }

func (fn *countFn) ProcessElement(p state.Provider, key int64, _ string) (int64, int64, error) {
	count, _, err := fn.Count.Read(p)
	if err != nil {
		return 0, 0, err
	}
	count++
	return key, count, fn.Count.Write(p, count)
}

// sunk is what the finished bundles of all sinks have taken. Both runners keep the workers in the
// process.
var sunk struct {
	count atomic.Int64
	hash  atomic.Uint64
}

type sinkFn struct {
	count int64
	hash  uint64
}

func (fn *sinkFn) StartBundle(func(int64, int64)) { fn.count, fn.hash = 0, 0 }

func (fn *sinkFn) ProcessElement(key, value int64, emit func(int64, int64)) {
	if fn.count == 0 {
		emit(0, 1)
	}
	fn.count++
	fn.hash += rowHash(key, value)
}

func (fn *sinkFn) FinishBundle(func(int64, int64)) {
	sunk.count.Add(fn.count)
	sunk.hash.Add(fn.hash)
}

func rowHash(key, value int64) uint64 {
	return mix(uint64(key)*0x9e3779b97f4a7c15 ^ mix(uint64(value)))
}

// mix is the end of MurmurHash3.
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// endFn takes the number of bundles, and nobody asks for it.
type endFn struct{}

func (*endFn) ProcessElement(int64, func(*int64) bool) {}
