// SPDX-License-Identifier: Apache-2.0

package grouping

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/grouping/trigger"
	"github.com/hornbeam-dev/hornbeam/runner/internal/grouping/window"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// run collects the elements that one bundle adds to a window that has not fired. In the table it
// is one row: for each key the key, its values in one piece, and what is known of their timestamps.
type run struct {
	combine combiner
	index   map[string]int32 // From key to its place in groups.
	groups  []group
	items   []item
}

// group is what a run, or all runs of a window, have of a key.
type group struct {
	key         string
	count       int64
	size        int // Of the values.
	held        stamp
	first, last int32 // In groups: the pieces that hold the values.
}

type item struct {
	group int32
	value string
}

func (r *run) add(e element) {
	i, ok := r.index[e.key]
	if !ok {
		i = int32(len(r.groups))
		r.groups = append(r.groups, group{key: e.key})
		r.index[e.key] = i
	}
	g := &r.groups[i]
	g.count++
	g.size += len(e.value)
	r.items = append(r.items, item{group: i, value: e.value})
}

// stamp combines an element's timestamp into that of its pane; add must have been called.
func (r *run) stamp(at event.Timestamp) {
	r.combine.add(&r.groups[r.items[len(r.items)-1].group].held, at)
}

// encode writes the run as the value of a row: one pass for the sizes, one for the values.
func (r *run) encode() []byte {
	size, ends := 0, make([]int, len(r.groups))
	for i := range r.groups {
		size += len(r.groups[i].key) + r.groups[i].size + 3*binary.MaxVarintLen64
	}
	b := make([]byte, 0, size)
	for i := range r.groups {
		g := &r.groups[i]
		b = binary.AppendUvarint(b, uint64(len(g.key)))
		b = append(b, g.key...)
		if r.combine.output != plan.EndOfWindow {
			b = appendStamp(b, g.held)
		}
		b = binary.AppendUvarint(b, uint64(g.count))
		b = binary.AppendUvarint(b, uint64(g.size))
		ends[i] = len(b)
		b = b[:len(b)+g.size]
	}
	for _, it := range r.items {
		ends[it.group] += copy(b[ends[it.group]:], it.value)
	}
	return b
}

func appendStamp(b []byte, s stamp) []byte {
	if !s.set {
		return append(b, 0)
	}
	return binary.AppendVarint(append(b, 1), int64(s.at))
}

// finishRun writes what the bundle added to a window, and sets the window's timer.
func (p *pass) finishRun(state *windowState) {
	if state.run == nil || len(state.run.groups) == 0 {
		return
	}
	name := p.g.appendName(nil, tableRun, state.window)
	name = binary.BigEndian.AppendUint64(name, p.at.Bundle.Epoch)
	p.set(binary.BigEndian.AppendUint64(name, p.at.Bundle.N), state.run.encode())

	hold, changed := p.runHold(state)
	if !changed || window.Ended(state.window, p.at.Watermark) {
		return // The timer of an ended window is there, or its runs would not be.
	}
	p.setTimer(bundle.Timer{
		Tag: tagWindow, Window: p.g.windowed.AppendWindow(nil, state.window),
		Domain: plan.EventTime, Due: window.EndDue(state.window), Hold: hold,
	})
}

// runHold returns where the window has to be held. Nobody knows the timestamp of a pane before the
// keys are put together, so the earliest element of all stands for it. The timer does not need to
// be set if it has not changed; without reading a row that is not known.
func (p *pass) runHold(state *windowState) (hold event.Timestamp, changed bool) {
	hold = state.window.MaxTimestamp()
	if p.g.windowing.Output == plan.EndOfWindow {
		return hold, true
	}
	for i := range state.run.groups {
		if held := state.run.groups[i].held; held.set {
			hold = min(hold, held.at)
		}
	}
	name := p.g.appendName(nil, tableHold, state.window)
	if value, ok := p.view.Get(name); ok {
		r := reader{b: value}
		old := event.Timestamp(r.varint())
		if r.err != nil {
			p.fail(fmt.Errorf("grouping: hold %x: %w", name, r.err))
		}
		if old <= hold {
			return old, false
		}
	}
	p.set(name, binary.AppendVarint(nil, int64(hold)))
	return hold, true
}

func (p *pass) hasRuns(w event.Window) (found bool) {
	from := p.g.appendName(nil, tableRun, w)
	p.view.Scan(from, kv.PrefixEnd(from), func(_, _ []byte) bool {
		found = true
		return false
	})
	return found
}

// windowTimer fires the runs of a window that has ended, and clears it when it is gone.
func (p *pass) windowTimer(w event.Window) {
	state := p.window(w)
	if window.Ended(w, p.at.Watermark) {
		p.fireRuns(state)
	}
	if p.g.more && window.Gone(&p.g.windowing, w, p.at.Watermark) {
		p.clearRows(w)
	}
}

// pieces is what the runs of a window have, by key, in the order in which the keys first came.
type pieces struct {
	combine combiner
	index   map[string]int32
	groups  []group
	list    []piece
	size    int
	err     error
}

type piece struct {
	values string
	next   int32 // The key's next piece, or -1.
}

// read adds a row that run.encode wrote.
func (ps *pieces) read(value string) {
	for len(value) > 0 && ps.err == nil {
		key := ps.bytes(&value)
		var held stamp
		if ps.combine.output != plan.EndOfWindow {
			if held.set = ps.number(&value) != 0; held.set {
				v := ps.number(&value)
				held.at = event.Timestamp(int64(v>>1) ^ -int64(v&1))
			}
		}
		count := int64(ps.number(&value))
		values := ps.bytes(&value)
		i, ok := ps.index[key]
		if !ok {
			i = int32(len(ps.groups))
			ps.index[key] = i
			ps.groups = append(ps.groups, group{key: key, first: int32(len(ps.list))})
		} else {
			ps.list[ps.groups[i].last].next = int32(len(ps.list))
		}
		g := &ps.groups[i]
		g.last = int32(len(ps.list))
		ps.list = append(ps.list, piece{values: values, next: -1})
		g.count += count
		g.size += len(values)
		if held.set {
			ps.combine.add(&g.held, held.at)
		}
		ps.size += len(values)
	}
}

func (ps *pieces) number(value *string) uint64 {
	var v uint64
	for i := 0; i < len(*value) && i < binary.MaxVarintLen64; i++ {
		c := (*value)[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			*value = (*value)[i+1:]
			return v
		}
	}
	*value, ps.err = "", errShortRow
	return 0
}

func (ps *pieces) bytes(value *string) string {
	n := ps.number(value)
	if n > uint64(len(*value)) {
		*value, ps.err = "", errShortRow
		return ""
	}
	s := (*value)[:n]
	*value = (*value)[n:]
	return s
}

// each calls visit with the values of a group, piece by piece.
func (ps *pieces) each(g *group, visit func(values string)) {
	for i := g.first; i >= 0; i = ps.list[i].next {
		visit(ps.list[i].values)
	}
}

// collect takes the runs of a window, those of the table and this bundle's, and removes them.
func (p *pass) collect(state *windowState) *pieces {
	ps := &pieces{combine: p.g.combine(), index: map[string]int32{}}
	from := p.g.appendName(nil, tableRun, state.window)
	p.view.Scan(from, kv.PrefixEnd(from), func(key, value []byte) bool {
		ps.read(string(value))
		p.delete(append([]byte(nil), key...))
		return ps.err == nil
	})
	if state.run != nil && len(state.run.groups) > 0 {
		ps.read(string(state.run.encode()))
		state.run.index, state.run.groups, state.run.items = map[string]int32{}, nil, nil
	}
	if ps.err != nil {
		p.fail(fmt.Errorf("grouping: runs of window %v: %w", state.window, ps.err))
	}
	if p.g.windowing.Output != plan.EndOfWindow && len(ps.groups) > 0 {
		name := p.g.appendName(nil, tableHold, state.window)
		if _, ok := p.view.Get(name); ok {
			p.delete(name)
		}
	}
	return ps
}

// fireRuns gives out the on-time panes of a window. If more can come for it, its keys get rows of
// their own from now on.
func (p *pass) fireRuns(state *windowState) {
	ps := p.collect(state)
	state.buffering = false
	w, s := state.window, &p.g.windowing
	last := !p.g.more
	after := p.g.trigger.Start()
	closed := false
	if !last {
		p.g.trigger.Fire(after, trigger.At{Now: p.at.Now, Ended: true})
		closed = p.g.trigger.Closed(after)
	}
	pane := event.Pane{First: true, Last: last || closed, Timing: event.OnTime}
	p.emit.expected = ps.size + 48*len(ps.groups)
	for i := range ps.groups {
		g := &ps.groups[i]
		c := cell{window: w, held: g.held}
		out, err := p.emit.begin(head{
			key: g.key, timestamp: c.timestamp(s.Output), window: w, pane: pane, count: g.count, size: g.size,
		})
		if err != nil {
			p.fail(err)
			return
		}
		for j := g.first; j >= 0; j = ps.list[j].next {
			out.Bytes = append(out.Bytes, ps.list[j].values...)
		}
		if !last {
			p.rowAfterEnd(ps, g, cell{window: w, trigger: append(trigger.State(nil), after...), pane: pane}, closed)
		}
	}
}

// rowAfterEnd makes the row of a key whose on-time pane has fired.
func (p *pass) rowAfterEnd(ps *pieces, g *group, c cell, closed bool) {
	// A row cannot exist already: while there are runs, elements go there. The key must not keep
	// the memory of the whole run.
	key := strings.Clone(g.key)
	r := p.newRow(string(p.g.appendRowName(nil, key, c.window)), key, c.window)
	if closed {
		r.closed = append(r.closed, c.window)
		return
	}
	c.fired, c.ended = true, true
	if p.g.windowing.Accumulating {
		c.count, c.size = g.count, g.size
		ps.each(g, func(values string) { c.values = append(c.values, values...) })
	}
	r.cells = append(r.cells, &c)
}

// clearRows ends all rows of a window that is gone, those with a last pane by giving it out.
func (p *pass) clearRows(w event.Window) {
	from := p.g.appendName(nil, tableKey, w)
	var keys []string
	p.view.Scan(from, kv.PrefixEnd(from), func(key, _ []byte) bool {
		keys = append(keys, string(key[len(from):]))
		return true
	})
	for _, key := range keys {
		p.row(key, w)
	}
	for _, r := range p.order {
		if r.window == w {
			p.tick(r)
		}
	}
}
