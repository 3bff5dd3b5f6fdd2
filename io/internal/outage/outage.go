// SPDX-License-Identifier: Apache-2.0

// Package outage repeats what readers ask of a service that may be away. A reader is interrupted by checkpoints while it
// waits, and goes on in another bundle: a Service knows since when it is away, so that the wait does not begin anew.
// Stores, which nobody interrupts, have io/blob/attempt.
package outage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Service is what a process knows of one. The zero value is of one that is there.
type Service struct {
	mu    sync.Mutex // Guards what follows.
	since time.Time  // The first failure after the last success; zero if there is none.
	last  time.Time  // The last failure.
}

// Patience says how long to repeat what.
type Patience struct {
	Timeout   time.Duration    // How long the service may be away.
	Attempt   time.Duration    // After which one attempt counts as failed.
	Longest   time.Duration    // The longest wait between two attempts.
	Permanent func(error) bool // An error that another attempt would meet again.
	Stop      func() bool      // Asked between two attempts whether somebody else goes on; may be nil.
}

// ErrStopped says that Stop has said so.
var ErrStopped = errors.New("stopped")

// first is the wait before the second attempt; it doubles with each one.
const first = 100 * time.Millisecond

// Do acts until it is done. Its error is that of the last attempt: a permanent one, or that the service is away for
// longer than the timeout; or it is ErrStopped or the context's.
func (s *Service) Do(ctx context.Context, p Patience, act func(context.Context) error) error {
	wait := min(first, p.Longest)
	for {
		attempt, cancel := context.WithTimeout(ctx, p.Attempt)
		err := act(attempt)
		cancel()
		if err == nil || p.Permanent(err) {
			s.over()
			return err
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
		now := time.Now()
		if s.failed(now).Add(p.Timeout).Before(now.Add(wait)) {
			s.over()
			return fmt.Errorf("no success for %v: %w", p.Timeout, err)
		}
		Pause(ctx, wait)
		if p.Stop != nil && p.Stop() {
			return ErrStopped
		}
		wait = min(2*wait, p.Longest)
	}
}

// Pause waits, or until the context ends.
func Pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// silence is how long nobody may have asked for two failures to be of one outage.
const silence = 30 * time.Second

// failed notes a failure, and returns since when the service is away.
func (s *Service) failed(now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() || now.Sub(s.last) > silence {
		s.since = now
	}
	s.last = now
	return s.since
}

// over notes a success, or that somebody was told of the outage and counts anew.
func (s *Service) over() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since = time.Time{}
}
