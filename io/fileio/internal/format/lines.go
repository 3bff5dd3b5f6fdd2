// SPDX-License-Identifier: Apache-2.0

package format

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
