// SPDX-License-Identifier: Apache-2.0

package format

import (
	"errors"
	"fmt"
	"io"
	"reflect"
)

// Reader reads the elements of a file in bounded memory.
type Reader interface {
	// Read returns the next element, or io.EOF. After another error it returns that one again, until SeekToRow. If it
	// is a RowError, SeekToRow of the row behind it costs no more than another Read.
	Read() (any, error)
	// SeekToRow makes row the next one, counted from 0. Behind the last one there is io.EOF.
	SeekToRow(row int64) error
	// Parts cuts the file where it is cheap to begin: at blocks of Avro and row groups of Parquet. It returns the marks
	// at which parts of at least size bytes begin, from row 0, and at last one with the number of rows. What is next for
	// Read stays.
	Parts(size int64) ([]Mark, error)
	// Mark is where it is cheap to begin for the row that is next.
	Mark() Mark
	// SkipTo makes the row of a mark of this file the next one, without a look at what is before it. It is to be
	// followed by SeekToRow.
	SkipTo(m Mark)
	// Close frees what the reader holds. The file stays open.
	Close() error
}

// Mark is where a block of rows begins. The zero one is the beginning of the file.
type Mark struct {
	Row  int64 // The first one of the block.
	Byte int64 // Of Avro: the offset of the block. Parquet has an index of its row groups.
}

// RowError says what is wrong with one row, as a null that its field cannot hold. The rows behind it can be read.
type RowError struct {
	Row int64 // Counted from 0.
	Err error
}

// Error implements error.
func (e *RowError) Error() string { return fmt.Sprintf("row %d: %v", e.Row, e.Err) }

// Unwrap implements what package errors asks for.
func (e *RowError) Unwrap() error { return e.Err }

// Detect tells by the first four bytes of a file whether it is of Avro or of Parquet.
func Detect(first []byte) (f Format, ok bool) {
	switch string(first) {
	case avroMagic:
		return Avro, true
	case parquetMagic:
		return Parquet, true
	}
	return 0, false
}

// The first bytes of files.
const (
	avroMagic    = "Obj\x01"
	parquetMagic = "PAR1"
)

// NewReader opens a file of Avro or Parquet, also one that other programs have made, for elements of a struct type.
// Columns are those that New takes for the type. They are found by name: a column that the file does not have is
// left nil if it is a pointer and an error if not, and what the file has beyond them is passed over. Numbers may be
// narrower in the file. A null needs a pointer; where the file allows one and has none, a plain field does.
func NewReader(f Format, r io.ReaderAt, size int64, t reflect.Type) (Reader, error) {
	columns, err := Columns(t)
	if err != nil {
		return nil, err
	}
	switch f {
	case Avro:
		return newAvroReader(r, size, t, columns)
	case Parquet:
		return newParquetReader(r, size, t, columns)
	}
	return nil, fmt.Errorf("files of format %d are not read by columns: read their records", f)
}

var errDamaged = errors.New("the file is damaged")

// damaged turns a panic into an error. Parquet-go and what decompresses panic on some files that are damaged.
func damaged(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", errDamaged, r)
	}
}

// missing is the error about a column that a file does not have.
func (c *Column) missing() error {
	if c.Optional {
		return nil
	}
	return fmt.Errorf("field %s: the file has no such column: make the field a pointer", c.Name)
}
