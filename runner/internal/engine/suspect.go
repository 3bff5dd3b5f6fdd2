// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"encoding/binary"
	"fmt"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// accused is a piece of work of a bundle: what of a key group was in it, or a chunk of a stage
// without keys.
type accused struct {
	*suspect
	stage   *stage
	group   bundle.KeyGroup
	row     []byte   // Where the table has what is known of it.
	entries []*entry // The chunks; none if timers have fired.
	first   int      // As in OrderInput.
}

// elements returns the number of elements, if they are of one chunk and so can be divided.
func (a *accused) elements() int {
	switch {
	case len(a.entries) != 1:
		return 0
	case a.first > 0:
		return a.first
	}
	return a.entries[0].count
}

// canBeSetAside tells whether nothing is lost when an element leaves the pipeline: a restriction is the
// rest of a source, and a group that only names its values would be kept without them.
func (a *accused) canBeSetAside() bool {
	return a.stage.Kind == plan.User && !a.stage.Splittable && a.entries[0].kept == 0
}

// accused calls visit for every piece of work of a bundle.
func (e *Engine) accused(b *inflight, visit func(a accused)) {
	s := e.stages[b.order.Stage]
	for i, in := range b.order.Inputs {
		if s.Keyed() {
			visit(accused{&s.groups[in.Group].suspect, s, in.Group, groupKey(tableAttempts, s.ID, in.Group), b.taken[i], in.First})
			continue
		}
		for j, chunk := range b.taken[i] {
			visit(accused{&chunk.suspect, s, in.Group, chunkAttemptsKey(s.ID, chunk.seq), b.taken[i][j : j+1], in.First})
		}
	}
}

// failBundle gives the inputs of a bundle back. What was in it is retried, each piece alone, after a
// growing delay.
func (e *Engine) failBundle(tx kv.Tx, m BundleFailed) {
	b, ok := e.running[m.ID]
	if !ok {
		return
	}
	e.release(b)
	e.accused(b, func(a accused) {
		if !a.stage.Keyed() && a.attempts == 0 {
			a.stage.suspects++
		}
		e.blame(tx, a, m.Err)
	})
}

// blame counts a failed attempt. A piece of several elements that fails a second time is halved. One
// element, or timers, that fail for the last time are at fault.
func (e *Engine) blame(tx kv.Tx, a accused, reason string) {
	n := a.elements()
	a.attempts++
	if e.stream == nil { // The clock of a TestStream does not move by itself.
		a.retryAt = e.clock.Add(e.opt.RetryDelay << (a.attempts - 1))
	}
	switch last := a.attempts >= e.opt.Attempts; {
	case last && n == 1 && e.opt.SetAside && a.canBeSetAside():
		e.setAside(tx, a, reason)
		return
	case last && (n <= 1 || e.opt.Attempts == 1):
		if e.state == Running {
			e.end(tx, Failed, reason)
		}
	case n > 1 && a.attempts > 1:
		a.attempts, a.piece = 1, (n+1)/2
	}
	e.saveSuspect(tx, a)
}

func (e *Engine) saveSuspect(tx kv.Tx, a accused) {
	row := binary.AppendUvarint(nil, uint64(a.attempts))
	tx.Set(a.row, binary.AppendUvarint(row, uint64(a.piece)))
}

// acquit is told that a piece of work has succeeded. If it was a part of a chunk, the next one may be
// twice as large, until that is all that is left.
func (e *Engine) acquit(tx kv.Tx, a accused) {
	if a.attempts == 0 {
		return
	}
	if a.first > 0 && 2*a.first < a.entries[0].count {
		a.attempts, a.piece, a.retryAt = 1, 2*a.first, event.MinTimestamp
		e.saveSuspect(tx, a)
		return
	}
	if !a.stage.Keyed() {
		a.stage.suspects--
	}
	*a.suspect = innocent
	tx.Delete(a.row)
}

// setAside takes the element at fault, which is the first of its chunk, out of the pipeline, and keeps
// it with the reason.
func (e *Engine) setAside(tx kv.Tx, a accused, reason string) {
	s, in := a.stage, a.entries[0]
	var element []byte
	if a.first > 0 {
		element = e.behead(tx, s, a.group, in, a.first)
	} else {
		row, _ := tx.Get(mailboxKey(s.ID, a.group, in.seq))
		element = row[min(len(row), entryLen+in.kept):]
		e.remove(tx, s, a.group, in)
	}
	s.counts.In++
	s.counts.Dead++
	e.saveCounts(tx, s)
	tx.Set(deadKey(s.ID, a.group, s.counts.Dead), append(appendBytes(nil, []byte(reason)), element...))
	e.acquit(tx, a)
}

// behead takes the first elements off a chunk, which stays where it is, and returns them.
func (e *Engine) behead(tx kv.Tx, s *stage, g bundle.KeyGroup, in *entry, n int) []byte {
	key := mailboxKey(s.ID, g, in.seq)
	row, ok := tx.Get(key)
	if !ok {
		return nil // The read failed, and with it the transaction will.
	}
	head := entryLen + in.kept
	size, err := sizeOf(s.Stage, row[head:], n)
	if err != nil {
		panic(fmt.Sprintf("engine: mailbox row %x: %v", key, err)) // It was cut before, to be run.
	}
	in.count, in.size = in.count-n, in.size-size
	s.elements, s.bytes = s.elements-n, s.bytes-size
	rest := appendEntry(make([]byte, 0, len(row)-size), in)
	rest = append(append(rest, row[entryLen:head]...), row[head+size:]...)
	tx.Set(key, rest)
	return row[head : head+size]
}

// sizeOf returns the size of the first n elements of a chunk.
func sizeOf(s *plan.Stage, chunk []byte, n int) (size int, err error) {
	element, err := coder.Compile(s.Element)
	if err != nil {
		return 0, err
	}
	windowed, h := coder.Windowed{Global: s.Windowing.Global()}, coder.Header{}
	for ; n > 0; n-- {
		header, err := windowed.ReadHeader(chunk[size:], &h)
		if err != nil {
			return 0, err
		}
		size += header
		value, err := element(chunk[size:])
		if err != nil {
			return 0, err
		}
		size += value
	}
	return size, nil
}

// Dead is an element that was set aside.
type Dead struct {
	Stage   plan.StageID
	Reason  string
	Element []byte // Encoded, with its header.
}

func deadKey(s plan.StageID, g bundle.KeyGroup, n int64) []byte {
	return binary.BigEndian.AppendUint64(groupKey(tableDead, s, g), uint64(n))
}

// ReadDead visits the elements of the job that were set aside.
func ReadDead(view kv.View, visit func(d Dead) bool) error {
	var failed error
	view.Scan([]byte{tableDead}, []byte{tableDead + 1}, func(key, value []byte) bool {
		r := reader{b: value}
		d := Dead{Reason: string(r.bytes())}
		if r.err != nil || len(key) < groupKeyLen {
			failed = fmt.Errorf("the row %x of an element that was set aside is malformed", key)
			return false
		}
		d.Stage = plan.StageID(binary.BigEndian.Uint16(key[1:]))
		d.Element = append([]byte(nil), r.b...)
		return visit(d)
	})
	if failed != nil {
		return failed
	}
	return view.Err()
}

func chunkAttemptsKey(s plan.StageID, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(groupKey(tableAttempts, s, 0), seq)
}
