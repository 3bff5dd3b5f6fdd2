// SPDX-License-Identifier: Apache-2.0

package format

import (
	"errors"

	"github.com/parquet-go/parquet-go"
)

// shredder cuts rows into the values of Parquet's columns. The leaves of the schema are numbered as they come in a
// walk through the columns, which is the order of the values in a datum, too.
type shredder struct {
	columns []Column
	values  [][]parquet.Value // By leaf.
	bounds  []bounds          // By leaf; of floats.
}

func newShredder(columns []Column) *shredder {
	n := 0
	for i := range columns {
		n += columns[i].leaves()
	}
	return &shredder{columns: columns, values: make([][]parquet.Value, n), bounds: make([]bounds, n)}
}

// leaves is how many columns of values a column has in Parquet.
func (c *Column) leaves() int {
	n := 0
	switch c.Kind {
	case Struct:
		for i := range c.Fields {
			n += c.Fields[i].leaves()
		}
	case Map:
		n = 1 + c.Elem.leaves()
	case List:
		n = c.Elem.leaves()
	default:
		n = 1
	}
	return n
}

// at is where in a row a value is. The repetition level says at which depth of lists an element begins that is not
// the first of its list, the definition level how many optional and repeated nodes above are there.
type at struct {
	leaf                   int
	repetition, definition int
	depth                  int // Of lists.
}

var errRow = errors.New("the row is none of this codec")

// add takes a row apart. The values refer to its bytes.
func (s *shredder) add(row []byte) error {
	d := decoder{row: row}
	s.fields(&d, s.columns, at{})
	if len(d.row) > 0 || d.bad {
		return errRow
	}
	return nil
}

func (s *shredder) fields(d *decoder, columns []Column, p at) {
	for i := range columns {
		s.value(d, &columns[i], p)
		p.leaf += columns[i].leaves()
	}
}

func (s *shredder) value(d *decoder, c *Column, p at) {
	if c.Optional {
		if d.long() == branchNull {
			s.nothing(c, p)
			return
		}
		p.definition++
	}
	switch c.Kind {
	case Struct:
		s.fields(d, c.Fields, p)
	case List, Map:
		s.elements(d, c, p)
	case Bool:
		s.put(parquet.BooleanValue(d.byte() != 0), p)
	case Int, Uint:
		if n := d.long(); c.Bits == 64 {
			s.put(parquet.Int64Value(n), p)
		} else {
			s.put(parquet.Int32Value(int32(n)), p)
		}
	case Timestamp:
		s.put(parquet.Int64Value(d.long()), p)
	case Float:
		if c.Bits == 32 {
			f := d.float32()
			s.bounds[p.leaf].add(float64(f))
			s.put(parquet.FloatValue(f), p)
		} else {
			f := d.float64()
			s.bounds[p.leaf].add(f)
			s.put(parquet.DoubleValue(f), p)
		}
	case String, Bytes:
		s.put(parquet.ByteArrayValue(d.bytes()), p)
	}
}

func (s *shredder) elements(d *decoder, c *Column, p at) {
	n := d.long()
	if n == 0 {
		s.nothing(c, p)
		return
	}
	p.definition++
	p.depth++
	for range n {
		elem := p
		if c.Kind == Map {
			s.put(parquet.ByteArrayValue(d.bytes()), p)
			elem.leaf++
		}
		s.value(d, c.Elem, elem)
		if d.bad {
			return
		}
		p.repetition = p.depth
	}
	if d.long() != 0 { // A datum of ours has its elements in one block.
		d.bad = true
	}
}

// nothing stands for a null or an empty list: a null in each leaf below.
func (s *shredder) nothing(c *Column, p at) {
	for range c.leaves() {
		s.put(parquet.NullValue(), p)
		p.leaf++
	}
}

func (s *shredder) put(v parquet.Value, p at) {
	s.values[p.leaf] = append(s.values[p.leaf], v.Level(p.repetition, p.definition, p.leaf))
}
