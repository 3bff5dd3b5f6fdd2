// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// A commit passes through three hands, so that none of them can hang for ever on a disk that is
// full or broken: the caller builds the batch and waits, applyChanges writes it to the log buffer
// and the memtable, where Views see it, and awaitChanges waits for the fsync, which one write of
// the log shares with all commits that have come meanwhile. When the store fails, whoever waits is
// told, even though Pebble itself may never return.

// maxUnsynced is the number of commits that may wait for the disk before more of them wait too.
const maxUnsynced = 1024

// change is one commit on its way to the disk.
type change struct {
	seq     uint64
	batch   *pebble.Batch
	applied chan struct{} // Closed when Views see it.
	synced  chan struct{} // Closed when it is durable.
}

// commit makes batch visible and returns how to wait for its durability.
func (s *Store) commit(seq uint64, batch *pebble.Batch) (sync func() error, err error) {
	if err := s.failedNow(); err != nil {
		return nil, failedCommit(seq, err)
	}
	c := &change{seq: seq, batch: batch, applied: make(chan struct{}), synced: make(chan struct{})}
	select {
	case s.apply <- c:
	case <-s.failed:
		return nil, failedCommit(seq, s.failure)
	}
	select {
	case <-c.applied:
	case <-s.failed:
		return nil, failedCommit(seq, s.failure)
	}
	return func() error {
		select {
		case <-c.synced:
			return nil
		case <-s.failed:
			return failedCommit(seq, s.failure)
		}
	}, nil
}

func failedCommit(seq uint64, err error) error {
	return fmt.Errorf("commit %d: outcome unknown, the process has to end and recover: %w", seq, err)
}

func (s *Store) applyChanges() {
	defer close(s.await)
	defer s.recoverPebble("write the log")
	for c := range s.apply {
		var err error
		if s.options.UnsafeNoSync {
			err = s.db.Apply(c.batch, pebble.NoSync)
		} else {
			err = s.db.ApplyNoSyncWait(c.batch, pebble.Sync)
		}
		if err != nil {
			s.fail(fmt.Errorf("write the log: %w", err))
			return
		}
		s.flushed.applied(c.seq, uint64(c.batch.SeqNum()))
		close(c.applied)
		s.await <- c
	}
}

func (s *Store) awaitChanges() {
	defer close(s.ended)
	for c := range s.await {
		if !s.options.UnsafeNoSync {
			if err := c.batch.SyncWait(); err != nil {
				s.fail(fmt.Errorf("sync the log: %w", err))
				return
			}
		}
		if s.failedNow() != nil {
			return // Nothing is acknowledged after a failure.
		}
		if err := s.guard.noteSequence(c.seq); err != nil {
			s.fail(err)
			return
		}
		if err := c.batch.Close(); err != nil {
			s.fail(fmt.Errorf("end a batch: %w", err))
			return
		}
		close(c.synced)
	}
}
