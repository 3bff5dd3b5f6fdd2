// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hornbeam-dev/hornbeam/io/blob"
)

// What a ranged keeps, which is 32 MiB and some connections.
const (
	rangeBlock   = 256 << 10 // Bytes that are read at once.
	rangeBlocks  = 128
	rangeStreams = 16
)

// ranged makes an io.ReaderAt of an object that can only be read from an offset on. It keeps blocks of it in memory,
// and no copy on disk: what is needed are some columns of some rows, and the parts of a file that was split would have
// to copy all of it, each for itself. A request reads to the end of the object, so one that was made for a block is
// kept, to go on with for the next block. There are several, because the columns of a row group of Parquet are read side
// by side.
//
// It belongs to one goroutine.
type ranged struct {
	ctx    context.Context // Of all reads: io.ReaderAt has no place for it.
	store  blob.Store
	object blob.Object

	blocks  []rangedBlock  // The last one was used last.
	streams []rangedStream // Likewise.
}

type rangedBlock struct {
	at   int64
	data []byte
}

// rangedStream is a request whose next byte is at an offset.
type rangedStream struct {
	at int64
	io.ReadCloser
}

// ReadAt implements io.ReaderAt.
func (r *ranged) ReadAt(p []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, fmt.Errorf("there is no byte %d", offset)
	}
	for n < len(p) {
		if offset >= r.object.Size {
			return n, io.EOF
		}
		data, err := r.block(offset / rangeBlock * rangeBlock)
		if err != nil {
			return n, err
		}
		c := copy(p[n:], data[offset%rangeBlock:])
		n, offset = n+c, offset+int64(c)
	}
	return n, nil
}

// block is the block that begins at an offset.
func (r *ranged) block(at int64) ([]byte, error) {
	if i := slices.IndexFunc(r.blocks, func(b rangedBlock) bool { return b.at == at }); i >= 0 {
		b := r.blocks[i]
		r.blocks = append(slices.Delete(r.blocks, i, i+1), b)
		return b.data, nil
	}
	b := rangedBlock{at: at}
	if len(r.blocks) == rangeBlocks {
		b.data = r.blocks[0].data[:0]
		r.blocks = slices.Delete(r.blocks, 0, 1)
	}
	size := int(min(rangeBlock, r.object.Size-at))
	b.data = slices.Grow(b.data, size)[:size]
	if err := r.fill(b); err != nil {
		return nil, err
	}
	r.blocks = append(r.blocks, b)
	return b.data, nil
}

// fill reads a block from the stream that stands there, or from a new one.
func (r *ranged) fill(b rangedBlock) error {
	var s rangedStream
	if i := slices.IndexFunc(r.streams, func(s rangedStream) bool { return s.at == b.at }); i >= 0 {
		s = r.streams[i]
		r.streams = slices.Delete(r.streams, i, i+1)
	} else {
		in, err := r.store.Open(r.ctx, r.object, b.at)
		if err != nil {
			return err
		}
		s = rangedStream{b.at, in}
	}
	n, err := io.ReadFull(s, b.data)
	if s.at += int64(n); err != nil {
		return errors.Join(fmt.Errorf("read %d bytes at %d: %w", len(b.data), b.at, err), s.Close())
	}
	if s.at == r.object.Size {
		return s.Close()
	}
	r.streams = append(r.streams, s)
	if len(r.streams) > rangeStreams {
		oldest := r.streams[0]
		r.streams = slices.Delete(r.streams, 0, 1)
		return oldest.Close()
	}
	return nil
}

// Close implements io.Closer.
func (r *ranged) Close() error {
	var errs []error
	for _, s := range r.streams {
		errs = append(errs, s.Close())
	}
	r.streams, r.blocks = nil, nil
	return errors.Join(errs...)
}
