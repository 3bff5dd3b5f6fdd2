// SPDX-License-Identifier: Apache-2.0

package userstate_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/userstate"
)

var kinds = map[string]plan.StateKind{
	"value": plan.Value, "bag": plan.Bag, "map": plan.Map, "list": plan.OrderedList,
}

// world is a table and the bundle that is running on it.
type world struct {
	table   *kv.Mem
	overlay *kv.Overlay
	group   *userstate.Group
	bundles uint64
}

func (w *world) begin() {
	w.bundles++
	w.overlay = kv.NewOverlay(w.table.View())
	w.group = userstate.New(w.overlay, bundle.ID{Epoch: 1, N: w.bundles})
}

// commit applies the bundle's writes and returns how many rows were set and deleted.
func (w *world) commit(t *testing.T) (set, deleted int) {
	t.Helper()
	w.group.Flush()
	tx := w.table.Begin()
	w.overlay.Writes(func(key, value []byte, del bool) {
		if del {
			deleted++
			tx.Delete(key)
		} else {
			set++
			tx.Set(key, value)
		}
	})
	if _, err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	w.overlay.Close()
	w.begin()
	return set, deleted
}

// TestSpecs runs the scripts. A bundle is always open. Commands:
//
//	do               one access a line: kind key window verb argument...
//	commit           ends the bundle and prints what it did
//	rows             prints the committed rows
//	expire key window
//	written          prints the keys and windows whose state the bundle has written
//
// Every access goes to transform t and a state named as its kind. The window - is the global one.
func TestSpecs(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := &world{table: kv.NewMem()}
		w.begin()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			switch d.Cmd {
			case "do":
				for line := range strings.Lines(d.Input) {
					w.do(t, &out, strings.Fields(line))
				}
			case "commit":
				set, deleted := w.commit(t)
				fmt.Fprintf(&out, "set %d, deleted %d\n", set, deleted)
			case "rows":
				v := w.table.View()
				defer v.Close()
				v.Scan(nil, nil, func(key, value []byte) bool {
					fmt.Fprintf(&out, "%q = %q\n", key, value)
					return true
				})
			case "expire":
				w.group.Expire([]byte(d.CmdArgs[0].Key), window(d.CmdArgs[1].Key))
			case "written":
				for _, kw := range w.group.Written() {
					fmt.Fprintf(&out, "%s %s\n", kw.Key, kw.Window)
				}
			default:
				t.Fatalf("unknown command %q", d.Cmd)
			}
			return out.String()
		})
	})
}

func window(s string) []byte {
	if s == "-" {
		return nil
	}
	return []byte(s)
}

func (w *world) do(t *testing.T, out *strings.Builder, f []string) {
	t.Helper()
	c := w.group.Open(kinds[f[0]], userstate.Address{
		Key: []byte(f[1]), Window: window(f[2]), Transform: "t", ID: f[0],
	})
	arg := func(i int) string {
		if len(f) <= i {
			t.Fatalf("%v: too few words", f)
		}
		return f[i]
	}
	number := func(i int) int64 {
		n, err := strconv.ParseInt(arg(i), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	switch f[3] {
	case "read":
		fmt.Fprintf(out, "%s\n", c.Read())
	case "append":
		c.Append([]byte(arg(4)))
	case "clear":
		c.Clear()
	case "get":
		fmt.Fprintf(out, "%s\n", c.ReadMap([]byte(arg(4))))
	case "put":
		c.ClearMapKey([]byte(arg(4)))
		c.AppendMap([]byte(arg(4)), []byte(arg(5)))
	case "add":
		c.AppendMap([]byte(arg(4)), []byte(arg(5)))
	case "remove":
		c.ClearMapKey([]byte(arg(4)))
	case "keys":
		fmt.Fprintf(out, "%s\n", c.MapKeys())
	case "empty":
		c.ClearMap()
	case "insert":
		if err := c.InsertList(append(binary.AppendUvarint(nil, uint64(number(4))), arg(5)...)); err != nil {
			t.Fatal(err)
		}
	case "range":
		fmt.Fprintf(out, "%s\n", entries(c.ReadList(number(4), number(5))))
	case "cut":
		c.ClearList(number(4), number(5))
	default:
		t.Fatalf("unknown access %v", f)
	}
}

// entries prints an ordered list whose values are one byte each.
func entries(b []byte) string {
	var all []string
	for len(b) > 0 {
		sortKey, n := binary.Uvarint(b)
		all = append(all, fmt.Sprintf("%d:%c", int64(sortKey), b[n]))
		b = b[n+1:]
	}
	return strings.Join(all, " ")
}

// TestBagGrowsInRows shows that appending cuts rows and that reading many rows makes them one.
func TestBagGrowsInRows(t *testing.T) {
	w := &world{table: kv.NewMem()}
	w.begin()
	open := func() *userstate.Cell {
		return w.group.Open(plan.Bag, userstate.Address{Key: []byte("k"), Transform: "t", ID: "b"})
	}
	var want []byte
	for i := range 100 {
		p := bytes.Repeat([]byte{byte(i)}, 1000)
		want = append(want, p...)
		open().Append(p)
		if i%2 == 1 {
			if set, _ := w.commit(t); set != 1 {
				t.Fatalf("a bundle that appended twice set %d rows, want 1", set)
			}
		}
	}
	if got := open().Read(); !bytes.Equal(got, want) {
		t.Fatalf("read %d bytes, want %d", len(got), len(want))
	}
	if set, deleted := w.commit(t); set != 1 || deleted != 49 {
		t.Errorf("reading 50 rows set %d and deleted %d, want 1 and 49", set, deleted)
	}
	open().Append([]byte("end"))
	if got := open().Read(); !bytes.Equal(got, append(want, "end"...)) {
		t.Errorf("what was appended to a bag of one row is not at its end")
	}
}

// model is what the cells should hold, in Go maps.
type model struct {
	bytes map[string][]byte
	maps  map[string]map[string][]byte
	lists map[string][]item
}

type item struct {
	sortKey int64
	value   byte
}

func TestRandomAgainstModel(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 0))
		w := &world{table: kv.NewMem()}
		w.begin()
		m := model{map[string][]byte{}, map[string]map[string][]byte{}, map[string][]item{}}
		for step := range 400 {
			switch r.IntN(40) {
			case 0:
				w.commit(t)
			case 1:
				key, win := pick(r, "", "a", "aa"), pick(r, "", "w", "ww")
				w.group.Expire([]byte(key), []byte(win))
				m.expire(key, win)
			default:
				if diff := randomAccess(r, w.group, m); diff != "" {
					t.Fatalf("seed %d, step %d: %s", seed, step, diff)
				}
			}
		}
	}
}

func pick(r *rand.Rand, from ...string) string { return from[r.IntN(len(from))] }

func (m model) expire(key, win string) {
	prefix := key + "|" + win + "|"
	for cell := range m.bytes {
		if strings.HasPrefix(cell, prefix) {
			delete(m.bytes, cell)
		}
	}
	for cell := range m.maps {
		if strings.HasPrefix(cell, prefix) {
			delete(m.maps, cell)
		}
	}
	for cell := range m.lists {
		if strings.HasPrefix(cell, prefix) {
			delete(m.lists, cell)
		}
	}
}

func randomAccess(r *rand.Rand, g *userstate.Group, m model) string {
	key, win := pick(r, "", "a", "aa"), pick(r, "", "w", "ww")
	kind := plan.StateKind(r.IntN(4))
	a := userstate.Address{Key: []byte(key), Window: []byte(win), Transform: pick(r, "t", "tt"), ID: fmt.Sprint(kind)}
	cell := key + "|" + win + "|" + a.Transform + a.ID
	c := g.Open(kind, a)
	p := bytes.Repeat([]byte{byte('a' + r.IntN(26))}, 1+r.IntN(3))
	switch kind {
	case plan.Value, plan.Bag:
		switch r.IntN(4) {
		case 0:
			c.Clear()
			delete(m.bytes, cell)
		case 1, 2:
			c.Append(p)
			m.bytes[cell] = append(m.bytes[cell], p...)
		}
		return cmp.Diff(string(m.bytes[cell]), string(c.Read()))
	case plan.Map:
		return randomMap(r, c, m, cell, p)
	}
	return randomList(r, c, m, cell, p[0])
}

func randomMap(r *rand.Rand, c *userstate.Cell, m model, cell string, p []byte) string {
	mk := pick(r, "x", "y", "z")
	if m.maps[cell] == nil {
		m.maps[cell] = map[string][]byte{}
	}
	switch r.IntN(6) {
	case 0:
		c.ClearMap()
		clear(m.maps[cell])
	case 1:
		c.ClearMapKey([]byte(mk))
		delete(m.maps[cell], mk)
	case 2, 3:
		c.AppendMap([]byte(mk), p)
		m.maps[cell][mk] = append(m.maps[cell][mk], p...)
	}
	var keys []string
	for k := range m.maps[cell] {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return cmp.Diff(string(m.maps[cell][mk]), string(c.ReadMap([]byte(mk)))) +
		cmp.Diff(strings.Join(keys, ""), string(c.MapKeys()))
}

func randomList(r *rand.Rand, c *userstate.Cell, m model, cell string, value byte) string {
	bound := func() int64 {
		return []int64{math.MinInt64, -300, -1, 0, 1, 5, 300, math.MaxInt64}[r.IntN(8)]
	}
	start, end := bound(), bound()
	inside := func(i item) bool {
		return i.sortKey >= start && (i.sortKey < end || end == math.MaxInt64)
	}
	switch r.IntN(5) {
	case 0:
		c.ClearList(start, end)
		m.lists[cell] = slices.DeleteFunc(m.lists[cell], inside)
	case 1, 2, 3:
		n := item{bound(), value}
		if err := c.InsertList(append(binary.AppendUvarint(nil, uint64(n.sortKey)), value)); err != nil {
			return err.Error()
		}
		m.lists[cell] = append(m.lists[cell], n)
		slices.SortStableFunc(m.lists[cell], func(a, b item) int {
			switch {
			case a.sortKey < b.sortKey:
				return -1
			case a.sortKey > b.sortKey:
				return 1
			}
			return 0
		})
	}
	start, end = bound(), bound()
	var want []string
	for _, i := range m.lists[cell] {
		if inside(i) {
			want = append(want, fmt.Sprintf("%d:%c", i.sortKey, i.value))
		}
	}
	return cmp.Diff(strings.Join(want, " "), entries(c.ReadList(start, end)))
}

func BenchmarkValue(b *testing.B) {
	table := kv.NewMem()
	v := table.View()
	defer v.Close()
	keys := make([][]byte, 1000)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "\x08user%04d", i)
	}
	var o *kv.Overlay
	var g *userstate.Group
	value := []byte("\x05hello")
	for i := 0; b.Loop(); i++ {
		if i%10_000 == 0 {
			o = kv.NewOverlay(v)
			g = userstate.New(o, bundle.ID{Epoch: 1, N: 1})
		}
		a := userstate.Address{Key: keys[i%len(keys)], Transform: "e12", ID: "count"}
		g.Open(plan.Value, a).Read()
		g.Open(plan.Value, a).Clear()
		g.Open(plan.Value, a).Append(value)
	}
	b.ReportAllocs()
}
