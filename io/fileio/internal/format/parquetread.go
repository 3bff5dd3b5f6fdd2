// SPDX-License-Identifier: Apache-2.0

package format

import (
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// parquetReader reads the columns it needs, page by page.
type parquetReader struct {
	t       reflect.Type
	groups  []parquet.RowGroup
	sizes   []int64 // Of the groups, in bytes that are read.
	rows    *assembly
	leaves  []int // The columns of the file that are read.
	cursors []cursor

	group int   // The one that is read, or that comes next.
	row   int64 // The next one in it.
	at    int64 // The next one in the file.
	open  bool  // The cursors are in the group.
	begun int64 // Rows of the group that were read since the cursors were opened.
	err   error
	torn  bool // After an error that is not one of a row, nobody knows where the cursors are.
}

func newParquetReader(file io.ReaderAt, size int64, t reflect.Type, columns []Column) (reader Reader, err error) {
	defer damaged(&err)
	// The index of pages is not read: parquet-go finds that of a row group by its ordinal, which many writers leave out.
	f, err := parquet.OpenFile(file, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, fmt.Errorf("open Parquet file: %w", err)
	}
	r := &parquetReader{t: t, groups: f.RowGroups()}
	var plan assembler
	root := &Column{Kind: Struct, Fields: columns, typ: t}
	if r.rows, err = plan.present(f.Root(), root, levels{}); err != nil {
		return nil, fmt.Errorf("%v: %w", t, err)
	}
	r.leaves, r.cursors = plan.leaves, make([]cursor, len(plan.leaves))
	for _, g := range f.Metadata().RowGroups {
		size := int64(0)
		for _, leaf := range r.leaves {
			if err := checkCompression(g.Columns[leaf].MetaData); err != nil {
				return nil, err
			}
			size += g.Columns[leaf].MetaData.TotalCompressedSize
		}
		r.sizes = append(r.sizes, size)
	}
	return r, nil
}

// checkCompression refuses LZ4: what parquet-go 0.32 decompresses is lost where it fits the page exactly.
func checkCompression(m format.ColumnMetaData) error {
	switch m.Codec {
	case format.Uncompressed, format.Snappy, format.Gzip, format.Brotli, format.Zstd:
		return nil
	}
	return fmt.Errorf("column %s of the Parquet file is compressed by %v: write it with zstd, snappy, gzip or brotli", strings.Join(m.PathInSchema, "."), m.Codec)
}

func (r *parquetReader) Read() (any, error) {
	if r.err != nil {
		return nil, r.err
	}
	element, err := r.element()
	var bad *RowError
	switch {
	case err == nil || errors.As(err, &bad):
		r.row++
		r.at++
		r.begun++
	case err != io.EOF:
		err, r.torn = fmt.Errorf("row %d: %w", r.at, err), true
	}
	r.err = err
	return element, err
}

func (r *parquetReader) element() (element any, err error) {
	defer damaged(&err)
	for r.group < len(r.groups) && r.row >= r.groups[r.group].NumRows() {
		if err := r.leave(); err != nil {
			return nil, err
		}
		r.group, r.row = r.group+1, 0
	}
	if r.group == len(r.groups) {
		return nil, io.EOF
	}
	if err := r.enter(); err != nil {
		return nil, err
	}
	v := reflect.New(r.t).Elem()
	err = r.rows.read(r.cursors, v)
	var bad *valueError
	if errors.As(err, &bad) {
		for i := range r.cursors {
			if err := r.cursors[i].endRow(r.begun + 1); err != nil {
				return nil, err
			}
		}
		return nil, &RowError{Row: r.at, Err: err}
	}
	if err != nil {
		return nil, err
	}
	return v.Interface(), nil
}

// enter opens the columns of the row group at the row.
func (r *parquetReader) enter() error {
	if r.open {
		return nil
	}
	r.open, r.begun = true, 0
	chunks := r.groups[r.group].ColumnChunks()
	for i, leaf := range r.leaves {
		r.cursors[i] = cursor{pages: chunks[leaf].Pages()}
		if r.row == 0 {
			continue
		}
		if err := r.cursors[i].pages.SeekToRow(r.row); err != nil {
			return err
		}
	}
	return nil
}

func (r *parquetReader) leave() error {
	var errs []error
	for i := range r.cursors {
		errs = append(errs, r.cursors[i].close())
	}
	r.open = false
	return errors.Join(errs...)
}

func (r *parquetReader) SeekToRow(row int64) (err error) {
	defer damaged(&err)
	if row < 0 {
		return fmt.Errorf("there is no row %d", row)
	}
	if row == r.at && !r.torn && r.err != errClosed {
		r.err = nil
		return nil
	}
	err = r.leave()
	r.group, r.row, r.at, r.err, r.torn = 0, row, row, nil, false
	for r.group < len(r.groups) && r.row >= r.groups[r.group].NumRows() {
		r.row -= r.groups[r.group].NumRows()
		r.group++
	}
	if r.group == len(r.groups) {
		r.row = 0
	}
	return err
}

func (r *parquetReader) Parts(size int64) ([]Mark, error) {
	parts, rows, bytes := []Mark{{}}, int64(0), int64(0)
	for i, g := range r.groups {
		if bytes >= size && rows > parts[len(parts)-1].Row {
			parts, bytes = append(parts, Mark{Row: rows}), 0
		}
		n := g.NumRows()
		if n < 0 || n > math.MaxInt64-rows {
			return nil, fmt.Errorf("row %d: %w", rows, errDamaged)
		}
		rows += n
		bytes += r.sizes[i]
	}
	return append(parts, Mark{Row: rows}), nil
}

// Mark is nothing: SeekToRow finds every row by the index of the file.
func (r *parquetReader) Mark() Mark { return Mark{} }

func (r *parquetReader) SkipTo(Mark) {}

func (r *parquetReader) Close() error {
	r.err = errClosed
	return r.leave()
}

// cursor goes through the values of one column of a row group.
type cursor struct {
	pages  parquet.Pages
	page   parquet.Page
	reader parquet.ValueReader
	buf    [64]parquet.Value
	values []parquet.Value // Part of buf. They refer to the page.
	rows   int64           // How many have begun.
}

// peek returns the next value; none is left at the end of the row group.
func (c *cursor) peek() (parquet.Value, bool, error) {
	for len(c.values) == 0 {
		if c.page == nil {
			page, err := c.pages.ReadPage()
			if err == io.EOF {
				return parquet.Value{}, false, nil
			}
			if err != nil {
				return parquet.Value{}, false, err
			}
			c.page, c.reader = page, page.Values()
		}
		n, err := c.reader.ReadValues(c.buf[:])
		c.values = c.buf[:n]
		if err != nil && err != io.EOF {
			return parquet.Value{}, false, err
		}
		if n == 0 {
			parquet.Release(c.page)
			c.page = nil
		}
	}
	return c.values[0], true, nil
}

func (c *cursor) next() (parquet.Value, error) {
	v, ok, err := c.peek()
	if err != nil {
		return v, err
	}
	if !ok {
		return v, fmt.Errorf("%w: a column ends before its row group", errDamaged)
	}
	c.values = c.values[1:]
	if v.RepetitionLevel() == 0 {
		c.rows++
	}
	return v, nil
}

// endRow takes what is left of the rows up to the given one.
func (c *cursor) endRow(rows int64) error {
	for {
		v, ok, err := c.peek()
		if err != nil || c.rows >= rows && (!ok || v.RepetitionLevel() == 0) {
			return err
		}
		if _, err := c.next(); err != nil {
			return err
		}
	}
}

func (c *cursor) close() error {
	if c.page != nil {
		parquet.Release(c.page)
	}
	var err error
	if c.pages != nil {
		err = c.pages.Close()
	}
	*c = cursor{}
	return err
}
