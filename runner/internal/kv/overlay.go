// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"bytes"
	"hash/maphash"
	"slices"
)

// Overlay is a set of writes that are not yet in the View below it; reads see them. It serves a
// transaction of the durable table and the user state of a running bundle alike. Like every View
// it belongs to one goroutine.
type Overlay struct {
	base    View
	entries []entry // In the order of their first write.
	places  []int32 // A hash table: 1 + place in entries, or 0; its length is a power of two.
	sorted  []int32 // Places in ascending key order; may lack the newest, see order.
	size    int
	cleared []span // Ranges of keys that the View below seems not to have.
}

// span is the keys with from <= key < to; a nil to means no upper bound.
type span struct{ from, to []byte }

func (s span) contains(key []byte) bool {
	return bytes.Compare(s.from, key) <= 0 && (s.to == nil || bytes.Compare(key, s.to) < 0)
}

type entry struct {
	key, value []byte
	hash       uint32
	deleted    bool
}

// hashSeed is of this process: hashes are in memory only, and nothing depends on their order.
var hashSeed = maphash.MakeSeed()

var _ View = (*Overlay)(nil)

// NewOverlay returns an empty overlay. It owns base: Close closes both.
func NewOverlay(base View) *Overlay {
	return &Overlay{base: base}
}

// Set binds key to value in the overlay. Neither may be changed afterwards.
func (o *Overlay) Set(key, value []byte) { o.write(entry{key: key, value: value}) }

// Delete hides key.
func (o *Overlay) Delete(key []byte) { o.write(entry{key: key, deleted: true}) }

// DeleteRange hides every key with from <= key < to; a nil to means no upper bound.
func (o *Overlay) DeleteRange(from, to []byte) {
	for _, i := range o.between(from, to) {
		e := &o.entries[i]
		o.size -= len(e.value)
		e.value, e.deleted = nil, true
	}
	o.cleared = append(o.cleared, span{from, to})
}

// isCleared tells whether a pair of the View below is hidden by a DeleteRange.
func (o *Overlay) isCleared(key []byte) bool {
	for _, s := range o.cleared {
		if s.contains(key) {
			return true
		}
	}
	return false
}

func (o *Overlay) write(e entry) {
	if 4*len(o.entries) >= 3*len(o.places) {
		o.grow()
	}
	e.hash = uint32(maphash.Bytes(hashSeed, e.key))
	place := o.find(e.hash, e.key)
	if i := *place; i != 0 {
		old := &o.entries[i-1]
		o.size += len(e.value) - len(old.value)
		old.value, old.deleted = e.value, e.deleted
		return
	}
	o.entries = append(o.entries, e)
	*place = int32(len(o.entries))
	o.size += len(e.key) + len(e.value)
}

// find returns the place in the hash table that key has, or would have.
func (o *Overlay) find(hash uint32, key []byte) *int32 {
	mask := uint32(len(o.places) - 1)
	for at := hash & mask; ; at = (at + 1) & mask {
		i := o.places[at]
		if i == 0 {
			return &o.places[at]
		}
		if e := &o.entries[i-1]; e.hash == hash && bytes.Equal(e.key, key) {
			return &o.places[at]
		}
	}
}

func (o *Overlay) grow() {
	o.places = make([]int32, max(16, 2*len(o.places)))
	mask := uint32(len(o.places) - 1)
	for i := range o.entries {
		at := o.entries[i].hash & mask
		for o.places[at] != 0 {
			at = (at + 1) & mask
		}
		o.places[at] = int32(i + 1)
	}
}

// Get returns the pending value at key, or else that of the View below.
func (o *Overlay) Get(key []byte) ([]byte, bool) {
	if len(o.entries) == 0 {
		return o.below(key)
	}
	i := *o.find(uint32(maphash.Bytes(hashSeed, key)), key)
	if i == 0 {
		return o.below(key)
	}
	if e := &o.entries[i-1]; !e.deleted && o.base.Err() == nil {
		return e.value, true
	}
	return nil, false
}

func (o *Overlay) below(key []byte) ([]byte, bool) {
	if o.isCleared(key) {
		return nil, false
	}
	return o.base.Get(key)
}

// Scan visits the pairs of both in ascending order; a pending write hides the pair below it.
func (o *Overlay) Scan(from, to []byte, visit func(key, value []byte) bool) {
	own := o.between(from, to)
	if len(own) == 0 && len(o.cleared) == 0 {
		o.base.Scan(from, to, visit)
		return
	}
	if o.base.Err() != nil {
		return
	}
	more := true
	// emit visits the own pairs below key, all if key is nil, and says whether key itself is hidden.
	emit := func(key []byte) (hidden bool) {
		for more && len(own) > 0 {
			e := &o.entries[own[0]]
			order := -1
			if key != nil {
				order = bytes.Compare(e.key, key)
			}
			if order > 0 {
				return false
			}
			own = own[1:]
			if !e.deleted {
				more = visit(e.key, e.value)
			}
			if order == 0 {
				return true
			}
		}
		return false
	}
	o.base.Scan(from, to, func(key, value []byte) bool {
		if o.isCleared(key) {
			return true // The own pairs below it come with the next one, or at the end.
		}
		if key == nil {
			key = []byte{} // The empty key; nil means "all" to emit.
		}
		if !emit(key) && more {
			more = visit(key, value)
		}
		return more
	})
	if more && o.base.Err() == nil {
		emit(nil)
	}
}

// Writes visits the pending writes in ascending key order; deleted ones have no value.
func (o *Overlay) Writes(visit func(key, value []byte, deleted bool)) {
	for _, i := range o.order() {
		e := &o.entries[i]
		visit(e.key, e.value, e.deleted)
	}
}

// Cleared visits the ranges that were deleted. They came before the writes: what was written and
// then deleted by range is among the writes as deleted.
func (o *Overlay) Cleared(visit func(from, to []byte)) {
	for _, s := range o.cleared {
		visit(s.from, s.to)
	}
}

// Len returns the number of keys written.
func (o *Overlay) Len() int { return len(o.entries) }

// Size returns the bytes of the pending keys and values.
func (o *Overlay) Size() int { return o.size }

// Err returns the first failure of a read of the View below.
func (o *Overlay) Err() error { return o.base.Err() }

// Close forgets the writes and closes the View below.
func (o *Overlay) Close() {
	o.entries, o.places, o.sorted, o.size, o.cleared = nil, nil, nil, 0, nil
	o.base.Close()
}

func (o *Overlay) between(from, to []byte) []int32 {
	sorted := o.order()
	low, _ := slices.BinarySearchFunc(sorted, from, o.compare)
	high := len(sorted)
	if to != nil {
		high, _ = slices.BinarySearchFunc(sorted, to, o.compare)
	}
	if low >= high {
		return nil
	}
	return sorted[low:high]
}

func (o *Overlay) compare(i int32, key []byte) int { return bytes.Compare(o.entries[i].key, key) }

// order brings sorted up to date. Most overlays are scanned rarely, so that keys are sorted only
// then; a few new ones are merged into many old ones by moving the old ones in blocks, from the
// back, without comparing each.
func (o *Overlay) order() []int32 {
	done := len(o.sorted)
	if done == len(o.entries) {
		return o.sorted
	}
	for i := done; i < len(o.entries); i++ {
		o.sorted = append(o.sorted, int32(i))
	}
	fresh := slices.Clone(o.sorted[done:])
	slices.SortFunc(fresh, func(a, b int32) int {
		return bytes.Compare(o.entries[a].key, o.entries[b].key)
	})
	end := done
	for i := len(fresh) - 1; i >= 0; i-- {
		at, _ := slices.BinarySearchFunc(o.sorted[:end], o.entries[fresh[i]].key, o.compare)
		copy(o.sorted[at+i+1:], o.sorted[at:end])
		o.sorted[at+i] = fresh[i]
		end = at
	}
	return o.sorted
}
