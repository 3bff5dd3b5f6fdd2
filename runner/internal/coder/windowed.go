// SPDX-License-Identifier: Apache-2.0

package coder

import (
	"encoding/binary"
	"fmt"

	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
)

// Header is what stands before an element in beam:coder:windowed_value:v1.
type Header struct {
	Timestamp event.Timestamp
	Windows   []event.Window // Reused by the next call that reads into the same Header.
	Pane      event.Pane
}

// Windowed reads and writes the headers of one PCollection's elements.
type Windowed struct {
	Global bool // The windows are the global one, which takes no bytes; else they are intervals.
}

// ReadHeader reads the header at the head of b into h and returns its length.
func (c Windowed) ReadHeader(b []byte, h *Header) (int, error) {
	if len(b) < 12 {
		return 0, ErrShort
	}
	h.Timestamp = event.ReadTimestamp(b)
	count := binary.BigEndian.Uint32(b[8:])
	n := 12
	h.Windows = h.Windows[:0]
	for ; count > 0; count-- {
		if c.Global {
			if len(h.Windows) > 0 {
				return 0, fmt.Errorf("coder: an element is %d times in the global window", count+1)
			}
			h.Windows = append(h.Windows, event.Global)
			continue
		}
		w, size, err := event.ReadInterval(b[n:])
		if err != nil {
			return 0, err
		}
		h.Windows = append(h.Windows, w)
		n += size
	}
	pane, size, err := event.ReadPane(b[n:])
	if err != nil {
		return 0, err
	}
	h.Pane = pane
	return n + size, nil
}

// AppendHeader appends the encoding of h.
func (c Windowed) AppendHeader(b []byte, h Header) []byte {
	b = event.AppendTimestamp(b, h.Timestamp)
	b = binary.BigEndian.AppendUint32(b, uint32(len(h.Windows)))
	for _, w := range h.Windows {
		b = c.AppendWindow(b, w)
	}
	return event.AppendPane(b, h.Pane)
}

// AppendWindow appends the encoding of one window.
func (c Windowed) AppendWindow(b []byte, w event.Window) []byte {
	if c.Global {
		return b
	}
	return event.AppendInterval(b, w)
}

// ReadWindow reads one window at the head of b and returns its length.
func (c Windowed) ReadWindow(b []byte) (event.Window, int, error) {
	if c.Global {
		return event.Global, 0, nil
	}
	return event.ReadInterval(b)
}
