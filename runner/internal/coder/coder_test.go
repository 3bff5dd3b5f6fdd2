// SPDX-License-Identifier: Apache-2.0

package coder

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/urn"
)

var (
	text = Coder{URN: urn.CoderString}
	kv   = Coder{URN: urn.CoderKV, Parts: []Coder{text, {URN: urn.CoderVarInt}}}
)

func TestSkip(t *testing.T) {
	for _, c := range []struct {
		name  string
		coder Coder
		b     []byte
	}{
		{"bytes", Coder{URN: urn.CoderBytes}, []byte{2, 1, 2}},
		{"empty string", text, []byte{0}},
		{"varint", Coder{URN: urn.CoderVarInt}, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}},
		{"bool", Coder{URN: urn.CoderBool}, []byte{1}},
		{"double", Coder{URN: urn.CoderDouble}, make([]byte, 8)},
		{"kv", kv, []byte{1, 'a', 5}},
		{"kv of kv", Coder{URN: urn.CoderKV, Parts: []Coder{kv, text}}, []byte{1, 'a', 5, 2, 'b', 'c'}},
		{"length prefix", Coder{URN: urn.CoderLengthPrefix, Parts: []Coder{{URN: "custom"}}}, []byte{3, 9, 9, 9}},
		{"null", Coder{URN: urn.CoderNullable, Parts: []Coder{text}}, []byte{0}},
		{"not null", Coder{URN: urn.CoderNullable, Parts: []Coder{text}}, []byte{1, 1, 'a'}},
		{"iterable", Coder{URN: urn.CoderIterable, Parts: []Coder{text}}, []byte{0, 0, 0, 2, 1, 'a', 1, 'b'}},
		{"empty iterable", Coder{URN: urn.CoderIterable, Parts: []Coder{text}}, []byte{0, 0, 0, 0}},
		{"blocks", Coder{URN: urn.CoderIterable, Parts: []Coder{text}},
			[]byte{0xff, 0xff, 0xff, 0xff, 2, 1, 'a', 1, 'b', 1, 1, 'c', 0}},
		{"much of nothing", Coder{URN: urn.CoderIterable, Parts: []Coder{{URN: urn.CoderGlobalWindow}}},
			[]byte{0x7f, 0xff, 0xff, 0xff}},
		{"interval", Coder{URN: urn.CoderIntervalWindow}, event.AppendInterval(nil, event.Window{Start: 0, End: 1000})},
		{"global", Coder{URN: urn.CoderGlobalWindow}, nil},
	} {
		skip, err := Compile(c.coder)
		if err != nil || !Known(c.coder) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if n, err := skip(append(bytes.Clone(c.b), 7, 7)); err != nil || n != len(c.b) {
			t.Errorf("%s: skipped %d, %v, want %d", c.name, n, err, len(c.b))
		}
		for i := range c.b {
			if n, err := skip(c.b[:i]); err == nil {
				t.Errorf("%s cut to %d bytes: skipped %d, want an error", c.name, i, n)
			}
		}
	}
}

func TestUnknown(t *testing.T) {
	custom := Coder{URN: urn.CoderKV, Parts: []Coder{text, {URN: "custom"}}}
	if Known(custom) {
		t.Error("a KV with a custom coder is known")
	}
	if _, err := Compile(custom); err == nil {
		t.Error("a custom coder compiles")
	}
}

// grow makes a coder from the bytes of a fuzzer.
func grow(r *rand.Rand, depth int) Coder {
	leaves := []string{
		urn.CoderBytes, urn.CoderString, urn.CoderBool, urn.CoderVarInt, urn.CoderDouble,
		urn.CoderGlobalWindow, urn.CoderIntervalWindow,
	}
	if depth == 0 {
		return Coder{URN: leaves[r.IntN(len(leaves))]}
	}
	switch r.IntN(4) {
	case 0:
		return Coder{URN: urn.CoderKV, Parts: []Coder{grow(r, depth-1), grow(r, depth-1)}}
	case 1:
		return Coder{URN: urn.CoderNullable, Parts: []Coder{grow(r, depth-1)}}
	case 2:
		return Coder{URN: urn.CoderIterable, Parts: []Coder{grow(r, depth-1)}}
	}
	return grow(r, 0)
}

// FuzzSkip feeds any bytes to any coder: it never reads or claims more than there is, and what it
// took it takes again when it stands alone.
func FuzzSkip(f *testing.F) {
	f.Add(uint64(1), []byte{1, 'a', 5})
	f.Add(uint64(9), []byte{0xff, 0xff, 0xff, 0xff, 0x80, 0x80, 1, 0})
	f.Fuzz(func(t *testing.T, seed uint64, b []byte) {
		c := grow(rand.New(rand.NewPCG(seed, 0)), 3)
		skip, err := Compile(c)
		if err != nil {
			t.Fatal(err)
		}
		n, err := skip(b)
		if err != nil {
			return
		}
		if n < 0 || n > len(b) {
			t.Fatalf("%v: skipped %d of %d bytes", c, n, len(b))
		}
		if again, err := skip(b[:n]); err != nil || again != n {
			t.Errorf("%v alone: skipped %d, %v, want %d", c, again, err, n)
		}
	})
}

func FuzzHeader(f *testing.F) {
	w := Windowed{}
	f.Add(false, w.AppendHeader(nil, Header{
		Timestamp: 5, Windows: []event.Window{{Start: 0, End: 10}, {Start: 5, End: 15}}, Pane: event.NoFiring,
	}))
	f.Add(true, Windowed{Global: true}.AppendHeader(nil, Header{Windows: []event.Window{event.Global}}))
	f.Add(false, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0})
	f.Fuzz(func(t *testing.T, global bool, b []byte) {
		w := Windowed{Global: global}
		var h, again Header
		n, err := w.ReadHeader(b, &h)
		if err != nil {
			return
		}
		if n > len(b) {
			t.Fatalf("took %d of %d bytes", n, len(b))
		}
		encoded := w.AppendHeader(nil, h)
		if size, err := w.ReadHeader(encoded, &again); err != nil || size != len(encoded) {
			t.Fatalf("%+v: took %d of %d bytes, %v", h, size, len(encoded), err)
		}
		if h.Pane.Timing == event.Unknown {
			h.Pane.Index, h.Pane.NonSpeculative = 0, 0 // They have no meaning there, and are not written.
		}
		if h.Timestamp != again.Timestamp || h.Pane != again.Pane || len(h.Windows) != len(again.Windows) {
			t.Errorf("got %+v, want %+v", again, h)
		}
		for i := range h.Windows {
			if h.Windows[i] != again.Windows[i] {
				t.Errorf("window %d: got %v, want %v", i, again.Windows[i], h.Windows[i])
			}
		}
	})
}

func TestShortHeader(t *testing.T) {
	w := Windowed{}
	b := w.AppendHeader(nil, Header{Timestamp: 5, Windows: []event.Window{{Start: 0, End: 10}}, Pane: event.NoFiring})
	for i := range b {
		if _, err := w.ReadHeader(b[:i], &Header{}); err == nil {
			t.Errorf("cut to %d bytes: got no error", i)
		}
	}
	if _, err := w.ReadHeader(nil, &Header{}); !errors.Is(err, ErrShort) {
		t.Errorf("got %v, want %v", err, ErrShort)
	}
}
