// SPDX-License-Identifier: Apache-2.0

package fraud

import (
	"encoding/binary"
	"fmt"
	"math"
	"sort"
)

// stateVersion is the first byte of a state. Another meaning of the bytes gets another version.
const stateVersion = 1

const (
	headerSize = 1 + 8 + 8 + 4
	recordSize = 24
)

// state is all that is remembered of one card, as it is stored: read and written whole, once for
// each element, so that it costs one state request of each kind.
//
//	version    1 byte
//	judged     8 bytes   everything up to this instant is judged; the least int64 at first
//	due        8 bytes   what waits up to this instant is judged when the timer fires
//	history    4 bytes   how many records are judged
//	records    24 bytes each: time, ID, cents; sorted by time and ID, the judged ones first
//
// Records have a fixed size so that those that wait are found and moved without decoding them.
type state []byte

func newState() state {
	s := make(state, headerSize, headerSize+2*recordSize)
	s[0] = stateVersion
	s.setJudged(math.MinInt64)
	return s
}

// checkState refuses bytes that are not a state of this version.
func checkState(b []byte) (state, error) {
	s := state(b)
	if len(b) < headerSize || b[0] != stateVersion || (len(b)-headerSize)%recordSize != 0 || s.history() > s.records() {
		return nil, fmt.Errorf("state of %d bytes is not of version %d", len(b), stateVersion)
	}
	return s, nil
}

func (s state) judged() int64     { return int64(binary.BigEndian.Uint64(s[1:])) }
func (s state) setJudged(t int64) { binary.BigEndian.PutUint64(s[1:], uint64(t)) }
func (s state) due() int64        { return int64(binary.BigEndian.Uint64(s[9:])) }
func (s state) setDue(t int64)    { binary.BigEndian.PutUint64(s[9:], uint64(t)) }
func (s state) history() int      { return int(binary.BigEndian.Uint32(s[17:])) }
func (s state) setHistory(n int)  { binary.BigEndian.PutUint32(s[17:], uint32(n)) }
func (s state) records() int      { return (len(s) - headerSize) / recordSize }
func (s state) waiting() int      { return s.records() - s.history() }

func (s state) at(i int) []byte {
	return s[headerSize+i*recordSize:][:recordSize]
}

func (s state) transaction(customer int64, i int) Transaction {
	return decode(customer, s.at(i))
}

// earliest is the time of the first record that waits.
func (s state) earliest() int64 {
	return int64(binary.BigEndian.Uint64(s.at(s.history())))
}

// latest is the time of the last record that waits.
func (s state) latest() int64 {
	return int64(binary.BigEndian.Uint64(s.at(s.records() - 1)))
}

// encode is the value that travels to a card, and a record of its state.
func encode(dst []byte, t Transaction) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(t.Millis))
	dst = binary.BigEndian.AppendUint64(dst, uint64(t.ID))
	return binary.BigEndian.AppendUint64(dst, uint64(t.Cents))
}

func decode(customer int64, record []byte) Transaction {
	return Transaction{
		ID:       int64(binary.BigEndian.Uint64(record[8:])),
		Customer: customer,
		Millis:   int64(binary.BigEndian.Uint64(record)),
		Cents:    int64(binary.BigEndian.Uint64(record[16:])),
	}
}

// find is the place of a transaction among the records, and what is known of its ID.
func (s state) find(t Transaction) (place int, same, conflict bool) {
	n := s.records()
	for i := range n {
		if known := s.transaction(t.Customer, i); known.ID == t.ID {
			return i, known == t, known != t
		}
	}
	history := s.history()
	place = history + sort.Search(n-history, func(i int) bool {
		return compare(s.transaction(t.Customer, history+i), t) > 0
	})
	return place, false, false
}

// insert puts a record at a place.
func (s state) insert(place int, record []byte) state {
	s = append(s, record...)
	at := headerSize + place*recordSize
	copy(s[at+recordSize:], s[at:])
	copy(s[at:], record)
	return s
}

// judgeUntil judges what waits, in order, up to and with an instant.
func (s state) judgeUntil(instant, customer int64, r Rules, emit func(Alert)) state {
	if instant > s.judged() {
		s.setJudged(instant)
	}
	done := s.history()
	var c card
	for i := range done {
		c = append(c, s.transaction(customer, i))
	}
	n := s.records()
	var together []Transaction
	for done < n {
		t := s.transaction(customer, done)
		if t.Millis > instant {
			break
		}
		together = append(together[:0], t)
		for done++; done < n; done++ {
			peer := s.transaction(customer, done)
			if peer.Millis != t.Millis {
				break
			}
			together = append(together, peer)
		}
		c = c.judge(r, together, emit)
	}
	out := append(make(state, 0, headerSize+(len(c)+n-done)*recordSize), s[:headerSize]...)
	out.setHistory(len(c))
	for _, t := range c {
		out = encode(out, t)
	}
	return append(out, s[headerSize+done*recordSize:]...)
}
