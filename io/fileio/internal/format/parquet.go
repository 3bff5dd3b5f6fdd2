// SPDX-License-Identifier: Apache-2.0

package format

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"reflect"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// A row group ends after so many bytes or rows. Its pages are kept, compressed, until then, so this is what bounds
// the memory of a writer.
const (
	groupBytes = 64 << 20 // Of rows, before they are compressed.
	groupRows  = 1 << 20
)

const (
	batchBytes = 64 << 10 // Rows are handed to the columns in batches of about this size.
	dictionary = 1 << 20  // Bytes of different texts of a column in a row group, after which they are written plainly.
)

// createdBy has the form that readers parse to find out which faults of which writers they have to expect.
const createdBy = "hornbeam version 1 (build parquet-go)"

// parquetCodec writes Parquet. Rows are datums, so they are counted and sorted like those of Avro.
type parquetCodec struct {
	datums
	compression compress.Codec
	schema      *parquet.Schema
	groupBytes  int64
	groupRows   int64
}

func newParquet(c Compression, t reflect.Type) (Codec, error) {
	d, err := newDatums(t)
	if err != nil {
		return nil, err
	}
	d.wrap = true
	codec := parquetCodec{
		datums: d, compression: &parquet.Zstd, schema: parquet.NewSchema("row", parquetGroupOf(d.columns)),
		groupBytes: groupBytes, groupRows: groupRows,
	}
	switch c {
	case None:
		codec.compression = &parquet.Uncompressed
	case Gzip:
		codec.compression = &parquet.Gzip
	}
	return codec, nil
}

func (c parquetCodec) Extension() string { return ".parquet" }

func (c parquetCodec) NewWriter(w io.Writer) (Writer, error) {
	out := &footerless{file: &sink{w: w}}
	in := parquet.NewGenericWriter[any](out, c.schema, parquet.Compression(c.compression), parquet.DictionaryMaxBytes(dictionary),
		parquet.WriteBufferSize(0), // What is written is in the file at once, so that the footer is apart from it.
		&parquet.WriterConfig{CreatedBy: createdBy})
	return &parquetWriter{codec: c, out: out, in: in, columns: in.ColumnWriters(), rows: newShredder(c.columns)}, nil
}

// parquetWriter is a file whose last row group is in memory.
type parquetWriter struct {
	codec   parquetCodec
	out     *footerless
	in      *parquet.GenericWriter[any]
	columns []*parquet.ColumnWriter
	rows    *shredder
	batch   []byte // The rows that the values of the shredder refer to.
	bounds  [][]bounds

	pending     int64 // Bytes of rows in the row group.
	pendingRows int64
	err         error
}

func (w *parquetWriter) Write(row []byte) error {
	if w.err == nil {
		w.err = w.write(row)
	}
	return w.err
}

func (w *parquetWriter) write(row []byte) error {
	start := len(w.batch)
	w.batch = append(w.batch, row...)
	if err := w.rows.add(w.batch[start:]); err != nil {
		return err
	}
	w.pending += int64(len(row))
	w.pendingRows++
	if w.pending >= w.codec.groupBytes || w.pendingRows >= w.codec.groupRows {
		return w.endGroup()
	}
	if len(w.batch) >= batchBytes {
		return w.endBatch()
	}
	return nil
}

// endBatch gives the values to the columns, which copy them.
func (w *parquetWriter) endBatch() error {
	for i, values := range w.rows.values {
		if _, err := w.columns[i].WriteRowValues(values); err != nil {
			return fmt.Errorf("column %d: %w", i, err)
		}
		clear(values)
		w.rows.values[i] = values[:0]
	}
	w.batch = w.batch[:0]
	return nil
}

func (w *parquetWriter) endGroup() error {
	if w.pendingRows == 0 {
		return nil
	}
	if err := w.endBatch(); err != nil {
		return err
	}
	if err := w.in.Flush(); err != nil {
		return err
	}
	w.bounds = append(w.bounds, w.rows.bounds)
	w.rows.bounds = make([]bounds, len(w.rows.bounds))
	w.pending, w.pendingRows = 0, 0
	return nil
}

func (w *parquetWriter) Size() int64 { return w.out.file.n + w.pending }

func (w *parquetWriter) Close() error {
	if w.err == nil {
		w.err = w.close()
	}
	if w.err != nil {
		return w.err
	}
	w.err = errClosed
	return nil
}

func (w *parquetWriter) close() error {
	if err := w.endGroup(); err != nil {
		return err
	}
	w.out.hold = true
	if err := w.in.Close(); err != nil {
		return err
	}
	metadata := w.in.File().Metadata()
	if len(metadata.RowGroups) > 0 {
		if end := metadata.RowGroups[0].Columns[0].ColumnIndexOffset; end != w.out.file.n {
			return fmt.Errorf("parquet-go has written rows up to %d, but %d bytes are in the file", end, w.out.file.n)
		}
	}
	for g := range metadata.RowGroups {
		for i := range metadata.RowGroups[g].Columns {
			chunk := &metadata.RowGroups[g].Columns[i]
			chunk.ColumnIndexOffset, chunk.ColumnIndexLength = 0, 0
			chunk.OffsetIndexOffset, chunk.OffsetIndexLength = 0, 0
			switch kind := parquet.Kind(chunk.MetaData.Type); kind {
			case parquet.Float, parquet.Double:
				w.bounds[g][i].apply(&chunk.MetaData.Statistics, kind)
			default:
				withoutLongBounds(&chunk.MetaData.Statistics)
			}
		}
	}
	return w.out.end(metadata)
}

// footerless is a file whose footer is written by us. Parquet-go writes one that has its own bounds of floats, and
// before it an index of pages that has them, too, so neither reaches the file. The index is optional.
type footerless struct {
	file *sink
	hold bool // The rows are written; what comes now is not.
}

func (f *footerless) Write(p []byte) (int, error) {
	if f.hold {
		return len(p), nil
	}
	return f.file.Write(p)
}

// end writes the footer.
func (f *footerless) end(metadata *format.FileMetaData) error {
	var tail bytes.Buffer
	if f.file.n == 0 {
		tail.WriteString(parquetMagic)
	}
	before := tail.Len()
	if err := thrift.NewEncoder(new(thrift.CompactProtocol).NewWriter(&tail)).Encode(metadata); err != nil {
		return fmt.Errorf("encode footer: %w", err)
	}
	tail.Write(binary.LittleEndian.AppendUint32(nil, uint32(tail.Len()-before)))
	tail.WriteString(parquetMagic)
	_, err := f.file.Write(tail.Bytes())
	return err
}
