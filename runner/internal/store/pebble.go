// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

const (
	defaultMemTable = 32 << 20
	maxMemTable     = 64 << 20
	defaultCache    = 32 << 20
)

// openPebble returns although Pebble may not, see logger.Fatalf.
func (s *Store) openPebble(path string) (*pebble.DB, error) {
	type result struct {
		db  *pebble.DB
		err error
	}
	opened := make(chan result, 1)
	go func() {
		defer s.recoverPebble("open Pebble")
		db, err := pebble.Open(path, s.pebbleOptions())
		opened <- result{db, err}
	}()
	select {
	case r := <-opened:
		return r.db, r.err
	case <-s.failed:
		return nil, s.failure
	}
}

// recoverPebble, deferred, turns a panic into a failure: that is how Pebble reports some errors of
// the disk.
func (s *Store) recoverPebble(doing string) {
	switch cause := recover().(type) {
	case nil:
	case error:
		s.fail(fmt.Errorf("%s: %w", doing, cause))
	default:
		s.fail(fmt.Errorf("%s: %v\n%s", doing, cause, debug.Stack()))
	}
}

func (s *Store) pebbleOptions() *pebble.Options {
	o := &pebble.Options{
		FS:        s.fs,
		CacheSize: orDefault(s.options.CacheSize, defaultCache),
		ReadOnly:  s.readOnly,
		// The default is the oldest format, whose log hides a third of all bit flips.
		FormatMajorVersion: pebble.FormatNewest,
		MemTableSize:       uint64(min(orDefault(s.options.MemTableSize, defaultMemTable), maxMemTable)),
		// A burst of commits waits neither for a flush nor for compactions: it is admission that
		// limits the work, not a stall in the middle of a commit.
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       1000,
		LBaseMaxBytes:               64 << 20,
		CompactionConcurrencyRange:  func() (lower, upper int) { return 1, 2 },
		MaxOpenFiles:                1000,
		Logger:                      logger{s},
		EventListener: &pebble.EventListener{
			BackgroundError: s.backgroundError,
			DataCorruption:  func(info pebble.DataCorruptionInfo) { s.fail(corrupt("%s", info)) },
			FlushEnd:        s.flushEnded,
		},
	}
	o.Experimental.L0CompactionConcurrency = 4
	for i := range o.Levels {
		o.Levels[i].BlockSize = 16 << 10
		o.Levels[i].IndexBlockSize = 64 << 10
		// State of new keys is looked up more often than not in vain.
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

func orDefault(n, otherwise int64) int64 {
	if n <= 0 {
		return otherwise
	}
	return n
}

// backgroundError ends the store at the first error of a flush or compaction. Pebble would try
// again for ever, and block commits meanwhile.
func (s *Store) backgroundError(err error) {
	if errors.Is(err, pebble.ErrCancelledCompaction) || errors.Is(err, pebble.ErrClosed) {
		return
	}
	s.fail(fmt.Errorf("write tables: %w", err))
}

func (s *Store) flushEnded(info pebble.FlushInfo) {
	if info.Err != nil {
		return
	}
	var largest uint64
	for _, table := range info.Output {
		largest = max(largest, uint64(table.LargestSeqNum))
	}
	s.flushed.flushedTo(largest)
}

// logger passes on what Pebble reports.
type logger struct{ store *Store }

func (l logger) Infof(format string, args ...any) {}

func (l logger) Errorf(format string, args ...any) {
	if l.store.options.Logger != nil {
		l.store.options.Logger(format, args...)
	}
}

// Fatalf must not return: Pebble would go on with what it believes cannot be, and might remove
// files that its manifest names. Nor may it end the process here, for tests have many stores.
func (l logger) Fatalf(format string, args ...any) {
	l.store.fail(fmt.Errorf(format, args...))
	select {}
}
