// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"encoding/binary"
	"fmt"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// element is a decoded windowed value: a key with one value, or with those of a pane.
type element struct {
	coder.Header
	key    string
	values []string
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendPair(b []byte, key, value string) []byte { return appendString(appendString(b, key), value) }

func cutString(b *[]byte) string {
	size, n := binary.Uvarint(*b)
	if n <= 0 || size > uint64(len(*b)-n) {
		panic("sim: an element is cut short")
	}
	s := string((*b)[n : n+int(size)])
	*b = (*b)[n+int(size):]
	return s
}

func cutNumber(b *[]byte) uint64 {
	v, n := binary.Uvarint(*b)
	*b = (*b)[n:]
	return v
}

// states gives the state of a stage in a key group.
type states func(plan.StageID, bundle.KeyGroup) kv.View

// named returns the values that a group names.
func (r states) named(token string) (values []string) {
	k, n, err := bundle.ReadKept([]byte(token))
	if err != nil || n != len(token) {
		panic(fmt.Sprintf("sim: token %q: %v", token, err))
	}
	var all []byte
	view := r(k.Stage, k.Group)
	for _, c := range k.Chains {
		for n := range c.Rows {
			row, ok := view.Get(c.Row(n))
			if !ok {
				panic(fmt.Sprintf("sim: row %d of %q is missing", n, c.Prefix))
			}
			all = append(all, row...)
		}
	}
	for len(all) > 0 {
		values = append(values, cutString(&all))
	}
	return values
}

// elements decodes a chunk and checks what it says of itself.
func elements(c bundle.Chunk, w plan.WindowingStrategy, shape coder.Coder, from states) []element {
	var all []element
	b := c.Bytes
	for len(b) > 0 {
		var e element
		n, err := coder.Windowed{Global: w.Global()}.ReadHeader(b, &e.Header)
		if err != nil {
			panic(fmt.Sprintf("sim: header: %v", err))
		}
		b = b[n:]
		e.key = cutString(&b)
		switch {
		case len(shape.Parts) == 0: // Of an impulse.
		case shape.Parts[1].URN == bytesCoder.URN:
			e.values = []string{cutString(&b)}
		default:
			count := uint64(binary.BigEndian.Uint32(b))
			b = b[4:]
			blocks := int32(count) == coder.Blocks
			if blocks {
				count = cutNumber(&b)
			}
			for count != coder.Token {
				for range count {
					e.values = append(e.values, cutString(&b))
				}
				if !blocks {
					break
				}
				count = cutNumber(&b)
			}
			if blocks {
				e.values = append(e.values, from.named(cutString(&b))...)
			}
		}
		all = append(all, e)
	}
	if len(all) != c.Count {
		panic(fmt.Sprintf("sim: a chunk of %d elements has %d", c.Count, len(all)))
	}
	return all
}

// writer builds the outputs of a bundle.
type writer struct {
	plan   *plan.Plan
	stage  *plan.Stage
	groups int
	single bool // Each element becomes a chunk.
	out    []bundle.Output
	counts []int64
}

// put gives an element to every consumer of an output.
func (w *writer) put(output int, h coder.Header, key, value string) {
	out := &w.stage.Outputs[output]
	encoded := coder.Windowed{Global: out.Windowing.Global()}.AppendHeader(nil, h)
	encoded = appendPair(encoded, key, value)
	w.counts[output]++
	last := event.MinTimestamp
	for _, window := range h.Windows {
		last = max(last, window.MaxTimestamp())
	}
	for c, id := range out.Consumers {
		g := bundle.KeyGroup(0)
		if w.plan.Stages[id].Keyed() {
			g = bundle.KeyGroupOf(appendString(nil, key), w.groups)
		}
		chunk := w.chunk(output, c, g, w.plan.Stages[id].Splittable)
		chunk.Bytes = append(chunk.Bytes, encoded...)
		chunk.Count++
		chunk.MinTimestamp = min(chunk.MinTimestamp, h.Timestamp)
		chunk.MaxWindow = max(chunk.MaxWindow, last)
	}
}

func (w *writer) chunk(output, consumer int, g bundle.KeyGroup, alone bool) *bundle.Chunk {
	for i := range w.out {
		if o := &w.out[i]; !w.single && !alone && o.Output == output && o.Consumer == consumer && o.Group == g {
			return &o.Chunk
		}
	}
	w.out = append(w.out, bundle.Output{Output: output, Consumer: consumer, Group: g, Chunk: bundle.Chunk{
		MinTimestamp: event.MaxTimestamp, MaxWindow: event.MinTimestamp,
	}})
	return &w.out[len(w.out)-1].Chunk
}
