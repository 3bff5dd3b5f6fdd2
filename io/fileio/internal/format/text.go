// SPDX-License-Identifier: Apache-2.0

package format

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"
)

// TextOf returns how to take the text of one column out of elements of a struct type: what CSV writes for it.
// The other columns of the type may be anything.
func TextOf(t reflect.Type, column string) (func(element any) (text string, null bool, err error), error) {
	c, err := columnOf(t, column)
	if err != nil {
		return nil, err
	}
	if c.Kind == List || c.Kind == Map || c.Kind == Struct {
		return nil, fmt.Errorf("%v: field %s holds several values: name one that holds one", t, column)
	}
	return func(element any) (string, bool, error) {
		v := reflect.ValueOf(element)
		if !v.IsValid() || v.Type() != t {
			return "", false, fmt.Errorf("element is %T, want %v", element, t)
		}
		v, ok := c.value(v)
		if !ok {
			return "", true, nil
		}
		text, err := c.appendText(nil, v)
		if err != nil {
			return "", false, fmt.Errorf("field %s: %w", column, err)
		}
		return string(text), false, nil
	}, nil
}

// TimeOf returns what a column of times holds in an element of type t; false is null.
func TimeOf(t reflect.Type, column string) (func(element any) (time.Time, bool), error) {
	c, err := columnOf(t, column)
	if err != nil {
		return nil, err
	}
	if c.Kind != Timestamp {
		return nil, fmt.Errorf("%v: field %s is %v: name one that is a time.Time", t, column, c.typ)
	}
	return func(element any) (time.Time, bool) {
		v, ok := c.value(reflect.ValueOf(element))
		if !ok {
			return time.Time{}, false
		}
		return v.Interface().(time.Time), true
	}, nil
}

// columnOf describes one column of a struct type; the others may be of any type.
func columnOf(t reflect.Type, column string) (c Column, err error) {
	if t.Kind() != reflect.Struct {
		return c, fmt.Errorf("elements are %v, which have no column %s: use a struct", t, column)
	}
	fields, err := fieldsOf(t)
	if err != nil {
		return c, fmt.Errorf("%v: %w", t, err)
	}
	for _, f := range fields {
		if f.name != column {
			continue
		}
		c = Column{Name: f.name, index: f.index}
		if err := c.describe(f.typ, []reflect.Type{t}); err != nil {
			return c, fmt.Errorf("%v: field %s: %w", t, column, err)
		}
		return c, nil
	}
	return c, fmt.Errorf("%v has no column %s: columns are its exported fields as encoding/json names them", t, column)
}

// value is the column's value of a struct; false is null.
func (c *Column) value(v reflect.Value) (reflect.Value, bool) {
	return c.deref(v.FieldByIndex(c.index))
}

func (c *Column) deref(v reflect.Value) (reflect.Value, bool) {
	if !c.Optional {
		return v, true
	}
	return v.Elem(), !v.IsNil()
}

// appendText appends a value as text: times as in RFC 3339, in UTC; bytes as base64; what holds several values as JSON.
func (c *Column) appendText(b []byte, v reflect.Value) ([]byte, error) {
	switch c.Kind {
	case Bool:
		return strconv.AppendBool(b, v.Bool()), nil
	case Int:
		return strconv.AppendInt(b, v.Int(), 10), nil
	case Uint:
		return strconv.AppendUint(b, v.Uint(), 10), nil
	case Float:
		return appendFloat(b, v.Float(), c.Bits), nil
	case String:
		text, err := c.string(v)
		return append(b, text...), err
	case Bytes:
		return base64.StdEncoding.AppendEncode(b, v.Bytes()), nil
	case Timestamp:
		t := v.Interface().(time.Time).UTC()
		if _, err := micros(t); err != nil {
			return nil, err
		}
		if t.Year() < 0 || t.Year() > 9999 {
			return nil, fmt.Errorf("the year %d has no text of four digits", t.Year())
		}
		return t.AppendFormat(b, time.RFC3339Nano), nil
	}
	if !validText(v) {
		return nil, errNotUTF8
	}
	text, err := json.Marshal(v.Interface())
	return append(b, text...), err
}

// appendFloat writes the shortest text that is read as the same number.
func appendFloat(b []byte, f float64, bits int) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(b, "Infinity"...)
	case math.IsInf(f, -1):
		return append(b, "-Infinity"...)
	}
	form := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		form = 'e'
	}
	return strconv.AppendFloat(b, f, form, -1, bits)
}

var errNotUTF8 = errors.New("the text is not UTF-8: use []byte for what is no text")

// string is the text of a String.
func (c *Column) string(v reflect.Value) (string, error) {
	text := v.String()
	if c.text {
		m, err := c.marshaler(v).MarshalText()
		if err != nil {
			return "", err
		}
		text = string(m)
	}
	if !utf8.ValidString(text) {
		return "", errNotUTF8
	}
	return text, nil
}

// marshaler finds MarshalText also where only the pointer has it.
func (c *Column) marshaler(v reflect.Value) encoding.TextMarshaler {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		return m
	}
	p := reflect.New(c.typ)
	p.Elem().Set(v)
	return p.Interface().(encoding.TextMarshaler)
}

// micros is a time as typed formats hold it.
func micros(t time.Time) (int64, error) {
	if t.Nanosecond()%1000 != 0 {
		return 0, fmt.Errorf("%v is finer than a microsecond: truncate it", t)
	}
	us := t.UnixMicro()
	if !time.UnixMicro(us).Equal(t) {
		return 0, fmt.Errorf("%v does not fit in 64 bits of microseconds since 1970", t)
	}
	return us, nil
}
