// SPDX-License-Identifier: Apache-2.0

package format

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"

	"github.com/klauspost/compress/flate"
	"github.com/twmb/avro"
	"github.com/twmb/avro/ocf"
)

// longestBlock is how long a block of a file may be, before and after it is decompressed.
const longestBlock = 1 << 30

// avroReader reads a container file block by block. The container is read here and not by package ocf, which has
// no way over a block except through its rows.
type avroReader struct {
	file  io.ReaderAt
	size  int64
	t     reflect.Type
	codec ocf.Codec
	sync  [16]byte
	first int64 // Offset of the first block.
	next  int64 // Offset of the next block.

	read avroRead
	skip avroSkip

	row   int64 // The next one.
	left  int64 // Rows in the block that are not read.
	block Mark  // Where it begins, if some are left.
	rows  decoder
	err   error
	torn  bool // After an error that is not one of a row, nobody knows where in the file this is.
}

func newAvroReader(file io.ReaderAt, size int64, t reflect.Type, columns []Column) (Reader, error) {
	r := &avroReader{file: file, size: size, t: t}
	metadata, err := r.header()
	if err != nil {
		return nil, fmt.Errorf("read header of Avro file: %w", err)
	}
	schema, err := avro.Parse(string(metadata["avro.schema"]), avro.WithLaxNames(nil))
	if err != nil {
		return nil, fmt.Errorf("schema of Avro file: %w", err)
	}
	root := schema.Root()
	if r.read, r.skip, err = avroRows(root, columns); err != nil {
		return nil, fmt.Errorf("%v: %w", t, err)
	}
	switch name := string(metadata["avro.codec"]); name {
	case "", "null":
	case "deflate":
		r.codec = ocf.DeflateCodec(flate.DefaultCompression)
	case "snappy":
		r.codec = ocf.SnappyCodec()
	case "zstandard":
		if r.codec, err = ocf.ZstdCodec(nil, nil); err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
	default:
		return nil, fmt.Errorf("the blocks of the Avro file are compressed by %s: write it with null, deflate, snappy or zstandard", name)
	}
	return r, nil
}

// header reads the metadata, and where the first block begins.
func (r *avroReader) header() (map[string][]byte, error) {
	in := &counted{in: bufio.NewReader(io.NewSectionReader(r.file, 0, r.size))}
	magic := make([]byte, 4)
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != avroMagic {
		return nil, errors.Join(errors.New("it is no Avro container file"), err)
	}
	metadata := map[string][]byte{}
	for {
		n, err := in.long()
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		if n < 0 { // Its size in bytes follows.
			n = -n
			if _, err := in.long(); err != nil {
				return nil, err
			}
		}
		for range n {
			key, err := in.bytes(r.size)
			if err != nil {
				return nil, err
			}
			if metadata[string(key)], err = in.bytes(r.size); err != nil {
				return nil, err
			}
		}
	}
	_, err := io.ReadFull(in, r.sync[:])
	r.first, r.next = in.n, in.n
	return metadata, err
}

func (r *avroReader) Read() (any, error) {
	if r.err != nil {
		return nil, r.err
	}
	element, err := r.element()
	var bad *RowError
	if err != nil && err != io.EOF && !errors.As(err, &bad) {
		err, r.torn = fmt.Errorf("row %d: %w", r.row, err), true
	}
	if r.err = err; err != nil {
		return nil, err
	}
	r.row++
	return element, nil
}

func (r *avroReader) element() (element any, err error) {
	defer damaged(&err)
	for r.left == 0 {
		if err := r.enter(r.row); err != nil {
			return nil, err
		}
	}
	v := reflect.New(r.t).Elem()
	row := r.rows
	err = r.read(&r.rows, v)
	if failure := r.rows.failure(); failure != nil {
		return nil, failure
	}
	if err != nil {
		r.rows = row // SeekToRow passes over it.
		return nil, &RowError{Row: r.row, Err: err}
	}
	r.left--
	return v.Interface(), nil
}

func (r *avroReader) SeekToRow(row int64) (err error) {
	defer func() { r.torn = r.torn || err != nil }()
	defer damaged(&err)
	if row < 0 {
		return fmt.Errorf("there is no row %d", row)
	}
	if row < r.row || r.torn {
		r.SkipTo(Mark{})
	}
	r.err, r.torn = nil, false
	for r.row < row || r.left == 0 {
		if r.left == 0 {
			if err := r.enter(row); err == io.EOF {
				return nil // Read says so.
			} else if err != nil {
				return err
			}
			continue
		}
		r.skip(&r.rows)
		if err := r.rows.failure(); err != nil {
			return err
		}
		r.row++
		r.left--
	}
	return nil
}

// enter opens the next block if row is in it, and passes over it if not.
func (r *avroReader) enter(row int64) error {
	if r.next == r.size {
		return io.EOF
	}
	b, err := r.blockAt(r.next, r.row)
	if err != nil {
		return err
	}
	at := r.next
	r.next = b.end
	if row >= r.row+b.count {
		r.row += b.count
		return nil
	}
	if b.size > longestBlock {
		return fmt.Errorf("a block has %d bytes, more than %d", b.size, longestBlock)
	}
	block := make([]byte, b.size)
	if _, err := r.file.ReadAt(block, b.start); err != nil && err != io.EOF {
		return err
	}
	if r.codec != nil {
		if block, err = r.codec.(ocf.BoundedDecompressor).DecompressBounded(block, longestBlock); err != nil {
			return fmt.Errorf("decompress block: %w", err)
		}
	}
	r.rows, r.left, r.block = decoder{row: block}, b.count, Mark{r.row, at}
	return nil
}

// avroSpan is where a block of a file is.
type avroSpan struct {
	count       int64 // Of rows.
	start, size int64 // Of the rows, in bytes.
	end         int64 // Where the next block begins.
}

// blockAt looks at the block at an offset, before which there are so many rows.
func (r *avroReader) blockAt(offset, rows int64) (b avroSpan, err error) {
	in := &counted{in: bufio.NewReaderSize(io.NewSectionReader(r.file, offset, r.size-offset), 64)}
	if b.count, err = in.long(); err != nil {
		return b, err
	}
	if b.size, err = in.long(); err != nil {
		return b, err
	}
	b.start = offset + in.n
	if b.count < 0 || b.count > math.MaxInt64-rows || b.size < 0 || b.size > r.size-b.start-int64(len(r.sync)) {
		return b, errDamaged
	}
	var sync [16]byte
	if _, err := r.file.ReadAt(sync[:], b.start+b.size); err != nil && err != io.EOF {
		return b, err
	}
	if sync != r.sync {
		return b, errDamaged
	}
	b.end = b.start + b.size + int64(len(sync))
	return b, nil
}

func (r *avroReader) Parts(size int64) ([]Mark, error) {
	parts, rows, begin := []Mark{{Byte: r.first}}, int64(0), r.first
	for at := r.first; at < r.size; {
		if at-begin >= size && rows > parts[len(parts)-1].Row {
			parts, begin = append(parts, Mark{rows, at}), at
		}
		b, err := r.blockAt(at, rows)
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", rows, err)
		}
		rows, at = rows+b.count, b.end
	}
	return append(parts, Mark{rows, r.size}), nil
}

func (r *avroReader) Mark() Mark {
	if r.left == 0 {
		return Mark{r.row, r.next}
	}
	return r.block
}

func (r *avroReader) SkipTo(m Mark) {
	if m.Byte < r.first || m.Byte > r.size || m.Row < 0 {
		m = Mark{Byte: r.first}
	}
	r.row, r.left, r.next, r.err, r.torn = m.Row, 0, m.Byte, nil, false
}

func (r *avroReader) Close() error {
	if r.codec == nil {
		return nil
	}
	return r.codec.Close()
}

// counted reads a part of a file that is made of longs and byte strings.
type counted struct {
	in *bufio.Reader
	n  int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *counted) ReadByte() (byte, error) {
	b, err := c.in.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

func (c *counted) long() (int64, error) {
	n, err := binary.ReadVarint(c)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (c *counted) bytes(most int64) ([]byte, error) {
	n, err := c.long()
	if err != nil {
		return nil, err
	}
	if n < 0 || n > most {
		return nil, errDamaged
	}
	var b bytes.Buffer
	_, err = io.CopyN(&b, c, n)
	return b.Bytes(), err
}
