// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
)

// load rebuilds the indexes from the table.
func (e *Engine) load(view kv.View) error {
	var err error
	if e.state, e.reason, err = ReadState(view); err != nil {
		return err
	}
	if row, ok := view.Get(jobKey("clock")); ok && len(row) == 8 {
		e.clock = event.ReadTimestamp(row)
	}
	for _, s := range e.stages {
		if err := e.loadStage(view, s); err != nil {
			return fmt.Errorf("stage %d, %s: %w", s.ID, s.Name, err)
		}
	}
	if e.stream != nil {
		e.stream.load(view)
	}
	if err := e.loadMetrics(view); err != nil {
		return err
	}
	return view.Err()
}

func (e *Engine) loadStage(view kv.View, s *stage) error {
	if row, ok := view.Get(stageKey(tableFloor, s.ID)); ok {
		r := reader{b: row}
		s.in, s.out = r.timestamp(), r.timestamp()
		if r.err != nil {
			return r.err
		}
		s.saved = [2]event.Timestamp{s.in, s.out}
	}
	if row, ok := view.Get(stageKey(tableCounts, s.ID)); ok {
		if err := s.readCounts(row); err != nil {
			return err
		}
	}
	each := func(table byte, visit func(g bundle.KeyGroup, key, value []byte) error) error {
		var failed error
		prefix := stageKey(table, s.ID)
		view.Scan(prefix, kv.PrefixEnd(prefix), func(key, value []byte) bool {
			g := bundle.KeyGroup(binary.BigEndian.Uint16(key[len(prefix):]))
			if int(g) >= len(s.groups) {
				failed = fmt.Errorf("key group %d of %d", g, len(s.groups))
				return false
			}
			failed = visit(g, key, value)
			return failed == nil
		})
		return failed
	}
	if err := each(tableMailbox, func(g bundle.KeyGroup, key, value []byte) error {
		in, err := readEntry(key, value)
		if err != nil {
			return err
		}
		e.nextSeq = max(e.nextSeq, in.seq)
		s.index(g, in)
		return nil
	}); err != nil {
		return err
	}
	if err := each(tableDue, func(g bundle.KeyGroup, key, value []byte) error {
		t, err := readDue(key, value)
		if err != nil {
			return err
		}
		e.indexTimer(s, g, &t)
		return nil
	}); err != nil {
		return err
	}
	return each(tableAttempts, func(g bundle.KeyGroup, key, value []byte) error {
		return s.loadAttempts(s.groups[g], key, value)
	})
}

func (s *stage) loadAttempts(g *group, key, value []byte) error {
	r := reader{b: value}
	attempts, piece := int(r.uvarint()), int(r.uvarint())
	if s.Keyed() {
		g.attempts, g.piece = attempts, piece
		return r.err
	}
	for _, in := range g.entries {
		if bytes.Equal(key, chunkAttemptsKey(s.ID, in.seq)) {
			in.attempts, in.piece = attempts, piece
			s.suspects++
			return r.err
		}
	}
	return fmt.Errorf("attempts row %x is about no chunk", key)
}

func (e *Engine) saveCounts(tx kv.Tx, s *stage) {
	b := binary.AppendVarint(nil, s.counts.In)
	b = binary.AppendVarint(b, s.counts.Late)
	b = binary.AppendVarint(b, s.counts.Bytes)
	b = binary.AppendVarint(b, s.counts.Dead)
	for _, n := range s.counts.Out {
		b = binary.AppendVarint(b, n)
	}
	tx.Set(stageKey(tableCounts, s.ID), b)
}

func (s *stage) readCounts(row []byte) error {
	r := reader{b: row}
	s.counts.In, s.counts.Late, s.counts.Bytes, s.counts.Dead = r.varint(), r.varint(), r.varint(), r.varint()
	for i := range s.counts.Out {
		s.counts.Out[i] = r.varint()
	}
	return r.err
}

func appendMetricName(b []byte, m bundle.MetricName) []byte {
	b = append(b, byte(m.Kind))
	b = appendBytes(b, []byte(m.Transform))
	b = appendBytes(b, []byte(m.Namespace))
	return appendBytes(b, []byte(m.Name))
}

func appendMetric(b []byte, m bundle.Metric) []byte {
	for _, v := range []int64{m.Sum, m.Count, m.Min, m.Max, int64(m.At)} {
		b = binary.AppendVarint(b, v)
	}
	return b
}

func (e *Engine) loadMetrics(view kv.View) error {
	var failed error
	view.Scan([]byte{tableMetric}, []byte{tableMetric + 1}, func(key, value []byte) bool {
		var m bundle.Metric
		k, v := reader{b: key[1:]}, reader{b: value}
		m.Kind = bundle.MetricKind(k.byte())
		m.Transform, m.Namespace, m.Name = string(k.bytes()), string(k.bytes()), string(k.bytes())
		m.Sum, m.Count, m.Min, m.Max = v.varint(), v.varint(), v.varint(), v.varint()
		m.At = event.Timestamp(v.varint())
		if k.err != nil || v.err != nil {
			failed = fmt.Errorf("metric row %x is malformed", key)
			return false
		}
		e.metrics[m.MetricName] = m
		return true
	})
	return failed
}

// ReadState returns the state of the job in view, and why it ended.
func ReadState(view kv.View) (State, string, error) {
	row, ok := view.Get(jobKey("state"))
	if !ok || len(row) == 0 {
		return Running, "", view.Err()
	}
	return State(row[0]), string(row[1:]), view.Err()
}
