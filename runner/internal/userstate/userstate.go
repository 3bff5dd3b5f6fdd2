// SPDX-License-Identifier: Apache-2.0

// Package userstate keeps the state that user code declares for a key and window: values, bags,
// maps and ordered lists, as rows of an ordered table. It does not know where the table is, nor
// when a window expires; the worker that runs the bundle tells it. See testdata for the rows.
package userstate

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// Rows is the table of one stage and key group. Its keys and values are as those of a kv.View and
// a kv.Tx: what is set may not be changed afterwards.
type Rows interface {
	Get(key []byte) (value []byte, ok bool)
	Scan(from, to []byte, visit func(key, value []byte) bool)
	Set(key, value []byte)
	Delete(key []byte)
}

// Group is the user state of one stage and key group while one bundle runs.
type Group struct {
	rows    Rows
	id      []byte // Ordered, so that what later bundles append stands behind.
	counter uint64 // Of the rows that this bundle has appended.
	// cells holds the cell of each declared state that was opened last. Within one call of user
	// code all accesses are to the same key and window, so that reading and writing a value
	// costs one Get and one Set however often the code does it.
	cells   map[name]*Cell
	tails   map[string]*tail    // By the prefix of a bag's rows: where to append next.
	touched map[string]struct{} // Heads of the rows that were written: key and window.
	scratch []byte
}

type name struct{ transform, id string }

// Address says which cell is meant. Key and Window are encoded.
type Address struct {
	Key, Window   []byte
	Transform, ID string
}

// KeyWindow is a key and window, encoded.
type KeyWindow struct {
	Key, Window []byte
}

// New returns the state in rows as the bundle id uses it.
func New(rows Rows, id bundle.ID) *Group {
	return &Group{
		rows:    rows,
		id:      id.AppendOrdered(nil),
		cells:   make(map[name]*Cell),
		tails:   make(map[string]*tail),
		touched: make(map[string]struct{}),
	}
}

// Open returns the cell at a. It is valid until a cell of the same declared state, but of another
// key or window, is opened.
func (g *Group) Open(kind plan.StateKind, a Address) *Cell {
	n := name{a.Transform, a.ID}
	c := g.cells[n]
	if c == nil {
		c = &Cell{group: g, kind: kind}
		g.cells[n] = c
	}
	g.scratch = appendHead(g.scratch[:0], a.Key, a.Window)
	head := len(g.scratch)
	g.scratch = appendPart(g.scratch, a.Transform)
	g.scratch = appendPart(g.scratch, a.ID)
	if bytes.Equal(c.prefix, g.scratch) {
		return c
	}
	c.flush()
	*c = Cell{
		group: g, kind: kind, prefix: append(c.prefix[:0], g.scratch...),
		head: head, global: len(a.Window) == 0,
	}
	return c
}

// Flush writes what is still in cells to the rows. It has to be called before the rows are read
// by somebody else.
func (g *Group) Flush() {
	for _, c := range g.cells { // The order does not matter: each writes another row.
		c.flush()
	}
}

// Expire deletes all state of a key and window.
func (g *Group) Expire(key, window []byte) {
	g.Flush()
	clear(g.cells)
	clear(g.tails)
	head := appendHead(nil, key, window)
	g.deleteRange(head, kv.PrefixEnd(head))
	delete(g.touched, string(head))
}

// Written returns the keys and windows whose state the bundle has written and that did not expire,
// in ascending order. The global window is left out: it never expires.
func (g *Group) Written() []KeyWindow {
	heads := make([]string, 0, len(g.touched))
	for head := range g.touched {
		heads = append(heads, head)
	}
	slices.Sort(heads)
	var all []KeyWindow
	for _, head := range heads {
		key, rest := cutPart([]byte(head))
		window, _ := cutPart(rest)
		all = append(all, KeyWindow{Key: key, Window: window})
	}
	return all
}

func (g *Group) deleteRange(from, to []byte) {
	var keys [][]byte
	g.rows.Scan(from, to, func(key, _ []byte) bool {
		keys = append(keys, bytes.Clone(key))
		return true
	})
	for _, key := range keys {
		g.rows.Delete(key)
	}
}

// nextRow returns a key behind prefix that no other row has, and that is behind those of all
// earlier bundles and calls.
func (g *Group) nextRow(prefix []byte) []byte {
	g.counter++
	key := make([]byte, 0, len(prefix)+len(g.id)+9)
	key = append(append(key, prefix...), g.id...)
	return bundle.ID{N: g.counter}.AppendOrdered(key)
}

// A row key is the key, the window, the transform and the state's ID, each with its length in
// front, so that no two cells share rows whatever bytes they have; then what the kind of state
// adds. All rows of a key and window stand together.

func appendHead(b, key, window []byte) []byte {
	return appendPart(appendPart(b, key), window)
}

func appendPart[T string | []byte](b []byte, part T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}

// cutPart reads what appendPart wrote; the keys that it gets are our own.
func cutPart(b []byte) (part, rest []byte) {
	size, n := binary.Uvarint(b)
	b = b[n:]
	return b[:size:size], b[size:]
}
