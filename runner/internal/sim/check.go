// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/engine"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// watermarks are those of a stage.
type watermarks struct{ in, out event.Timestamp }

// checks are the promises, and what has to be remembered to look after them:
//
//   - watermarks never go back, also over a restart, and what is not late is never behind one;
//   - a key group is in at most one bundle, and the inputs of a bundle are pending and its own;
//   - a bundle ID is never used twice, and a report about an unknown one changes nothing;
//   - a failed bundle leaves no trace but its attempts; a job fails only after as many of them as its
//     options say, of the same work;
//   - nothing is finalized before its commit is durable, nor twice;
//   - what went into a stage is what it took and what waits for it;
//   - state has a timer by which it will expire;
//   - what the engine has in memory is what the table says;
//   - the table of a job that is done holds nothing but results, and the results are right.
type checks struct {
	w *world

	memory
	ids      map[bundle.ID]bool
	live     map[bundle.ID]engine.Order
	commitOf map[bundle.ID]int // The commit that has the result of a bundle.
	final    map[bundle.ID]bool

	known   []bool // Of the current messages: whether they are about a live bundle.
	blamed  int    // The most failures in a row of what they are about.
	state   engine.State
	toldYet []watermarks // Before the current messages.
}

// memory is what the checkers know of the table. A crash takes it back to the last durable commit.
type memory struct {
	told   []watermarks
	failed map[string]int // Failures in a row, by piece of work.
}

func (m memory) clone() memory { return memory{m.told, maps.Clone(m.failed)} }

func (c *checks) init(w *world) {
	c.w = w
	c.ids, c.final = map[bundle.ID]bool{}, map[bundle.ID]bool{}
	c.commitOf = map[bundle.ID]int{}
	c.forget()
}

// forget is for an empty table.
func (c *checks) forget() {
	c.memory = memory{told: make([]watermarks, len(c.w.pipeline.plan.Stages)), failed: map[string]int{}}
	for i := range c.told {
		c.told[i] = watermarks{event.MinTimestamp, event.MinTimestamp}
	}
}

// booted forgets what a process forgets.
func (c *checks) booted() { c.live = map[bundle.ID]engine.Order{} }

// crashed forgets what was told with commits that are lost.
func (c *checks) crashed() {
	if c.memory = c.w.disk.known.clone(); c.told == nil {
		c.forget()
	}
}

// work names the pieces of work of a bundle: key groups, or chunks.
func (c *checks) work(o engine.Order) []string {
	var names []string
	for _, in := range o.Inputs {
		if c.w.pipeline.plan.Stages[o.Stage].Keyed() {
			names = append(names, fmt.Sprint(o.Stage, in.Group))
			continue
		}
		for _, seq := range in.Seqs {
			names = append(names, fmt.Sprint(o.Stage, in.Group, seq))
		}
	}
	return names
}

// before looks at messages that the engine is about to see.
func (c *checks) before(messages []engine.Message) {
	c.known, c.blamed = c.known[:0], 0
	c.toldYet = c.told
	c.state = c.w.engine.Snapshot().State
	for _, m := range messages {
		id, ok := reported(m)
		order, live := c.live[id]
		c.known = append(c.known, ok && live)
		if !ok || !live {
			continue
		}
		delete(c.live, id)
		done, ok := m.(engine.BundleDone)
		if ok {
			c.commitOf[id] = c.w.disk.commits + 1
		}
		for _, name := range c.work(order) {
			switch {
			case !ok:
				c.failed[name]++
				c.blamed = max(c.blamed, c.failed[name])
			case done.Result.Unprocessed == 0:
				delete(c.failed, name)
			}
		}
	}
}

func reported(m engine.Message) (bundle.ID, bool) {
	switch m := m.(type) {
	case engine.BundleDone:
		return m.Result.ID, true
	case engine.BundleFailed:
		return m.ID, true
	}
	return bundle.ID{}, false
}

// after looks at what the engine made of the messages.
func (c *checks) after(tx *diskTx, messages []engine.Message, actions []engine.Action) error {
	snap := c.w.engine.Snapshot()
	if err := c.w.engine.Check(tx); err != nil && !c.w.blind() {
		return fmt.Errorf("check: %w", err)
	}
	if err := c.checkTraces(tx, messages); err != nil {
		return err
	}
	if snap.State == engine.Failed && c.state == engine.Running && c.blamed < c.w.options.Attempts {
		return fmt.Errorf("the job failed after %d of %d attempts at the same work", c.blamed, c.w.options.Attempts)
	}
	if err := c.checkWatermarks(&snap); err != nil {
		return err
	}
	for i, m := range messages {
		if done, ok := m.(engine.BundleDone); ok && c.known[i] {
			if err := c.checkLate(tx, &done); err != nil {
				return err
			}
		}
	}
	if err := c.checkConserved(&snap); err != nil {
		return err
	}
	for _, a := range actions {
		if run, ok := a.(engine.RunBundle); ok {
			if err := c.checkOrder(tx, run.Bundle); err != nil {
				return err
			}
		}
	}
	if err := c.checkViews(tx, &snap); err != nil {
		return err
	}
	if snap.State == engine.Done {
		if err := c.checkNothingKept(tx); err != nil {
			return err
		}
	}
	return c.checkExpiry(tx)
}

// checkNothingKept looks for rows of a finished job's groups that nobody has removed: the end of the
// job clears them, but one that runs for ever would collect them.
func (c *checks) checkNothingKept(tx *diskTx) error {
	removed := map[string]bool{}
	for _, row := range tx.writes() {
		removed[string(row.key)] = true
	}
	before := c.w.disk.live.View()
	defer before.Close()
	for i := range c.w.pipeline.plan.Stages {
		s := &c.w.pipeline.plan.Stages[i]
		if s.Kind != plan.Group || c.w.blind() {
			continue
		}
		prefix := engine.StatePrefix(s.ID, 0)
		prefix = prefix[:len(prefix)-2] // All key groups.
		var left error
		before.Scan(prefix, kv.PrefixEnd(prefix), func(key, _ []byte) bool {
			if !removed[string(key)] {
				left = fmt.Errorf("row %q of %s was left to the end of the job", key, s.Name)
			}
			return left == nil
		})
		if left != nil {
			return left
		}
	}
	return nil
}

// checkViews looks for windows of side inputs that no reader can ask for, each time the watermark of
// the reader has moved.
func (c *checks) checkViews(tx *diskTx, snap *engine.Snapshot) error {
	p := c.w.pipeline
	var failed error
	for _, reader := range p.plan.Stages {
		if len(reader.Sides) == 0 || p.fn.Global() || c.toldYet[reader.ID].out == snap.Stages[reader.ID].Out {
			continue
		}
		prefix := engine.StatePrefix(reader.Sides[0].View, 0)
		low := event.AppendTimestamp(bytes.Clone(prefix), snap.Stages[reader.ID].Out.Add(-p.fn.AllowedLateness))
		tx.Scan(prefix, low, func(key, _ []byte) bool {
			failed = fmt.Errorf("row %q of a side input is still there", key)
			return false
		})
	}
	return failed
}

// checkTraces looks at what was written for messages that have nothing to say.
func (c *checks) checkTraces(tx *diskTx, messages []engine.Message) error {
	allowed := "J"
	for i, m := range messages {
		if _, failed := m.(engine.BundleFailed); failed && c.known[i] {
			allowed = "Ja"
		} else if _, ok := reported(m); !ok || c.known[i] {
			return nil
		}
	}
	if len(messages) == 0 {
		return nil
	}
	for _, row := range tx.writes() {
		if !strings.Contains(allowed, string(row.key[:1])) {
			return fmt.Errorf("row %q was written for a report that has to change nothing", row.key)
		}
	}
	return nil
}

func (c *checks) checkWatermarks(snap *engine.Snapshot) error {
	now := make([]watermarks, len(snap.Stages))
	for i, s := range snap.Stages {
		now[i] = watermarks{s.In, s.Out}
		if s.In < c.told[i].in || s.Out < c.told[i].out {
			return fmt.Errorf("the watermarks of %s went back from %v to %v", s.Name, c.told[i], now[i])
		}
		if s.Out > s.In {
			return fmt.Errorf("the output watermark of %s, %v, is ahead of its input's, %v", s.Name, s.Out, s.In)
		}
	}
	c.told = now
	return nil
}

// checkLate looks for elements that are behind the watermark and do not come from late ones.
func (c *checks) checkLate(tx *diskTx, done *engine.BundleDone) error {
	stages := c.w.pipeline.plan.Stages
	from := &stages[done.Work.Stage]
	state := func(s plan.StageID, g bundle.KeyGroup) kv.View { return kv.Prefixed(tx, engine.StatePrefix(s, g)) }
	for _, o := range done.Result.Outputs {
		out := &from.Outputs[o.Output]
		to := out.Consumers[o.Consumer]
		for _, e := range elements(o.Chunk, out.Windowing, out.Element, state) {
			if e.Timestamp < o.Chunk.MinTimestamp {
				return fmt.Errorf("%s put an element of %v into a chunk from %v on", from.Name, e.Timestamp, o.Chunk.MinTimestamp)
			}
			if e.Timestamp >= c.toldYet[to].in {
				continue
			}
			for _, v := range e.values {
				name, _, _ := strings.Cut(v, "#")
				if in := c.w.pipeline.events[name]; in != nil && !in.late {
					return fmt.Errorf("%s gave %q of %v to %s, whose watermark was %v",
						from.Name, v, e.Timestamp, stages[to].Name, c.toldYet[to].in)
				}
			}
		}
	}
	return nil
}

// checkConserved counts what goes into every stage.
func (c *checks) checkConserved(snap *engine.Snapshot) error {
	residuals := map[string]int64{}
	for _, m := range snap.Metrics {
		if m.Name == "residuals" {
			residuals[m.Transform] += m.Sum
		}
	}
	for i, s := range snap.Stages {
		stage := &c.w.pipeline.plan.Stages[i]
		if len(stage.Inputs) == 0 {
			continue
		}
		came := residuals[s.Name]
		for _, in := range stage.Inputs {
			came += snap.Stages[in.From].Counts.Out[in.Output]
		}
		if got := s.Counts.In + int64(s.Elements); got != came {
			return fmt.Errorf("%d elements went into %s, which took %d and has %d waiting", came, s.Name, s.Counts.In, s.Elements)
		}
	}
	return nil
}

// checkOrder looks whether a new bundle takes only what is there and free.
func (c *checks) checkOrder(tx *diskTx, o engine.Order) error {
	if c.ids[o.ID] {
		return fmt.Errorf("bundle ID %v is used twice", o.ID)
	}
	c.ids[o.ID] = true
	mine := c.work(o)
	for _, other := range c.live {
		if other.Stage != o.Stage {
			continue
		}
		for _, name := range c.work(other) {
			if slices.Contains(mine, name) {
				return fmt.Errorf("bundle %v takes %s, which bundle %v has", o.ID, name, other.ID)
			}
		}
	}
	if _, err := engine.Load(c.w.pipeline.plan, o, tx); err != nil {
		return err
	}
	c.live[o.ID] = o
	return nil
}

// checkExpiry looks whether the state of every key and window of a count will expire.
func (c *checks) checkExpiry(tx *diskTx) error {
	p := c.w.pipeline
	var failed error
	for i := range p.plan.Stages {
		if p.roles[i] != roleCount {
			continue
		}
		for g := range c.w.options.KeyGroups {
			kind := []byte("total")
			prefix := append(engine.StatePrefix(plan.StageID(i), bundle.KeyGroup(g)), kind...)
			tx.Scan(prefix, kv.PrefixEnd(prefix), func(key, _ []byte) bool {
				timer := bytes.Clone(prefix[:len(prefix)-len(kind)])
				timer[0] = 't'
				name := key[len(prefix):]
				n := 0
				if !p.fn.Global() {
					_, n, _ = event.ReadInterval(name)
				}
				for _, part := range [][]byte{name[n:], name[:n]} {
					timer = append(binary.AppendUvarint(timer, uint64(len(part))), part...)
				}
				timer = append(timer, byte(bundle.ExpiryTimer), 0, 0, 0)
				if _, ok := tx.Get(timer); !ok {
					failed = fmt.Errorf("the state %q has no expiry", name)
				}
				return failed == nil
			})
		}
	}
	return failed
}

// finalized looks whether a bundle may be finalized now.
func (c *checks) finalized(id bundle.ID) error {
	durable := c.w.disk.commits - len(c.w.disk.unsynced)
	switch commit, ok := c.commitOf[id]; {
	case !ok:
		return fmt.Errorf("bundle %v is finalized and has no result", id)
	case commit > durable:
		return fmt.Errorf("bundle %v is finalized before its commit %d is durable", id, commit)
	case c.final[id]:
		return fmt.Errorf("bundle %v is finalized twice", id)
	}
	c.final[id] = true
	return nil
}

// checkResults compares the table of the finished job with what a plain reading of the pipeline says.
func (w *world) checkResults() error {
	view := w.disk.live.View()
	defer view.Close()
	var rest []byte
	view.Scan(nil, nil, func(key, _ []byte) bool {
		if !strings.Contains("Jcwx", string(key[:1])) {
			rest = bytes.Clone(key)
		}
		return rest == nil
	})
	if rest != nil {
		return fmt.Errorf("row %q is left in the table of a finished job", rest)
	}
	job, err := engine.New(w.pipeline.plan, w.options, view)
	if err != nil {
		return err
	}
	got := map[string]int64{}
	for _, m := range job.Snapshot().Metrics {
		got[m.Transform+": "+m.Name] += m.Sum
	}
	must, _ := w.pipeline.expected()
	w.report.Results = map[string]int64{}
	for name := range must {
		w.report.Results[name] = got["values: "+name]
	}
	return w.pipeline.check(got)
}

// check compares results with the expected ones.
func (p *pipeline) check(got map[string]int64) error {
	must, may := p.expected()
	grouped := slices.Contains(p.roles, roleGroup)
	accepted := map[string]int{} // By key and window.
	for name := range got {
		if rest, ok := strings.CutPrefix(name, "count: accepted "); ok {
			accepted[rest[:strings.LastIndexByte(rest, ' ')+1]]++
		}
	}
	numbers := map[string]int64{} // By key, window and number.
	for name, n := range got {
		transform, name, _ := strings.Cut(name, ": ")
		value, number, _ := strings.Cut(name, "#")
		switch {
		case transform == "values" && strings.Contains(name, "pane "):
			if n != 1 {
				return fmt.Errorf("%d times %s", n, name)
			}
		case transform == "values" && strings.HasPrefix(name, "on time "):
		case transform == "values" || transform == "counts":
			if n != 1 || !must[value] && !may[value] {
				return fmt.Errorf("%d times %q, which is in %s", n, name, transform)
			}
			if transform == "counts" {
				numbers[value[:strings.LastIndexByte(value, ' ')+1]+number] += n
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(must)) {
		cell := name[:strings.LastIndexByte(name, ' ')+1]
		switch {
		case got["values: "+name] != 1:
			return fmt.Errorf("%d times %q in values", got["values: "+name], name)
		case got["count: accepted "+name] != 1:
			return fmt.Errorf("%d times %q was accepted", got["count: accepted "+name], name)
		case grouped && !p.triggers && got["values: on time "+name] != 1:
			return fmt.Errorf("%d times %q on time", got["values: on time "+name], name)
		}
		if got["count: last "+cell] == 0 {
			return fmt.Errorf("a timer of %q that holds nothing did not fire", cell)
		}
	}
	if err := checkPanes(got); err != nil {
		return err
	}
	for cell, n := range accepted {
		for i := range n {
			if name := fmt.Sprint(cell, i+1); numbers[name] != 1 {
				return fmt.Errorf("%d times number %q", numbers[name], name)
			}
		}
	}
	return nil
}

// checkPanes looks whether the panes of each key and window are numbered from 0 without a gap, and
// whether the last one is the last.
func checkPanes(got map[string]int64) error {
	panes := map[string]int{}
	for name := range got {
		if rest, ok := strings.CutPrefix(name, "values: pane "); ok {
			panes[rest[:strings.LastIndexByte(rest, ' ')+1]]++
		}
	}
	for cell, n := range panes {
		for i := range n {
			if name := fmt.Sprintf("values: pane %s%d", cell, i); got[name] != 1 {
				return fmt.Errorf("of %d panes of %s one has not the index %d", n, cell, i)
			}
			if name := fmt.Sprintf("values: last pane %s%d", cell, i); got[name] > 0 && i < n-1 {
				return fmt.Errorf("%s is followed by others", name)
			}
		}
	}
	return nil
}
