// SPDX-License-Identifier: Apache-2.0

package format

import (
	"reflect"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"
)

// parquetScalar is what a file's type means, by its logical type, or by the older converted one. What has no place
// in a column of ours has no kind of it.
func parquetScalar(t parquet.Type) scalar {
	s := scalar{kind: -1, name: t.String()}
	if logical := t.LogicalType(); logical != nil && logical.Value != nil {
		switch logical := logical.Value.(type) {
		case *format.NullType:
			s.null = true
		case *format.StringType, *format.EnumType, *format.JsonType:
			s.kind = String
		case *format.IntType:
			s.bits = int(logical.BitWidth)
			if s.kind = Uint; logical.IsSigned {
				s.kind = Int
			}
		case *format.TimestampType:
			s.kind, s.unit = Timestamp, unitOf(logical.Unit)
		}
		return s
	}
	if converted := t.ConvertedType(); converted != nil {
		switch *converted {
		case deprecated.UTF8, deprecated.Enum, deprecated.Json:
			s.kind = String
		case deprecated.TimestampMillis:
			s.kind, s.unit = Timestamp, time.Millisecond
		case deprecated.TimestampMicros:
			s.kind, s.unit = Timestamp, time.Microsecond
		case deprecated.Int8, deprecated.Int16, deprecated.Int32:
			s.kind, s.bits = Int, 32
		case deprecated.Int64:
			s.kind, s.bits = Int, 64
		case deprecated.Uint8, deprecated.Uint16, deprecated.Uint32:
			s.kind, s.bits = Uint, 32
		case deprecated.Uint64:
			s.kind, s.bits = Uint, 64
		}
		return s
	}
	switch t.Kind() {
	case parquet.Boolean:
		s.kind = Bool
	case parquet.Int32:
		s.kind, s.bits = Int, 32
	case parquet.Int64:
		s.kind, s.bits = Int, 64
	case parquet.Int96:
		s.kind, s.unit = Timestamp, time.Nanosecond // Nothing else was ever kept in it.
	case parquet.Float:
		s.kind, s.bits = Float, 32
	case parquet.Double:
		s.kind, s.bits = Float, 64
	case parquet.ByteArray, parquet.FixedLenByteArray:
		s.kind = Bytes
	}
	return s
}

func unitOf(u format.TimeUnit) time.Duration {
	switch u.Value.(type) {
	case *format.MilliSeconds:
		return time.Millisecond
	case *format.MicroSeconds:
		return time.Microsecond
	}
	return time.Nanosecond
}

// setterOf returns how a value that the column accepts gets into a field.
func setterOf(c *Column, from scalar, kind parquet.Kind) func(reflect.Value, parquet.Value) error {
	if from.null {
		return func(reflect.Value, parquet.Value) error { return errNull }
	}
	switch from.kind {
	case Bool:
		return func(v reflect.Value, p parquet.Value) error { v.SetBool(p.Boolean()); return nil }
	case Int:
		if kind == parquet.Int32 {
			return func(v reflect.Value, p parquet.Value) error { return c.setInt(v, int64(p.Int32())) }
		}
		return func(v reflect.Value, p parquet.Value) error { return c.setInt(v, p.Int64()) }
	case Uint:
		if kind == parquet.Int32 {
			return func(v reflect.Value, p parquet.Value) error { return c.setUint(v, uint64(p.Uint32())) }
		}
		return func(v reflect.Value, p parquet.Value) error { return c.setUint(v, p.Uint64()) }
	case Float:
		if kind == parquet.Float {
			return func(v reflect.Value, p parquet.Value) error { v.SetFloat(float64(p.Float())); return nil }
		}
		return func(v reflect.Value, p parquet.Value) error { v.SetFloat(p.Double()); return nil }
	case String:
		return func(v reflect.Value, p parquet.Value) error { return c.setText(v, p.ByteArray()) }
	case Bytes:
		return func(v reflect.Value, p parquet.Value) error { v.SetBytes(slices.Clone(p.ByteArray())); return nil }
	}
	if kind == parquet.Int96 {
		return func(v reflect.Value, p parquet.Value) error { setJulian(v, p.Int96()); return nil }
	}
	return func(v reflect.Value, p parquet.Value) error { setTime(v, p.Int64(), from.unit); return nil }
}

// setJulian sets a time of the kind that Hive and Impala have made: nanoseconds of a day, and the Julian day.
func setJulian(v reflect.Value, t deprecated.Int96) {
	const epoch = 2440588 // The Julian day of 1970-01-01.
	nanos := int64(t[0]) | int64(t[1])<<32
	v.Set(reflect.ValueOf(time.Unix((int64(t[2])-epoch)*24*60*60, nanos).UTC()))
}
