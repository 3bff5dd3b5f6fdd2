// SPDX-License-Identifier: Apache-2.0

// Package outage repeats what is asked of a service that may be away. A reader is interrupted by checkpoints while it
// waits, and goes on in another bundle: a Service knows since when it is away, so that the wait does not begin anew.
// One partition or shard may be away while all others answer, so each is a Service of its own.
// Stores, which nobody interrupts, have io/blob/attempt.
package outage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/log"
)

// Services are all that a process asks of one cluster or stream, by name. The zero value is ready for use.
type Services struct {
	mu sync.Mutex // Guards of.
	of map[string]*Service
}

// Of returns the service with a name. A success of one says nothing of the others.
func (s *Services) Of(name string) *Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = map[string]*Service{}
	}
	if s.of[name] == nil {
		s.of[name] = &Service{Name: name}
	}
	return s.of[name]
}

// Service is what a process knows of one thing that can be away. One that only has a name is there.
type Service struct {
	Name string // For warnings and errors.

	mu    sync.Mutex // Guards what follows.
	since time.Time  // The first failure after the last success; zero if there is none.
	last  time.Time  // The last failure.
	told  time.Time  // When the last warning was due; at first since.
}

// Patience says how long to repeat what.
type Patience struct {
	Timeout   time.Duration    // How long the service may be away.
	Attempt   time.Duration    // After which one attempt counts as failed.
	Longest   time.Duration    // The longest wait between two attempts.
	Permanent func(error) bool // An error that another attempt would meet again.
	Stop      func() bool      // Asked between two attempts whether somebody else goes on; may be nil.

	// Before waits for what each attempt needs, such as a turn, and does not count as a part of it. Its error is that
	// of Do and says nothing of the service. It may be nil.
	Before func(context.Context) error
}

// ErrStopped says that Stop has said so.
var ErrStopped = errors.New("stopped")

// first is the wait before the second attempt; it doubles with each one.
const first = 100 * time.Millisecond

// Do acts until it is done, and warns while the service is away. Its error is that of the last attempt: a permanent one,
// or that the service is away for longer than the timeout; or it is ErrStopped, that of Before or the context's.
func (s *Service) Do(ctx context.Context, p Patience, act func(context.Context) error) error {
	wait := min(first, p.Longest)
	for {
		if p.Before != nil {
			if err := p.Before(ctx); err != nil {
				return err
			}
		}
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
		since, warn := s.failed(now)
		if since.Add(p.Timeout).Before(now.Add(wait)) {
			s.over()
			return fmt.Errorf("no success for %v: %w", p.Timeout, err)
		}
		if warn {
			log.Warnf(ctx, "%s: no success for %v, trying for up to %v: %v", s.Name, now.Sub(since).Round(time.Second), p.Timeout, err)
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

const (
	silence = 30 * time.Second // How long nobody may have asked for two failures to be of one outage.
	hush    = 10 * time.Second // Between two warnings.
)

// failed notes a failure, and returns since when the service is away, and whether it is time to say so.
func (s *Service) failed(now time.Time) (since time.Time, warn bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() || now.Sub(s.last) > silence {
		s.since, s.told = now, now
	}
	s.last = now
	if warn = now.Sub(s.told) >= hush; warn {
		s.told = now
	}
	return s.since, warn
}

// over notes a success, or that somebody was told of the outage and counts anew.
func (s *Service) over() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since = time.Time{}
}
