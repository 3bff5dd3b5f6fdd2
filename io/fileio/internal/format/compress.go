// SPDX-License-Identifier: Apache-2.0

package format

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// sink counts the bytes that reach a file, and remembers the error that ended it.
type sink struct {
	w   io.Writer
	n   int64
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.w.Write(p)
	s.n += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	s.err = err
	return n, err
}

var errClosed = errors.New("the file is closed")

// stream is a text file: bytes through a compressor.
type stream struct {
	out     *sink
	in      io.WriteCloser
	pending int64 // Bytes written to in since the last ones came out.
}

func newStream(w io.Writer, c Compression) (*stream, error) {
	s := &stream{out: &sink{w: w}}
	switch c {
	case Gzip:
		s.in = gzip.NewWriter(s.out) // Its header has no time.
	case Zstd:
		// One goroutine makes the blocks in one way. The window is what a writer costs in memory, and there are many.
		in, err := zstd.NewWriter(s.out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		s.in = in
	default:
		s.in = buffered{bufio.NewWriterSize(s.out, 1<<16)}
	}
	return s, nil
}

func (s *stream) Write(p []byte) (int, error) {
	if s.out.err != nil {
		return 0, s.out.err
	}
	before := s.out.n
	n, err := s.in.Write(p)
	if s.out.n > before {
		s.pending = 0
	} else {
		s.pending += int64(n)
	}
	return n, err
}

func (s *stream) size() int64 { return s.out.n + s.pending }

func (s *stream) close() error {
	err := s.in.Close()
	if s.out.err != nil {
		return s.out.err
	}
	s.out.err, s.pending = errClosed, 0
	return err
}

type buffered struct{ *bufio.Writer }

func (b buffered) Close() error { return b.Flush() }

// extension is the part of a text file's name that says how it is compressed.
func (c Compression) extension() string {
	switch c {
	case Gzip:
		return ".gz"
	case Zstd:
		return ".zst"
	}
	return ""
}
