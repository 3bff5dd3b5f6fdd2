// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/store"
)

// The table of these tests is a function of the number of commits: commit n sets row n, changes the
// counter to n and deletes row n-20. So what was recovered can be checked completely.

const liveRows = 20

func row(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte("row/"), n) }

func rowValue(n uint64) []byte {
	rng, value := rand.New(rand.NewPCG(n, 0)), make([]byte, 100+n%400)
	for i := range value {
		value[i] = byte(rng.Uint32())
	}
	return value
}

func commitRow(s *store.Store, n uint64) (func() error, error) {
	tx := s.Begin()
	defer tx.Discard()
	tx.Set(row(n), rowValue(n))
	tx.Set([]byte("counter"), fmt.Append(nil, n))
	if n > liveRows {
		tx.Delete(row(n - liveRows))
	}
	return tx.Commit()
}

// verify checks the content of a store after n commits.
func verify(s *store.Store, n uint64) error {
	if got := s.Sequence(); got != n {
		return fmt.Errorf("got sequence %d, want %d", got, n)
	}
	view := s.View()
	defer view.Close()
	if counter, _ := view.Get([]byte("counter")); n > 0 && string(counter) != fmt.Sprint(n) {
		return errors.Join(fmt.Errorf("got counter %q, want %d", counter, n), view.Err())
	}
	next := uint64(1)
	if n > liveRows {
		next = n - liveRows + 1
	}
	var wrong error
	view.Scan([]byte("row/"), kv.PrefixEnd([]byte("row/")), func(key, value []byte) bool {
		if string(key) != string(row(next)) || string(value) != string(rowValue(next)) {
			wrong = fmt.Errorf("got row %q, want row %d", key, next)
		}
		next++
		return wrong == nil
	})
	if wrong == nil && view.Err() == nil && next != n+1 {
		wrong = fmt.Errorf("got rows up to %d, want %d", next-1, n)
	}
	return errors.Join(wrong, view.Err())
}

// process is one life of a store on a file system that crashes.
type process struct {
	disk             *vfs.MemFS
	attempted, acked atomic.Uint64
	operations       atomic.Int64
	crashAt          int64 // The operation before which the crash happens; 0 is never.
	crashed          chan crash
	percent          int
	rng              *rand.Rand
}

// crash is what a crash leaves.
type crash struct {
	disk             *vfs.MemFS
	attempted, acked uint64
}

func newProcess(disk *vfs.MemFS, rng *rand.Rand, recovered uint64) *process {
	p := &process{disk: disk, rng: rng, crashed: make(chan crash, 1), percent: []int{0, 30, 50, 90}[rng.IntN(4)]}
	p.attempted.Store(recovered)
	p.acked.Store(recovered)
	return p
}

// MaybeError takes the picture of the disk at the moment of the crash. The process goes on, which
// does not matter to the picture.
func (p *process) MaybeError(op errorfs.Op) error {
	if p.operations.Add(1) == p.crashAt {
		acked := p.acked.Load() // Before the picture: what was acknowledged later need not be in it.
		disk := p.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: p.percent, RNG: p.rng})
		p.crashed <- crash{disk, p.attempted.Load(), acked}
	}
	return nil
}

func (p *process) String() string { return "crash" }

func (p *process) options(unsafe bool) store.Options {
	return store.Options{FS: errorfs.Wrap(p.disk, p), MemTableSize: 64 << 10, CacheSize: 1 << 20, UnsafeNoSync: unsafe}
}

// live opens the store, checks it and commits until the crash, or commits times.
func (p *process) live(commits uint64, unsafe bool, verifyFrom func(*store.Store) error) error {
	s, err := store.Open("state", p.options(unsafe))
	if err != nil {
		return err
	}
	if err := verifyFrom(s); err != nil {
		return errors.Join(err, s.Close())
	}
	n := s.Sequence()
	p.attempted.Store(n)
	p.acked.Store(n)
	for range commits {
		n++
		p.attempted.Store(n)
		sync, err := commitRow(s, n)
		if err != nil {
			return err
		}
		if n%3 != 0 {
			continue // Not every commit is waited for.
		}
		if err := sync(); err != nil {
			return err
		}
		p.acked.Store(n)
		if len(p.crashed) > 0 {
			break
		}
	}
	return s.Close()
}

// verify checks that what is there is between acknowledged and attempted.
func (c crash) verify(s *store.Store) error {
	n := s.Sequence()
	if n < c.acked || n > c.attempted {
		return fmt.Errorf("got %d commits after a crash, want %d to %d", n, c.acked, c.attempted)
	}
	return verify(s, n)
}

// campaign crashes one store many times, also in recovery, and returns the first violation.
func campaign(seed uint64, lives int, unsafe bool) (crashes int, err error) {
	rng := rand.New(rand.NewPCG(seed, 0))
	last := crash{disk: vfs.NewCrashableMem()}
	for i := range lives {
		p := newProcess(last.disk, rng, 0)
		p.crashAt = 1 + rng.Int64N(40)
		if rng.IntN(3) > 0 {
			p.crashAt = 1 + rng.Int64N(900)
		}
		if err := p.live(600, unsafe, last.verify); err != nil {
			return crashes, fmt.Errorf("seed %d, life %d: %w", seed, i, err)
		}
		select {
		case c := <-p.crashed:
			if c.attempted == 0 { // In recovery: nothing was promised since the crash before.
				c.attempted, c.acked = last.attempted, last.acked
			}
			last = c
			crashes++
		default:
			last = crash{p.disk.CrashClone(vfs.CrashCloneCfg{}), p.attempted.Load(), p.attempted.Load()}
		}
	}
	return crashes, nil
}

func TestCrashes(t *testing.T) {
	t.Parallel()
	seeds, total := 30, 0
	if testing.Short() {
		seeds = 5
	}
	for seed := range uint64(seeds) {
		crashes, err := campaign(seed, 15, false)
		if err != nil {
			t.Error(err)
		}
		total += crashes
	}
	t.Logf("%d crashes", total)
}

// TestCrashesFindMissingSync shows that the campaign would notice a store that does not wait for
// the disk.
func TestCrashesFindMissingSync(t *testing.T) {
	for seed := range uint64(10) {
		if _, err := campaign(seed, 15, true); err != nil {
			t.Logf("caught: %v", err)
			return
		}
	}
	t.Error("ten campaigns without fsync, and nothing was found")
}

// TestCrashInFirstOpen crashes before each operation of the first life, and in the recovery from it.
func TestCrashInFirstOpen(t *testing.T) {
	t.Parallel()
	for _, percent := range []int{0, 50, 100} {
		for at := int64(1); ; at++ {
			rng := rand.New(rand.NewPCG(uint64(at), 1))
			first := newProcess(vfs.NewCrashableMem(), rng, 0)
			first.crashAt, first.percent = at, percent
			if err := first.live(3, false, crash{}.verify); err != nil {
				t.Fatalf("crash at %d: %v", at, err)
			}
			if len(first.crashed) == 0 {
				break // The whole life was shorter.
			}
			left := <-first.crashed
			second := newProcess(left.disk, rng, 0)
			second.crashAt, second.percent = 1+rng.Int64N(60), percent
			if err := second.live(3, false, left.verify); err != nil {
				t.Fatalf("recovery from a crash at %d: %v", at, err)
			}
			if len(second.crashed) == 0 {
				continue
			}
			again := <-second.crashed
			if again.attempted == 0 {
				again.attempted, again.acked = left.attempted, left.acked
			}
			if err := newProcess(again.disk, rng, 0).live(3, false, again.verify); err != nil {
				t.Fatalf("recovery from crashes at %d and %d: %v", at, second.crashAt, err)
			}
		}
	}
}

// TestWriteErrors makes each operation in turn fail for good, as a full or broken disk does: the
// store has to end with an error and must not hang, and what it acknowledged must be there later.
func TestWriteErrors(t *testing.T) {
	t.Parallel()
	const operations, step = 420, 3
	for _, cause := range []error{syscall.ENOSPC, syscall.EIO} {
		refused := 0
		for at := int64(1); at < operations; at += step {
			disk := vfs.NewCrashableMem()
			p := newProcess(disk, rand.New(rand.NewPCG(1, 1)), 0)
			var count atomic.Int64
			inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && count.Add(1) >= at {
					return cause
				}
				return nil
			})
			options := p.options(false)
			options.FS = errorfs.Wrap(disk, inject)
			err := p.liveWith(options, 300)
			if err != nil {
				refused++
				if !errors.Is(err, cause) && !strings.Contains(err.Error(), cause.Error()) {
					t.Errorf("%v at %d: got %v", cause, at, err)
				}
			}
			left := crash{disk.CrashClone(vfs.CrashCloneCfg{}), p.attempted.Load(), p.acked.Load()}
			if err := newProcess(left.disk, p.rng, 0).live(0, false, left.verify); err != nil {
				t.Errorf("after %v at %d: %v", cause, at, err)
			}
		}
		if refused == 0 {
			t.Errorf("%v was never reported", cause)
		}
	}
}

func (p *process) liveWith(options store.Options, commits uint64) error {
	s, err := store.Open("state", options)
	if err != nil {
		return err
	}
	for n := uint64(1); n <= commits; n++ {
		p.attempted.Store(n)
		sync, err := commitRow(s, n)
		if err == nil {
			err = sync()
		}
		if err != nil {
			return err
		}
		p.acked.Store(n)
	}
	return s.Close()
}
