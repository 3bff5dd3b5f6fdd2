// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/exec"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
)

// expiry is state to be removed when the bundle is done.
type expiry struct {
	group       bundle.KeyGroup
	key, window []byte
}

// readInput makes the blocks that the executor reads: of each key group its chunks, then its
// timers, where timers of one family that follow each other share a block.
func (r *run) readInput() error {
	s := r.stage
	if s.Keyed() {
		r.groups = make([]*group, r.worker.options.KeyGroups)
	}
	for _, in := range r.work.Inputs {
		if s.Keyed() {
			if int(in.Group) >= len(r.groups) {
				return fmt.Errorf("embedded: stage %q: key group %d of %d", s.Name, in.Group, len(r.groups))
			}
			r.groups[in.Group] = &group{}
		}
		for _, chunk := range in.Chunks {
			b, err := r.inTime(chunk)
			if err != nil {
				return fmt.Errorf("embedded: stage %q: read input: %w", s.Name, err)
			}
			r.counts.In += int64(chunk.Count)
			r.counts.Bytes += int64(len(chunk.Bytes))
			if s.Splittable {
				if err := r.notePane(chunk); err != nil {
					return fmt.Errorf("embedded: stage %q: read input: %w", s.Name, err)
				}
			}
			if len(b) > 0 {
				r.blocks = append(r.blocks, exec.Elements{Data: b, PtransformID: s.Root})
			}
		}
		r.readTimers(in)
	}
	return nil
}

// inTime returns the elements of a chunk whose windows have not expired, and counts the others.
func (r *run) inTime(chunk bundle.Chunk) ([]byte, error) {
	s := r.stage
	if !s.Keyed() || s.windowed.Global || chunk.MinTimestamp >= r.work.Watermark {
		return chunk.Bytes, nil // A window ends at or after the timestamps of its elements.
	}
	var h coder.Header
	var rewritten []byte
	changed := false
	all := chunk.Bytes
	for at := 0; at < len(all); {
		n, err := s.windowed.ReadHeader(all[at:], &h)
		if err != nil {
			return nil, err
		}
		size, err := s.element(all[at+n:])
		if err != nil {
			return nil, err
		}
		alive := h.Windows[:0:0]
		for _, w := range h.Windows {
			if !s.Windowing.Expired(w, r.work.Watermark) {
				alive = append(alive, w)
			}
		}
		end := at + n + size
		if len(alive) < len(h.Windows) && !changed {
			changed = true
			rewritten = append(rewritten, all[:at]...)
		}
		switch {
		case len(alive) == 0:
			r.counts.Late++
		case len(alive) < len(h.Windows):
			rewritten = s.windowed.AppendHeader(rewritten, coder.Header{Timestamp: h.Timestamp, Windows: alive, Pane: h.Pane})
			rewritten = append(rewritten, all[at+n:end]...)
		case changed:
			rewritten = append(rewritten, all[at:end]...)
		}
		at = end
	}
	if !changed {
		return all, nil
	}
	return rewritten, nil
}

// notePane checks that a chunk is one restriction, and remembers its pane.
func (r *run) notePane(chunk bundle.Chunk) error {
	if chunk.Count != 1 {
		return fmt.Errorf("a chunk of a splittable stage has %d elements", chunk.Count)
	}
	var h coder.Header
	if _, err := r.stage.windowed.ReadHeader(chunk.Bytes, &h); err != nil {
		return err
	}
	if !slices.Contains(r.panes, h.Pane) {
		r.panes = append(r.panes, h.Pane)
	}
	return nil
}

// restorePane gives a residual the pane of its input, which the SDK loses. It does not say which
// input it is from either, but nearly always all of them have the same pane.
func (r *run) restorePane(element []byte) ([]byte, error) {
	var h coder.Header
	n, err := r.stage.windowed.ReadHeader(element, &h)
	if err != nil || len(r.panes) != 1 {
		return element, err
	}
	h.Pane = r.panes[0]
	return append(r.stage.windowed.AppendHeader(make([]byte, 0, len(element)+8), h), element[n:]...), nil
}

func (r *run) readTimers(in bundle.Input) {
	last := -1 // Index of the block to which the next timer may be added.
	for i := range in.Timers {
		t := &in.Timers[i]
		if t.Kind != bundle.UserTimer {
			r.expired = append(r.expired, expiry{in.Group, t.Key, t.Window})
			continue
		}
		if last < 0 || r.blocks[last].PtransformID != t.Transform || r.blocks[last].TimerFamilyID != t.Family {
			last = len(r.blocks)
			r.blocks = append(r.blocks, exec.Elements{PtransformID: t.Transform, TimerFamilyID: t.Family})
		}
		r.blocks[last].Timers = appendTimer(r.blocks[last].Timers, t)
	}
}

// appendTimer appends the encoding of beam:coder:timer:v1.
func appendTimer(b []byte, t *bundle.Timer) []byte {
	b = append(b, t.Key...)
	b = append(binary.AppendUvarint(b, uint64(len(t.Tag))), t.Tag...)
	b = append(binary.BigEndian.AppendUint32(b, 1), t.Window...)
	b = append(b, 0) // Not cleared.
	b = event.AppendTimestamp(b, t.Due)
	b = event.AppendTimestamp(b, t.Hold)
	return event.AppendPane(b, t.Pane)
}
