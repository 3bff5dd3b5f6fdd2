// SPDX-License-Identifier: Apache-2.0

package kinesisio

import (
	"crypto/rand"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
)

// transit is how long a record may take from the producer's clock to the shard and still be on time in one that
// follows the clock.
const transit = time.Second

// process tells the state of this process from that of one before a restart.
var process = rand.Text()

// WatermarkState is what is kept of a restriction's event time between bundles.
type WatermarkState struct {
	Watermark int64 // Milliseconds; it never goes back.
	Parts     []PartTime
	Process   string // Where QuietSince was measured: in another process the wait begins anew.
}

// PartTime is the event time of one part.
type PartTime struct {
	Shard, Low string // As in Part.
	Watermark  int64  // Milliseconds.
	QuietSince int64  // Since when, in milliseconds, the shard is caught up and quiet; 0 when it is not.
}

// estimator implements sdf.WatermarkEstimator for one restriction. A split reads it while records move it.
type estimator struct {
	mu    sync.Mutex // Guards state.
	state WatermarkState
}

func newEstimator(state WatermarkState) *estimator {
	state.Parts = slices.Clone(state.Parts)
	if state.Process != process {
		state.Process = process
		for i := range state.Parts {
			state.Parts[i].QuietSince = 0
		}
	}
	return &estimator{state: state}
}

// CurrentWatermark implements sdf.WatermarkEstimator.
func (e *estimator) CurrentWatermark() time.Time {
	return mtime.FromMilliseconds(e.current().Watermark).ToTime()
}

func (e *estimator) current() WatermarkState {
	e.mu.Lock()
	defer e.mu.Unlock()
	state := e.state
	state.Parts = slices.Clone(state.Parts)
	return state
}

// follow takes what parts there are, when from has ended or is empty. One that is new begins with the watermark of from,
// or of the restriction. One that follows several, or was made of several, begins with the least of theirs.
func (e *estimator) follow(parts []Part, from partID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	begin := e.state.Watermark
	if i := e.index(from); i >= 0 {
		begin = e.state.Parts[i].Watermark
	}
	var known []PartTime
	for _, p := range parts {
		next := PartTime{Shard: p.Shard, Low: p.Low, Watermark: begin}
		if i := e.index(p.id()); i >= 0 {
			next = e.state.Parts[i]
			if slices.Contains(p.Parents, from.Shard) { // It waited for from: nothing was read of it.
				next.Watermark = min(next.Watermark, begin)
			}
		}
		for _, q := range e.state.Parts {
			if q.Shard == p.Shard && !slices.ContainsFunc(parts, func(p Part) bool { return p.id() == q.id() }) {
				next.Watermark = min(next.Watermark, q.Watermark)
			}
		}
		known = append(known, next)
	}
	e.state.Parts = known
	e.move()
}

func (t PartTime) id() partID { return partID{t.Shard, t.Low} }

func (e *estimator) index(id partID) int {
	return slices.IndexFunc(e.state.Parts, func(p PartTime) bool { return p.id() == id })
}

// move makes the watermark that of the part which is furthest behind.
func (e *estimator) move() {
	least := int64(math.MaxInt64)
	for _, p := range e.state.Parts {
		least = min(least, p.Watermark)
	}
	if len(e.state.Parts) > 0 {
		e.state.Watermark = max(e.state.Watermark, least)
	}
}

func (e *estimator) change(id partID, how func(*PartTime)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := e.index(id); i >= 0 {
		how(&e.state.Parts[i])
		e.move()
	}
}

// sawRecord takes the event time of a record that is not from the future.
func (e *estimator) sawRecord(id partID, t mtime.Time, outOfOrder time.Duration) {
	e.change(id, func(p *PartTime) {
		p.QuietSince = 0
		p.Watermark = max(p.Watermark, t.Milliseconds()-outOfOrder.Milliseconds())
	})
}

// sawMore takes that something was or is to be read: however long that takes, the shard is not idle.
func (e *estimator) sawMore(id partID) {
	e.change(id, func(p *PartTime) { p.QuietSince = 0 })
}

// sawEnd takes that a read sent at this time found the position at the end of the shard.
func (e *estimator) sawEnd(id partID, at time.Time, outOfOrder, idleAfter time.Duration) {
	e.change(id, func(p *PartTime) {
		if p.QuietSince == 0 {
			p.QuietSince = at.UnixMilli()
		}
		if isIdle(p.QuietSince, at, idleAfter) {
			p.Watermark = max(p.Watermark, at.Add(-transit-outOfOrder).UnixMilli())
		}
	})
}

// isIdle is the edge: idle from the first millisecond at which the silence has lasted idleAfter.
func isIdle(quietSince int64, at time.Time, idleAfter time.Duration) bool {
	return idleAfter > 0 && at.UnixMilli()-quietSince >= idleAfter.Milliseconds()
}
