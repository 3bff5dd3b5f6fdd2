// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"bytes"
	"fmt"
	"math/rand/v2"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/store"
)

// disk is a kv.Table that outlives the process, but for commits that were not synced. It knows
// what each commit wrote, so that what is found after a crash can be compared with what has to be.
// The table is in memory, or in a store on a file system that crashes.
type disk struct {
	rng      *rand.Rand
	live     kv.Table
	durable  *kv.Mem  // The commits that were synced.
	unsynced []change // And those that were not, in order.
	commits  int      // Made, synced or not.
	lost     int      // By all crashes.

	mutant *Mutant

	known memory  // What the checkers knew after the last synced commit.
	older *kv.Mem // Of a mutant: the durable table without the last commits.

	// Of a disk with a store.
	fs    *vfs.MemFS
	store *store.Store
}

// change is what one commit wrote.
type change struct {
	cleared [][2][]byte // Ranges that were deleted, before the writes.
	writes  []write
	after   memory // What the checkers knew after it.
}

type write struct {
	key, value []byte
	deleted    bool
}

func newDisk(rng *rand.Rand, onStore bool, m *Mutant) (*disk, error) {
	d := &disk{rng: rng, live: kv.NewMem(), durable: kv.NewMem(), mutant: m}
	if onStore {
		d.fs = vfs.NewCrashableMem()
		return d, d.openStore()
	}
	return d, nil
}

func (d *disk) openStore() error {
	s, err := store.Open("state", store.Options{
		FS:           d.fs,
		MemTableSize: 64 << 10,
		CacheSize:    1 << 20,
		UnsafeNoSync: d.mutant != nil && d.mutant.noSync,
	})
	if err != nil {
		return err
	}
	d.store, d.live = s, s
	return nil
}

func (d *disk) close() error {
	if d.live == nil {
		return nil
	}
	return d.live.Close()
}

// begin opens a transaction of the table.
func (d *disk) begin() *diskTx { return &diskTx{Overlay: kv.NewOverlay(d.live.View()), disk: d} }

// diskTx is a transaction whose writes are known.
type diskTx struct {
	*kv.Overlay
	disk *disk
}

// Commit is for kv.Tx; the World calls commit.
func (t *diskTx) Commit() (func() error, error) { panic("sim: only the driver commits") }

// Discard forgets the writes.
func (t *diskTx) Discard() { t.Close() }

func (t *diskTx) writes() []write {
	var all []write
	t.Writes(func(key, value []byte, deleted bool) {
		all = append(all, write{key, value, deleted})
	})
	return all
}

// commit applies the writes to the live table and returns how to make them durable.
func (t *diskTx) commit(after memory) (sync func() error, err error) {
	d := t.disk
	c := change{writes: t.writes(), after: after}
	t.Cleared(func(from, to []byte) { c.cleared = append(c.cleared, [2][]byte{from, to}) })
	if d.mutant != nil && d.mutant.rows != nil {
		kept := c.writes[:0]
		for _, w := range c.writes {
			if w, ok := d.mutant.rows(d.rng, w); ok {
				kept = append(kept, w)
			}
		}
		c.writes = kept
	}
	tx := d.live.Begin()
	defer tx.Discard()
	apply(tx, c)
	sync, err = tx.Commit()
	d.unsynced = append(d.unsynced, c)
	d.commits++
	return sync, err
}

func apply(tx kv.Tx, c change) {
	for _, s := range c.cleared {
		tx.DeleteRange(s[0], s[1])
	}
	for _, w := range c.writes {
		if w.deleted {
			tx.Delete(w.key)
		} else {
			tx.Set(w.key, w.value)
		}
	}
}

// synced makes the oldest commits durable.
func (d *disk) synced(n int) error {
	for _, c := range d.unsynced[:n] {
		d.known = c.after
		if d.mutant != nil && d.mutant.rollback && d.rng.IntN(3) == 0 {
			d.older = clone(d.durable)
		}
		tx := d.durable.Begin()
		apply(tx, c)
		if _, err := tx.Commit(); err != nil {
			return err
		}
	}
	d.unsynced = d.unsynced[n:]
	return nil
}

// crash ends the process and returns the table that the next one finds. Of the commits that were
// not synced the first keep survive; a store decides that by itself.
func (d *disk) crash(keep int) error {
	if d.store != nil {
		return d.crashStore()
	}
	attempted := len(d.unsynced)
	if err := d.synced(keep); err != nil {
		return err
	}
	d.forget(attempted - keep)
	if d.older != nil {
		d.durable = d.older
	}
	d.live = clone(d.durable)
	return nil
}

func clone(m *kv.Mem) *kv.Mem {
	other := kv.NewMem()
	tx := other.Begin()
	m.View().Scan(nil, nil, func(key, value []byte) bool {
		tx.Set(key, value)
		return true
	})
	if _, err := tx.Commit(); err != nil {
		panic(err) // Memory does not fail.
	}
	return other
}

func (d *disk) forget(n int) {
	d.lost += n
	d.commits -= n
	d.unsynced = nil
}

// crashStore takes the picture of the file system that a power cut leaves and opens it. Every
// synced commit must be there, and nothing that was never attempted.
func (d *disk) crashStore() error {
	acked, attempted := d.commits-len(d.unsynced), d.commits
	picture := d.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: d.rng.IntN(101), RNG: d.rng})
	if err := d.store.Close(); err != nil {
		return err
	}
	d.fs, d.live = picture, nil
	if err := d.openStore(); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	got := int(d.store.Sequence())
	if got < acked || got > attempted {
		return fmt.Errorf("recovered %d commits, want %d to %d", got, acked, attempted)
	}
	if err := d.synced(got - acked); err != nil {
		return err
	}
	d.forget(attempted - got)
	return d.compare()
}

// compare tells whether the live table is the durable one.
func (d *disk) compare() error {
	got, want := rows(d.live), rows(d.durable)
	if len(got) != len(want) {
		return fmt.Errorf("recovered %d rows, want %d", len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i].key, want[i].key) || !bytes.Equal(got[i].value, want[i].value) {
			return fmt.Errorf("recovered row %x, want %x", got[i].key, want[i].key)
		}
	}
	return nil
}

func rows(t kv.Table) []write {
	var all []write
	view := t.View()
	defer view.Close()
	view.Scan(nil, nil, func(key, value []byte) bool {
		all = append(all, write{key: bytes.Clone(key), value: bytes.Clone(value)})
		return true
	})
	return all
}
