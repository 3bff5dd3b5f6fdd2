// SPDX-License-Identifier: Apache-2.0

package format

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"unicode/utf8"
)

// jsonCodec writes records as they are, and structs as encoding/json does, except that it leaves <, > and & as
// they are and refuses text that is not UTF-8, which encoding/json would replace.
type jsonCodec struct {
	t           reflect.Type
	compression Compression
}

func newJSON(c Compression, t reflect.Type) (Codec, error) {
	if !isRecord(t) {
		if t.Kind() != reflect.Struct {
			return nil, fmt.Errorf("elements are %v: JSON lines are made of string, []byte or a struct", t)
		}
		var unsupported *json.UnsupportedTypeError
		if _, err := json.Marshal(reflect.Zero(t).Interface()); errors.As(err, &unsupported) {
			return nil, fmt.Errorf(`%v holds a %v, which has no JSON: leave the field out with the tag json:"-"`, t, unsupported.Type)
		}
	}
	return jsonCodec{t: t, compression: c}, nil
}

func (c jsonCodec) Extension() string { return ".jsonl" + c.compression.extension() }

func (c jsonCodec) NewWriter(w io.Writer) (Writer, error) {
	s, err := newStream(w, c.compression)
	if err != nil {
		return nil, err
	}
	return &lines{stream: s}, nil
}

func (c jsonCodec) Row(element any) ([]byte, error) {
	if reflect.TypeOf(element) != c.t {
		return nil, fmt.Errorf("element is %T, want %v", element, c.t)
	}
	if row, ok := record(element); ok {
		return row, checkLine(row)
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(element); err != nil {
		return nil, err
	}
	row := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	// The escaped form stands for bytes that were replaced, or comes from a MarshalJSON, which may write it.
	if bytes.Contains(row, []byte(`\ufffd`)) && !validText(reflect.ValueOf(element)) {
		return nil, errors.New("text of the element is not UTF-8, so JSON cannot hold it; use []byte for what is no text")
	}
	return row, nil
}

// validText tells whether all text of a value that encoding/json has just written is UTF-8.
func validText(v reflect.Value) bool {
	if !v.IsValid() {
		return true
	}
	if v.CanInterface() {
		switch m := v.Interface().(type) {
		case json.Marshaler:
			return true
		case encoding.TextMarshaler:
			if v.Kind() == reflect.Pointer && v.IsNil() {
				return true
			}
			text, err := m.MarshalText()
			return err != nil || utf8.Valid(text)
		}
	}
	switch v.Kind() {
	case reflect.String:
		return utf8.ValidString(v.String())
	case reflect.Pointer, reflect.Interface:
		return validText(v.Elem())
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if !validText(v.Index(i)) {
				return false
			}
		}
	case reflect.Map:
		for k, e := range v.Seq2() {
			if !validText(k) || !validText(e) {
				return false
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if (f.IsExported() || f.Anonymous) && f.Tag.Get("json") != "-" && !validText(v.Field(i)) {
				return false
			}
		}
	}
	return true
}
