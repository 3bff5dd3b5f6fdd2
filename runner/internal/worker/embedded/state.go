// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/exec"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/userstate"
)

// group is what the bundle does to one key group.
type group struct {
	overlay *kv.Overlay // Nil until state is used.
	user    *userstate.Group
	timers  []bundle.TimerChange
}

// group returns the key group of a key, which the bundle must have input for: state and timers
// of another key group may be in use by another bundle.
func (r *run) group(key []byte) (*group, error) {
	if r.groups == nil {
		return nil, fmt.Errorf("state or a timer in a stage that is not keyed")
	}
	n := bundle.KeyGroupOf(key, len(r.groups))
	if r.groups[n] == nil {
		return nil, fmt.Errorf("state or a timer of the key %q, whose group %d is not in the bundle", key, n)
	}
	return r.groups[n], nil
}

// users returns the group's state, opening it when it is first used.
func (r *run) users(n bundle.KeyGroup) *userstate.Group {
	g := r.groups[n]
	if g.user == nil {
		g.overlay = kv.NewOverlay(r.state.Group(n))
		g.user = userstate.New(g.overlay, r.work.ID)
	}
	return g.user
}

// groupStates returns what the bundle has changed, by ascending key group.
func (r *run) groupStates() ([]bundle.GroupState, error) {
	for _, e := range r.expired {
		r.users(e.group).Expire(e.key, e.window)
	}
	var all []bundle.GroupState
	for n, g := range r.groups {
		if g == nil {
			continue
		}
		state := bundle.GroupState{Group: bundle.KeyGroup(n), Timers: g.timers}
		if g.user != nil {
			g.user.Flush()
			if err := g.overlay.Err(); err != nil {
				return nil, fmt.Errorf("embedded: stage %q: read state: %w", r.stage.Name, err)
			}
			if err := r.setExpiry(g.user, &state); err != nil {
				return nil, err
			}
			state.Writes = make([]bundle.Write, 0, g.overlay.Len())
			g.overlay.Writes(func(key, value []byte, del bool) {
				state.Writes = append(state.Writes, bundle.Write{Key: key, Value: value, Delete: del})
			})
		}
		if len(state.Writes) > 0 || len(state.Timers) > 0 {
			all = append(all, state)
		}
	}
	return all, r.sides.err()
}

// setExpiry sets the timers that remove the written state when its window expires.
func (r *run) setExpiry(u *userstate.Group, state *bundle.GroupState) error {
	for _, kw := range u.Written() {
		w, _, err := r.stage.windowed.ReadWindow(kw.Window)
		if err != nil {
			return fmt.Errorf("embedded: stage %q: window of state: %w", r.stage.Name, err)
		}
		state.Timers = append(state.Timers, bundle.TimerChange{Timer: bundle.Timer{
			Kind: bundle.ExpiryTimer, Key: kw.Key, Window: kw.Window, Domain: plan.EventTime,
			Due:  r.stage.Windowing.Expiry(w),
			Hold: event.MaxTimestamp,
		}})
	}
	return nil
}

// access opens the cell that the SDK means. Bag says that it is accessed as a bag, which is how
// SDKs use values, too.
func (r *run) access(id exec.StreamID, state string, key, window []byte, want plan.StateKind) (*userstate.Cell, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	kind, ok := r.stage.states[stateName{id.PtransformID, state}]
	if !ok {
		return nil, r.fail(fmt.Errorf("the undeclared state %q of %q", state, id.PtransformID))
	}
	if kind != want && (kind != plan.Value || want != plan.Bag) {
		return nil, r.fail(fmt.Errorf("the state %q of %q is used as another kind than declared", state, id.PtransformID))
	}
	if _, err := r.group(key); err != nil {
		return nil, r.fail(err)
	}
	user := r.users(bundle.KeyGroupOf(key, len(r.groups)))
	return user.Open(kind, userstate.Address{Key: key, Window: window, Transform: id.PtransformID, ID: state}), nil
}

// reader reads bytes that stay as they are.
type reader struct{ bytes.Reader }

func (*reader) Close() error { return nil }

func newReader(b []byte) io.ReadCloser {
	r := &reader{}
	r.Reset(b)
	return r
}

// A writeFunc does something with what is written. SDKs write nothing to clear.
type writeFunc func(p []byte) error

func (f writeFunc) Write(p []byte) (int, error) {
	if err := f(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Appending to and clearing a value or bag is the hot path; these cost no allocation.
type (
	cellAppender struct{ cell *userstate.Cell }
	cellClearer  struct{ cell *userstate.Cell }
)

func (a cellAppender) Write(p []byte) (int, error) {
	a.cell.Append(p)
	return len(p), nil
}

func (c cellClearer) Write([]byte) (int, error) {
	c.cell.Clear()
	return 0, nil
}

// OpenBagUserStateReader reads a value or bag.
func (r *run) OpenBagUserStateReader(_ context.Context, id exec.StreamID, state string, key, w []byte) (io.ReadCloser, error) {
	c, err := r.access(id, state, key, w, plan.Bag)
	if err != nil {
		return nil, err
	}
	return newReader(c.Read()), nil
}

// OpenBagUserStateAppender appends to a value or bag.
func (r *run) OpenBagUserStateAppender(_ context.Context, id exec.StreamID, state string, key, w []byte) (io.Writer, error) {
	c, err := r.access(id, state, key, w, plan.Bag)
	if err != nil {
		return nil, err
	}
	return cellAppender{c}, nil
}

// OpenBagUserStateClearer clears a value or bag.
func (r *run) OpenBagUserStateClearer(_ context.Context, id exec.StreamID, state string, key, w []byte) (io.Writer, error) {
	c, err := r.access(id, state, key, w, plan.Bag)
	if err != nil {
		return nil, err
	}
	return cellClearer{c}, nil
}

// OpenMultimapUserStateReader reads the value of a map key.
func (r *run) OpenMultimapUserStateReader(_ context.Context, id exec.StreamID, state string, key, w, mk []byte) (io.ReadCloser, error) {
	c, err := r.access(id, state, key, w, plan.Map)
	if err != nil {
		return nil, err
	}
	return newReader(c.ReadMap(mk)), nil
}

// OpenMultimapUserStateAppender appends to the value of a map key.
func (r *run) OpenMultimapUserStateAppender(_ context.Context, id exec.StreamID, state string, key, w, mk []byte) (io.Writer, error) {
	c, err := r.access(id, state, key, w, plan.Map)
	if err != nil {
		return nil, err
	}
	return writeFunc(func(p []byte) error { c.AppendMap(mk, p); return nil }), nil
}

// OpenMultimapUserStateClearer removes a map key.
func (r *run) OpenMultimapUserStateClearer(_ context.Context, id exec.StreamID, state string, key, w, mk []byte) (io.Writer, error) {
	c, err := r.access(id, state, key, w, plan.Map)
	if err != nil {
		return nil, err
	}
	return writeFunc(func([]byte) error { c.ClearMapKey(mk); return nil }), nil
}

// OpenMultimapKeysUserStateReader lists the keys of a map.
func (r *run) OpenMultimapKeysUserStateReader(_ context.Context, id exec.StreamID, state string, key, w []byte) (io.ReadCloser, error) {
	c, err := r.access(id, state, key, w, plan.Map)
	if err != nil {
		return nil, err
	}
	return newReader(c.MapKeys()), nil
}

// OpenMultimapKeysUserStateClearer removes all keys of a map.
func (r *run) OpenMultimapKeysUserStateClearer(_ context.Context, id exec.StreamID, state string, key, w []byte) (io.Writer, error) {
	c, err := r.access(id, state, key, w, plan.Map)
	if err != nil {
		return nil, err
	}
	return writeFunc(func([]byte) error { c.ClearMap(); return nil }), nil
}

// OpenOrderedListUserStateReader reads a range of an ordered list.
func (r *run) OpenOrderedListUserStateReader(_ context.Context, id exec.StreamID, state string, key, w []byte, start, end int64) (io.ReadCloser, error) {
	c, err := r.access(id, state, key, w, plan.OrderedList)
	if err != nil {
		return nil, err
	}
	return newReader(c.ReadList(start, end)), nil
}

// OpenOrderedListUserStateAppender inserts into an ordered list.
func (r *run) OpenOrderedListUserStateAppender(_ context.Context, id exec.StreamID, state string, key, w []byte) (io.Writer, error) {
	c, err := r.access(id, state, key, w, plan.OrderedList)
	if err != nil {
		return nil, err
	}
	return writeFunc(c.InsertList), nil
}

// OpenOrderedListUserStateClearer removes a range of an ordered list.
func (r *run) OpenOrderedListUserStateClearer(_ context.Context, id exec.StreamID, state string, key, w []byte, start, end int64) (io.Writer, error) {
	c, err := r.access(id, state, key, w, plan.OrderedList)
	if err != nil {
		return nil, err
	}
	return writeFunc(func([]byte) error { c.ClearList(start, end); return nil }), nil
}
