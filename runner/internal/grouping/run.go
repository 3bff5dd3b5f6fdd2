// SPDX-License-Identifier: Apache-2.0

package grouping

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/grouping/trigger"
	"github.com/hornbeam-dev/hornbeam/runner/internal/grouping/window"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// run collects the elements that one bundle adds to a window that has not fired. In the table it
// is one row: for each key the key, its values in one piece, or where they are if there are many, and
// what is known of their timestamps.
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
	spills      []spill
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

// The levels of run rows. Bundles write fresh ones; now and then these are put together.
const (
	freshRun = iota
	mergedRun
)

// mergesRuns tells whether a bundle puts the fresh runs of its windows together. Its number decides,
// well mixed because the bundles of one stage may all have odd ones. So a window that gets little
// from each of very many bundles has few rows, and a key of it few pieces.
func (g *Grouper) mergesRuns(id bundle.ID) bool {
	return id.N*0x9e3779b97f4a7c15>>32%uint64(g.options.Merge) == 0
}

// encode writes the run as the value of a row: one pass for the sizes, one for the values. If spills,
// values of keys that have many go to rows of their own.
func (p *pass) encode(r *run, spills bool) []byte {
	size, ends := 1, make([]int, len(r.groups))
	large := map[int32][]byte{}
	for i := range r.groups {
		g := &r.groups[i]
		size += len(g.key) + 4*binary.MaxVarintLen64
		if spills && g.size > p.g.options.Spill {
			large[int32(i)] = make([]byte, 0, g.size)
		} else {
			size += g.size
		}
	}
	if len(large) > 0 {
		for _, it := range r.items {
			if values, ok := large[it.group]; ok {
				large[it.group] = append(values, it.value...)
			}
		}
	}
	b := append(make([]byte, 0, size), freshRun)
	for i := range r.groups {
		g := &r.groups[i]
		inline := g.size
		if values, ok := large[int32(i)]; ok {
			g.spills, inline = []spill{p.newSpill()}, 0
			p.extend(g.key, &g.spills[0], values, g.count)
		}
		b = r.combine.appendGroup(b, g, inline)
		ends[i] = len(b)
		b = b[:len(b)+inline]
	}
	for _, it := range r.items {
		if r.groups[it.group].spills == nil {
			ends[it.group] += copy(b[ends[it.group]:], it.value)
		}
	}
	return b
}

// appendGroup appends what a run row has of a key but its inline values, which follow. The lowest
// bit of the key's length tells whether there are spilled ones.
func (c combiner) appendGroup(b []byte, g *group, inline int) []byte {
	flag := uint64(0)
	if len(g.spills) > 0 {
		flag = 1
	}
	b = binary.AppendUvarint(b, uint64(len(g.key))<<1|flag)
	b = append(b, g.key...)
	if c.output != plan.EndOfWindow {
		b = appendStamp(b, g.held)
	}
	b = binary.AppendUvarint(b, uint64(g.count))
	if flag == 1 {
		b = binary.AppendUvarint(b, uint64(g.size-inline))
		b = appendSpills(b, g.spills)
	}
	return binary.AppendUvarint(b, uint64(inline))
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
	row := p.encode(state.run, true)
	if p.g.mergesRuns(p.at.Bundle) {
		row = p.mergeRuns(state.window, row)
	}
	p.set(p.runName(state.window), row)

	hold, changed := p.runHold(state)
	if !changed || window.Ended(state.window, p.at.Watermark) {
		return // The timer of an ended window is there, or its runs would not be.
	}
	p.setTimer(bundle.Timer{
		Tag: tagWindow, Window: p.g.windowed.AppendWindow(nil, state.window),
		Domain: plan.EventTime, Due: window.EndDue(state.window), Hold: hold,
	})
}

// runName is the name of this bundle's run. The runs of a window are ordered from new to old.
func (p *pass) runName(w event.Window) []byte {
	name := p.g.appendName(nil, tableRun, w)
	name = binary.BigEndian.AppendUint64(name, ^p.at.Bundle.Epoch)
	return binary.BigEndian.AppendUint64(name, ^p.at.Bundle.N)
}

// mergeRuns puts the fresh runs of a window and the row that the bundle adds together. Old rows, which
// were merged once, are left: merging the small keys in them again would cost without end.
func (p *pass) mergeRuns(w event.Window, newest []byte) []byte {
	rows := []string{string(newest)}
	from := p.g.appendName(nil, tableRun, w)
	p.view.Scan(from, kv.PrefixEnd(from), func(key, value []byte) bool {
		if len(value) == 0 || value[0] != freshRun {
			return false
		}
		rows = append(rows, string(value))
		p.delete(append([]byte(nil), key...))
		return true
	})
	if len(rows) == 1 {
		return newest
	}
	ps := p.assemble(w, rows)
	b := append(make([]byte, 0, ps.size+48*len(ps.groups)), mergedRun)
	for i := range ps.groups {
		g := &ps.groups[i]
		inline := ps.inline(g)
		if inline > p.g.options.Spill {
			values := make([]byte, 0, inline)
			ps.each(g, func(piece string) { values = append(values, piece...) })
			s := p.newSpill()
			p.extend(g.key, &s, values, g.count-spilled(g.spills))
			g.spills, g.first, inline = append(g.spills, s), -1, 0
		}
		b = ps.combine.appendGroup(b, g, inline)
		ps.each(g, func(piece string) { b = append(b, piece...) })
	}
	return b
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

// read adds a row that encode or mergeRuns wrote.
func (ps *pieces) read(row string) {
	if len(row) == 0 || row[0] > mergedRun {
		ps.err = errShortRow
		return
	}
	for value := row[1:]; len(value) > 0 && ps.err == nil; {
		n := ps.number(&value)
		key := ps.take(&value, n>>1)
		var held stamp
		if ps.combine.output != plan.EndOfWindow {
			if held.set = ps.number(&value) != 0; held.set {
				v := ps.number(&value)
				held.at = event.Timestamp(int64(v>>1) ^ -int64(v&1))
			}
		}
		count, size := int64(ps.number(&value)), 0
		var spills []spill
		if n&1 == 1 {
			size = int(ps.number(&value))
			r := reader{b: []byte(value)}
			spills = readSpills(&r)
			value, ps.err = value[len(value)-len(r.b):], r.err
		}
		values := ps.take(&value, ps.number(&value))
		g := ps.group(key)
		g.count += count
		g.size += size + len(values)
		g.spills = append(g.spills, spills...)
		if held.set {
			ps.combine.add(&g.held, held.at)
		}
		ps.add(g, values)
	}
}

func (ps *pieces) group(key string) *group {
	i, ok := ps.index[key]
	if !ok {
		i = int32(len(ps.groups))
		ps.index[key] = i
		ps.groups = append(ps.groups, group{key: key, first: -1})
	}
	return &ps.groups[i]
}

func (ps *pieces) add(g *group, values string) {
	if values == "" {
		return
	}
	at := int32(len(ps.list))
	if g.first < 0 {
		g.first = at
	} else {
		ps.list[g.last].next = at
	}
	g.last = at
	ps.list = append(ps.list, piece{values: values, next: -1})
	ps.size += len(values)
}

// inline returns the size of the values of a group that are not spilled.
func (ps *pieces) inline(g *group) (size int) {
	ps.each(g, func(values string) { size += len(values) })
	return size
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

func (ps *pieces) take(value *string, n uint64) string {
	if n > uint64(len(*value)) {
		*value, ps.err = "", errShortRow
		return ""
	}
	s := (*value)[:n]
	*value = (*value)[n:]
	return s
}

// each calls visit with the inline values of a group, piece by piece.
func (ps *pieces) each(g *group, visit func(values string)) {
	for i := g.first; i >= 0; i = ps.list[i].next {
		visit(ps.list[i].values)
	}
}

// assemble puts rows of a window together, which are ordered from new to old.
func (p *pass) assemble(w event.Window, rows []string) *pieces {
	ps := &pieces{combine: p.g.combine(), index: map[string]int32{}}
	for _, row := range slices.Backward(rows) {
		ps.read(row)
	}
	if ps.err != nil {
		p.fail(fmt.Errorf("grouping: runs of window %v: %w", w, ps.err))
	}
	return ps
}

// collect takes the runs of a window, those of the table and this bundle's, and removes them.
func (p *pass) collect(state *windowState) *pieces {
	var rows []string
	if state.run != nil && len(state.run.groups) > 0 {
		rows = append(rows, string(p.encode(state.run, false)))
		state.run.index, state.run.groups, state.run.items = map[string]int32{}, nil, nil
	}
	from := p.g.appendName(nil, tableRun, state.window)
	p.view.Scan(from, kv.PrefixEnd(from), func(key, value []byte) bool {
		rows = append(rows, string(value))
		p.delete(append([]byte(nil), key...))
		return true
	})
	ps := p.assemble(state.window, rows)
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
	drops := last || closed || !s.Accumulating
	for i := range ps.groups {
		g := &ps.groups[i]
		c := cell{window: w, held: g.held}
		h := head{
			key: g.key, timestamp: c.timestamp(s.Output), window: w, pane: pane,
			count: g.count, size: g.size, spills: g.spills,
		}
		kept := p.give(h, drops, func(b []byte) []byte {
			ps.each(g, func(values string) { b = append(b, values...) })
			return b
		})
		if drops && !kept {
			p.unspill(g.key, g.spills)
		}
		if !last {
			p.rowAfterEnd(ps, g, cell{window: w, trigger: append(trigger.State(nil), after...), pane: pane}, closed)
		}
	}
}

// rowAfterEnd makes the row of a key whose on-time pane has fired.
func (p *pass) rowAfterEnd(ps *pieces, g *group, c cell, closed bool) {
	// A row cannot exist already: while there are runs, elements go there.
	r := p.newRow(string(p.g.appendRowName(nil, g.key, c.window)), g.key, c.window)
	if closed {
		r.closed = append(r.closed, c.window)
		return
	}
	c.fired, c.ended = true, true
	if p.g.windowing.Accumulating {
		c.count, c.size, c.spills = g.count, g.size, g.spills
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
	for _, r := range p.window(w).rows {
		p.tick(r)
	}
}
