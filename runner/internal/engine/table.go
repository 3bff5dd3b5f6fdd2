// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"encoding/binary"
	"fmt"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// The table of a job, by the first byte of the key. Everything the engine knows follows from these
// rows; its indexes in memory are rebuilt from them.
//
//	J name                            what the engine must remember of the job itself
//	a stage group [seq]               what is known of a key group, or a chunk if there are no keys, that failed
//	c stage                           the counts of a stage
//	d stage group domain due id       timers by due time: hold, pane
//	q stage group n                   elements that were set aside, with the reason
//	m stage group seq                 mailboxes: chunks that wait for a stage
//	s stage group …                   the stage's own state, written by workers
//	t stage group id                  timers by identity: domain, due time, hold
//	w stage                           watermark floors
//	x name                            user metrics
const (
	tableJob      = 'J'
	tableAttempts = 'a'
	tableCounts   = 'c'
	tableDue      = 'd'
	tableMailbox  = 'm'
	tableDead     = 'q'
	tableState    = 's'
	tableTimer    = 't'
	tableFloor    = 'w'
	tableMetric   = 'x'
)

func stageKey(table byte, s plan.StageID) []byte {
	return binary.BigEndian.AppendUint16(append(make([]byte, 0, 32), table), uint16(s))
}

func groupKey(table byte, s plan.StageID, g bundle.KeyGroup) []byte {
	return binary.BigEndian.AppendUint16(stageKey(table, s), uint16(g))
}

const groupKeyLen = 1 + 2 + 2

// StatePrefix is the prefix of the rows of a stage's own state in one key group.
func StatePrefix(s plan.StageID, g bundle.KeyGroup) []byte { return groupKey(tableState, s, g) }

func mailboxKey(s plan.StageID, g bundle.KeyGroup, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(groupKey(tableMailbox, s, g), seq)
}

// entry is what the engine keeps in memory of a chunk in a mailbox.
type entry struct {
	seq       uint64
	count     int
	size      int
	watermark event.Timestamp // No element, and no output of a restriction, is earlier.
	maxWindow event.Timestamp
	notBefore event.Timestamp // Processing time at which a residual wants to be resumed.
	kept      int             // Bytes of what names the values kept for the chunk.
	taken     bool            // It is in a running bundle.
	suspect                   // Of a stage without keys.
}

// A mailbox row is the entry, what names the values kept for the chunk, and the chunk's bytes.
const entryLen = 4 + 3*8 + 4

func appendEntry(b []byte, e *entry) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(e.count))
	b = event.AppendTimestamp(b, e.watermark)
	b = event.AppendTimestamp(b, e.maxWindow)
	b = event.AppendTimestamp(b, e.notBefore)
	return binary.BigEndian.AppendUint32(b, uint32(e.kept))
}

func readEntry(key, value []byte) (*entry, error) {
	if len(key) != groupKeyLen+8 || len(value) < entryLen {
		return nil, fmt.Errorf("mailbox row %x is malformed", key)
	}
	kept := int(binary.BigEndian.Uint32(value[entryLen-4:]))
	if kept > len(value)-entryLen {
		return nil, fmt.Errorf("mailbox row %x is cut short", key)
	}
	return &entry{
		seq:       binary.BigEndian.Uint64(key[groupKeyLen:]),
		count:     int(binary.BigEndian.Uint32(value)),
		size:      len(value) - entryLen - kept,
		kept:      kept,
		watermark: event.ReadTimestamp(value[4:]),
		maxWindow: event.ReadTimestamp(value[12:]),
		notBefore: event.ReadTimestamp(value[20:]),
		suspect:   innocent,
	}, nil
}

// readKept returns the names of the values kept for the chunk of a mailbox row.
func readKept(row []byte, e *entry) (all []bundle.Kept, err error) {
	for b := row[entryLen : entryLen+e.kept]; len(b) > 0; {
		k, n, err := bundle.ReadKept(b)
		if err != nil {
			return nil, err
		}
		all, b = append(all, k), b[n:]
	}
	return all, nil
}

func appendBytes(b, part []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}

// reader takes apart what append functions put together; the first failure stays.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail() {
	if r.err == nil {
		r.err = fmt.Errorf("row is cut short")
	}
	r.b = nil
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	part := r.b[:n:n]
	r.b = r.b[n:]
	return part
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) timestamp() event.Timestamp {
	if len(r.b) < 8 {
		r.fail()
		return 0
	}
	t := event.ReadTimestamp(r.b)
	r.b = r.b[8:]
	return t
}
