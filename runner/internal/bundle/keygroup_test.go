// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"fmt"
	"math"
	"testing"
)

// The groups of these keys are on the disks of users.
func TestKeyGroupOfNeverChanges(t *testing.T) {
	for _, test := range []struct {
		key    string
		groups int
		want   KeyGroup
	}{
		{"", 128, 113},
		{"a", 128, 47},
		{"\x05alice", 128, 90},
		{"01234567", 128, 69},
		{"0123456789", 128, 96},
		{"0123456789abcdef", 4096, 836},
		{"x", 1, 0},
	} {
		if got := KeyGroupOf([]byte(test.key), test.groups); got != test.want {
			t.Errorf("KeyGroupOf(%q, %d) = %d, want %d", test.key, test.groups, got, test.want)
		}
	}
}

func TestKeyGroupOfSpreads(t *testing.T) {
	const keys, groups = 100_000, 128
	var count [groups]int
	for i := range keys {
		count[KeyGroupOf(fmt.Appendf(nil, "user-%d", i), groups)]++
	}
	for g, n := range count {
		if n < keys/groups*8/10 || n > keys/groups*12/10 {
			t.Errorf("group %d has %d of %d keys", g, n, keys)
		}
	}
}

func TestIDOrder(t *testing.T) {
	var last []byte
	for _, id := range []ID{{0, 0}, {0, 1}, {0, 255}, {0, 256}, {0, 65535}, {0, math.MaxUint64}, {1, 0}, {1, 2}, {300, 0}} {
		b := id.AppendOrdered(nil)
		if last != nil && bytes.Compare(last, b) >= 0 {
			t.Errorf("%v: %x is not above %x", id, b, last)
		}
		last = b
	}
}
