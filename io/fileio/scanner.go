// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"bufio"
	"bytes"
	"io"
)

// scanner cuts a stream into records and knows the offset and the line of each. It starts at a record.
type scanner struct {
	in     *bufio.Reader
	csv    bool
	limit  int   // Bytes of a record that are kept.
	offset int64 // Of the next record.
	line   int64 // Of the next record.
}

// scanned is one record; its bytes are its own.
type scanned struct {
	claim
	line    int64
	bytes   []byte // Without the line end; at most limit.
	tooLong bool
}

// next returns io.EOF when no record is left.
func (s *scanner) next() (scanned, error) {
	rec := scanned{claim: claim{start: s.offset}, line: s.line}
	quoted := false
	for {
		part, err := s.in.ReadSlice('\n')
		s.offset += int64(len(part))
		// A byte more than the limit is kept for each end of line, which is not part of the record.
		if room := s.limit + 2 - len(rec.bytes); len(part) > room {
			rec.bytes, rec.tooLong = append(rec.bytes, part[:room]...), true
		} else {
			rec.bytes = append(rec.bytes, part...)
		}
		if s.csv && bytes.Count(part, []byte{'"'})%2 == 1 { // A doubled quote leaves it as it is.
			quoted = !quoted
		}
		switch {
		case err == bufio.ErrBufferFull:
			continue
		case err == io.EOF:
			if s.offset == rec.start {
				return rec, io.EOF
			}
		case err != nil:
			return rec, err
		default:
			s.line++
			if quoted {
				continue
			}
		}
		break
	}
	if !rec.tooLong {
		rec.bytes = bytes.TrimSuffix(bytes.TrimSuffix(rec.bytes, []byte("\n")), []byte("\r"))
		rec.tooLong = len(rec.bytes) > s.limit
	}
	if rec.start == 0 {
		rec.bytes = bytes.TrimPrefix(rec.bytes, []byte("\ufeff"))
	}
	rec.claim.next, rec.nextLine = s.offset, s.line
	return rec, nil
}
