// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/fileio/internal/format"
)

// sourceFile is an object as it was when it matched.
type sourceFile struct {
	Key         string // Below the store's URL.
	Size        int64
	Version     string
	Compression int // A Compression: None, Gzip or Zstd.
	Format      int // A Format: Avro or Parquet, or JSONLines for whatever else it is.
}

func (f sourceFile) compressed() bool { return Compression(f.Compression) != None }

// source is the store that files are read from.
type source struct {
	blob.Store
}

// path is what a Record calls a file.
func (s source) path(file sourceFile) string {
	if strings.Contains(s.URL(), "://") {
		place, _, _ := strings.Cut(s.URL(), "?") // Without options.
		return place + "/" + file.Key
	}
	return path.Join(s.URL(), file.Key)
}

// describe tells by the first bytes of an object what it is and how it is compressed.
func (s source) describe(ctx context.Context, o blob.Object) (sourceFile, error) {
	file := sourceFile{Key: o.Key, Size: o.Size, Version: o.Version, Compression: int(None)}
	r, err := s.Open(ctx, o, 0)
	if err != nil {
		return file, err
	}
	magic := make([]byte, 4)
	n, err := io.ReadFull(r, magic)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	if err := errors.Join(err, r.Close()); err != nil {
		return file, err
	}
	switch {
	case bytes.HasPrefix(magic[:n], []byte{0x1f, 0x8b}):
		file.Compression = int(Gzip)
	case bytes.HasPrefix(magic[:n], []byte{0x28, 0xb5, 0x2f, 0xfd}):
		file.Compression = int(Zstd)
	}
	if columns, ok := format.Detect(magic[:n]); ok {
		file.Format = int(columns)
	}
	return file, nil
}

// openAt opens a file, which must be the one that matched, at a position after decompression.
func (s source) openAt(ctx context.Context, file sourceFile, pos int64) (io.ReadCloser, error) {
	start := pos
	if file.compressed() {
		start = 0
	}
	raw, err := s.Open(ctx, blob.Object{Key: file.Key, Size: file.Size, Version: file.Version}, start)
	if err != nil {
		if errors.Is(err, blob.ErrChanged) {
			err = fmt.Errorf("%w; read files that are finished", err)
		}
		return nil, fmt.Errorf("fileio.Read: %w", err)
	}
	if !file.compressed() {
		return raw, nil
	}
	in, err := decompress(raw, Compression(file.Compression))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("fileio.Read: %s: %w", s.path(file), err), raw.Close())
	}
	both := decompressor{Reader: in, in: in, raw: raw}
	if _, err := io.CopyN(io.Discard, in, pos); err != nil {
		return nil, errors.Join(fmt.Errorf("fileio.Read: %s: skip to byte %d: %w", s.path(file), pos, err), both.Close())
	}
	return both, nil
}

// decompress reads what is compressed in raw; closing it leaves raw open.
func decompress(raw io.Reader, c Compression) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(raw, 1<<16)
	if c == Gzip {
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, err
		}
		return z, nil
	}
	z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	return z.IOReadCloser(), nil
}

// maxWindow is the most memory that a zstd file may ask for, as zstd --long=27 does.
const maxWindow = 128 << 20

// decompressor closes both what it reads and what that is made of.
type decompressor struct {
	io.Reader
	in, raw io.Closer
}

// Close implements io.Closer.
func (d decompressor) Close() error { return errors.Join(d.in.Close(), d.raw.Close()) }
