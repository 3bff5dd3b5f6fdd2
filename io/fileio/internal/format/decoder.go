// SPDX-License-Identifier: Apache-2.0

package format

import (
	"encoding/binary"
	"fmt"
	"math"
)

// decoder reads Avro's binary encoding from the front. After a failure it is bad, and reads zeros.
type decoder struct {
	row   []byte
	bad   bool
	depth int // Of the datum that is passed over, in records, lists, maps and unions.
}

func (d *decoder) fail() { d.row, d.bad = nil, true }

// deepest is how many levels a datum may have. A schema can hold itself, so that each byte of a file may be a level, and
// no program survives the end of its stack.
const deepest = 10_000

var errDeep = fmt.Errorf("a value has more than %d levels", deepest)

// failure is why the decoder is bad.
func (d *decoder) failure() error {
	switch {
	case d.depth > deepest:
		return errDeep
	case d.bad:
		return errDamaged
	}
	return nil
}

// nested passes over a datum that may hold others. After a failure the depth stays what it was there.
func (d *decoder) nested(skip avroSkip) {
	if d.depth++; d.depth > deepest {
		d.fail()
		return
	}
	if skip(d); !d.bad {
		d.depth--
	}
}

func (d *decoder) long() int64 {
	v, n := binary.Varint(d.row)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.row = d.row[n:]
	return v
}

// take returns the next n bytes, which are not copied.
func (d *decoder) take(n int64) []byte {
	if n < 0 || n > int64(len(d.row)) {
		d.fail()
		return nil
	}
	b := d.row[:n:n]
	d.row = d.row[n:]
	return b
}

func (d *decoder) bytes() []byte { return d.take(d.long()) }

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) float32() float32 {
	if b := d.take(4); b != nil {
		return math.Float32frombits(binary.LittleEndian.Uint32(b))
	}
	return 0
}

func (d *decoder) float64() float64 {
	if b := d.take(8); b != nil {
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	}
	return 0
}

// block begins a block of a list or map and returns how many elements it has, 0 for the one that ends it, and how
// many bytes they have, or -1 where it does not say so.
func (d *decoder) block() (count, size int64) {
	if count = d.long(); count >= 0 {
		return count, -1
	}
	size = d.long()
	if count == math.MinInt64 || size < 0 {
		d.fail()
		return 0, 0
	}
	return -count, size
}

// blocks reads all elements of a list or map.
func (d *decoder) blocks(element func() error) error {
	for {
		count, _ := d.block()
		if count == 0 {
			return nil
		}
		for range count {
			before := len(d.row)
			if err := element(); err != nil || d.bad {
				return err
			}
			if len(d.row) == before && count > int64(before) {
				d.fail() // More elements of no bytes than there are bytes: nobody means that.
				return nil
			}
		}
	}
}

func (d *decoder) skipBlocks(element func()) {
	for {
		count, size := d.block()
		if count == 0 {
			return
		}
		if size >= 0 {
			d.take(size)
			continue
		}
		for range count {
			before := len(d.row)
			element()
			if d.bad {
				return
			}
			if len(d.row) == before {
				break // Elements of no bytes, so the others are none, too.
			}
		}
	}
}
