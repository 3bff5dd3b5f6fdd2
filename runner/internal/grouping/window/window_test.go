// SPDX-License-Identifier: Apache-2.0

package window

import (
	"testing"
	"time"

	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

func TestOverlap(t *testing.T) {
	a := event.Window{Start: 0, End: 5000}
	for _, c := range []struct {
		start event.Timestamp
		want  bool
	}{{4999, true}, {5000, false}, {5001, false}} {
		b := event.Window{Start: c.start, End: c.start + 5000}
		if got := Overlap(a, b); got != c.want {
			t.Errorf("Overlap(%v, %v): got %v, want %v", a, b, got, c.want)
		}
		if got := Overlap(b, a); got != c.want {
			t.Errorf("Overlap(%v, %v): got %v, want %v", b, a, got, c.want)
		}
	}
	if got, want := Span(a, event.Window{Start: 4999, End: 9999}), (event.Window{Start: 0, End: 9999}); got != want {
		t.Errorf("Span: got %v, want %v", got, want)
	}
}

func TestEnds(t *testing.T) {
	s := &plan.WindowingStrategy{Fn: plan.WindowFn{Kind: plan.FixedWindows}, AllowedLateness: 10 * time.Second}
	w := event.Window{Start: 0, End: 5000}
	edge := event.Window{Start: event.MaxTimestamp - 5000, End: event.MaxTimestamp + 1}
	for _, c := range []struct {
		name string
		fn   func(event.Window, event.Timestamp) bool
		w    event.Window
		last event.Timestamp // The last watermark at which the answer is no.
	}{
		{"Ended", Ended, w, 4999},
		{"Ended", Ended, event.Global, event.EndOfGlobalWindow},
		{"Ended", Ended, edge, event.MaxTimestamp - 1},
		{"Gone", func(w event.Window, at event.Timestamp) bool { return Gone(s, w, at) }, w, 14999},
		{"Gone", func(w event.Window, at event.Timestamp) bool { return Gone(s, w, at) }, event.Global, event.EndOfGlobalWindow},
		{"Gone", func(w event.Window, at event.Timestamp) bool { return Gone(s, w, at) }, edge, event.MaxTimestamp - 1},
	} {
		for d := event.Timestamp(-1); d <= 1; d++ {
			if got, want := c.fn(c.w, c.last+d), d > 0; got != want {
				t.Errorf("%s(%v) at %v%+d: got %v, want %v", c.name, c.w, c.last, d, got, want)
			}
		}
	}
}

// What is dropped as late and what is gone must be the same moment, or an element could be taken
// into a window that nobody will ever clear.
func TestGoneIsExpired(t *testing.T) {
	s := &plan.WindowingStrategy{Fn: plan.WindowFn{Kind: plan.FixedWindows}, AllowedLateness: time.Second}
	w := event.Window{Start: 0, End: 5000}
	for at := event.Timestamp(5990); at < 6010; at++ {
		if got, want := Gone(s, w, at), s.Expired(w, at); got != want {
			t.Errorf("at %v: gone %v, expired %v", at, got, want)
		}
	}
}
