// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"fmt"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
)

// Chunks are cut at these sizes, so that the engine can make bundles of a size it likes.
const (
	chunkLimit      = 256 << 10
	groupChunkLimit = 64 << 10
)

// sink takes the elements of one output and puts them into chunks for the consumers.
type sink struct {
	run        *run
	spec       *outputSpec
	collection string
	count      int64
	bytes      int64
	header     coder.Header
	classes    []classChunks
}

// classChunks is what was put together for the consumers of a class.
type classChunks struct {
	open []builder // By key group, one for consumers that are not keyed.
	done []groupChunk
}

type groupChunk struct {
	group bundle.KeyGroup
	chunk bundle.Chunk
}

// builder is a chunk that still grows.
type builder struct {
	bytes     []byte
	count     int
	min       event.Timestamp
	maxWindow event.Timestamp
}

func (s *sink) init(r *run, spec *outputSpec, collection string) {
	s.run, s.spec, s.collection = r, spec, collection
	s.classes = make([]classChunks, len(spec.classes))
	for i, c := range spec.classes {
		groups := 1
		if c.key != nil {
			groups = r.worker.options.KeyGroups
		}
		s.classes[i].open = make([]builder, groups)
	}
}

// Write takes one encoded windowed element, which is how the SDK's sink writes. It keeps none of p.
func (s *sink) Write(p []byte) (int, error) {
	if err := s.run.ctx.Err(); err != nil {
		return 0, err
	}
	if err := s.add(p); err != nil {
		return 0, s.run.fail(fmt.Errorf("output %q: %w", s.collection, err))
	}
	s.count++
	s.bytes += int64(len(p))
	if s.bytes > s.run.worker.options.OutputLimit {
		s.run.split.ask(0)
		s.bytes = 0
	}
	return len(p), nil
}

// Close is called at the end of a bundle, also of a bundle that fails.
func (s *sink) Close() error { return nil }

func (s *sink) add(p []byte) error {
	if len(p) < 8 {
		return coder.ErrShort
	}
	t := event.ReadTimestamp(p)
	if t < event.MinTimestamp || t > event.MaxTimestamp {
		return fmt.Errorf("the timestamp %d ms of an element is outside of time", int64(t))
	}
	n, maxWindow := 0, event.MinTimestamp
	if s.spec.header {
		var err error
		if n, err = s.spec.windowed.ReadHeader(p, &s.header); err != nil {
			return err
		}
		for _, w := range s.header.Windows {
			maxWindow = max(maxWindow, w.MaxTimestamp())
		}
	}
	for i := range s.spec.classes {
		spec, c := &s.spec.classes[i], &s.classes[i]
		group, limit := bundle.KeyGroup(0), chunkLimit
		if spec.key != nil {
			size, err := spec.key(p[n:])
			if err != nil {
				return fmt.Errorf("key: %w", err)
			}
			group, limit = bundle.KeyGroupOf(p[n:n+size], len(c.open)), groupChunkLimit
		}
		b := &c.open[group]
		if b.count > 0 && (spec.single || len(b.bytes)+len(p) > limit) {
			c.cut(group)
		}
		if b.count == 0 {
			b.min, b.maxWindow = t, maxWindow
		}
		b.bytes = append(b.bytes, p...)
		b.count++
		b.min, b.maxWindow = min(b.min, t), max(b.maxWindow, maxWindow)
	}
	return nil
}

// cut ends the chunk of a group.
func (c *classChunks) cut(group bundle.KeyGroup) {
	b := &c.open[group]
	c.done = append(c.done, groupChunk{group, bundle.Chunk{
		Count: b.count, Bytes: b.bytes, MinTimestamp: b.min, MaxWindow: b.maxWindow,
	}})
	*b = builder{}
}

// appendOutputs appends the chunks for all consumers, which share the bytes.
func (s *sink) appendOutputs(all []bundle.Output, output int) []bundle.Output {
	for i := range s.classes {
		spec, c := &s.spec.classes[i], &s.classes[i]
		for group := range c.open {
			if c.open[group].count > 0 {
				c.cut(bundle.KeyGroup(group))
			}
		}
		for _, consumer := range spec.consumers {
			for _, done := range c.done {
				if !spec.maxWindow {
					done.chunk.MaxWindow = 0
				}
				all = append(all, bundle.Output{
					Output: output, Consumer: consumer, Group: done.group, Chunk: done.chunk,
				})
			}
		}
	}
	return all
}
