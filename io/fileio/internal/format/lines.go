// SPDX-License-Identifier: Apache-2.0

package format

import (
	"bytes"
	"errors"
)

// lines writes a file of rows that each end with a line end.
type lines struct {
	*stream
	buf []byte
}

func (l *lines) Write(row []byte) error {
	l.buf = append(append(l.buf[:0], row...), '\n')
	_, err := l.stream.Write(l.buf)
	return err
}

func (l *lines) Size() int64 { return l.size() }

func (l *lines) Close() error { return l.close() }

// checkLine tells what keeps a record from being exactly one line, which readers give back as it is.
func checkLine(record []byte) error {
	if bytes.IndexByte(record, '\n') >= 0 {
		return errors.New("the record holds a line end and would become two; write compact JSON")
	}
	return checkEnds(record)
}

// checkEnds tells what readers take off a record, in whatever place of a file it is.
func checkEnds(record []byte) error {
	switch {
	case len(record) == 0:
		return errors.New("the record is an empty line, which readers skip")
	case bytes.HasPrefix(record, []byte("\ufeff")):
		return errors.New("the record begins with U+FEFF, a byte order mark, which readers take off at the beginning of a file")
	case bytes.HasSuffix(record, []byte("\r")):
		return errors.New("the record ends with \\r, which readers take for a part of the line end")
	}
	return nil
}
