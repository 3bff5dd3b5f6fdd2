// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/exec"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
)

// split is how a running bundle of a splittable stage gives up the rest of its work. A wish may
// come at any time, but the SDK can split only while an element is being processed, and a
// restriction may refuse at first; so a goroutine keeps the wish until it is granted or the bundle
// is done. A second goroutine hands the executor one restriction after the other, so that it is
// known when one is being processed.
type split struct {
	run   *run
	total int           // Restrictions in the bundle.
	wish  chan float64  // Holds the latest wish, if any.
	done  chan struct{} // Closed when the executor has returned.
	wait  sync.WaitGroup

	// processing tells that a restriction was handed out and its successor not yet asked for.
	processing atomic.Bool
	begun      chan struct{} // Closed when processing is first set.

	// The rest is written by the splitting goroutine, and read when it has ended.
	residuals []bundle.Residual
	rest      int64 // Index of the first restriction that is not processed.
}

// The time between attempts to grant a wish doubles from the first to the second.
const (
	firstRetry = 2 * time.Millisecond
	lastRetry  = 128 * time.Millisecond
)

func newSplit(r *run) *split {
	return &split{run: r, wish: make(chan float64, 1), done: make(chan struct{}), begun: make(chan struct{})}
}

// ask may be called by any goroutine.
func (s *split) ask(fraction float64) {
	for {
		select {
		case s.wish <- fraction:
			return
		default:
		}
		select { // An older wish is replaced; one for all that remains stands.
		case older := <-s.wish:
			if older == 0 {
				fraction = 0
			}
		default:
		}
	}
}

func (s *split) start(p *exec.Plan) {
	if s.run.stage.Splittable {
		s.total = len(s.run.blocks)
		s.rest = int64(s.total)
		s.wait.Go(func() { s.grant(p) })
	}
}

// stop waits until nobody uses the plan any more.
func (s *split) stop() {
	close(s.done)
	s.wait.Wait()
}

// feed hands out one block after the other. The empty block at the end is taken by the executor
// when it is through with the last restriction.
func (s *split) feed(blocks []exec.Elements) <-chan exec.Elements {
	out := make(chan exec.Elements)
	s.wait.Go(func() {
		defer close(out)
		defer s.processing.Store(false)
		for i, b := range append(blocks[:len(blocks):len(blocks)], exec.Elements{}) {
			select {
			case out <- b:
			case <-s.done:
				return
			case <-s.run.ctx.Done():
				return
			}
			if i == 0 && len(blocks) > 0 {
				s.processing.Store(true)
				close(s.begun)
			}
		}
	})
	return out
}

// grant tries to do what was asked for, one wish at a time, while the bundle runs.
func (s *split) grant(p *exec.Plan) {
	select {
	case <-s.begun:
	case <-s.done:
		return
	}
	for {
		var fraction float64
		select {
		case fraction = <-s.wish:
		case <-s.done:
			return
		}
		for pause := firstRetry; !s.try(p, fraction); pause = min(2*pause, lastRetry) {
			select {
			case fraction = <-s.wish:
			case <-time.After(pause):
			case <-s.done:
				return
			}
		}
	}
}

// try splits the plan and tells whether that did what the wish was for: to stop the restriction
// that is being processed, or at a fraction above 0 to leave some work to others.
func (s *split) try(p *exec.Plan, fraction float64) (granted bool) {
	if !s.processing.Load() || s.run.ctx.Err() != nil {
		return false
	}
	defer func() {
		if v := recover(); v != nil {
			s.run.fail(fmt.Errorf("split: panic: %s %s", escape(fmt.Sprint(v)), debug.Stack()))
		}
	}()
	res, err := p.Split(s.run.ctx, exec.SplitPoints{Frac: fraction, BufSize: int64(s.total)})
	if err != nil {
		s.run.fail(fmt.Errorf("split: %s", escape(err.Error())))
		return false
	}
	if res.Unsuccessful {
		return false
	}
	gave := res.RI < s.rest
	s.rest = min(s.rest, res.RI)
	if len(res.RS) > 0 {
		if err := s.addResiduals(res, 0); err != nil {
			s.run.fail(err)
			return false
		}
		return true
	}
	return gave && fraction > 0
}

// addResiduals keeps what a split has cut off.
func (s *split) addResiduals(res exec.SplitResult, delay time.Duration) error {
	for _, element := range res.RS {
		if len(element) < 8 {
			return fmt.Errorf("split: residual: %w", coder.ErrShort)
		}
		// Without an estimator nothing is known but that outputs are not before their input.
		watermark := event.ReadTimestamp(element)
		if len(res.OW) > 0 {
			watermark = event.MaxTimestamp
		}
		for _, w := range res.OW {
			watermark = min(watermark, event.FromTime(w.AsTime()))
		}
		element, err := s.run.restorePane(element)
		if err != nil {
			return fmt.Errorf("split: residual: %w", err)
		}
		s.residuals = append(s.residuals, bundle.Residual{
			Element: element, Watermark: watermark, Delay: max(delay.Milliseconds(), 0),
		})
	}
	return nil
}

// unprocessed returns the number of restrictions that were not begun, and their size.
func (s *split) unprocessed() (n int, bytes int64) {
	for _, b := range s.run.blocks[s.rest:s.total] {
		bytes += int64(len(b.Data))
	}
	return s.total - int(s.rest), bytes
}
