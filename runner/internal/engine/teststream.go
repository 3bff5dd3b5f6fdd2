// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// testStream plays the events of a TestStream, one whenever nothing else can happen, and keeps the
// processing time of its job.
type testStream struct {
	stage      *plan.Stage
	played     int // Events that were played.
	watermarks []event.Timestamp
}

func newTestStream(s *plan.Stage) *testStream {
	t := &testStream{stage: s}
	for range s.Outputs {
		t.watermarks = append(t.watermarks, event.MinTimestamp)
	}
	return t
}

// quiescent tells whether nothing can happen before a watermark or the clock moves.
func (e *Engine) quiescent() bool {
	if len(e.running) > 0 {
		return false
	}
	for _, s := range e.stages {
		for _, g := range s.groups {
			if e.timerDue(s, g) || g.retryAt > e.clock {
				return false
			}
			for _, in := range g.entries {
				if e.ready(s, in) {
					return false
				}
			}
		}
	}
	return true
}

// next plays the next event. After the last one it moves the watermarks to the end of time, and
// then the clock to whatever waits for it; false means that nothing is left.
func (t *testStream) next(e *Engine, tx kv.Tx) bool {
	s := e.stages[t.stage.ID]
	switch {
	case t.played < len(t.stage.Events):
		t.play(e, tx, &t.stage.Events[t.played])
		t.played++
	case s.out < event.MaxTimestamp:
		for i := range t.watermarks {
			t.watermarks[i] = event.MaxTimestamp
		}
		s.in, s.out = event.MaxTimestamp, event.MaxTimestamp
	default:
		at := e.nextClock()
		if at == event.MaxTimestamp {
			return false
		}
		e.setClock(tx, at)
	}
	t.save(tx)
	return true
}

func (t *testStream) play(e *Engine, tx kv.Tx, ev *plan.TestStreamEvent) {
	switch {
	case ev.Add != nil:
		t.add(e, tx, ev.Add)
	case ev.Advance != nil:
		w := &t.watermarks[ev.Advance.Output]
		*w = max(*w, ev.Advance.To)
	default:
		e.setClock(tx, e.clock.Add(time.Duration(min(ev.Clock, int64(event.MaxTimestamp-e.clock)))*time.Millisecond))
	}
}

func (t *testStream) add(e *Engine, tx kv.Tx, add *plan.AddElements) {
	s := e.stages[t.stage.ID]
	s.counts.Out[add.Output] += int64(len(add.Elements))
	e.saveCounts(tx, s)
	for c, id := range t.stage.Outputs[add.Output].Consumers {
		groups := map[bundle.KeyGroup]*testChunk{}
		for _, el := range add.Elements {
			g := bundle.KeyGroup(0)
			if to := e.stages[id]; to.Keyed() {
				g = e.keyGroup(to, el.Encoded)
			}
			if groups[g] == nil {
				groups[g] = &testChunk{bundle.Chunk{MinTimestamp: event.MaxTimestamp, MaxWindow: event.EndOfGlobalWindow}}
			}
			groups[g].append(el)
		}
		for g := range e.stages[id].groups {
			if chunk := groups[bundle.KeyGroup(g)]; chunk != nil {
				e.deliver(tx, s, bundle.Output{Output: add.Output, Consumer: c, Group: bundle.KeyGroup(g), Chunk: chunk.Chunk})
			}
		}
	}
}

// testChunk gathers the elements of one Add for one key group.
type testChunk struct{ bundle.Chunk }

func (c *testChunk) append(el plan.TestElement) {
	c.Bytes = coder.Windowed{Global: true}.AppendHeader(c.Bytes, coder.Header{
		Timestamp: el.Timestamp,
		Windows:   []event.Window{event.Global},
		Pane:      event.NoFiring,
	})
	c.Bytes = append(c.Bytes, el.Encoded...)
	c.MinTimestamp = min(c.MinTimestamp, el.Timestamp)
	c.Count++
}

func (e *Engine) keyGroup(to *stage, element []byte) bundle.KeyGroup {
	skip, err := coder.Compile(*to.Key)
	if err != nil {
		panic("engine: " + err.Error())
	}
	n, err := skip(element)
	if err != nil {
		panic(fmt.Sprintf("engine: element %x of a TestStream: %v", element, err))
	}
	return bundle.KeyGroupOf(element[:n], e.opt.KeyGroups)
}

// save keeps the place in the stream and its watermarks; the clock has a row of its own.
func (t *testStream) save(tx kv.Tx) {
	row := binary.AppendUvarint(nil, uint64(t.played))
	for _, w := range t.watermarks {
		row = event.AppendTimestamp(row, w)
	}
	tx.Set(jobKey("teststream"), row)
}

func (t *testStream) load(view kv.View) {
	row, ok := view.Get(jobKey("teststream"))
	if !ok {
		return
	}
	r := reader{b: row}
	t.played = int(r.uvarint())
	for i := range t.watermarks {
		t.watermarks[i] = r.timestamp()
	}
}
