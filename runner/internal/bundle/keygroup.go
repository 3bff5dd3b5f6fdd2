// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"encoding/binary"
	"math/bits"
)

// KeyGroupOf returns the key group of an encoded key among the given number of groups. State and
// mailboxes on disk are divided by it, so it never changes.
func KeyGroupOf(key []byte, groups int) KeyGroup {
	hash := mix(uint64(len(key)))
	for ; len(key) >= 8; key = key[8:] {
		hash = mix(hash ^ binary.LittleEndian.Uint64(key))
	}
	if len(key) > 0 {
		var tail uint64
		for i, c := range key {
			tail |= uint64(c) << (8 * i)
		}
		hash = mix(hash ^ tail)
	}
	group, _ := bits.Mul64(hash, uint64(groups))
	return KeyGroup(group)
}

// mix spreads every bit of x over all bits; two different x give two different results.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// AppendOrdered appends an encoding of id that is its own end and whose order is the order of IDs.
func (id ID) AppendOrdered(b []byte) []byte {
	return appendOrdered(appendOrdered(b, id.Epoch), id.N)
}

// appendOrdered appends the number of bytes that x takes, then those bytes.
func appendOrdered(b []byte, x uint64) []byte {
	n := (bits.Len64(x) + 7) / 8
	b = append(b, byte(n))
	for i := n - 1; i >= 0; i-- {
		b = append(b, byte(x>>(8*i)))
	}
	return b
}
