// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"sync"
	"sync/atomic"
)

// Mem is a Table in memory. It keeps nothing beyond the process.
//
// It is a copy-on-write tree: a transaction changes nodes of its own, and its commit replaces the
// root. So Views need no lock, and a scan sees one state of the table.
type Mem struct {
	root atomic.Pointer[node]
	open sync.Mutex // Held while a Tx is open.
}

var _ Table = (*Mem)(nil)

// NewMem returns an empty table.
func NewMem() *Mem {
	m := new(Mem)
	m.root.Store(new(node))
	return m
}

// Begin opens the transaction. It panics if one is open already.
func (m *Mem) Begin() Tx {
	if !m.open.TryLock() {
		panic("kv: Begin while a transaction is open")
	}
	return &memTx{table: m, root: m.root.Load(), owner: new(owner)}
}

// View returns a View of the table.
func (m *Mem) View() View { return memView{m} }

// Close does nothing.
func (m *Mem) Close() error { return nil }

type memView struct{ table *Mem }

func (v memView) Get(key []byte) ([]byte, bool) { return v.table.root.Load().get(key) }

func (v memView) Scan(from, to []byte, visit func(key, value []byte) bool) {
	v.table.root.Load().scan(from, to, visit)
}

func (v memView) Err() error { return nil }

func (v memView) Close() {}

type memTx struct {
	table *Mem // Nil once the Tx has ended.
	root  *node
	owner *owner
}

func (t *memTx) Get(key []byte) ([]byte, bool) { return t.root.get(key) }

func (t *memTx) Scan(from, to []byte, visit func(key, value []byte) bool) {
	t.root.scan(from, to, visit)
}

func (t *memTx) Err() error { return nil }

func (t *memTx) Close() { t.Discard() }

func (t *memTx) Set(key, value []byte) { t.root = t.root.set(t.owner, pair{key, value}) }

func (t *memTx) Delete(key []byte) { t.root = t.root.delete(t.owner, key) }

func (t *memTx) DeleteRange(from, to []byte) {
	var keys [][]byte
	t.Scan(from, to, func(key, _ []byte) bool {
		keys = append(keys, key)
		return true
	})
	for _, key := range keys {
		t.Delete(key)
	}
}

func (t *memTx) Commit() (func() error, error) {
	if t.table == nil {
		panic("kv: Commit of a transaction that has ended")
	}
	t.table.root.Store(t.root)
	t.Discard()
	return func() error { return nil }, nil
}

func (t *memTx) Discard() {
	if t.table != nil {
		table := t.table
		t.table = nil
		table.open.Unlock()
	}
}
