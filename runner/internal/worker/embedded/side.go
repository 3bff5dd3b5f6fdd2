// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/exec"

	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/view"
)

// sideCacheLimit bounds the encoded size of the side inputs that a bundle keeps decoded.
const sideCacheLimit = 32 << 20

// sides is the side inputs that the bundle has read. The SDK reads them anew for each element, so
// they are kept decoded as long as the bundle runs. It is the bundle's exec.SideCache.
type sides struct {
	views   map[plan.StageID]kv.View
	opened  int // Bytes handed to the SDK so far.
	kept    int // Bytes of what is in streams.
	streams map[string]*keptStream
	scratch []byte
}

var _ exec.SideCache = (*sides)(nil)

func (s *sides) err() error {
	var all []error
	for _, v := range s.views {
		all = append(all, v.Err())
	}
	return errors.Join(all...)
}

// OpenIterableSideInput reads all elements of a window.
func (r *run) OpenIterableSideInput(_ context.Context, id exec.StreamID, side string, w []byte) (io.ReadCloser, error) {
	return r.openSide(id, side, w, nil)
}

// OpenMultiMapSideInput reads the values of a key in a window.
func (r *run) OpenMultiMapSideInput(_ context.Context, id exec.StreamID, side string, key, w []byte) (io.ReadCloser, error) {
	return r.openSide(id, side, w, key)
}

func (r *run) openSide(id exec.StreamID, side string, window, key []byte) (io.ReadCloser, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	stage, ok := r.stage.sides[stateName{id.PtransformID, side}]
	if !ok {
		return nil, r.fail(fmt.Errorf("the undeclared side input %q of %q", side, id.PtransformID))
	}
	v := r.sides.views[stage]
	if v == nil {
		v = r.state.Other(stage, 0)
		if r.sides.views == nil {
			r.sides.views = make(map[plan.StageID]kv.View)
		}
		r.sides.views[stage] = v
	}
	b, err := view.Read(v, window, key)
	if err != nil {
		return nil, r.fail(fmt.Errorf("side input %q of %q: %w", side, id.PtransformID, err))
	}
	r.sides.opened += len(b)
	return newReader(b), nil
}

// GetSideInputCache returns what the bundle has read of its side inputs.
func (r *run) GetSideInputCache() exec.SideCache { return &r.sides }

// QueryCache returns what was read before, or nil.
func (s *sides) QueryCache(_ context.Context, transform, side string, win, key []byte) exec.ReStream {
	s.scratch = s.scratch[:0]
	for _, part := range [][]byte{[]byte(transform), []byte(side), win, key} {
		s.scratch = append(binary.AppendUvarint(s.scratch, uint64(len(part))), part...)
	}
	if k := s.streams[string(s.scratch)]; k != nil {
		return k
	}
	return nil
}

// SetCache makes input one that is decoded only once.
func (s *sides) SetCache(ctx context.Context, transform, side string, win, key []byte, input exec.ReStream) exec.ReStream {
	if r := s.QueryCache(ctx, transform, side, win, key); r != nil {
		return r
	}
	if s.streams == nil {
		s.streams = make(map[string]*keptStream)
	}
	k := &keptStream{sides: s, from: input}
	if s.kept < sideCacheLimit {
		s.streams[string(bytes.Clone(s.scratch))] = k
		s.kept += len(s.scratch)
	}
	return k
}

// keptStream decodes a side input when it is first opened, and then keeps it if that does not
// take too much memory.
type keptStream struct {
	sides  *sides
	from   exec.ReStream
	values *exec.FixedReStream
}

// Open begins to read from the start.
func (k *keptStream) Open() (exec.Stream, error) {
	if k.values != nil {
		return k.values.Open()
	}
	before := k.sides.opened
	stream, err := k.from.Open()
	if err != nil {
		return nil, err
	}
	size := k.sides.opened - before
	if k.sides.kept+size > sideCacheLimit {
		return stream, nil
	}
	values := []exec.FullValue{}
	for {
		v, err := stream.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, errors.Join(err, stream.Close())
		}
		values = append(values, *v)
	}
	k.values = &exec.FixedReStream{Buf: values}
	k.sides.kept += size
	if err := stream.Close(); err != nil {
		return nil, err
	}
	return k.values.Open()
}
