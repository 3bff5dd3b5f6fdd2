// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"encoding/binary"
	"errors"

	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// Kept names the values of a group that are too large to travel with it: rows of a Group stage's own
// state, which hold the encoded values one after the other. Encoded it is the token of Beam's
// state-backed iterables. The chunk with the group owns the rows: they go when it is consumed.
type Kept struct {
	Stage  plan.StageID
	Group  KeyGroup
	Chains []Chain
}

// Chain is rows below one prefix. A value may begin in one row and end in the next.
type Chain struct {
	Prefix []byte
	Rows   uint32
}

// Row returns the key of a row, without what stands before a stage's own state.
func (c Chain) Row(n uint32) []byte {
	return binary.BigEndian.AppendUint32(append(make([]byte, 0, len(c.Prefix)+4), c.Prefix...), n)
}

// Append appends the encoding of k.
func (k Kept) Append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(k.Stage))
	b = binary.AppendUvarint(b, uint64(k.Group))
	b = binary.AppendUvarint(b, uint64(len(k.Chains)))
	for _, c := range k.Chains {
		b = binary.AppendUvarint(b, uint64(len(c.Prefix)))
		b = append(b, c.Prefix...)
		b = binary.AppendUvarint(b, uint64(c.Rows))
	}
	return b
}

var errKept = errors.New("bundle: the name of kept values is malformed")

// ReadKept reads what Append wrote and returns its length.
func ReadKept(b []byte) (k Kept, n int, err error) {
	number := func(limit uint64) uint64 {
		v, size := binary.Uvarint(b[n:])
		if size <= 0 || v > limit {
			err = errKept
			return 0
		}
		n += size
		return v
	}
	k.Stage = plan.StageID(number(1 << 31))
	k.Group = KeyGroup(number(1<<16 - 1))
	for chains := number(uint64(len(b))); chains > 0 && err == nil; chains-- {
		size := int(number(uint64(len(b) - n)))
		if err != nil || size > len(b)-n {
			return Kept{}, 0, errKept
		}
		c := Chain{Prefix: b[n : n+size : n+size]}
		n += size
		c.Rows = uint32(number(1<<32 - 1))
		k.Chains = append(k.Chains, c)
	}
	if err != nil {
		return Kept{}, 0, err
	}
	return k, n, nil
}
