// SPDX-License-Identifier: Apache-2.0

package kinesisio

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/state"
)

// Mark tells one user record of Write from all others. The package comment says how it is encoded.
type Mark struct {
	Writer   [16]byte
	Sequence uint64
}

const markSize = 36

var (
	markMagic  = [4]byte{0x89, 'H', 'B', 0x01}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// ParseMark returns the mark of a user record and the data behind it, or false if it has none.
func ParseMark(data []byte) (Mark, []byte, bool) {
	var m Mark
	if len(data) < markSize || [4]byte(data[:4]) != markMagic ||
		binary.BigEndian.Uint32(data[32:36]) != crc32.Checksum(data[:32], castagnoli) ||
		binary.BigEndian.Uint32(data[28:32]) != uint32(len(data)-markSize) {
		return m, nil, false
	}
	m.Writer = [16]byte(data[4:20])
	m.Sequence = binary.BigEndian.Uint64(data[20:28])
	return m, data[markSize:], true
}

// appendTo puts the mark before the data.
func (m Mark) appendTo(data []byte) []byte {
	marked := make([]byte, 0, markSize+len(data))
	marked = append(marked, markMagic[:]...)
	marked = append(marked, m.Writer[:]...)
	marked = binary.BigEndian.AppendUint64(marked, m.Sequence)
	marked = binary.BigEndian.AppendUint32(marked, uint32(len(data)))
	marked = binary.BigEndian.AppendUint32(marked, crc32.Checksum(marked, castagnoli))
	return append(marked, data...)
}

// dedupe takes the marks off and drops what was seen before.
func dedupe(s beam.Scope, records beam.PCollection) beam.PCollection {
	s = s.Scope("Dedupe")
	marked, plain := beam.ParDo2(s, &unmarkFn{}, records)
	once := beam.ParDo(s, &dedupeFn{Seen: state.MakeValueState[[]byte]("seen/v1")}, marked)
	return beam.Flatten(s, once, plain)
}

// unmarkFn tells marked records from others.
type unmarkFn struct{}

// ProcessElement emits a marked record under its writer, without the marks's header but with its sequence in Data.
func (*unmarkFn) ProcessElement(r Record, marked func(string, Record), plain func(Record)) {
	if m, _, ok := ParseMark(r.Data); ok {
		marked(hex.EncodeToString(m.Writer[:]), r)
		return
	}
	plain(r)
}

// maxSpans bounds what is kept of one writer.
const maxSpans = 1024

// dedupeFn lets each sequence of a writer through once. It keeps the spans of what it has seen; between them are gaps,
// from refused records that are sent again and from shards that were read less far. When there are more than
// maxSpans, the oldest is forgotten: what is repeated of that is not known as such, but nothing is lost.
type dedupeFn struct {
	Seen state.Value[[]byte] // Spans, as encodeSpans writes them.

	dropped, forgotten beam.Counter
}

// Setup implements a DoFn.
func (f *dedupeFn) Setup() {
	f.dropped = beam.NewCounter(namespace, "repeats_dropped")
	f.forgotten = beam.NewCounter(namespace, "spans_forgotten")
}

// ProcessElement emits the record without its mark, unless it was seen.
func (f *dedupeFn) ProcessElement(ctx context.Context, sp state.Provider, _ string, r Record, emit func(Record)) error {
	m, data, ok := ParseMark(r.Data)
	if !ok {
		return fmt.Errorf("kinesisio: record %s, index %d of shard %s has lost its mark", r.Sequence, r.Index, r.Shard)
	}
	raw, _, err := f.Seen.Read(sp)
	if err != nil {
		return err
	}
	spans, err := decodeSpans(raw)
	if err != nil {
		return err
	}
	spans, isNew := addToSpans(spans, m.Sequence)
	if !isNew {
		f.dropped.Inc(ctx, 1)
		return nil
	}
	if len(spans) > maxSpans {
		spans = spans[1:]
		f.forgotten.Inc(ctx, 1)
	}
	if err := f.Seen.Write(sp, encodeSpans(spans)); err != nil {
		return err
	}
	r.Data = data
	emit(r)
	return nil
}

// span is the numbers from first to last.
type span struct{ first, last uint64 }

// addToSpans adds a number to sorted spans that do not touch, and tells whether it was not in them.
func addToSpans(spans []span, n uint64) ([]span, bool) {
	i, found := slices.BinarySearchFunc(spans, n, func(s span, n uint64) int {
		switch {
		case s.last < n:
			return -1
		case n < s.first:
			return 1
		}
		return 0
	})
	if found {
		return spans, false
	}
	left := i > 0 && spans[i-1].last+1 == n
	right := i < len(spans) && n+1 == spans[i].first
	switch {
	case left && right:
		spans[i-1].last = spans[i].last
		spans = slices.Delete(spans, i, i+1)
	case left:
		spans[i-1].last = n
	case right:
		spans[i].first = n
	default:
		spans = slices.Insert(spans, i, span{n, n})
	}
	return spans, true
}

// encodeSpans writes the distances from number to number.
func encodeSpans(spans []span) []byte {
	var raw []byte
	at := uint64(0)
	for _, s := range spans {
		raw = binary.AppendUvarint(raw, s.first-at)
		raw = binary.AppendUvarint(raw, s.last-s.first)
		at = s.last
	}
	return raw
}

func decodeSpans(raw []byte) ([]span, error) {
	var spans []span
	at := uint64(0)
	for len(raw) > 0 {
		skip, n := binary.Uvarint(raw)
		if n <= 0 {
			return nil, errors.New("kinesisio: the state of a writer cannot be read")
		}
		length, m := binary.Uvarint(raw[n:])
		if m <= 0 {
			return nil, errors.New("kinesisio: the state of a writer cannot be read")
		}
		spans = append(spans, span{at + skip, at + skip + length})
		at += skip + length
		raw = raw[n+m:]
	}
	return spans, nil
}
