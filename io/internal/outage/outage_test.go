// SPDX-License-Identifier: Apache-2.0

package outage

import (
	"context"
	"errors"
	"testing"
	"time"
)

var errAway = errors.New("nobody there")

// patient waits for a third of the timeout at a time.
func patient(stop func() bool) Patience {
	return Patience{
		Timeout: 300 * time.Millisecond, Attempt: time.Second, Longest: 100 * time.Millisecond,
		Permanent: func(err error) bool { return !errors.Is(err, errAway) }, Stop: stop,
	}
}

// A service that is away for longer than the timeout is told of, however often the wait is interrupted.
func TestPatienceEndsOverInterruptions(t *testing.T) {
	var s Service
	for bundles := 1; ; bundles++ {
		err := s.Do(t.Context(), patient(func() bool { return true }), func(context.Context) error { return errAway })
		if errors.Is(err, errAway) {
			return
		}
		if !errors.Is(err, ErrStopped) || bundles > 10 {
			t.Fatalf("got %v in bundle %d, each of which waits for a third of the timeout, want that the service is away", err, bundles)
		}
	}
}

func TestDo(t *testing.T) {
	var s Service
	attempts := 0
	err := s.Do(t.Context(), patient(nil), func(context.Context) error {
		if attempts++; attempts < 3 {
			return errAway
		}
		return nil
	})
	if err != nil || attempts != 3 {
		t.Errorf("got %v after %d attempts, want success in the third", err, attempts)
	}
	other := errors.New("refused")
	if err := s.Do(t.Context(), patient(nil), func(context.Context) error { return other }); !errors.Is(err, other) {
		t.Errorf("got %v, want the permanent error", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = s.Do(ctx, patient(nil), func(context.Context) error {
		cancel()
		return errAway
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that the context has ended", err)
	}
}

func TestSince(t *testing.T) {
	var s Service
	start := time.Unix(1000, 0)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	for _, step := range []struct {
		over bool
		now  int
		want int // Since when it is away.
	}{
		{now: 0, want: 0},
		{now: 10, want: 0},
		{over: true, now: 20, want: 20},
		{now: 49, want: 20},
		{now: 79, want: 20},
		{now: 110, want: 110}, // Nobody has asked for longer than silence.
	} {
		if step.over {
			s.over()
		}
		if got := s.failed(at(step.now)); !got.Equal(at(step.want)) {
			t.Errorf("a failure after %d s: away since %v, want %v", step.now, got, at(step.want))
		}
	}
}
