// SPDX-License-Identifier: Apache-2.0

package grouping

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
)

// chunkSize is the size at which a chunk of output is cut. A single pane may be larger.
const chunkSize = 1 << 20

// emitter writes panes into chunks.
type emitter struct {
	windowed coder.Windowed
	chunks   []bundle.Chunk
	count    int64
	header   coder.Header
	expected int // A guess of the bytes still to come, for the size of the next chunk.
}

// head is what stands before the values of a pane.
type head struct {
	key       string
	timestamp event.Timestamp
	window    event.Window
	pane      event.Pane
	count     int64 // Of values.
	size      int   // Of values, in bytes.
	spills    []spill
}

var errTooMany = errors.New("grouping: a pane has more values than an iterable can count")

// give emits a pane. Inline appends those of its values that are not spilled. If drops, nobody needs
// the spilled ones afterwards: then a large pane names them, which give tells, and owns their rows.
func (p *pass) give(h head, drops bool, inline func(b []byte) []byte) (kept bool) {
	kept = drops && p.g.options.HandOver && h.size > p.g.options.Large && len(h.spills) > 0
	if !kept && h.count > math.MaxInt32 {
		p.fail(errTooMany)
		return false
	}
	c := p.emit.begin(h, kept)
	switch {
	case kept:
		if n := h.count - spilled(h.spills); n > 0 {
			c.Bytes = inline(binary.AppendUvarint(c.Bytes, uint64(n)))
		}
		name := p.kept(h.key, h.spills)
		token := name.Append(nil)
		c.Bytes = binary.AppendUvarint(c.Bytes, coder.Token)
		c.Bytes = append(binary.AppendUvarint(c.Bytes, uint64(len(token))), token...)
		c.Kept = append(c.Kept, name)
	default:
		for _, s := range h.spills {
			c.Bytes = p.appendSpilled(c.Bytes, h.key, s)
		}
		c.Bytes = inline(c.Bytes)
	}
	return kept
}

// begin starts a pane and returns the chunk to which its values are appended.
func (e *emitter) begin(h head, kept bool) *bundle.Chunk {
	count := uint32(h.count)
	if kept {
		count, h.size = 1<<32+coder.Blocks, 64*len(h.spills)
	}
	if n := len(e.chunks); n == 0 || len(e.chunks[n-1].Bytes) >= chunkSize {
		size := min(max(e.expected, h.size+len(h.key)+64), chunkSize+chunkSize/16)
		e.chunks = append(e.chunks, bundle.Chunk{
			Bytes:        make([]byte, 0, size),
			MinTimestamp: event.MaxTimestamp,
			MaxWindow:    event.MinTimestamp,
		})
	}
	c := &e.chunks[len(e.chunks)-1]
	before := len(c.Bytes)
	e.header.Timestamp, e.header.Pane = h.timestamp, h.pane
	e.header.Windows = append(e.header.Windows[:0], h.window)
	c.Bytes = e.windowed.AppendHeader(c.Bytes, e.header)
	c.Bytes = append(c.Bytes, h.key...)
	c.Bytes = binary.BigEndian.AppendUint32(c.Bytes, count)
	c.Count++
	c.MinTimestamp = min(c.MinTimestamp, h.timestamp)
	c.MaxWindow = max(c.MaxWindow, h.window.MaxTimestamp())
	e.count++
	e.expected -= len(c.Bytes) - before + h.size
	return c
}
