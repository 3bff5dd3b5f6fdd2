// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"testing"

	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv/kvtest"
	"github.com/hornbeam-dev/hornbeam/runner/internal/store"
)

func TestTable(t *testing.T) {
	kvtest.Run(t, func(t *testing.T) kv.Table {
		s, err := store.Open(t.TempDir()+"/state", store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}
