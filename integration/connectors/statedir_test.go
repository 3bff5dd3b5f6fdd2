// SPDX-License-Identifier: Apache-2.0

package connectors

import (
	"flag"
	"testing"
)

// stateDir lets the jobs of a test be kept in one directory, so that the next one continues.
func stateDir(t *testing.T) {
	t.Helper()
	if err := flag.Set("state_dir", t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := flag.Set("state_dir", ""); err != nil {
			t.Fatal(err)
		}
	})
}
