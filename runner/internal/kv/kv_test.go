// SPDX-License-Identifier: Apache-2.0

package kv_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv/kvtest"
)

func TestMem(t *testing.T) {
	kvtest.Run(t, func(t *testing.T) kv.Table { return kv.NewMem() })
}

// TestOverlay puts an overlay on another, as state of a bundle is.
func TestOverlay(t *testing.T) {
	table := kv.NewMem()
	tx := table.Begin()
	for i := range 5 {
		tx.Set(fmt.Append(nil, i), []byte("table"))
	}
	if _, err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	lower := kv.NewOverlay(table.View())
	lower.Set([]byte("5"), []byte("lower"))
	lower.Delete([]byte("0"))
	o := kv.NewOverlay(lower)
	defer o.Close()
	o.Set([]byte("3"), []byte("own"))
	o.Delete([]byte("1"))
	o.Delete([]byte("9"))
	check := func(want ...string) {
		t.Helper()
		if got := kvtest.Dump(o, nil, nil); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	check("2=table", "3=own", "4=table", "5=lower")
	o.Set([]byte("1"), []byte("again")) // New writes after a scan are merged in.
	o.Set([]byte("0"), []byte("own"))
	check("0=own", "1=again", "2=table", "3=own", "4=table", "5=lower")
	var writes []string
	o.Writes(func(key, value []byte, deleted bool) {
		writes = append(writes, fmt.Sprintf("%s=%s %v", key, value, deleted))
	})
	want := []string{"0=own false", "1=again false", "3=own false", "9= true"}
	if !slices.Equal(writes, want) {
		t.Errorf("Writes: got %q, want %q", writes, want)
	}
	if o.Len() != 4 || o.Size() != len("0own1again3own9") {
		t.Errorf("got %d writes of %d bytes", o.Len(), o.Size())
	}
}
