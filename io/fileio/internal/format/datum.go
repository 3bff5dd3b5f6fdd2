// SPDX-License-Identifier: Apache-2.0

package format

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// datums makes the rows of the typed formats, which are Avro's binary encoding of the columns. In it a nullable
// value is the union of null and the value, an unsigned number of 64 bits a long.
type datums struct {
	t       reflect.Type
	columns []Column
	// wrap lets a long stand for a number above its greatest one, as its two's complement. Avro has no such numbers.
	wrap bool
}

func newDatums(t reflect.Type) (datums, error) {
	columns, err := Columns(t)
	return datums{t: t, columns: columns}, err
}

// Row encodes an element.
func (d datums) Row(element any) ([]byte, error) {
	v := reflect.ValueOf(element)
	if !v.IsValid() || v.Type() != d.t {
		return nil, fmt.Errorf("element is %T, want %v", element, d.t)
	}
	return d.appendStruct(nil, d.columns, v)
}

func (d datums) appendStruct(b []byte, columns []Column, v reflect.Value) ([]byte, error) {
	for i := range columns {
		c := &columns[i]
		var err error
		if b, err = d.append(b, c, v.FieldByIndex(c.index)); err != nil {
			return nil, fmt.Errorf("field %s: %w", c.Name, err)
		}
	}
	return b, nil
}

// The branches of the union of a nullable value.
const (
	branchNull  = 0
	branchValue = 1
)

func (d datums) append(b []byte, c *Column, v reflect.Value) ([]byte, error) {
	if c.Optional {
		var ok bool
		if v, ok = c.deref(v); !ok {
			return binary.AppendVarint(b, branchNull), nil
		}
		b = binary.AppendVarint(b, branchValue)
	}
	switch c.Kind {
	case Bool:
		if v.Bool() {
			return append(b, 1), nil
		}
		return append(b, 0), nil
	case Int:
		return binary.AppendVarint(b, v.Int()), nil
	case Uint:
		if v.Uint() > math.MaxInt64 && !d.wrap {
			return nil, fmt.Errorf("%d is above %d, the greatest number of Avro: use a string", v.Uint(), math.MaxInt64)
		}
		return binary.AppendVarint(b, int64(v.Uint())), nil
	case Float:
		if c.Bits == 32 {
			return binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v.Float()))), nil
		}
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(v.Float())), nil
	case String:
		text, err := c.string(v)
		return appendBytes(b, text), err
	case Bytes:
		return appendBytes(b, v.Bytes()), nil
	case Timestamp:
		us, err := micros(v.Interface().(time.Time))
		return binary.AppendVarint(b, us), err
	case List:
		return d.appendList(b, c, v)
	case Map:
		return d.appendMap(b, c, v)
	}
	return d.appendStruct(b, c.Fields, v)
}

func appendBytes[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendVarint(b, int64(len(s))), s...)
}

// appendList appends one block of all elements, and the empty one that ends the list.
func (d datums) appendList(b []byte, c *Column, v reflect.Value) ([]byte, error) {
	if v.Len() > 0 {
		b = binary.AppendVarint(b, int64(v.Len()))
	}
	for i := range v.Len() {
		var err error
		if b, err = d.append(b, c.Elem, v.Index(i)); err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return append(b, 0), nil
}

// appendMap is like appendList, in the order of the keys: Go's own would make other bytes each time.
func (d datums) appendMap(b []byte, c *Column, v reflect.Value) ([]byte, error) {
	if v.Len() > 0 {
		b = binary.AppendVarint(b, int64(v.Len()))
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(x, y reflect.Value) int {
		return strings.Compare(x.String(), y.String())
	})
	for _, key := range keys {
		if !utf8.ValidString(key.String()) {
			return nil, fmt.Errorf("key %q: %w", key.String(), errNotUTF8)
		}
		b = appendBytes(b, key.String())
		var err error
		if b, err = d.append(b, c.Elem, v.MapIndex(key)); err != nil {
			return nil, fmt.Errorf("key %q: %w", key.String(), err)
		}
	}
	return append(b, 0), nil
}
