// SPDX-License-Identifier: Apache-2.0

package format

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"

	"github.com/klauspost/compress/flate"
	"github.com/twmb/avro"
	"github.com/twmb/avro/ocf"
)

// avroBlock is how many bytes of rows make a block, before it is compressed. A longer row is a block of its own.
const avroBlock = 256 << 10

// avroCodec writes object container files. Their sync marker follows from the schema, so that the same rows make
// the same file.
type avroCodec struct {
	datums
	compression Compression
	schema      *avro.Schema
	sync        [16]byte
}

func newAvro(c Compression, t reflect.Type) (Codec, error) {
	d, err := newDatums(t)
	if err != nil {
		return nil, err
	}
	text, err := avroSchema(t, d.columns)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", t, err)
	}
	schema, err := avro.Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%v: Avro schema: %w", t, err)
	}
	sum := sha256.Sum256(text)
	return avroCodec{datums: d, compression: c, schema: schema, sync: [16]byte(sum[:])}, nil
}

func (c avroCodec) Extension() string { return ".avro" }

func (c avroCodec) NewWriter(w io.Writer) (Writer, error) {
	var codec ocf.Codec // Null.
	switch c.compression {
	case Gzip:
		codec = ocf.DeflateCodec(flate.DefaultCompression)
	case Zstd, Usual:
		var err error
		if codec, err = ocf.ZstdCodec(nil, nil); err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
	}
	out := &sink{w: w}
	in, err := ocf.NewWriter(out, c.schema, ocf.WithCodec(codec), ocf.WithSyncMarker(c.sync), ocf.WithBlockBytes(avroBlock))
	if err != nil {
		return nil, err
	}
	return &avroWriter{out: out, in: in}, nil
}

// avroWriter is a file whose last rows are still in a block that is not written.
type avroWriter struct {
	out     *sink
	in      *ocf.Writer
	pending int64
}

func (w *avroWriter) Write(row []byte) error {
	before := w.out.n
	w.pending += int64(len(row))
	_, err := w.in.Write(row)
	if w.out.n > before {
		w.pending = 0
	}
	return err
}

func (w *avroWriter) Size() int64 { return w.out.n + w.pending }

func (w *avroWriter) Close() error {
	err := w.in.Close()
	w.pending = 0
	return err
}

// avroType is the JSON of a schema. Its order is that of the fields here, so a schema has one text.
type avroType struct {
	Type        string      `json:"type"`
	LogicalType string      `json:"logicalType,omitempty"`
	Name        string      `json:"name,omitempty"`
	Namespace   string      `json:"namespace,omitempty"`
	Items       any         `json:"items,omitempty"`
	Values      any         `json:"values,omitempty"`
	Fields      []avroField `json:"fields,omitempty"`
}

type avroField struct {
	Name    string           `json:"name"`
	Type    any              `json:"type"`
	Default *json.RawMessage `json:"default,omitempty"`
}

// avroSchema is the schema of a record that is named like the type. Records inside are named after their fields,
// in a namespace for each record, so that no two have one name.
func avroSchema(t reflect.Type, columns []Column) ([]byte, error) {
	name := avroNamed.FindString(t.Name()) // Without the arguments of a generic type.
	if name == "" {
		name = "Row"
	}
	record, err := avroRecord(name, "", columns)
	if err != nil {
		return nil, err
	}
	return json.Marshal(record)
}

var avroNamed = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*`)

func avroRecord(name, namespace string, columns []Column) (avroType, error) {
	record := avroType{Type: "record", Name: name, Namespace: namespace}
	inside := name
	if namespace != "" {
		inside = namespace + "." + name
	}
	var errs []error
	for i := range columns {
		c := &columns[i]
		if avroNamed.FindString(c.Name) != c.Name {
			errs = append(errs, fmt.Errorf("field %s: Avro names are of letters, digits and _: give it another one by a json tag", c.Name))
			continue
		}
		typ, err := avroTypeOf(c, c.Name, inside)
		if err != nil {
			errs = append(errs, fmt.Errorf("field %s: %w", c.Name, err))
			continue
		}
		field := avroField{Name: c.Name, Type: typ}
		if c.Optional {
			null := json.RawMessage("null")
			field.Default = &null
		}
		record.Fields = append(record.Fields, field)
	}
	return record, errors.Join(errs...)
}

// avroTypeOf is a string or an avroType, or for a nullable column the union with null.
func avroTypeOf(c *Column, name, namespace string) (typ any, err error) {
	switch c.Kind {
	case Bool:
		typ = "boolean"
	case Int, Uint:
		typ = "long"
		if c.Bits < 32 || c.Bits == 32 && c.Kind == Int {
			typ = "int"
		}
	case Float:
		typ = "double"
		if c.Bits == 32 {
			typ = "float"
		}
	case String:
		typ = "string"
	case Bytes:
		typ = "bytes"
	case Timestamp:
		typ = avroType{Type: "long", LogicalType: "timestamp-micros"}
	case List:
		elem, e := avroTypeOf(c.Elem, name, namespace)
		typ, err = avroType{Type: "array", Items: elem}, e
	case Map:
		elem, e := avroTypeOf(c.Elem, name, namespace)
		typ, err = avroType{Type: "map", Values: elem}, e
	case Struct:
		typ, err = avroRecord(name, namespace, c.Fields)
	}
	if c.Optional {
		typ = []any{"null", typ}
	}
	return typ, err
}
