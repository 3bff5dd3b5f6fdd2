// SPDX-License-Identifier: Apache-2.0

package userstate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// Cell is one piece of state of a key and window. Which methods apply depends on its kind: Read,
// Append and Clear on a Value and a Bag, those with Map in their name on a Map, those with List on
// an OrderedList. Bytes that are returned may be kept but not changed; bytes that are given are
// copied.
type Cell struct {
	group  *Group
	kind   plan.StateKind
	prefix []byte // Of its rows' keys.
	head   int    // The length of the part of prefix that is key and window.
	global bool   // The window is the global one.
	marked bool   // That the key and window were written is already known to the group.

	// The rest is the current value of a Value.
	loaded bool
	exists bool
	dirty  bool // The row has another value.
	own    bool // value was made here, so that more can be appended to it.
	value  []byte
}

// A bag grows by appending to its newest row as long as the bundle runs, up to rowLimit. Reading
// a bag that consists of many rows rewrites it as one, if that is not too much to copy.
const (
	rowLimit     = 64 << 10
	compactRows  = 32
	compactBytes = 256 << 10
)

type tail struct {
	key   []byte
	value []byte
}

// Read returns what is in the cell, nil if nothing is.
func (c *Cell) Read() []byte {
	if c.kind == plan.Bag {
		return c.readBag()
	}
	c.load()
	return c.value
}

// Append adds p to the end of what is in the cell.
func (c *Cell) Append(p []byte) {
	c.mark()
	if c.kind == plan.Bag {
		c.appendBag(p)
		return
	}
	c.load()
	if !c.own {
		c.value = slices.Clip(c.value)
		c.own = true
	}
	c.value = append(c.value, p...)
	c.exists, c.dirty = true, true
}

// Clear empties the cell.
func (c *Cell) Clear() {
	c.mark()
	if c.kind == plan.Bag {
		delete(c.group.tails, string(c.prefix))
		c.group.deleteRange(c.prefix, kv.PrefixEnd(c.prefix))
		return
	}
	c.loaded, c.exists, c.dirty = true, false, true
	c.value, c.own = nil, false
}

func (c *Cell) load() {
	if !c.loaded {
		c.value, c.exists = c.group.rows.Get(c.prefix)
		c.loaded = true
	}
}

func (c *Cell) flush() {
	if !c.dirty {
		return
	}
	c.dirty = false
	key := bytes.Clone(c.prefix)
	if c.exists {
		c.group.rows.Set(key, c.value)
	} else {
		c.group.rows.Delete(key)
	}
}

func (c *Cell) mark() {
	if c.marked {
		return
	}
	c.marked = true
	if c.global {
		return // It never expires.
	}
	head := c.prefix[:c.head]
	if _, ok := c.group.touched[string(head)]; !ok {
		c.group.touched[string(head)] = struct{}{}
	}
}

func (c *Cell) readBag() []byte {
	var all []byte
	rows := 0
	end := kv.PrefixEnd(c.prefix)
	c.group.rows.Scan(c.prefix, end, func(_, value []byte) bool {
		all = append(all, value...)
		rows++
		return true
	})
	if rows > compactRows && len(all) <= compactBytes {
		c.compact(end, slices.Clip(all))
	}
	return all
}

// compact puts the whole bag into its last row, so that what is appended next stands behind.
func (c *Cell) compact(end, all []byte) {
	c.mark()
	var keys [][]byte
	c.group.rows.Scan(c.prefix, end, func(key, _ []byte) bool {
		keys = append(keys, bytes.Clone(key))
		return true
	})
	last := len(keys) - 1
	for _, key := range keys[:last] {
		c.group.rows.Delete(key)
	}
	c.group.rows.Set(keys[last], all)
	delete(c.group.tails, string(c.prefix))
}

func (c *Cell) appendBag(p []byte) {
	t := c.group.tails[string(c.prefix)]
	if t == nil || len(t.value)+len(p) > rowLimit && len(t.value) > 0 {
		t = &tail{key: c.group.nextRow(c.prefix)}
		c.group.tails[string(c.prefix)] = t
	}
	t.value = append(t.value, p...)
	c.group.rows.Set(t.key, t.value)
}

// ReadMap returns the values of a map key.
func (c *Cell) ReadMap(key []byte) []byte {
	value, _ := c.group.rows.Get(c.row(key))
	return value
}

// AppendMap adds p to the values of a map key.
func (c *Cell) AppendMap(key, p []byte) {
	c.mark()
	row := c.row(key)
	old, _ := c.group.rows.Get(row)
	c.group.rows.Set(row, append(slices.Clip(old), p...))
}

// ClearMapKey removes a map key and its values.
func (c *Cell) ClearMapKey(key []byte) {
	c.mark()
	c.group.rows.Delete(c.row(key))
}

// MapKeys returns the map keys one after the other, in ascending order.
func (c *Cell) MapKeys() []byte {
	var all []byte
	c.group.rows.Scan(c.prefix, kv.PrefixEnd(c.prefix), func(key, _ []byte) bool {
		all = append(all, key[len(c.prefix):]...)
		return true
	})
	return all
}

// ClearMap removes all map keys.
func (c *Cell) ClearMap() {
	c.mark()
	c.group.deleteRange(c.prefix, kv.PrefixEnd(c.prefix))
}

func (c *Cell) row(suffix []byte) []byte {
	return append(append(make([]byte, 0, len(c.prefix)+len(suffix)), c.prefix...), suffix...)
}

// ErrEntry is the error of an entry of an ordered list that has no sort key.
var ErrEntry = errors.New("userstate: an entry of an ordered list begins with no sort key")

// ReadList returns the entries with start <= sort key < end, in the order of their sort keys and
// then in that of their insertion. Each is the sort key as a varint, then the value.
func (c *Cell) ReadList(start, end int64) []byte {
	var all []byte
	from, to := c.listRange(start, end)
	c.group.rows.Scan(from, to, func(key, value []byte) bool {
		sortKey := binary.BigEndian.Uint64(key[len(c.prefix):]) ^ (1 << 63)
		all = append(binary.AppendUvarint(all, sortKey), value...)
		return true
	})
	return all
}

// InsertList adds one entry: its sort key as a varint, then the value.
func (c *Cell) InsertList(entry []byte) error {
	sortKey, n := binary.Uvarint(entry)
	if n <= 0 {
		return ErrEntry
	}
	c.mark()
	row := binary.BigEndian.AppendUint64(slices.Clip(c.prefix), sortKey^(1<<63))
	c.group.rows.Set(c.group.nextRow(row), bytes.Clone(entry[n:]))
	return nil
}

// ClearList removes the entries with start <= sort key < end.
func (c *Cell) ClearList(start, end int64) {
	c.mark()
	c.group.deleteRange(c.listRange(start, end))
}

// listRange returns the range of rows for a range of sort keys. The greatest number as end means
// no end, because that is how SDKs ask for the whole list: an entry there would never be seen.
func (c *Cell) listRange(start, end int64) (from, to []byte) {
	from = c.row(binary.BigEndian.AppendUint64(nil, uint64(start)^(1<<63)))
	if end == math.MaxInt64 {
		return from, kv.PrefixEnd(c.prefix)
	}
	return from, c.row(binary.BigEndian.AppendUint64(nil, uint64(max(start, end))^(1<<63)))
}
