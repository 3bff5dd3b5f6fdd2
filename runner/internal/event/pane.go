// SPDX-License-Identifier: Apache-2.0

package event

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Timing says when a pane fired, relative to the watermark passing the end of its window.
type Timing uint8

// The four timings, numbered as Beam's pane coder does.
const (
	Early Timing = iota
	OnTime
	Late
	Unknown
)

// String returns the model's name of the timing.
func (t Timing) String() string {
	return [...]string{"EARLY", "ON_TIME", "LATE", "UNKNOWN"}[t&3]
}

// Pane says which firing of its key and window an element belongs to.
type Pane struct {
	First, Last    bool
	Timing         Timing
	Index          int64 // Counts the panes of a key and window from 0.
	NonSpeculative int64 // Counts those that are not early; -1 in an early pane.
}

// NoFiring is the pane of an element that no trigger has fired.
var NoFiring = Pane{First: true, Last: true, Timing: Unknown}

// String prints timing and index, and which end of the sequence the pane is.
func (p Pane) String() string {
	s := fmt.Sprintf("%v#%d", p.Timing, p.Index)
	if p.First {
		s += " first"
	}
	if p.Last {
		s += " last"
	}
	return s
}

var errShortPane = errors.New("pane: encoding is cut short")

// The pane encodings of the Beam model: the high half of the first byte says which indexes follow.
const (
	paneNoIndex  = 0
	paneOneIndex = 1
	paneTwoIndex = 2
)

// AppendPane appends Beam's encoding of p.
func AppendPane(b []byte, p Pane) []byte {
	first := byte(p.Timing) << 2
	if p.First {
		first |= 1
	}
	if p.Last {
		first |= 2
	}
	switch {
	case p.Timing == Unknown || p.Index == 0 && p.NonSpeculative == 0:
		return append(b, first|paneNoIndex<<4)
	case p.Index == p.NonSpeculative || p.Timing == Early:
		return binary.AppendUvarint(append(b, first|paneOneIndex<<4), uint64(p.Index))
	}
	b = binary.AppendUvarint(append(b, first|paneTwoIndex<<4), uint64(p.Index))
	return binary.AppendUvarint(b, uint64(p.NonSpeculative))
}

// ReadPane reads what AppendPane wrote and returns the number of bytes it took.
func ReadPane(b []byte) (Pane, int, error) {
	if len(b) == 0 {
		return Pane{}, 0, errShortPane
	}
	p := Pane{First: b[0]&1 != 0, Last: b[0]&2 != 0, Timing: Timing(b[0] >> 2 & 3)}
	if p.Timing == Early {
		p.NonSpeculative = -1
	}
	kind, n := b[0]>>4, 1
	if kind == paneNoIndex {
		return p, n, nil
	}
	index, size := binary.Uvarint(b[n:])
	if size <= 0 {
		return Pane{}, 0, errShortPane
	}
	n += size
	p.Index = int64(index)
	switch kind {
	case paneOneIndex:
		if p.Timing != Early {
			p.NonSpeculative = p.Index
		}
	case paneTwoIndex:
		other, size := binary.Uvarint(b[n:])
		if size <= 0 {
			return Pane{}, 0, errShortPane
		}
		n += size
		if p.Timing != Early {
			p.NonSpeculative = int64(other)
		}
	default:
		return Pane{}, 0, fmt.Errorf("pane: unknown encoding %d", kind)
	}
	return p, n, nil
}
