// SPDX-License-Identifier: Apache-2.0

package kv_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
)

func randomKeys(n int) [][]byte {
	rng, keys := rand.New(rand.NewPCG(1, 0)), make([][]byte, n)
	for i := range keys {
		keys[i] = binary.BigEndian.AppendUint64([]byte("job/state/"), rng.Uint64())
	}
	return keys
}

// BenchmarkOverlay is one bundle: 10,000 keys are set and read. The time is that of one key.
func BenchmarkOverlay(b *testing.B) {
	keys, value := randomKeys(10000), make([]byte, 50)
	base := kv.NewMem().View()
	b.ReportAllocs()
	var o *kv.Overlay
	for i := 0; b.Loop(); i++ {
		if i%len(keys) == 0 {
			o = kv.NewOverlay(base)
		}
		key := keys[i%len(keys)]
		o.Set(key, value)
		if _, ok := o.Get(key); !ok {
			b.Fatal("not found")
		}
	}
}

// BenchmarkOverlayScan scans a prefix after each write of an overlay of 10,000 keys.
func BenchmarkOverlayScan(b *testing.B) {
	keys, value := randomKeys(10000), make([]byte, 50)
	base := kv.NewMem().View()
	var o *kv.Overlay
	for i := 0; b.Loop(); i++ {
		if i%len(keys) == 0 {
			o = kv.NewOverlay(base)
		}
		key := keys[i%len(keys)]
		o.Set(key, value)
		o.Scan(key, kv.PrefixEnd(key), func(_, _ []byte) bool { return true })
	}
}

func filled(keys [][]byte) *kv.Mem {
	table, value := kv.NewMem(), make([]byte, 50)
	tx := table.Begin()
	for _, key := range keys {
		tx.Set(key, value)
	}
	tx.Commit()
	return table
}

func BenchmarkMemGet(b *testing.B) {
	keys := randomKeys(200000)
	view := filled(keys).View()
	for i := 0; b.Loop(); i++ {
		view.Get(keys[i%len(keys)])
	}
}

// BenchmarkMemSet sets keys in transactions of 100.
func BenchmarkMemSet(b *testing.B) {
	keys, value := randomKeys(200000), make([]byte, 50)
	table := kv.NewMem()
	tx := table.Begin()
	for i := 0; b.Loop(); i++ {
		if i%100 == 0 {
			tx.Commit()
			tx = table.Begin()
		}
		tx.Set(keys[i%len(keys)], value)
	}
}

// BenchmarkMemScan scans 10 pairs.
func BenchmarkMemScan(b *testing.B) {
	keys := randomKeys(200000)
	view := filled(keys).View()
	for i := 0; b.Loop(); i++ {
		n := 0
		view.Scan(keys[i%len(keys)], nil, func(_, _ []byte) bool { n++; return n < 10 })
	}
}

func BenchmarkMemCreate(b *testing.B) {
	for b.Loop() {
		kv.NewMem()
	}
}
