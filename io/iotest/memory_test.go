// SPDX-License-Identifier: Apache-2.0

package iotest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/io/rtrackers/offsetrange"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/log"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
)

// The connector of this file keeps records in the process. It is as small as a connector can be that passes the
// suite, and it has faults on demand.

func init() {
	beam.RegisterType(reflect.TypeFor[span]())
	register.DoFn6x2[context.Context, *risingEstimator, *sdf.LockRTracker, span, func(beam.EventTime, Record), func(DeadLetter), sdf.ProcessContinuation, error](&readFn{})
	register.DoFn2x0[[]byte, func(span)](&listFn{})
	register.DoFn2x1[Record, func(DeadLetter), error](&writeFn{})
	register.Emitter1[span]()
	register.Emitter2[beam.EventTime, Record]()
}

// shelf holds the records of one place.
type shelf struct {
	mu     sync.Mutex // Guards what follows.
	parts  [][]Record
	fails  int
	broken bool
	taken  map[string]bool // What a source with the fault inProcess has read.
}

var (
	shelves sync.Map // Of *shelf, by name.
	placed  atomic.Int64
)

func newShelf(tb testing.TB, parts int) (string, *shelf) {
	name, s := fmt.Sprint("shelf ", placed.Add(1)), &shelf{parts: make([][]Record, parts), taken: map[string]bool{}}
	shelves.Store(name, s)
	tb.Cleanup(func() { shelves.Delete(name) })
	return name, s
}

func shelfOf(name string) *shelf {
	s, _ := shelves.Load(name)
	return s.(*shelf)
}

// ask is a request, which may fail.
func (s *shelf) ask(part int, from int64) ([]Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails > 0 {
		s.fails--
		return nil, errors.New("busy")
	}
	if s.broken {
		return nil, errors.New("the shelf is broken; repair it")
	}
	return slices.Clone(s.parts[part][min(from, int64(len(s.parts[part]))):]), nil
}

// fault is what is wrong with a connector.
type fault string

const (
	none            fault = ""
	loses           fault = "loses a record"
	changesKey      fault = "changes a key"
	samePosition    fault = "gives positions twice"
	cutsLarge       fault = "cuts what is large"
	dropsPoison     fault = "drops poison"
	givesUp         fault = "gives up at once"
	repeats         fault = "begins a residual with the record before it"
	inProcess       fault = "keeps its position in the process"
	wantsSoon       fault = "wants to be resumed at once"
	watermarkBack   fault = "lets the watermark go back"
	watermarkAhead  fault = "lets the watermark run ahead"
	neverIdle       fault = "is never idle"
	leaksGoroutine  fault = "leaves a goroutine"
	secretInModel   fault = "keeps the secret in the DoFn"
	secretInLog     fault = "logs the secret"
	secretInError   fault = "tells the secret in an error"
	vague           fault = "refuses without words"
	refusesNothing  fault = "refuses nothing"
	doublesOnRetry  fault = "writes again what is there"
	swallows        fault = "swallows the error of the close"
	losesRefused    fault = "loses what is refused"
	refusesInSilent fault = "refuses without a reason"
)

// span is the records of a part of a shelf.
type span struct {
	Shelf string
	Part  int
	End   int64
}

// risingEstimator follows the records.
type risingEstimator struct{ ms atomic.Int64 }

func (e *risingEstimator) CurrentWatermark() time.Time { return time.UnixMilli(e.ms.Load()) }

// readFn reads spans.
type readFn struct {
	Fault  fault
	Secret []byte // Only with secretInModel.

	stop chan struct{}
}

func (f *readFn) Setup() {
	if f.Fault == leaksGoroutine {
		f.stop = make(chan struct{})
		go func() { <-f.stop }()
	}
}

func (f *readFn) CreateInitialRestriction(s span) offsetrange.Restriction {
	return offsetrange.Restriction{Start: 0, End: s.End}
}

func (f *readFn) SplitRestriction(_ span, r offsetrange.Restriction) []offsetrange.Restriction {
	return []offsetrange.Restriction{r}
}

func (f *readFn) RestrictionSize(span, offsetrange.Restriction) float64 { return 1 }

func (f *readFn) CreateTracker(r offsetrange.Restriction) *sdf.LockRTracker {
	return sdf.NewLockRTracker(offsetrange.NewTracker(r))
}

func (f *readFn) InitialWatermarkEstimatorState(beam.EventTime, offsetrange.Restriction, span) int64 {
	return mtime.MinTimestamp.Milliseconds()
}

func (f *readFn) CreateWatermarkEstimator(ms int64) *risingEstimator {
	e := &risingEstimator{}
	e.ms.Store(ms)
	return e
}

func (f *readFn) WatermarkEstimatorState(e *risingEstimator) int64 { return e.ms.Load() }

func (f *readFn) ProcessElement(ctx context.Context, e *risingEstimator, rt *sdf.LockRTracker, s span, emit func(beam.EventTime, Record), dead func(DeadLetter)) (sdf.ProcessContinuation, error) {
	from := rt.GetRestriction().(offsetrange.Restriction).Start
	at := from
	if f.Fault == secretInLog {
		log.Infof(ctx, "the secret is %s", canary)
	}
	if f.Fault == secretInError {
		return sdf.StopProcessing(), errors.New("who knows " + canary + " may come in")
	}
	found, err := shelfOf(s.Shelf).ask(s.Part, from)
	for tries := 0; err != nil && tries < 3 && f.Fault != givesUp; tries++ {
		found, err = shelfOf(s.Shelf).ask(s.Part, from)
	}
	if err != nil {
		return sdf.StopProcessing(), err
	}
	if f.Fault == repeats && from > 0 && len(found) > 0 {
		again, _ := shelfOf(s.Shelf).ask(s.Part, from-1)
		f.emit(e, again[0], from-1, s, emit, dead)
	}
	for _, r := range found {
		if !rt.TryClaim(at) {
			return sdf.StopProcessing(), nil
		}
		f.emit(e, r, at, s, emit, dead)
		at++
	}
	if s.End < math.MaxInt64 {
		rt.TryClaim(at) // That nothing is left.
		return sdf.StopProcessing(), nil
	}
	if f.Fault != neverIdle {
		e.ms.Store(max(e.ms.Load(), time.Now().UnixMilli()))
	}
	if f.Fault == wantsSoon {
		return sdf.ResumeProcessingIn(10 * time.Millisecond), nil
	}
	return sdf.ResumeProcessingIn(time.Second), nil
}

func (f *readFn) emit(e *risingEstimator, r Record, at int64, s span, emit func(beam.EventTime, Record), dead func(DeadLetter)) {
	r.Position, r.Partition = fmt.Sprint(at), s.Part
	t, err := TimeOf(r.Value)
	switch f.Fault {
	case samePosition:
		r.Position = fmt.Sprint(at / 2)
	case changesKey:
		r.Key = []byte("key")
	case cutsLarge:
		r.Value = r.Value[:min(len(r.Value), 1000)]
	case inProcess:
		sh := shelfOf(s.Shelf)
		sh.mu.Lock()
		defer sh.mu.Unlock()
		id := fmt.Sprint(s, at)
		if sh.taken[id] {
			return
		}
		sh.taken[id] = true
	}
	if err != nil {
		if f.Fault != dropsPoison {
			dead(DeadLetter{Record: r, Reason: err.Error()})
		}
		return
	}
	if f.Fault == loses && at%5 == 3 {
		return
	}
	ms := t.UnixMilli()
	switch {
	case f.Fault == watermarkAhead:
		e.ms.Store(ms + 60_000)
	case f.Fault == watermarkBack && at == 3:
		e.ms.Store(ms - 10_000)
	}
	emit(mtime.FromTime(t), r)
	if f.Fault != watermarkBack || at < 3 {
		e.ms.Store(max(ms, e.ms.Load()))
	}
}

// listFn finds the spans of a read.
type listFn struct {
	Shelf string
	Until Extent
}

func (f *listFn) ProcessElement(_ []byte, emit func(span)) {
	for _, s := range f.list() {
		emit(s)
	}
}

func (f *listFn) list() (all []span) {
	s := shelfOf(f.Shelf)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, part := range s.parts {
		p := span{f.Shelf, i, int64(len(part))}
		if f.Until == ForEver {
			p.End = math.MaxInt64
		}
		all = append(all, p)
	}
	return all
}

// writeFn puts the records of a bundle on a shelf.
type writeFn struct {
	Shelf  string
	Fault  fault
	Secret []byte

	bundle []Record
}

func (f *writeFn) ProcessElement(r Record, dead func(DeadLetter)) error {
	if strings.HasPrefix(string(r.Value), poison) {
		switch f.Fault {
		case losesRefused:
		case refusesInSilent:
			dead(DeadLetter{Record: r})
		default:
			dead(DeadLetter{Record: r, Reason: "the shelf does not take poison"})
		}
		return nil
	}
	f.bundle = append(f.bundle, r)
	return nil
}

func (f *writeFn) FinishBundle(func(DeadLetter)) error {
	bundle := f.bundle
	f.bundle = nil
	if f.Fault == loses && len(bundle) > 0 {
		bundle = bundle[1:]
	}
	if f.Fault == secretInError {
		return errors.New("who knows " + canary + " may come in")
	}
	s := shelfOf(f.Shelf)
	_, err := s.ask(0, 0)
	for tries := 0; err != nil && tries < 3 && f.Fault != givesUp; tries++ {
		_, err = s.ask(0, 0)
	}
	if err != nil {
		if f.Fault == swallows {
			return nil
		}
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range bundle {
		known := slices.ContainsFunc(s.parts[0], func(q Record) bool { return string(q.Key) == string(r.Key) })
		if !known || f.Fault == doublesOnRetry {
			s.parts[0] = append(s.parts[0], r)
		}
	}
	return nil
}
