// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"crypto/rand"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
)

// transit is how long a record may take from the producer's clock to the partition and still be on time in one
// that follows the clock.
const transit = time.Second

// process tells the state of this process from that of one before a restart.
var process = rand.Text()

// WatermarkState is what is kept of a partition's event time between bundles.
type WatermarkState struct {
	Watermark  int64  // Milliseconds; it never goes back.
	QuietSince int64  // Since when, in milliseconds, the partition is caught up and quiet; 0 when it is not.
	Process    string // Where QuietSince was measured: in another process the wait begins anew.
}

// estimator implements sdf.WatermarkEstimator for one partition. A split reads it while records move it.
type estimator struct {
	mu    sync.Mutex // Guards state.
	state WatermarkState
}

func newEstimator(state WatermarkState) *estimator {
	if state.Process != process {
		state.QuietSince, state.Process = 0, process
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
	return e.state
}

// sawRecord takes the event time of a record that is not from the future.
func (e *estimator) sawRecord(t mtime.Time, outOfOrder time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state.QuietSince = 0
	e.state.Watermark = max(e.state.Watermark, t.Milliseconds()-outOfOrder.Milliseconds())
}

// sawMore takes that something was or is to be read: however long that takes, the partition is not idle.
func (e *estimator) sawMore() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state.QuietSince = 0
}

// sawEnd takes that a fetch sent at this time found the position at the end of the partition.
func (e *estimator) sawEnd(at time.Time, outOfOrder, idleAfter time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state.QuietSince == 0 {
		e.state.QuietSince = at.UnixMilli()
	}
	if isIdle(e.state.QuietSince, at, idleAfter) {
		e.state.Watermark = max(e.state.Watermark, at.Add(-transit-outOfOrder).UnixMilli())
	}
}

// isIdle is the edge: idle from the first millisecond at which the silence has lasted idleAfter.
func isIdle(quietSince int64, at time.Time, idleAfter time.Duration) bool {
	return idleAfter > 0 && at.UnixMilli()-quietSince >= idleAfter.Milliseconds()
}

// floor implements sdf.WatermarkEstimator for the search for partitions.
type floor struct {
	ms atomic.Int64 // The watermark; a split reads it while a look moves it.
}

// CurrentWatermark implements sdf.WatermarkEstimator.
func (f *floor) CurrentWatermark() time.Time { return mtime.FromMilliseconds(f.ms.Load()).ToTime() }
