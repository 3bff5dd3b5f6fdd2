// SPDX-License-Identifier: Apache-2.0

// Package attempt repeats requests to a service by what their answers mean. It is what the stores of
// package blob on a network have in common; it knows no service.
package attempt

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/log"
)

// Outcome is what the answer to a request means.
type Outcome int

// The outcomes.
const (
	Permanent Outcome = iota // Refused; it will be refused again.
	Transient                // Not done; it may be done when it is repeated.
	Unknown                  // Done or not done: look before it is repeated.
)

// Loop repeats requests until they are done, refused, or their context ends.
type Loop struct {
	Classify func(error) Outcome // Of an error that is not nil. An attempt that took too long is Unknown without it.
	First    time.Duration       // The wait before the second attempt; it doubles with each one.
	Most     time.Duration       // The longest wait.
}

// loud tells whether a request that has failed n times is in the log: after 4 times, and again after twice as many.
func loud(n int) bool { return n >= 4 && n&(n-1) == 0 }

// Do attempts a request, each time for at most the timeout (0: for as long as ctx lasts). After an
// unknown outcome it calls found, if there is one: true ends the loop, and Do returns true. So does
// an error of found. Between two attempts it waits, with jitter. what names the request in the log.
func (l Loop) Do(ctx context.Context, what string, timeout time.Duration, try func(context.Context) error, found func(context.Context) (bool, error)) (bool, error) {
	wait := l.First
	for n := 1; ; n++ {
		err, late := once(ctx, timeout, try)
		if err == nil {
			return false, nil
		}
		if ctx.Err() != nil {
			return false, fmt.Errorf("%w; attempt %d ended with: %w", context.Cause(ctx), n, err)
		}
		outcome := Unknown
		if !late {
			outcome = l.Classify(err)
		}
		switch {
		case outcome == Permanent:
			return false, err
		case outcome == Unknown && found != nil:
			if is, err := found(ctx); is || err != nil {
				return is, err
			}
		}
		if loud(n) {
			log.Warnf(ctx, "%s: still trying after %d attempts: %v", what, n, err)
		}
		if !Wait(ctx, wait/2+rand.N(wait/2+1)) {
			return false, fmt.Errorf("%w; attempt %d ended with: %w", context.Cause(ctx), n, err)
		}
		wait = min(2*wait, l.Most)
	}
}

func once(ctx context.Context, timeout time.Duration, try func(context.Context) error) (err error, late bool) {
	if timeout <= 0 {
		return try(ctx), false
	}
	attempt, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = try(attempt)
	return err, attempt.Err() != nil
}

// Wait waits, and returns false if ctx ends before.
func Wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
