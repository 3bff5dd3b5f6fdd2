// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"fmt"
	"io"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/exec"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
)

// OpenIterable reads the values of a group that are too large to travel with it.
func (r *run) OpenIterable(_ context.Context, id exec.StreamID, token []byte) (io.ReadCloser, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	k, n, err := bundle.ReadKept(token)
	if err != nil || n != len(token) {
		return nil, r.fail(fmt.Errorf("the values of a group of %q have a name that is not ours", id.PtransformID))
	}
	return &keptReader{name: k, view: r.state.Other(k.Stage, k.Group), fail: r.fail}, nil
}

// keptReader reads the rows of a group, one at a time.
type keptReader struct {
	name bundle.Kept
	view kv.View
	fail func(error) error
	next uint32 // Row of the first chain.
	row  []byte // What is left of the one before.
}

func (r *keptReader) Read(p []byte) (int, error) {
	for len(r.row) == 0 {
		for len(r.name.Chains) > 0 && r.next == r.name.Chains[0].Rows {
			r.name.Chains, r.next = r.name.Chains[1:], 0
		}
		if len(r.name.Chains) == 0 {
			return 0, io.EOF
		}
		row, ok := r.view.Get(r.name.Chains[0].Row(r.next))
		if !ok {
			if err := r.view.Err(); err != nil {
				return 0, r.fail(err)
			}
			return 0, r.fail(fmt.Errorf("row %d of the values of a group is missing", r.next))
		}
		r.row = row
		r.next++
	}
	n := copy(p, r.row)
	r.row = r.row[n:]
	return n, nil
}

// Close does nothing: whoever gave the view closes it.
func (r *keptReader) Close() error { return nil }
