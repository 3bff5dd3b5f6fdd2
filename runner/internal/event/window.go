// SPDX-License-Identifier: Apache-2.0

package event

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Window is the global window or the interval [Start, End). The zero value is no window.
type Window struct {
	Start, End Timestamp
}

// Global is the one window of the global WindowFn.
var Global = Window{Start: MinTimestamp, End: MaxTimestamp}

// IsGlobal tells whether w is the global window.
func (w Window) IsGlobal() bool { return w == Global }

// MaxTimestamp is the last moment that belongs to w.
func (w Window) MaxTimestamp() Timestamp {
	if w.IsGlobal() {
		return EndOfGlobalWindow
	}
	return w.End - 1
}

// String prints [start..end) or [global].
func (w Window) String() string {
	if w.IsGlobal() {
		return "[global]"
	}
	return fmt.Sprintf("[%v..%v)", w.Start, w.End)
}

var errShortWindow = errors.New("window: encoding is cut short")

// AppendInterval appends the encoding of beam:coder:interval_window:v1: the end as a big-endian
// number that orders as the time does, then the length in milliseconds as a varint.
func AppendInterval(b []byte, w Window) []byte {
	b = AppendTimestamp(b, w.End)
	return binary.AppendUvarint(b, uint64(w.End-w.Start))
}

// ReadInterval reads what AppendInterval wrote and returns the number of bytes it took.
func ReadInterval(b []byte) (Window, int, error) {
	if len(b) < 9 {
		return Window{}, 0, errShortWindow
	}
	end := ReadTimestamp(b)
	span, n := binary.Uvarint(b[8:])
	if n <= 0 {
		return Window{}, 0, errShortWindow
	}
	return Window{Start: end - Timestamp(span), End: end}, 8 + n, nil
}

// AppendTimestamp appends eight bytes whose order is the order of time, as Beam's coders do.
func AppendTimestamp(b []byte, t Timestamp) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(t)^(1<<63))
}

// ReadTimestamp reads what AppendTimestamp wrote; b holds at least eight bytes.
func ReadTimestamp(b []byte) Timestamp {
	return Timestamp(binary.BigEndian.Uint64(b) ^ (1 << 63))
}
