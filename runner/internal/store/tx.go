// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
)

// The first byte of every key in Pebble says whose it is.
const (
	ownKeys  = 0x00 // Of this package; see chain.go.
	userKeys = 0x01 // Of the table.
)

// view reads the latest commits.
type view struct {
	store *Store
	err   error
	key   []byte // Scratch.

	// A transaction sees no commits but its own, so that its scans may share an iterator, which
	// is expensive to make. A View must not keep one: it would not see later commits, and pin
	// memory and files.
	share bool
	iter  *pebble.Iterator // Nil while a scan uses it.
}

var _ kv.View = (*view)(nil)

func (v *view) Get(key []byte) ([]byte, bool) {
	if v.err != nil {
		return nil, false
	}
	v.key = append(append(v.key[:0], userKeys), key...)
	found, closer, err := v.store.db.Get(v.key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false
	}
	if err != nil {
		v.err = fmt.Errorf("read state at %q: %w", key, err)
		return nil, false
	}
	value := append(make([]byte, 0, len(found)), found...)
	if err := closer.Close(); err != nil {
		v.err = fmt.Errorf("read state at %q: %w", key, err)
		return nil, false
	}
	return value, true
}

func (v *view) Scan(from, to []byte, visit func(key, value []byte) bool) {
	if v.err != nil {
		return
	}
	lower, upper := append([]byte{userKeys}, from...), []byte{userKeys + 1}
	if to != nil {
		upper = append([]byte{userKeys}, to...)
	}
	if string(lower) >= string(upper) {
		return
	}
	iter, err := v.iterator(lower, upper)
	if err != nil {
		v.err = fmt.Errorf("scan state from %q: %w", from, err)
		return
	}
	defer func() {
		if err := v.finish(iter); err != nil && v.err == nil {
			v.err = fmt.Errorf("scan state from %q: %w", from, err)
		}
	}()
	for ok := iter.First(); ok; ok = iter.Next() {
		value, err := iter.ValueAndErr()
		if err != nil {
			v.err = fmt.Errorf("scan state at %q: %w", iter.Key()[1:], err)
			return
		}
		if !visit(iter.Key()[1:], value) || v.err != nil {
			return
		}
	}
}

func (v *view) iterator(lower, upper []byte) (*pebble.Iterator, error) {
	if iter := v.iter; iter != nil {
		v.iter = nil
		iter.SetBounds(lower, upper)
		return iter, nil
	}
	return v.store.db.NewIter(&pebble.IterOptions{
		LowerBound: lower,
		UpperBound: upper,
		KeyTypes:   pebble.IterKeyTypePointsOnly,
	})
}

func (v *view) finish(iter *pebble.Iterator) error {
	err := iter.Error()
	if err == nil && v.share && v.iter == nil {
		v.iter = iter
		return nil
	}
	return errors.Join(err, iter.Close())
}

func (v *view) Err() error { return v.err }

func (v *view) Close() {
	if v.iter != nil {
		if err := v.iter.Close(); err != nil && v.err == nil {
			v.err = fmt.Errorf("end a scan of state: %w", err)
		}
		v.iter = nil
	}
}

// tx keeps its writes in an overlay and hands them to Pebble in order of the keys, which is cheaper
// than at random, and each key once.
type tx struct {
	*kv.Overlay
	store *Store // Nil once the transaction has ended.
}

func newTx(s *Store) *tx {
	return &tx{Overlay: kv.NewOverlay(&view{store: s, share: true}), store: s}
}

func (t *tx) Commit() (sync func() error, err error) {
	if t.store == nil {
		panic("store: Commit of a transaction that has ended")
	}
	s := t.store
	defer t.Discard()
	if err := t.Err(); err != nil {
		return nil, fmt.Errorf("commit after a failed read: %w", err)
	}
	batch := s.db.NewBatchWithSize(t.Size() + 16*t.Len() + 256)
	if err := t.clear(batch); err != nil {
		return nil, fmt.Errorf("build commit %d: %w", s.chain.seq+1, err)
	}
	t.Writes(func(key, value []byte, deleted bool) {
		if deleted {
			op := batch.DeleteDeferred(1 + len(key))
			op.Key[0] = userKeys
			copy(op.Key[1:], key)
			return
		}
		op := batch.SetDeferred(1+len(key), len(value))
		op.Key[0] = userKeys
		copy(op.Key[1:], key)
		copy(op.Value, value)
	})
	next, err := s.chain.extend(batch, s.flushed.upTo())
	if err != nil {
		return nil, fmt.Errorf("build commit %d: %w", s.chain.seq+1, err)
	}
	if sync, err = s.commit(next.seq, batch); err != nil {
		return nil, err
	}
	s.chain = next
	return sync, nil
}

// clear puts the ranges that are deleted before the writes of the batch.
func (t *tx) clear(batch *pebble.Batch) (err error) {
	t.Cleared(func(from, to []byte) {
		lower, upper := append([]byte{userKeys}, from...), []byte{userKeys + 1}
		if to != nil {
			upper = append([]byte{userKeys}, to...)
		}
		if err == nil && bytes.Compare(lower, upper) < 0 {
			err = batch.DeleteRange(lower, upper, nil)
		}
	})
	return err
}

func (t *tx) Discard() {
	if t.store == nil {
		return
	}
	s := t.store
	t.store = nil
	t.Overlay.Close()
	s.open.Unlock()
}

func (t *tx) Close() { t.Discard() }
