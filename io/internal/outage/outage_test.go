// SPDX-License-Identifier: Apache-2.0

package outage

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/log"
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

// What answers does not keep what is away from being told of, even when both are asked in turn.
func TestServicesAreAwayAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all Services
		begin := time.Now()
		for {
			if err := all.Of("b").Do(t.Context(), patient(nil), func(context.Context) error { return nil }); err != nil {
				t.Fatal(err)
			}
			err := all.Of("a").Do(t.Context(), patient(func() bool { return true }), func(context.Context) error { return errAway })
			if errors.Is(err, errAway) {
				return
			}
			if waited := time.Since(begin); waited > time.Second {
				t.Fatalf("got %v after %v, want that a is away for longer than 300ms", err, waited)
			}
		}
	})
}

// messages keeps what is logged.
type messages []string

func (m *messages) Log(_ context.Context, _ log.Severity, _ int, msg string) { *m = append(*m, msg) }

// An outage is logged every ten seconds, with what is waited for and for how long, also over interruptions.
func TestWarnings(t *testing.T) {
	var logged messages
	log.SetLogger(&logged)
	t.Cleanup(func() { log.SetLogger(&log.Structural{}) })
	synctest.Test(t, func(t *testing.T) {
		p := patient(nil)
		p.Timeout, p.Longest = time.Minute, time.Second
		s := Service{Name: "partition 7"}
		if err := s.Do(t.Context(), p, func(context.Context) error { return errAway }); !errors.Is(err, errAway) {
			t.Fatalf("got %v, want that the service is away", err)
		}
		if len(logged) != 5 {
			t.Fatalf("a minute of outage is logged %d times, want 5: %q", len(logged), logged)
		}
		for _, word := range []string{"partition 7", "no success for 11s", "1m0s", errAway.Error()} {
			if !strings.Contains(logged[0], word) {
				t.Errorf("warning %q does not say %q", logged[0], word)
			}
		}
		logged = nil
		p.Stop = func() bool { return true }
		for range 14 { // Each waits for 100 ms and is interrupted.
			s.Do(t.Context(), p, func(context.Context) error { return errAway })
			Pause(t.Context(), 900*time.Millisecond)
		}
		if len(logged) != 1 {
			t.Errorf("14 seconds of outage are logged %d times, want once: %q", len(logged), logged)
		}
	})
}

// What comes before an attempt may take longer than one, and its error ends all.
func TestBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Service
		p := patient(nil)
		turns := 0
		p.Before = func(ctx context.Context) error {
			if turns++; turns == 3 {
				return ErrStopped
			}
			Pause(ctx, 2*p.Attempt)
			return nil
		}
		p.Timeout = time.Minute
		attempts := 0
		err := s.Do(t.Context(), p, func(ctx context.Context) error {
			attempts++
			if ctx.Err() != nil {
				t.Errorf("attempt %d begins with %v", attempts, ctx.Err())
			}
			return errAway
		})
		if !errors.Is(err, ErrStopped) || attempts != 2 {
			t.Errorf("got %v after %d attempts, want to be stopped before the third", err, attempts)
		}
	})
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
		if got, _ := s.failed(at(step.now)); !got.Equal(at(step.want)) {
			t.Errorf("a failure after %d s: away since %v, want %v", step.now, got, at(step.want))
		}
	}
}
