// SPDX-License-Identifier: Apache-2.0

// Package format is what the inside of a file looks like: JSON lines, CSV, Avro object container files and
// Parquet, compressed or not. It turns elements into rows, which are bytes that can be sorted, counted and
// hashed without knowing the format, and rows into a file. Where a file goes is not its concern; see fileio.
//
// A file follows from its rows alone: the same rows in the same order make the same bytes, in any process.
package format

import (
	"fmt"
	"io"
	"reflect"
)

// Format is how the records of a file are written.
type Format int

const (
	JSONLines Format = iota // Each line is a JSON value.
	CSV                     // As RFC 4180, with the names of the columns in the first record.
	Avro                    // Object container file of Avro 1.11; the schema is in the file.
	Parquet                 // Typed columns with statistics that hide no row.
)

// Compression is how a file, or for Avro and Parquet its blocks, are compressed.
type Compression int

const (
	Usual Compression = iota // Zstd for Avro and Parquet, none for text.
	None
	Gzip // For Avro deflate, which is what the format has.
	Zstd
)

// Codec turns elements of one type into rows, and rows into files.
type Codec interface {
	// Row encodes an element. Equal elements have equal rows, whatever process encodes them. An error says
	// what is wrong with this element.
	Row(element any) ([]byte, error)
	// NewWriter begins a file.
	NewWriter(w io.Writer) (Writer, error)
	// Extension is how the names of files end, with the dot: ".jsonl.gz".
	Extension() string
}

// Writer writes one file in bounded memory.
type Writer interface {
	Write(row []byte) error
	// Size is the number of bytes of the file so far, roughly: what is buffered counts as it is.
	Size() int64
	// Close ends the file. Its errors are errors of the file. The underlying writer stays open.
	Close() error
}

// New returns the codec of a format for elements of a type: a struct, whose columns are its exported fields as
// encoding/json names them; or for JSONLines and CSV also string and []byte, which are records as they are.
func New(f Format, c Compression, t reflect.Type) (Codec, error) {
	if c < Usual || c > Zstd {
		return nil, fmt.Errorf("there is no compression %d: use Usual, None, Gzip or Zstd", c)
	}
	switch f {
	case JSONLines:
		return newJSON(c, t)
	case CSV:
		return newCSV(c, t)
	case Avro:
		return newAvro(c, t)
	case Parquet:
		return newParquet(c, t)
	}
	return nil, fmt.Errorf("there is no format %d: use JSONLines, CSV, Avro or Parquet", f)
}

// isRecord tells whether elements of a type are records of a text format as they are.
func isRecord(t reflect.Type) bool {
	return t == reflect.TypeFor[string]() || t == reflect.TypeFor[[]byte]()
}

// record is the bytes of such an element.
func record(element any) ([]byte, bool) {
	switch e := element.(type) {
	case string:
		return []byte(e), true
	case []byte:
		return e, true
	}
	return nil, false
}
