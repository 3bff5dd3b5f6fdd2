// SPDX-License-Identifier: Apache-2.0

package format

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"
)

// scalar is what a file says about a column of single values.
type scalar struct {
	kind Kind
	bits int           // Of Int, Uint and Float.
	unit time.Duration // Of Timestamp.
	null bool          // The values are nothing but nulls, whatever the kind.
	name string        // For messages.
}

// accept tells whether values of a file fit the column: the same kind, and at least as wide where the file keeps
// it. Avro and Parquet keep numbers in 32 or 64 bits, so what is narrower is looked at when it comes.
func (c *Column) accept(s scalar) error {
	integer := func(k Kind) bool { return k == Int || k == Uint }
	switch {
	case s.null:
	case integer(c.Kind) && integer(s.kind):
		long := c.Bits == 64 || c.Kind == Uint && c.Bits == 32
		if s.bits == 64 && !long {
			return fmt.Errorf("the file has 64 bits (%s), the field is %v: make it an int64", s.name, c.typ)
		}
	case c.Kind == Float && s.kind == Float:
		if s.bits > c.Bits {
			return fmt.Errorf("the file has 64 bits (%s), the field is %v: make it a float64", s.name, c.typ)
		}
	case c.Kind != s.kind:
		return fmt.Errorf("the file has %s, which is no value for a %v", s.name, c.typ)
	}
	if c.text && !implements(c.typ, reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return fmt.Errorf("%v has no UnmarshalText, so it can be written but not read", c.typ)
	}
	return nil
}

var errNull = errors.New("it is null in the file: make the field a pointer")

// target is where a value that is not null goes.
func (c *Column) target(v reflect.Value) reflect.Value {
	if !c.Optional {
		return v
	}
	v.Set(reflect.New(c.typ))
	return v.Elem()
}

// setNull leaves a field as it is, which is nil.
func (c *Column) setNull() error {
	if !c.Optional {
		return errNull
	}
	return nil
}

func (c *Column) setInt(v reflect.Value, n int64) error {
	switch {
	case c.Kind == Int && !v.OverflowInt(n):
		v.SetInt(n)
	case c.Kind == Uint && n >= 0 && !v.OverflowUint(uint64(n)):
		v.SetUint(uint64(n))
	default:
		return fmt.Errorf("%d does not fit in %v", n, c.typ)
	}
	return nil
}

func (c *Column) setUint(v reflect.Value, n uint64) error {
	switch {
	case c.Kind == Uint && !v.OverflowUint(n):
		v.SetUint(n)
	case c.Kind == Int && n <= math.MaxInt64 && !v.OverflowInt(int64(n)):
		v.SetInt(int64(n))
	default:
		return fmt.Errorf("%d does not fit in %v", n, c.typ)
	}
	return nil
}

func (c *Column) setText(v reflect.Value, text []byte) error {
	if c.text {
		return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText(text)
	}
	v.SetString(string(text))
	return nil
}

// setTime sets a time that is counted in units since 1970.
func setTime(v reflect.Value, n int64, unit time.Duration) {
	perSecond := int64(time.Second / unit)
	seconds, rest := n/perSecond, n%perSecond
	v.Set(reflect.ValueOf(time.Unix(seconds, rest*int64(unit)).UTC()))
}
