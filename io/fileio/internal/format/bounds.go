// SPDX-License-Identifier: Apache-2.0

package format

import (
	"encoding/binary"
	"math"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// bounds are the least and the greatest number of a float column in one row group. They are taken here because
// parquet-go lets a NaN into them, which compares with nothing, and does not know that both zeros are equal: readers
// would skip row groups that hold what they look for.
type bounds struct {
	min, max float64
	any      bool // A number was seen; NaN is none.
	nan      bool
}

func (b *bounds) add(f float64) {
	switch {
	case math.IsNaN(f):
		b.nan = true
	case !b.any:
		b.min, b.max, b.any = f, f, true
	case f < b.min:
		b.min = f
	case f > b.max:
		b.max = f
	}
}

// apply sets the statistics of a column chunk. The format wants the zero that is a least value to be the negative
// one and the zero that is a greatest value the positive one. It also wants bounds to pass over NaN, which readers
// have to think of; DuckDB 2.0.1 does not when it looks for NaN itself. So where there is one, nothing is said.
func (b bounds) apply(s *format.Statistics, kind parquet.Kind) {
	s.MinValue, s.MaxValue = nil, nil
	if !b.any || b.nan {
		return
	}
	if b.min == 0 {
		b.min = math.Copysign(0, -1)
	}
	if b.max == 0 {
		b.max = 0 // Not -0.
	}
	if kind == parquet.Float {
		s.MinValue = binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(b.min)))
		s.MaxValue = binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(b.max)))
		return
	}
	s.MinValue = binary.LittleEndian.AppendUint64(nil, math.Float64bits(b.min))
	s.MaxValue = binary.LittleEndian.AppendUint64(nil, math.Float64bits(b.max))
}

// longestBound is how many bytes of text a bound may have. Longer ones are left out: a file says nothing about them,
// rather than to hold each twice or to cut them and depend on how readers compare what was cut.
const longestBound = 256

// withoutLongBounds leaves out bounds of text that are long.
func withoutLongBounds(s *format.Statistics) {
	if len(s.MinValue) > longestBound || len(s.MaxValue) > longestBound {
		s.MinValue, s.MaxValue = nil, nil
	}
}
