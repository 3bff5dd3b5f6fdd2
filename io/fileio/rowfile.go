// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/fileio/internal/format"
)

// rowFile is an open file of Avro or Parquet. Its errors name the file.
type rowFile struct {
	path string
	in   *places
	rows format.Reader
	raw  io.Closer
}

// places remembers why a file could not be read: what reads formats may not pass the cause on.
type places struct {
	io.ReaderAt
	err error
}

// ReadAt implements io.ReaderAt.
func (p *places) ReadAt(b []byte, offset int64) (int, error) {
	n, err := p.ReaderAt.ReadAt(b, offset)
	if err != nil && err != io.EOF && p.err == nil {
		p.err = err
	}
	return n, err
}

// openRows opens a file, which must be the one that matched, for elements of a type. A local file is read where it is,
// another one by blocks.
func (s source) openRows(ctx context.Context, file sourceFile, t reflect.Type) (*rowFile, error) {
	o := blob.Object{Key: file.Key, Size: file.Size, Version: file.Version}
	first, err := s.Open(ctx, o, 0)
	if err != nil {
		return nil, s.rowsError(file, err)
	}
	f := &rowFile{path: s.path(file), raw: first}
	if at, ok := first.(io.ReaderAt); ok {
		f.in = &places{ReaderAt: at}
	} else {
		r := &ranged{ctx: ctx, store: s.Store, object: o, streams: []rangedStream{{0, first}}}
		f.in, f.raw = &places{ReaderAt: r}, r
	}
	if f.rows, err = format.NewReader(Format(file.Format), f.in, file.Size, t); err != nil {
		return nil, errors.Join(f.fail(err), f.raw.Close())
	}
	return f, nil
}

// rowsError is an error of a file that could not be opened.
func (s source) rowsError(file sourceFile, err error) error {
	return (&rowFile{path: s.path(file), in: &places{}}).fail(err)
}

// fail is the error about what the reader says, or about its cause.
func (f *rowFile) fail(err error) error {
	if f.in.err != nil {
		err = f.in.err
	}
	if errors.Is(err, blob.ErrChanged) {
		err = fmt.Errorf("%w; read files that are finished", err)
	}
	return fmt.Errorf("fileio.ReadRows: %s: %w", f.path, err)
}

// next reads the row that is next. If only that row is bad, it returns what is wrong with it, and the row behind it is
// next.
func (f *rowFile) next(row int64) (element any, bad *format.RowError, err error) {
	element, err = f.rows.Read()
	switch {
	case f.in.err == nil && errors.As(err, &bad):
		return nil, bad, f.seek(row + 1)
	case err == io.EOF:
		err = fmt.Errorf("row %d: the file ends here, but has more rows by its own account", row)
	}
	if err != nil {
		return nil, nil, f.fail(err)
	}
	return element, nil, nil
}

func (f *rowFile) seek(row int64) error {
	if err := f.rows.SeekToRow(row); err != nil {
		return f.fail(fmt.Errorf("row %d: %w", row, err))
	}
	return nil
}

func (f *rowFile) parts(size int64) ([]format.Mark, error) {
	parts, err := f.rows.Parts(size)
	if err != nil {
		return nil, f.fail(err)
	}
	return parts, nil
}

// Close implements io.Closer.
func (f *rowFile) Close() error { return errors.Join(f.rows.Close(), f.raw.Close()) }
