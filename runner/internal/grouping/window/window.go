// SPDX-License-Identifier: Apache-2.0

// Package window holds the edges of windows in time: when two of them merge, when one has ended,
// and when it is gone. Each edge is one function; everything that groups asks here.
package window

import (
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// Overlap tells whether two session windows have a moment in common and so become one. Windows
// that only touch stay two (Java: IntervalWindow.intersects; Python: Sessions.merge).
func Overlap(a, b event.Window) bool { return a.Start < b.End && b.Start < a.End }

// Span returns the smallest window that contains a and b.
func Span(a, b event.Window) event.Window {
	return event.Window{Start: min(a.Start, b.Start), End: max(a.End, b.End)}
}

// Ended tells whether the watermark has passed the last moment of w, which is when its on-time
// pane is due. At the end of time every window has ended.
func Ended(w event.Window, watermark event.Timestamp) bool { return watermark >= EndDue(w) }

// EndDue returns the first watermark at which w has Ended.
func EndDue(w event.Window) event.Timestamp { return after(w.MaxTimestamp()) }

// Gone tells whether nothing can come any more for w, so that all that is known of it goes.
func Gone(s *plan.WindowingStrategy, w event.Window, watermark event.Timestamp) bool {
	return watermark >= GoneDue(s, w)
}

// GoneDue returns the first watermark at which w is Gone.
func GoneDue(s *plan.WindowingStrategy, w event.Window) event.Timestamp { return after(s.Expiry(w)) }

func after(t event.Timestamp) event.Timestamp { return min(t+1, event.MaxTimestamp) }
