// SPDX-License-Identifier: Apache-2.0

package event

import (
	"bytes"
	"math"
	"testing"
	"time"
)

func FuzzPane(f *testing.F) {
	for _, b := range [][]byte{{0x0f}, {0x00}, {0x10, 3}, {0x29, 4, 2}, {0x15, 0}, {}, {0x30}, {0x10, 0x80}, {0x20, 48, 0}, {0x1c, 48}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, n, err := ReadPane(b)
		if err != nil {
			return
		}
		if n < 1 || n > len(b) {
			t.Fatalf("ReadPane(%x): took %d bytes of %d", b, n, len(b))
		}
		if p.Timing == Unknown {
			p.Index, p.NonSpeculative = 0, 0 // They have no meaning there, and are not written.
		}
		again := AppendPane(nil, p)
		if got, size, err := ReadPane(again); err != nil || got != p || size != len(again) {
			t.Errorf("%+v: got %+v, %d of %d bytes, %v", p, got, size, len(again), err)
		}
	})
}

func TestPaneRoundTrip(t *testing.T) {
	for _, p := range []Pane{
		NoFiring,
		{First: true, Timing: Early, NonSpeculative: -1},
		{Timing: Early, Index: 1, NonSpeculative: -1},
		{First: true, Last: true, Timing: OnTime},
		{Timing: OnTime, Index: 3},
		{Timing: Late, Index: 4, NonSpeculative: 1},
		{First: true, Timing: Late},
		{Timing: Late, Index: 300, NonSpeculative: 300},
		{Last: true, Timing: Late, Index: math.MaxInt64, NonSpeculative: math.MaxInt64 - 1},
	} {
		b := AppendPane([]byte{7}, p)[1:]
		if got, n, err := ReadPane(append(b, 9)); err != nil || n != len(b) || got != p {
			t.Errorf("%+v: got %+v, %d of %d bytes, %v", p, got, n, len(b), err)
		}
		for i := range b {
			if got, _, err := ReadPane(b[:i]); err == nil {
				t.Errorf("%+v cut to %d bytes: got %+v, want an error", p, i, got)
			}
		}
	}
}

func FuzzInterval(f *testing.F) {
	f.Add(int64(0), int64(10_000), []byte{})
	f.Add(int64(-5), int64(0), []byte{1})
	f.Add(int64(MinTimestamp), int64(MaxTimestamp), []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80})
	f.Fuzz(func(t *testing.T, start, end int64, b []byte) {
		if w, n, err := ReadInterval(b); err == nil && (n < 9 || n > len(b)) {
			t.Fatalf("ReadInterval(%x): %v took %d bytes of %d", b, w, n, len(b))
		}
		w := Window{Start: Clamp(start), End: Clamp(end)}
		if w.End < w.Start {
			return
		}
		b = AppendInterval(b[:0:0], w)
		if got, n, err := ReadInterval(b); err != nil || n != len(b) || got != w {
			t.Errorf("%v: got %v, %d of %d bytes, %v", w, got, n, len(b), err)
		}
	})
}

func FuzzTimestampOrder(f *testing.F) {
	f.Add(int64(-1), int64(1))
	f.Add(int64(MinTimestamp), int64(MaxTimestamp))
	f.Fuzz(func(t *testing.T, a, b int64) {
		x, y := AppendTimestamp(nil, Timestamp(a)), AppendTimestamp(nil, Timestamp(b))
		if got, want := bytes.Compare(x, y) < 0, a < b; got != want {
			t.Errorf("%d before %d: got %v, want %v", a, b, got, want)
		}
		if got := ReadTimestamp(x); got != Timestamp(a) {
			t.Errorf("got %d, want %d", got, a)
		}
	})
}

func TestBounds(t *testing.T) {
	// What Beam's SDKs say: BoundedWindow.TIMESTAMP_MIN/MAX_VALUE and GlobalWindow.maxTimestamp.
	for name, c := range map[string]struct{ got, want Timestamp }{
		"min":                {MinTimestamp, -9223372036854775},
		"max":                {MaxTimestamp, 9223372036854775},
		"global":             {Global.MaxTimestamp(), 9223371950454775},
		"interval":           {Window{Start: 0, End: 10}.MaxTimestamp(), 9},
		"add past the end":   {MaxTimestamp - 1, MaxTimestamp - 1},
		"add":                {Timestamp(5).Add(1500 * time.Microsecond), 6},
		"the end absorbs":    {MaxTimestamp.Add(-time.Hour), MaxTimestamp},
		"the start absorbs":  {MinTimestamp.Add(time.Hour), MinTimestamp},
		"clamped":            {Clamp(math.MaxInt64), MaxTimestamp},
		"add beyond the end": {EndOfGlobalWindow.Add(48 * time.Hour), MaxTimestamp},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %d, want %d", name, int64(c.got), int64(c.want))
		}
	}
}
