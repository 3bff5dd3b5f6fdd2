// SPDX-License-Identifier: Apache-2.0

package format

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
)

// csvCodec writes records as they are, and structs below a header with the names of their columns. An empty field
// is null, and "" is the empty string; a record of nothing but one null is "" too, because an empty line is no record.
type csvCodec struct {
	t           reflect.Type
	compression Compression
	columns     []Column // Nil for records.
}

func newCSV(c Compression, t reflect.Type) (Codec, error) {
	codec := csvCodec{t: t, compression: c}
	if !isRecord(t) {
		columns, err := Columns(t)
		if err != nil {
			return nil, err
		}
		codec.columns = columns
	}
	return codec, nil
}

func (c csvCodec) Extension() string { return ".csv" + c.compression.extension() }

func (c csvCodec) NewWriter(w io.Writer) (Writer, error) {
	s, err := newStream(w, c.compression)
	if err != nil {
		return nil, err
	}
	l := &lines{stream: s}
	if c.columns == nil {
		return l, nil
	}
	var header []byte
	for i := range c.columns {
		header = appendField(header, i, []byte(c.columns[i].Name))
	}
	return l, l.Write(header)
}

func (c csvCodec) Row(element any) ([]byte, error) {
	if reflect.TypeOf(element) != c.t {
		return nil, fmt.Errorf("element is %T, want %v", element, c.t)
	}
	if row, ok := record(element); ok {
		return row, checkRecord(row)
	}
	v := reflect.ValueOf(element)
	var row, text []byte
	for i := range c.columns {
		column := &c.columns[i]
		value, ok := column.value(v)
		if !ok {
			if i > 0 {
				row = append(row, ',')
			}
			continue
		}
		var err error
		if text, err = column.appendText(text[:0], value); err != nil {
			return nil, fmt.Errorf("field %s: %w", column.Name, err)
		}
		row = appendField(row, i, text)
	}
	if len(row) == 0 {
		row = append(row, `""`...)
	}
	return row, nil
}

// appendField appends the i-th field of a record, in quotes where it needs them.
func appendField(row []byte, i int, text []byte) []byte {
	if i > 0 {
		row = append(row, ',')
	}
	if len(text) > 0 && !bytes.ContainsAny(text, ",\"\r\n") && text[0] != ' ' && text[len(text)-1] != ' ' {
		return append(row, text...)
	}
	row = append(row, '"')
	row = append(row, bytes.ReplaceAll(text, []byte{'"'}, []byte{'"', '"'})...)
	return append(row, '"')
}

// checkRecord tells what keeps a row from being exactly one record of RFC 4180.
func checkRecord(row []byte) error {
	if err := checkEnds(row); err != nil {
		return err
	}
	for {
		if row[0] == '"' {
			end, ok := quotedEnd(row)
			switch {
			case !ok:
				return errors.New("a quote is not closed")
			case end < len(row) && row[end] != ',':
				return errors.New("a closing quote is not followed by a comma; double the quotes inside a field")
			}
			row = row[end:]
		} else {
			end := bytes.IndexByte(row, ',')
			if end < 0 {
				end = len(row)
			}
			switch i := bytes.IndexAny(row[:end], "\"\r\n"); {
			case i >= 0 && row[i] == '"':
				return errors.New("a quote is inside a field without quotes; quote the field and double the quote")
			case i >= 0:
				return errors.New("a line end is outside of quotes, so the record would become two; quote the field")
			}
			row = row[end:]
		}
		if len(row) <= 1 { // The end, or a comma and an empty field.
			return nil
		}
		row = row[1:]
	}
}

// quotedEnd is where a field that begins with a quote ends, after its closing quote.
func quotedEnd(row []byte) (int, bool) {
	for i := 1; i < len(row); i++ {
		if row[i] != '"' {
			continue
		}
		if i+1 == len(row) || row[i+1] != '"' {
			return i + 1, true
		}
		i++
	}
	return 0, false
}
