// SPDX-License-Identifier: Apache-2.0

// Package engine is the runner's state machine: one message in, changes to one transaction, a list
// of actions out. It decides what runs, commits what ran, and moves watermarks. It sees no element,
// no clock, no disk and no worker: what happens in the world reaches it as a Message, and what it
// wants done leaves it as an Action. See message.go for both sets, table.go for what is durable,
// and testdata for the behavior by example.
package engine

import (
	"fmt"
	"time"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/engine/watermark"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// Options bound what the engine has in flight. They may change over a restart, but for KeyGroups.
type Options struct {
	Epoch     uint64 // The count of the runner's starts on this table.
	KeyGroups int    // Fixed for the life of a job.

	Parallelism    int           // Bundles to have ready for the workers at once.
	Sources        int           // Bundles of splittable stages, which often only wait, in flight.
	BundleBytes    int           // A bundle takes no further chunk beyond this size.
	BundleElements int           // Nor beyond this many elements.
	MailboxBytes   int           // Above it the stages that feed a mailbox are not started.
	CommitInterval time.Duration // A splittable bundle is asked for a checkpoint after this time.
	Attempts       int           // An element that failed so often is dealt with as SetAside says.
	SetAside       bool          // It leaves the pipeline and the job goes on; else the job fails.
	RetryDelay     time.Duration // Before the second attempt; it doubles with each.
}

// Defaults are the options of a job for which nothing else was said.
func Defaults() Options {
	return Options{
		Epoch:          1,
		KeyGroups:      128,
		Parallelism:    4,
		Sources:        16,
		BundleBytes:    16 << 20,
		BundleElements: 50_000,
		MailboxBytes:   64 << 20,
		CommitInterval: 250 * time.Millisecond,
		Attempts:       4,
		RetryDelay:     20 * time.Millisecond,
	}
}

// Engine runs one job. All its fields but plan and opt can be rebuilt from the table.
type Engine struct {
	plan *plan.Plan
	opt  Options

	stages  []*stage
	running map[bundle.ID]*inflight
	workers int // Of running: bundles that are not of splittable stages.

	nextBundle uint64
	nextSeq    uint64
	clock      event.Timestamp
	wake       event.Timestamp // What the last WakeAt asked for.
	state      State
	reason     string
	stream     *testStream // Nil in a job without a TestStream.
	metrics    map[bundle.MetricName]bundle.Metric

	actions []Action // Of the current Step.
}

// stage is the index of one stage.
type stage struct {
	*plan.Stage
	groups    []*group
	suspects  int             // Of a stage without keys: chunks whose bundle has failed.
	pending   watermark.Holds // The watermarks of the entries in the mailbox.
	holds     watermark.Holds // The output timestamps of timers.
	bytes     int             // In the mailbox.
	elements  int
	in, out   event.Timestamp
	running   int
	counts    bundle.Counts
	timers    int
	userTimes int                // Timers of users in processing time: the job is not done before they fired.
	readers   []plan.StageID     // Of a View: the stages that read it.
	collected event.Timestamp    // Of a View: windows that ended before were forgotten.
	saved     [2]event.Timestamp // in and out as the table has them.
}

// group is the index of one key group of a stage.
type group struct {
	entries []*entry
	due     [2]event.Timestamp // By domain: a bound below which no timer is due.
	busy    bool               // Of a keyed stage: a bundle works on it.
	fired   bool               // Its last bundle fired timers.
	suspect                    // Of a keyed stage.
}

// suspect is what is known of a piece of work whose bundle has failed: a key group, or a chunk of a
// stage without keys. It runs alone until it has succeeded, so that the one at fault is found.
// A chunk is tried in smaller and smaller pieces, from its beginning, until one element is alone.
type suspect struct {
	attempts int // That have failed, of the present piece.
	piece    int // Elements to try at once; 0 is all.
	retryAt  event.Timestamp
}

// innocent is work that has not failed.
var innocent = suspect{retryAt: event.MinTimestamp}

// inflight is a running bundle.
type inflight struct {
	order   Order
	taken   [][]*entry      // By input of the order.
	splitAt event.Timestamp // When it is asked for a checkpoint.
}

// New returns the engine of a job whose facts are in view. For a new job the table is empty and
// the first message is Submitted, else it is Restarted.
func New(p *plan.Plan, opt Options, view kv.View) (*Engine, error) {
	e := &Engine{
		plan:    p,
		opt:     opt,
		running: map[bundle.ID]*inflight{},
		clock:   event.MinTimestamp,
		wake:    event.MaxTimestamp,
		metrics: map[bundle.MetricName]bundle.Metric{},
	}
	for i := range p.Stages {
		e.stages = append(e.stages, e.newStage(&p.Stages[i]))
		if p.Stages[i].Kind == plan.TestStream {
			e.stream = newTestStream(&p.Stages[i])
			e.clock = 0 // That of a TestStream starts at the epoch.
		}
	}
	for _, s := range e.stages {
		for _, side := range s.Sides {
			view := e.stages[side.View]
			view.readers = append(view.readers, s.ID)
		}
	}
	if err := e.load(view); err != nil {
		return nil, fmt.Errorf("read the job's table: %w", err)
	}
	return e, nil
}

func (e *Engine) newStage(p *plan.Stage) *stage {
	s := &stage{Stage: p, in: event.MinTimestamp, out: event.MinTimestamp, collected: event.MinTimestamp}
	s.saved = [2]event.Timestamp{s.in, s.out}
	s.counts.Out = make([]int64, len(p.Outputs))
	groups := 1
	if p.Keyed() {
		groups = e.opt.KeyGroups
	}
	for range groups {
		s.groups = append(s.groups, newGroup())
	}
	return s
}

func newGroup() *group {
	return &group{
		due:     [2]event.Timestamp{noTimer, noTimer},
		suspect: innocent,
	}
}

// Step applies messages, in order, in one transaction. The actions may be performed once tx is
// durable. An error is a failure of the table; a broken invariant panics. After either the Engine
// must not be used again.
func (e *Engine) Step(tx kv.Tx, messages ...Message) ([]Action, error) {
	e.actions = nil
	for _, m := range messages {
		if _, ok := m.(Restarted); ok {
			e.restart(tx)
		}
		if e.state == Running {
			if err := e.apply(tx, m); err != nil {
				return nil, err
			}
		}
	}
	if e.state == Running {
		e.advance(tx)
		if err := tx.Err(); err != nil {
			return nil, err
		}
		e.finishIfDone(tx)
	}
	if e.state == Running {
		e.start()
		e.wakeUp()
	}
	e.saveFloors(tx)
	return e.actions, tx.Err()
}

func (e *Engine) apply(tx kv.Tx, m Message) error {
	switch m := m.(type) {
	case Submitted:
		return e.submit(tx)
	case Restarted:
		if _, begun := tx.Get(jobKey("state")); !begun {
			return e.submit(tx)
		}
		return nil
	case BundleDone:
		return e.commitBundle(tx, m)
	case BundleFailed:
		e.failBundle(tx, m)
		return nil
	case ClockAdvanced:
		if e.stream == nil {
			e.setClock(tx, m.Now)
		}
		return nil
	case Cancelled:
		e.end(tx, CancelledState, m.Reason)
		return nil
	}
	panic(fmt.Sprintf("engine: unknown message %T", m))
}

func (e *Engine) do(a Action) { e.actions = append(e.actions, a) }

func (e *Engine) setClock(tx kv.Tx, now event.Timestamp) {
	if now <= e.clock {
		return
	}
	e.clock = now
	tx.Set(jobKey("clock"), event.AppendTimestamp(nil, now))
	for _, s := range e.stages {
		if s.Kind == plan.User && s.Splittable {
			e.checkpointOverdue(s)
		}
	}
}

// checkpointOverdue asks the bundles of a splittable stage that have run for the commit interval
// for a checkpoint, and asks again after another one: a worker that has not begun a bundle, or is
// between two elements, may have nothing to give up.
func (e *Engine) checkpointOverdue(s *stage) {
	if s.running == 0 {
		return
	}
	for _, id := range e.sortedRunning() {
		b := e.running[id]
		if b.order.Stage == s.ID && b.splitAt <= e.clock {
			b.splitAt = e.nextSplit()
			e.do(SplitBundle{ID: id})
		}
	}
}

func (e *Engine) nextSplit() event.Timestamp {
	return e.clock.Add(max(e.opt.CommitInterval, time.Millisecond))
}

// end writes the end of the job and forgets everything that only a running job needs.
func (e *Engine) end(tx kv.Tx, state State, reason string) {
	e.state, e.reason = state, reason
	tx.Set(jobKey("state"), append([]byte{byte(state)}, reason...))
	if state == Done {
		for _, table := range []byte{tableAttempts, tableDue, tableMailbox, tableState, tableTimer} {
			clearTable(tx, []byte{table})
		}
	}
	e.do(EndJob{State: state, Err: reason})
}

// restart gives a failed job another chance: what failed may have been mended. A job that ended in
// another way says so again, for nobody may have heard of it.
func (e *Engine) restart(tx kv.Tx) {
	if e.state != Failed {
		if e.state != Running {
			e.do(EndJob{State: e.state, Err: e.reason})
		}
		return
	}
	e.state, e.reason = Running, ""
	tx.Set(jobKey("state"), []byte{byte(Running)})
	clearTable(tx, []byte{tableAttempts})
	for _, s := range e.stages {
		s.suspects = 0
		for _, g := range s.groups {
			g.suspect = innocent
			for _, in := range g.entries {
				in.suspect = innocent
			}
		}
	}
}

// finishIfDone ends the job when nothing can happen any more.
func (e *Engine) finishIfDone(tx kv.Tx) {
	if len(e.running) > 0 {
		return
	}
	for _, s := range e.stages {
		if s.out < event.MaxTimestamp || s.queued() > 0 || s.userTimes > 0 {
			return
		}
		for _, g := range s.groups {
			if e.isDue(s, plan.EventTime, g.due[plan.EventTime]) {
				return // It may hold no watermark.
			}
		}
	}
	e.end(tx, Done, "")
}

func (s *stage) queued() int {
	n := 0
	for _, g := range s.groups {
		n += len(g.entries)
	}
	return n
}

func clearTable(tx kv.Tx, prefix []byte) { tx.DeleteRange(prefix, kv.PrefixEnd(prefix)) }

func jobKey(name string) []byte { return append([]byte{tableJob}, name...) }
