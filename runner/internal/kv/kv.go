// SPDX-License-Identifier: Apache-2.0

// Package kv says what the runner needs of storage: an ordered table of byte strings that is
// changed one transaction at a time. Mem is the table of tests; package store has the durable one.
//
// Reading can fail. So that deciding code is not half error handling, a View remembers its first
// failure in Err and reads as empty from then on; a Tx with such a failure cannot be committed.
// Nothing that was decided on a failed read becomes durable.
package kv

// View reads a table. A View belongs to one goroutine; many Views may be used at once, beside an
// open transaction, and each read sees the commits made before it.
type View interface {
	// Get returns the value at key. The value may be kept but not changed.
	Get(key []byte) (value []byte, ok bool)
	// Scan visits the pairs with from <= key < to in ascending order until visit returns false.
	// A nil to means no upper bound. Key and value are valid only during the call, and visit must
	// not write to the View it is called from.
	Scan(from, to []byte, visit func(key, value []byte) bool)
	// Err returns the first failure of a read.
	Err() error
	// Close frees what the View holds.
	Close()
}

// Tx is one atomic change. Its reads see its own writes.
type Tx interface {
	View
	// Set binds key to value. Neither may be changed afterwards.
	Set(key, value []byte)
	// Delete removes key if it is there.
	Delete(key []byte)
	// DeleteRange removes every key with from <= key < to, at a cost that does not depend on how
	// many there are. A nil to means no upper bound.
	DeleteRange(from, to []byte)
	// Commit makes the change visible to every View, whole or not at all, and ends the Tx. It is
	// durable once sync has returned nil, and with it every change committed before it. An error
	// of sync means that the outcome is unknown: the process has to end and recover.
	Commit() (sync func() error, err error)
	// Discard ends the Tx and leaves no trace. After Commit it does nothing.
	Discard()
}

// Table is an ordered table. At most one Tx is open at a time.
type Table interface {
	Begin() Tx
	View() View
	// Close ends the table. Views and transactions must have ended before.
	Close() error
}

// PrefixEnd returns the smallest key that is greater than every key with the given prefix, or nil
// if there is none.
func PrefixEnd(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			end := append([]byte(nil), prefix[:i+1]...)
			end[i]++
			return end
		}
	}
	return nil
}
