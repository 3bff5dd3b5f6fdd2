// SPDX-License-Identifier: Apache-2.0

// Package store is the durable kv.Table: one directory, one commit log, one process at a time. It
// is the only package that knows Pebble.
//
// What a commit goes through is in commit.go, how the directory comes into being in layout.go, and
// how damage is found that Pebble does not see in chain.go (a hole in the log), guard.go (a log or
// manifest that ends too early) and tx.go (a failed read is never "not found").
package store

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
)

// Options are the settings of a Store; the zero value is right for production but for OnFailure.
type Options struct {
	// FS is where the directory is; nil is the disk.
	FS vfs.FS
	// MemTableSize is the size in bytes of the table of newest writes, 32 MB by default and 64 MB
	// at most: replaying larger ones makes recovery slow.
	MemTableSize int64
	// CacheSize is the size in bytes of the cache of blocks read, 32 MB by default.
	CacheSize int64
	// OnFailure is called once, from any goroutine, when the store can go on no longer: the disk is
	// full or broken, or the files are corrupt. The outcome of commits that were not synced is
	// unknown then, so the process has to report the error and exit. Calls into the store that
	// were under way may never return.
	OnFailure func(error)
	// Logger receives what Pebble reports; nil drops it.
	Logger func(format string, args ...any)
	// UnsafeNoSync acknowledges commits that are not on disk. It exists so that a crash campaign
	// can show that it would notice.
	UnsafeNoSync bool
}

// Store is an open state directory.
type Store struct {
	dir     string
	fs      *stateFS
	db      *pebble.DB
	lock    io.Closer
	guard   *guard
	options Options

	open     sync.Mutex // Held while a Tx is open; guards chain.
	chain    chain
	flushed  flushed
	readOnly bool

	apply chan *change  // To applyChanges, closed by Close.
	await chan *change  // From applyChanges to awaitChanges.
	ended chan struct{} // Closed when both have ended.

	failOnce sync.Once
	failed   chan struct{} // Closed after failure is set.
	failure  error
}

var _ kv.Table = (*Store)(nil)

// Open opens the state directory dir, and creates it if it is not there or empty. It refuses a
// directory that another process has open, that is not ours, that a newer version wrote, that lost
// commits which were acknowledged, or that is corrupt. It never deletes or repairs anything then.
func Open(dir string, o Options) (*Store, error) { return open(dir, o, false) }

// OpenReadOnly opens an existing state directory, which no process may have open, to look at it.
// Begin panics.
func OpenReadOnly(dir string, o Options) (*Store, error) { return open(dir, o, true) }

func open(dir string, o Options, readOnly bool) (*Store, error) {
	s, err := openLocked(dir, o, readOnly)
	if err != nil {
		return nil, fmt.Errorf("open state directory %s: %w", dir, err)
	}
	return s, nil
}

func openLocked(dir string, o Options, readOnly bool) (_ *Store, err error) {
	s := &Store{
		dir:      dir,
		fs:       newStateFS(o.FS),
		options:  o,
		readOnly: readOnly,
		apply:    make(chan *change),
		await:    make(chan *change, maxUnsynced),
		ended:    make(chan struct{}),
		failed:   make(chan struct{}),
	}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && s.failedNow() == nil { // After a failure as in Close.
			err = errors.Join(err, s.closeFiles())
		}
	}()
	if s.guard, err = openGuard(s.fs, s.path(guardFile)); err != nil {
		return nil, err
	}
	if err := s.guard.checkManifest(s.fs, s.path(dbDir)); err != nil {
		return nil, err
	}
	s.fs.watch(s.guard, readOnly, s.fail)
	if s.db, err = s.openPebble(s.path(dbDir)); err != nil {
		return nil, fmt.Errorf("%w; restore the directory from a copy", err)
	}
	if s.chain, err = readChain(s.db); err != nil {
		return nil, err
	}
	if err := s.guard.checkSequence(s.chain.seq); err != nil {
		return nil, err
	}
	if err := s.failedNow(); err != nil {
		return nil, err
	}
	s.flushed.reset(s.chain.seq)
	s.fs.release()
	go s.applyChanges()
	go s.awaitChanges()
	return s, nil
}

// Begin opens the transaction. It panics if one is open already.
func (s *Store) Begin() kv.Tx {
	if s.readOnly {
		panic("store: Begin on a store that is open for reading")
	}
	if !s.open.TryLock() {
		panic("store: Begin while a transaction is open")
	}
	return newTx(s)
}

// View returns a View of the table.
func (s *Store) View() kv.View { return &view{store: s} }

// Sequence returns the number of the latest commit, counted from the creation of the directory.
func (s *Store) Sequence() uint64 {
	s.open.Lock()
	defer s.open.Unlock()
	return s.chain.seq
}

// FreeSpace returns the bytes left on the file system of the directory.
func (s *Store) FreeSpace() (uint64, error) {
	usage, err := s.fs.GetDiskUsage(s.dir)
	if err != nil {
		return 0, fmt.Errorf("free space of %s: %w", s.dir, err)
	}
	return usage.AvailBytes, nil
}

// Err returns the reason why the store has failed, or nil.
func (s *Store) Err() error { return s.failedNow() }

// Close waits for the disk and ends the store. A store that has failed is left as it is, locked,
// until the process ends: Pebble may still be writing.
func (s *Store) Close() error {
	close(s.apply)
	select {
	case <-s.ended:
	case <-s.failed:
	}
	if err := s.failedNow(); err != nil {
		return fmt.Errorf("close state directory %s: %w", s.dir, err)
	}
	if err := s.closeFiles(); err != nil {
		return fmt.Errorf("close state directory %s: %w", s.dir, err)
	}
	return nil
}

func (s *Store) closeFiles() error {
	var all error
	if s.db != nil {
		all = errors.Join(all, s.db.Close())
	}
	if s.guard != nil {
		all = errors.Join(all, s.guard.close())
	}
	return errors.Join(all, s.lock.Close())
}

func (s *Store) path(name string) string { return s.fs.PathJoin(s.dir, name) }

// fail records the first failure and tells the process.
func (s *Store) fail(err error) {
	s.failOnce.Do(func() {
		s.failure = err
		close(s.failed)
		if s.options.OnFailure != nil {
			s.options.OnFailure(err)
		}
	})
}

func (s *Store) failedNow() error {
	select {
	case <-s.failed:
		return s.failure
	default:
		return nil
	}
}

// Size returns the number of bytes that the store's files take.
func (s *Store) Size() uint64 { return s.db.Metrics().DiskSpaceUsage() }
