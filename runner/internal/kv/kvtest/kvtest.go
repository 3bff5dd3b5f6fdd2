// SPDX-License-Identifier: Apache-2.0

// Package kvtest says what every kv.Table does, as tests that each implementation runs.
package kvtest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"sync"
	"testing"

	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
)

// Run runs the suite on tables that create makes.
func Run(t *testing.T, create func(t *testing.T) kv.Table) {
	for name, test := range map[string]func(*testing.T, kv.Table){
		"Basics":    basics,
		"Isolation": isolation,
		"Bounds":    bounds,
		"Ended":     ended,
		"Nested":    nested,
		"Model":     model,
		"Readers":   readers,
	} {
		t.Run(name, func(t *testing.T) {
			table := create(t)
			test(t, table)
			if err := table.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

// Dump returns the pairs of v between the bounds, one "key=value" each.
func Dump(v kv.View, from, to []byte) []string {
	var pairs []string
	v.Scan(from, to, func(key, value []byte) bool {
		pairs = append(pairs, fmt.Sprintf("%s=%s", key, value))
		return true
	})
	return pairs
}

func commit(t *testing.T, tx kv.Tx) {
	t.Helper()
	sync, err := tx.Commit()
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	if err := sync(); err != nil {
		t.Fatalf("sync: %v", err)
	}
}

func expect(t *testing.T, v kv.View, from, to string, want ...string) {
	t.Helper()
	var high []byte
	if to != "" {
		high = []byte(to)
	}
	if got := Dump(v, []byte(from), high); !slices.Equal(got, want) {
		t.Errorf("Scan(%q, %q): got %q, want %q", from, to, got, want)
	}
	if err := v.Err(); err != nil {
		t.Errorf("Err: %v", err)
	}
}

func basics(t *testing.T, table kv.Table) {
	tx := table.Begin()
	tx.Set([]byte("b"), []byte("1"))
	tx.Set([]byte("a"), nil)
	tx.Set([]byte("c"), []byte("3"))
	tx.Delete([]byte("c"))
	tx.Delete([]byte("never there"))
	tx.Set([]byte("b"), []byte("2"))
	expect(t, tx, "", "", "a=", "b=2")
	commit(t, tx)

	view := table.View()
	defer view.Close()
	expect(t, view, "", "", "a=", "b=2")
	if value, ok := view.Get([]byte("a")); !ok || len(value) != 0 {
		t.Errorf("Get of an empty value: got %q, %v", value, ok)
	}
	if _, ok := view.Get([]byte("c")); ok {
		t.Error("Get finds a deleted key")
	}
	tx = table.Begin()
	commit(t, tx) // An empty change is a change.
	expect(t, view, "", "", "a=", "b=2")
}

func isolation(t *testing.T, table kv.Table) {
	view := table.View()
	defer view.Close()
	tx := table.Begin()
	tx.Set([]byte("a"), []byte("1"))
	expect(t, view, "", "")
	if _, ok := view.Get([]byte("a")); ok {
		t.Error("a View sees a write before its commit")
	}
	tx.Discard()
	tx.Discard()
	expect(t, view, "", "")

	tx = table.Begin()
	expect(t, tx, "", "")
	tx.Set([]byte("a"), []byte("2"))
	sync, err := tx.Commit()
	if err != nil {
		t.Fatal(err)
	}
	expect(t, view, "", "", "a=2") // Seen at once, not only after sync.
	tx = table.Begin()
	tx.Set([]byte("a"), []byte("3"))
	later, err := tx.Commit()
	if err != nil {
		t.Fatal(err)
	}
	if value, _ := view.Get([]byte("a")); string(value) != "3" {
		t.Errorf("Get: got %q, want the latest commit, 3", value)
	}
	for _, sync := range []func() error{sync, later} {
		if err := sync(); err != nil {
			t.Error(err)
		}
	}
}

func bounds(t *testing.T, table kv.Table) {
	keys := []string{"", "\x00", "\x00\x00", "\x01", "a", "a\x00", "ab", "b", "\xff", "\xff\xff"}
	tx := table.Begin()
	for _, key := range keys {
		tx.Set([]byte(key), []byte("v"))
	}
	check := func(v kv.View) {
		t.Helper()
		expect(t, v, "a", "b", "a=v", "a\x00=v", "ab=v")
		expect(t, v, "a\x00", "ab", "a\x00=v")
		expect(t, v, "b", "a")
		expect(t, v, "\xff", "", "\xff=v", "\xff\xff=v")
		if got := len(Dump(v, nil, nil)); got != len(keys) {
			t.Errorf("Scan(nil, nil): got %d pairs, want %d", got, len(keys))
		}
		if got := Dump(v, []byte("\xff"), kv.PrefixEnd([]byte("\xff"))); len(got) != 2 {
			t.Errorf("scan of a prefix without an end: got %q", got)
		}
		if got := Dump(v, nil, []byte{}); len(got) != 0 {
			t.Errorf("Scan below the empty key: got %q", got)
		}
		if _, ok := v.Get(nil); !ok {
			t.Error("Get of the empty key finds nothing")
		}
		first := 0
		v.Scan([]byte("a"), nil, func(_, _ []byte) bool { first++; return false })
		if first != 1 {
			t.Errorf("a scan that is stopped visits %d pairs, want 1", first)
		}
	}
	check(tx)
	commit(t, tx)
	view := table.View()
	defer view.Close()
	check(view)
	tx = table.Begin()
	check(tx)
	tx.Discard()
}

func ended(t *testing.T, table kv.Table) {
	tx := table.Begin()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a second Begin does not panic")
			}
		}()
		table.Begin()
	}()
	commit(t, tx)
	tx.Discard()
	tx.Close()
	next := table.Begin()
	tx.Discard() // Must not end the next one.
	next.Set([]byte("a"), []byte("1"))
	commit(t, next)
}

func nested(t *testing.T, table kv.Table) {
	tx := table.Begin()
	for i := range 9 {
		tx.Set(fmt.Append(nil, i), fmt.Append(nil, i))
	}
	commit(t, tx)
	tx = table.Begin()
	tx.Set([]byte("4x"), []byte("own"))
	seen := 0
	tx.Scan([]byte("3"), []byte("6"), func(key, _ []byte) bool {
		tx.Scan(key, nil, func(inner, _ []byte) bool {
			if _, ok := tx.Get(inner); !ok {
				t.Errorf("Get(%q) inside a scan finds nothing", inner)
			}
			seen++
			return true
		})
		return true
	})
	if want := 7 + 6 + 5 + 4; seen != want {
		t.Errorf("got %d pairs in nested scans, want %d", seen, want)
	}
	tx.Discard()
}

// model compares the table with a map over random transactions.
func model(t *testing.T, table kv.Table) {
	rng := rand.New(rand.NewPCG(1, 0))
	committed := map[string]string{}
	view := table.View()
	defer view.Close()
	for step := range 120 {
		tx, pending := table.Begin(), map[string]string{}
		for k, v := range committed {
			pending[k] = v
		}
		for range 1 + rng.IntN(200) {
			key := fmt.Sprintf("%03d", rng.IntN(700))
			switch rng.IntN(8) {
			case 0, 1, 2:
				value := fmt.Sprint(rng.IntN(100))
				tx.Set([]byte(key), []byte(value))
				pending[key] = value
			case 3, 4:
				tx.Delete([]byte(key))
				delete(pending, key)
			case 5:
				if rng.IntN(10) == 0 {
					clearModel(tx, pending, key, fmt.Sprintf("%03d", rng.IntN(700)))
				}
			case 6:
				same(t, tx, pending, key)
			default:
				compare(t, tx, pending, key, fmt.Sprintf("%03d", rng.IntN(700)))
			}
		}
		compare(t, tx, pending, "", "")
		compare(t, view, committed, "", "")
		if rng.IntN(4) == 0 {
			tx.Discard()
		} else {
			commit(t, tx)
			committed = pending
		}
		compare(t, view, committed, "", "")
		if t.Failed() {
			t.Fatalf("at step %d", step)
		}
	}
}

func clearModel(tx kv.Tx, model map[string]string, from, to string) {
	high := []byte(to)
	if to < "050" {
		to, high = "", nil
	}
	tx.DeleteRange([]byte(from), high)
	for key := range model {
		if key >= from && (to == "" || key < to) {
			delete(model, key)
		}
	}
}

func same(t *testing.T, v kv.View, model map[string]string, key string) {
	t.Helper()
	value, ok := v.Get([]byte(key))
	if want, there := model[key]; ok != there || string(value) != want {
		t.Errorf("Get(%q): got %q, %v, want %q, %v", key, value, ok, want, there)
	}
}

func compare(t *testing.T, v kv.View, model map[string]string, from, to string) {
	t.Helper()
	var want []string
	for key, value := range model {
		if key >= from && (to == "" || key < to) {
			want = append(want, key+"="+value)
		}
	}
	sort.Strings(want)
	expect(t, v, from, to, want...)
}

// readers checks that Views beside a writer see whole transactions.
func readers(t *testing.T, table kv.Table) {
	var group sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		group.Go(func() {
			view := table.View()
			defer view.Close()
			for {
				select {
				case <-stop:
					return
				default:
				}
				var first []byte
				view.Scan(nil, nil, func(key, value []byte) bool {
					if first == nil {
						first = slices.Clone(value)
					}
					if !bytes.Equal(first, value) {
						t.Errorf("a scan sees two transactions: %q and %q", first, value)
					}
					return true
				})
			}
		})
	}
	for i := range 100 {
		tx := table.Begin()
		for key := range 50 {
			tx.Set(fmt.Appendf(nil, "%02d", key), fmt.Append(nil, i))
		}
		commit(t, tx)
	}
	close(stop)
	group.Wait()
}
