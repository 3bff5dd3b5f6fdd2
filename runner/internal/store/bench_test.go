// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"encoding/binary"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/hornbeam-dev/hornbeam/runner/internal/store"
)

func openBench(b *testing.B) *store.Store {
	b.Helper()
	s, err := store.Open(b.TempDir()+"/state", store.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

func randomKey(rng *rand.Rand) []byte {
	return binary.BigEndian.AppendUint64([]byte("job/state/"), rng.Uint64())
}

// fill commits n random keys in transactions of 10,000 and returns them.
func fill(b *testing.B, s *store.Store, n int) [][]byte {
	b.Helper()
	rng, keys := rand.New(rand.NewPCG(1, 0)), make([][]byte, 0, n)
	var sync func() error
	for len(keys) < n {
		tx := s.Begin()
		for range 10000 {
			key, value := randomKey(rng), make([]byte, 82)
			for i := 0; i < 40; i++ { // As compressible as real state, more or less.
				value[i] = byte(rng.Uint32())
			}
			keys = append(keys, key)
			tx.Set(key, value)
		}
		var err error
		if sync, err = tx.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	if err := sync(); err != nil {
		b.Fatal(err)
	}
	return keys
}

func cpu() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkFill sets a million random keys with values, 100 bytes together, in transactions of
// 10,000: everything included, also what Pebble does in the background.
func BenchmarkFill(b *testing.B) {
	const n = 1000000
	for b.Loop() {
		s := openBench(b)
		before := cpu()
		fill(b, s, n)
		b.ReportMetric(float64((cpu()-before).Nanoseconds())/n, "cpu-ns/set")
	}
}

func benchmarkCommit(b *testing.B, wait bool) {
	s := openBench(b)
	rng, value := rand.New(rand.NewPCG(2, 0)), make([]byte, 200)
	var sync func() error
	for b.Loop() {
		tx := s.Begin()
		for range 100 {
			tx.Set(randomKey(rng), value)
		}
		var err error
		if sync, err = tx.Commit(); err != nil {
			b.Fatal(err)
		}
		if wait {
			if err := sync(); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := sync(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCommit commits 100 values of 200 bytes, waiting for each or only for the last.
func BenchmarkCommit(b *testing.B) {
	b.Run("wait", func(b *testing.B) { benchmarkCommit(b, true) })
	b.Run("pipelined", func(b *testing.B) { benchmarkCommit(b, false) })
}

// BenchmarkCommitOne commits one small value without waiting: what a commit costs at least.
func BenchmarkCommitOne(b *testing.B) {
	s := openBench(b)
	for b.Loop() {
		tx := s.Begin()
		tx.Set([]byte("key"), []byte("value"))
		if _, err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	s := openBench(b)
	keys := fill(b, s, 200000)
	view := s.View()
	defer view.Close()
	b.Run("Get", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, ok := view.Get(keys[i%len(keys)]); !ok {
				b.Fatal(view.Err())
			}
		}
	})
	b.Run("GetAbsent", func(b *testing.B) {
		rng := rand.New(rand.NewPCG(3, 0))
		for b.Loop() {
			view.Get(randomKey(rng))
		}
	})
	b.Run("Scan10", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			n := 0
			view.Scan(keys[i%len(keys)], nil, func(_, _ []byte) bool { n++; return n < 10 })
		}
	})
	b.Run("TxScan10", func(b *testing.B) {
		tx := s.Begin()
		defer tx.Discard()
		for i := 0; b.Loop(); i++ {
			n := 0
			tx.Scan(keys[i%len(keys)], nil, func(_, _ []byte) bool { n++; return n < 10 })
		}
	})
}

func BenchmarkOpenNew(b *testing.B) {
	for b.Loop() {
		openBench(b)
	}
}
