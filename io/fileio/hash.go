// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
)

// RowsHash is a hash of rows that does not depend on their order or on the files they are in: the sum of their
// SHA-256 modulo 2^256. A reader that adds up the rows of all files of a window gets the Hash of its Manifest,
// however often the rows were cut, sorted or merged in between. A sum tells how often a row is there, which an
// exclusive or would not. It finds what is lost, doubled or damaged by accident; it is no proof against somebody
// who chooses rows so that they add up, which would need a group in which sums cannot be inverted.
//
// The zero value is that of no rows.
type RowsHash struct {
	words [4]uint64 // The least significant first.
}

// Add counts a row in: for JSONLines and CSV a record without its line end.
func (h *RowsHash) Add(row []byte) {
	sum := sha256.Sum256(row)
	h.Merge(fromBytes(sum))
}

// Merge counts the rows of another hash in.
func (h *RowsHash) Merge(other RowsHash) {
	var carry uint64
	for i := range h.words {
		h.words[i], carry = bits.Add64(h.words[i], other.words[i], carry)
	}
}

// String returns the hash as 64 hexadecimal digits.
func (h RowsHash) String() string {
	var b [sha256.Size]byte
	for i, word := range h.words {
		binary.BigEndian.PutUint64(b[len(b)-8*(i+1):], word)
	}
	return hex.EncodeToString(b[:])
}

// ParseRowsHash reads what String has written.
func ParseRowsHash(text string) (RowsHash, error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != sha256.Size {
		return RowsHash{}, fmt.Errorf("fileio: %q is no hash of rows: want 64 hexadecimal digits", text)
	}
	return fromBytes([sha256.Size]byte(b)), nil
}

func fromBytes(b [sha256.Size]byte) RowsHash {
	var h RowsHash
	for i := range h.words {
		h.words[i] = binary.BigEndian.Uint64(b[len(b)-8*(i+1):])
	}
	return h
}
