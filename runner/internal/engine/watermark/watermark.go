// SPDX-License-Identifier: Apache-2.0

// Package watermark keeps what holds a watermark back, and tells how far it may go. It knows
// nothing of stages: counts and holds in, a frontier out.
package watermark

import (
	"container/heap"
	"maps"

	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
)

// Holds is a multiset of timestamps whose minimum is asked for after every change. The zero value
// is empty.
type Holds struct {
	counts map[event.Timestamp]int
	order  timestamps // May hold timestamps that are no longer counted; they leave when they surface.
}

// Add holds the watermark at t. MaxTimestamp holds nothing and is not kept.
func (h *Holds) Add(t event.Timestamp) {
	if t == event.MaxTimestamp {
		return
	}
	if h.counts == nil {
		h.counts = map[event.Timestamp]int{}
	}
	h.counts[t]++
	if h.counts[t] == 1 {
		heap.Push(&h.order, t)
	}
}

// Remove takes back one Add of t.
func (h *Holds) Remove(t event.Timestamp) {
	if t == event.MaxTimestamp {
		return
	}
	switch n := h.counts[t]; n {
	case 0:
		panic("watermark: a hold is removed that was never added: " + t.String())
	case 1:
		delete(h.counts, t)
	default:
		h.counts[t] = n - 1
	}
}

// Min returns the smallest timestamp held, or MaxTimestamp.
func (h *Holds) Min() event.Timestamp {
	for len(h.order) > 0 {
		if t := h.order[0]; h.counts[t] > 0 {
			return t
		}
		heap.Pop(&h.order)
	}
	return event.MaxTimestamp
}

// Equal tells whether h and o hold the same timestamps equally often.
func (h *Holds) Equal(o *Holds) bool { return maps.Equal(h.counts, o.counts) }

// Len returns the number of different timestamps held.
func (h *Holds) Len() int { return len(h.counts) }

type timestamps []event.Timestamp

func (s timestamps) Len() int           { return len(s) }
func (s timestamps) Less(i, j int) bool { return s[i] < s[j] }
func (s timestamps) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *timestamps) Push(x any)        { *s = append(*s, x.(event.Timestamp)) }
func (s *timestamps) Pop() any {
	last := len(*s) - 1
	t := (*s)[last]
	*s = (*s)[:last]
	return t
}
