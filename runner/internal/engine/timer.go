// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// appendTimerID appends what identifies t in its stage and key group. Timers of one key and window
// stand together.
func appendTimerID(b []byte, t *bundle.Timer) []byte {
	b = appendBytes(b, t.Key)
	b = appendBytes(b, t.Window)
	b = append(b, byte(t.Kind))
	b = appendBytes(b, []byte(t.Transform))
	b = appendBytes(b, []byte(t.Family))
	return appendBytes(b, []byte(t.Tag))
}

func readTimerID(r *reader, t *bundle.Timer) {
	t.Key = append([]byte(nil), r.bytes()...)
	t.Window = append([]byte(nil), r.bytes()...)
	t.Kind = bundle.TimerKind(r.byte())
	t.Transform = string(r.bytes())
	t.Family = string(r.bytes())
	t.Tag = string(r.bytes())
}

func timerKey(s plan.StageID, g bundle.KeyGroup, t *bundle.Timer) []byte {
	return appendTimerID(groupKey(tableTimer, s, g), t)
}

func duePrefix(s plan.StageID, g bundle.KeyGroup, d plan.Domain) []byte {
	return append(groupKey(tableDue, s, g), byte(d))
}

func dueKey(s plan.StageID, g bundle.KeyGroup, t *bundle.Timer) []byte {
	return appendTimerID(event.AppendTimestamp(duePrefix(s, g, t.Domain), t.Due), t)
}

// readDue reads a row of the timers by due time.
func readDue(key, value []byte) (bundle.Timer, error) {
	var t bundle.Timer
	r := reader{b: key[groupKeyLen:]}
	t.Domain = plan.Domain(r.byte())
	t.Due = r.timestamp()
	readTimerID(&r, &t)
	v := reader{b: value}
	t.Hold = v.timestamp()
	if r.err != nil || v.err != nil {
		return t, fmt.Errorf("timer row %x is malformed", key)
	}
	pane, _, err := event.ReadPane(v.b)
	t.Pane = pane
	return t, err
}

// setTimer sets t, in place of the timer with the same identity.
func (e *Engine) setTimer(tx kv.Tx, s *stage, g bundle.KeyGroup, t *bundle.Timer) {
	e.clearTimer(tx, s, g, t)
	row := event.AppendTimestamp([]byte{byte(t.Domain)}, t.Due)
	tx.Set(timerKey(s.ID, g, t), event.AppendTimestamp(row, t.Hold))
	tx.Set(dueKey(s.ID, g, t), event.AppendPane(event.AppendTimestamp(nil, t.Hold), t.Pane))
	e.indexTimer(s, g, t)
}

// indexTimer puts a timer of the table into the index.
func (e *Engine) indexTimer(s *stage, g bundle.KeyGroup, t *bundle.Timer) {
	s.holds.Add(t.Hold)
	s.timers++
	if t.Kind == bundle.UserTimer && t.Domain == plan.ProcessingTime {
		s.userTimes++
	}
	due := &s.groups[g].due[t.Domain]
	*due = min(*due, t.Due)
}

// clearTimer removes the timer with the identity of t, if there is one.
func (e *Engine) clearTimer(tx kv.Tx, s *stage, g bundle.KeyGroup, t *bundle.Timer) {
	key := timerKey(s.ID, g, t)
	row, ok := tx.Get(key)
	if !ok {
		return
	}
	old := *t
	r := reader{b: row}
	old.Domain = plan.Domain(r.byte())
	old.Due, old.Hold = r.timestamp(), r.timestamp()
	if r.err != nil {
		panic(fmt.Sprintf("engine: timer row %x is malformed", key))
	}
	tx.Delete(key)
	tx.Delete(dueKey(s.ID, g, &old))
	s.holds.Remove(old.Hold)
	s.timers--
	if old.Kind == bundle.UserTimer && old.Domain == plan.ProcessingTime {
		s.userTimes--
	}
}

// expireTimers removes the user timers of a key and window whose state has expired.
func (e *Engine) expireTimers(tx kv.Tx, s *stage, g bundle.KeyGroup, expired *bundle.Timer) {
	prefix := appendBytes(appendBytes(groupKey(tableTimer, s.ID, g), expired.Key), expired.Window)
	var old []bundle.Timer
	tx.Scan(prefix, kv.PrefixEnd(prefix), func(key, _ []byte) bool {
		var t bundle.Timer
		readTimerID(&reader{b: key[groupKeyLen:]}, &t)
		old = append(old, t)
		return true
	})
	for i := range old {
		e.clearTimer(tx, s, g, &old[i])
	}
}

// refreshDue finds the earliest timers of a key group again after some were removed.
func (e *Engine) refreshDue(view kv.View, s *stage, g bundle.KeyGroup) {
	for d := range s.groups[g].due {
		due := noTimer
		prefix := duePrefix(s.ID, g, plan.Domain(d))
		view.Scan(prefix, kv.PrefixEnd(prefix), func(key, _ []byte) bool {
			due = event.ReadTimestamp(key[len(prefix):])
			return false
		})
		s.groups[g].due[d] = due
	}
}

// noTimer is the due time of a key group without timers.
const noTimer = event.MaxTimestamp + 1

// isDue tells whether a timer fires: one in event time once the watermark is after it, so that
// every element up to and with its time has been seen, and at the latest at the end of time; one
// in processing time once the clock has reached it.
func (e *Engine) isDue(s *stage, d plan.Domain, due event.Timestamp) bool {
	if due == noTimer {
		return false
	}
	if d == plan.ProcessingTime {
		return due <= e.clock
	}
	return due < s.in || s.in == event.MaxTimestamp
}

func (e *Engine) timerDue(s *stage, g *group) bool {
	return e.isDue(s, plan.EventTime, g.due[plan.EventTime]) ||
		e.isDue(s, plan.ProcessingTime, g.due[plan.ProcessingTime])
}
