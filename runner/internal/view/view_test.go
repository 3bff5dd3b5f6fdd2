// SPDX-License-Identifier: Apache-2.0

package view_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/urn"
	"github.com/hornbeam-dev/hornbeam/runner/internal/view"
)

var (
	text   = coder.Coder{URN: urn.CoderString}
	pair   = coder.Coder{URN: urn.CoderKV, Parts: []coder.Coder{text, text}}
	fixed  = plan.WindowingStrategy{Fn: plan.WindowFn{Kind: plan.FixedWindows}}
	first  = event.Window{Start: 0, End: 10}
	second = event.Window{Start: 10, End: 20}
)

func lp(s string) string { return string(rune(len(s))) + s }

func element(value string, windows ...event.Window) []byte {
	w := coder.Windowed{Global: windows[0].IsGlobal()}
	return append(w.AppendHeader(nil, coder.Header{Timestamp: 5, Windows: windows, Pane: event.NoFiring}), value...)
}

// commit runs a bundle of the elements and adds its rows to the table.
func commit(t *testing.T, table *kv.Mem, s *plan.Stage, n uint64, watermark event.Timestamp, elements ...[]byte) bundle.Counts {
	t.Helper()
	work := bundle.Work{ID: bundle.ID{Epoch: 1, N: n}, Watermark: watermark, Inputs: []bundle.Input{{}}}
	for _, e := range elements {
		work.Inputs[0].Chunks = append(work.Inputs[0].Chunks, bundle.Chunk{Count: 1, Bytes: e})
	}
	result, err := view.Run(s, work)
	if err != nil {
		t.Fatal(err)
	}
	tx := table.Begin()
	for _, g := range result.State {
		for _, w := range g.Writes {
			tx.Set(w.Key, w.Value)
		}
	}
	if _, err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	return result.Counts
}

func read(t *testing.T, table *kv.Mem, window event.Window, key string) string {
	t.Helper()
	v := table.View()
	defer v.Close()
	got, err := view.Read(v, coder.Windowed{Global: window.IsGlobal()}.AppendWindow(nil, window), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestIterable(t *testing.T) {
	s := &plan.Stage{Kind: plan.View, Element: pair, Windowing: fixed}
	table := kv.NewMem()
	a, b, c := lp("a")+lp("1"), lp("b")+lp("2"), lp("c")+lp("3")
	commit(t, table, s, 1, event.MinTimestamp, element(a, first), element(b, first, second))
	commit(t, table, s, 2, event.MinTimestamp, element(c, second))
	for _, test := range []struct {
		window event.Window
		want   string
	}{
		{first, a + b},
		{second, b + c},
		{event.Window{Start: 5, End: 10}, ""},
	} {
		if got := read(t, table, test.window, ""); got != test.want {
			t.Errorf("window %v: got %q, want %q", test.window, got, test.want)
		}
	}
}

func TestMultimap(t *testing.T) {
	s := &plan.Stage{Kind: plan.View, Element: pair, Access: plan.Multimap}
	table := kv.NewMem()
	commit(t, table, s, 1, event.MinTimestamp, element(lp("a")+lp("1"), event.Global), element(lp("aa")+lp("2"), event.Global))
	commit(t, table, s, 2, event.MinTimestamp, element(lp("a")+lp("3"), event.Global))
	if got, want := read(t, table, event.Global, lp("a")), lp("1")+lp("3"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	v := table.View()
	defer v.Close()
	keys, err := view.Keys(v, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{lp("a"), lp("aa")}, strings.Fields(fmt.Sprintf("%s %s", keys[0], keys[1]))); diff != "" || len(keys) != 2 {
		t.Errorf("keys (-want +got): %s", diff)
	}
}

func TestLate(t *testing.T) {
	s := &plan.Stage{Kind: plan.View, Element: text, Windowing: fixed}
	table := kv.NewMem()
	for i, watermark := range []event.Timestamp{8, 9, 10} {
		counts := commit(t, table, s, uint64(i), watermark, element(lp("x"), first), element(lp("y"), first, second))
		wantLate := int64(0)
		if watermark == 10 {
			wantLate = 1
		}
		if counts.Late != wantLate || counts.In != 2 {
			t.Errorf("watermark %v: counts %+v, want %d late of 2", watermark, counts, wantLate)
		}
	}
	if got, want := read(t, table, first, ""), strings.Repeat(lp("x")+lp("y"), 2); got != want {
		t.Errorf("first window: got %q, want %q", got, want)
	}
	if got, want := read(t, table, second, ""), strings.Repeat(lp("y"), 3); got != want {
		t.Errorf("second window: got %q, want %q", got, want)
	}
}

func TestCutShort(t *testing.T) {
	s := &plan.Stage{Name: "numbers", Kind: plan.View, Element: text}
	whole := element(lp("abc"), event.Global)
	for n := 1; n < len(whole); n++ {
		work := bundle.Work{Inputs: []bundle.Input{{Chunks: []bundle.Chunk{{Count: 1, Bytes: whole[:n]}}}}}
		if _, err := view.Run(s, work); err == nil {
			t.Errorf("an element cut after %d bytes was taken", n)
		}
	}
}
