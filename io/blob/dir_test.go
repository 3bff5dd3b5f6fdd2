// SPDX-License-Identifier: Apache-2.0

package blob_test

import (
	"path/filepath"
	"testing"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/blob/blobtest"
)

func TestDir(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store {
		s, err := blob.OpenDir(filepath.Join(t.TempDir(), "not", "there"))
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}
