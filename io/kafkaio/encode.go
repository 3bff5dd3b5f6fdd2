// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Between the steps of an exactly-once write records travel as bytes: what a row coder does for each field
// would be most of the work. All numbers are varints.
//
//	record  flags timestamp key value headers{name value}...
//	parcel  count{length record}...
//	batch   writer first parcel

const (
	flagNoKey = 1 << iota
	flagTombstone
)

// noTimestamp stands for the time of writing.
const noTimestamp = math.MinInt64

var errMalformed = errors.New("kafkaio.Write: malformed bytes between steps")

func appendBytes(b, part []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}

func encodeRecord(r Record) []byte {
	var flags byte
	if r.NoKey {
		flags |= flagNoKey
	}
	if r.Tombstone {
		flags |= flagTombstone
	}
	timestamp := int64(noTimestamp)
	if r.Timestamp > 0 {
		timestamp = r.Timestamp
	}
	b := make([]byte, 0, 16+len(r.Key)+len(r.Value))
	b = binary.AppendVarint(append(b, flags), timestamp)
	b = appendBytes(appendBytes(b, r.Key), r.Value)
	for _, h := range r.Headers {
		b = appendBytes(appendBytes(b, []byte(h.Key)), h.Value)
	}
	return b
}

// parts takes bytes apart; once something is wrong it returns nothing but zeros.
type parts struct {
	rest []byte
	bad  bool
}

func (p *parts) uvarint() uint64 {
	v, n := binary.Uvarint(p.rest)
	if n <= 0 {
		p.bad, p.rest = true, nil
		return 0
	}
	p.rest = p.rest[n:]
	return v
}

func (p *parts) varint() int64 {
	v, n := binary.Varint(p.rest)
	if n <= 0 {
		p.bad, p.rest = true, nil
		return 0
	}
	p.rest = p.rest[n:]
	return v
}

func (p *parts) bytes() []byte {
	n := p.uvarint()
	if n > uint64(len(p.rest)) {
		p.bad, p.rest = true, nil
		return nil
	}
	part := p.rest[:n:n]
	p.rest = p.rest[n:]
	return part
}

func decodeRecord(b []byte) (Record, error) {
	if len(b) == 0 {
		return Record{}, errMalformed
	}
	flags, p := b[0], parts{rest: b[1:]}
	r := Record{NoKey: flags&flagNoKey != 0, Tombstone: flags&flagTombstone != 0, Timestamp: p.varint(), Key: p.bytes(), Value: p.bytes()}
	for len(p.rest) > 0 {
		r.Headers = append(r.Headers, Header{Key: string(p.bytes()), Value: p.bytes()})
	}
	if p.bad {
		return Record{}, errMalformed
	}
	return r, nil
}

// toKafka is what the producer gets.
func (r Record) toKafka() *kgo.Record {
	k := &kgo.Record{Key: r.Key, Value: r.Value}
	switch {
	case r.NoKey:
		k.Key = nil
	case k.Key == nil:
		k.Key = []byte{} // An empty key is a key.
	}
	switch {
	case r.Tombstone:
		k.Value = nil
	case k.Value == nil:
		k.Value = []byte{}
	}
	if r.Timestamp > 0 {
		k.Timestamp = time.UnixMilli(r.Timestamp)
	}
	for _, h := range r.Headers {
		k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return k
}

// numbered is consecutive records of a shard, as its only writer has numbered them.
type numbered struct {
	writer  string
	first   int64
	records [][]byte
}

func (n numbered) last() int64 { return n.first + int64(len(n.records)) - 1 }

func encodeNumbered(writer string, first int64, parcel []byte) []byte {
	b := make([]byte, 0, len(parcel)+len(writer)+12)
	return append(binary.AppendVarint(appendBytes(b, []byte(writer)), first), parcel...)
}

func decodeNumbered(b []byte) (numbered, error) {
	p := parts{rest: b}
	n := numbered{writer: string(p.bytes()), first: p.varint()}
	count := p.uvarint()
	for range count {
		n.records = append(n.records, p.bytes())
		if p.bad {
			break
		}
	}
	if p.bad || len(p.rest) > 0 || count == 0 || n.first < 1 {
		return numbered{}, errMalformed
	}
	return n, nil
}

// chain stands for all records of a shard up to one of them.
type chain [8]byte

func (c chain) next(record []byte) (n chain) {
	h := sha256.New()
	h.Write(c[:])
	h.Write(record)
	copy(n[:], h.Sum(nil))
	return n
}
