// SPDX-License-Identifier: Apache-2.0

// Package sim runs jobs in a simulated world: the real engine, the real grouping and the real tables,
// with a clock, workers, a disk and a process whose every misbehavior comes from a seed. After each
// step checkers look whether what Hornbeam promises still holds; at the end the results must be those
// of a plain reading of the pipeline. See check.go for the promises, pipeline.go and worker.go for
// the jobs, and mutant.go for the bugs that the checkers must find.
package sim

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/engine"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// Config says which world to simulate.
type Config struct {
	Seed   uint64
	Calm   bool         // Nothing goes wrong but what Crash asks for.
	Store  bool         // The table is a store on a file system that crashes.
	Crash  Crash        // One crash at a given moment.
	Mutant *Mutant      // A deliberate bug.
	Trace  func(string) // Receives a line for each message and action; nil drops them.
}

// Crash is a moment around a commit.
type Crash struct {
	Commit int // Counted from 1; 0 is never.
	When   When
}

// When is a moment around a commit.
type When int

// The moments at which a process may end.
const (
	BeforeSync    When = iota // The commit is lost.
	BeforePerform             // The commit is durable, its actions are lost.
	AfterPerform
)

// Report says what happened in a world.
type Report struct {
	Pipeline string
	Steps    int
	Commits  int
	Crashes  int
	Lost     int // Commits lost in crashes.
	Bundles  int
	Failures int
	Hash     uint64           // Of every message, action and row written.
	Results  map[string]int64 // Those that do not depend on what is dropped as late, or when triggers fire.
}

// Run simulates a world to the end of its job. An error is a promise that was broken.
func Run(c Config) (r Report, err error) {
	w := newWorld(c)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
		w.report.Hash = w.hash.Sum64()
		r = w.report
	}()
	err = w.run()
	if w.disk != nil {
		w.report.Commits, w.report.Lost = w.disk.commits+w.disk.lost, w.disk.lost
		err = errors.Join(err, w.disk.close())
	}
	return r, err
}

// world is everything around an engine.
type world struct {
	Config
	rng    *rand.Rand
	report Report
	hash   hasher

	pipeline *pipeline
	options  engine.Options
	group    int // Messages of a Step at most.
	calmAt   int // The number of steps after which nothing goes wrong any more.
	maxCrash int

	disk   *disk
	engine *engine.Engine
	worker *fakeWorker

	now     event.Timestamp
	wake    event.Timestamp
	inbox   []engine.Message
	stale   []engine.Message // Reports to a process that has ended.
	batches []batch
	jobs    []*job
	over    bool // The end of the job was performed.

	checks
}

// batch is a commit and what waits for it.
type batch struct {
	commit  int
	sync    func() error
	synced  bool
	actions []engine.Action
}

type hasher interface {
	Write([]byte) (int, error)
	Sum64() uint64
}

func newWorld(c Config) *world {
	w := &world{Config: c, rng: rand.New(rand.NewPCG(c.Seed, 0)), hash: fnv.New64a()}
	w.pipeline = drawPipeline(w.rng)
	w.options = engine.Defaults()
	w.options.Epoch = 0
	w.options.KeyGroups = []int{1, 2, 5}[w.rng.IntN(3)]
	w.options.Parallelism = 1 + w.rng.IntN(4)
	w.options.Sources = 1 + w.rng.IntN(4)
	w.options.BundleElements = []int{1, 10, 50_000}[w.rng.IntN(3)]
	w.options.BundleBytes = []int{40, 1000, 16 << 20}[w.rng.IntN(3)]
	w.options.MailboxBytes = []int{60, 64 << 20}[w.rng.IntN(2)]
	w.options.CommitInterval = []time.Duration{10 * time.Millisecond, 250 * time.Millisecond}[w.rng.IntN(2)]
	w.group = []int{1, 3, 64}[w.rng.IntN(3)]
	w.calmAt = 100 + w.rng.IntN(400)
	w.maxCrash = w.rng.IntN(8)
	if c.Calm {
		w.calmAt, w.maxCrash = 0, 0
	}
	for _, s := range w.pipeline.plan.Stages {
		w.report.Pipeline += s.Name + "; "
	}
	return w
}

// maxSteps is when a job that has not ended is taken for one that never will.
const maxSteps = 3000

func (w *world) run() error {
	disk, err := newDisk(w.rng, w.Store, w.Mutant)
	if err != nil {
		return err
	}
	w.disk = disk
	w.checks.init(w)
	w.now = 1_000_000
	if err := w.boot(); err != nil {
		return err
	}
	for !w.over {
		if w.report.Steps++; w.report.Steps > w.calmAt+maxSteps {
			return w.stuck()
		}
		if err := w.step(); err != nil {
			return err
		}
	}
	return w.checkResults()
}

// stuck says what a job that does not end waits for.
func (w *world) stuck() error {
	text := "the job does not end:"
	for _, s := range w.engine.Snapshot().Stages {
		if s.Running > 0 || s.WaitsFor != "" {
			text += fmt.Sprintf(" [%s: %d running, waits for %s]", s.Name, s.Running, s.WaitsFor)
		}
	}
	return errors.New(text)
}

func (w *world) trace(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	_, _ = w.hash.Write([]byte(line))
	if w.Trace != nil {
		w.Trace(line)
	}
}

// boot starts a process on what is on the disk.
func (w *world) boot() error {
	if w.Mutant == nil || !w.Mutant.sameEpoch || w.options.Epoch == 0 {
		w.options.Epoch++
	}
	view := w.disk.live.View()
	defer view.Close()
	worker, err := newFakeWorker(w.pipeline, w.rng, w.options.KeyGroups)
	if err != nil {
		return err
	}
	if w.engine, err = engine.New(w.pipeline.plan, w.options, view); err != nil {
		return err
	}
	w.worker = worker
	w.batches, w.jobs = nil, nil
	w.wake = event.MaxTimestamp
	w.checks.booted()
	snap := w.engine.Snapshot()
	w.now = max(w.now-event.Timestamp(w.rng.IntN(5000)), snap.Clock)
	w.trace("boot epoch %d at %v, job %v", w.options.Epoch, w.now, snap.State)
	var first engine.Message = engine.Restarted{}
	if state, _ := view.Get([]byte("Jstate")); state == nil {
		first = engine.Submitted{}
	}
	w.inbox = nil
	return w.decide([]engine.Message{first})
}

// step lets one thing happen.
func (w *world) step() error {
	faults := w.report.Steps < w.calmAt
	if faults && w.report.Crashes < w.maxCrash && w.rng.IntN(40) == 0 {
		return w.crash(w.rng.IntN(len(w.disk.unsynced) + 1))
	}
	if faults && len(w.jobs) > 1 && w.rng.IntN(150) == 0 {
		w.killWorker()
		return nil
	}
	var ready []func() error
	add := func(weight int, f func() error) {
		for range weight {
			ready = append(ready, f)
		}
	}
	if len(w.inbox) > 0 || len(w.stale) > 0 || w.wake <= w.now {
		add(4, w.deliver)
	}
	if slices.ContainsFunc(w.batches, func(b batch) bool { return !b.synced }) {
		add(3, w.sync)
	}
	if len(w.batches) > 0 && (w.batches[0].synced || w.Mutant != nil && w.Mutant.early) {
		add(6, w.perform)
	}
	if slices.ContainsFunc(w.jobs, func(j *job) bool { return !w.worker.waits(j) || j.work == nil }) {
		add(6, w.work)
	}
	if len(ready) == 0 || w.rng.IntN(10) == 0 {
		return w.tick(len(ready) == 0)
	}
	return ready[w.rng.IntN(len(ready))]()
}

// tick lets time pass.
func (w *world) tick(idle bool) error {
	w.now += event.Timestamp(1 + w.rng.IntN(60))
	if !idle {
		return nil
	}
	if w.wake == event.MaxTimestamp {
		return w.stuck()
	}
	w.now = max(w.now, w.wake)
	return nil
}

// deliver brings what has arrived to the engine.
func (w *world) deliver() error {
	if len(w.stale) > 0 && (len(w.inbox) == 0 || w.rng.IntN(3) == 0) {
		m := w.stale[0]
		w.stale = w.stale[1:]
		return w.decide([]engine.Message{m})
	}
	n := min(len(w.inbox), 1+w.rng.IntN(w.group))
	messages := slices.Clone(w.inbox[:n])
	w.inbox = w.inbox[n:]
	return w.decide(messages)
}

// decide is what the driver does with messages, up to the commit.
func (w *world) decide(messages []engine.Message) error {
	for i, m := range messages {
		messages[i] = w.adopt(m)
		w.trace("%s", describe(messages[i]))
	}
	tx := w.disk.begin()
	defer tx.Discard()
	now := engine.ClockAdvanced{Now: w.now}
	w.checks.before(messages)
	actions, err := w.engine.Step(tx, append([]engine.Message{now}, messages...)...)
	if err != nil {
		return err
	}
	for _, a := range actions {
		w.trace("  %s", describeAction(a))
	}
	if err := w.checks.after(tx, messages, actions); err != nil {
		return err
	}
	for _, row := range tx.writes() {
		_, _ = w.hash.Write(row.key)
		_, _ = w.hash.Write(row.value)
	}
	sync, err := tx.commit(w.memory.clone())
	if err != nil {
		return err
	}
	b := batch{commit: w.disk.commits, sync: sync}
	for _, a := range actions {
		if a, ok := a.(engine.WakeAt); ok {
			w.wake = a.At
			continue
		}
		b.actions = append(b.actions, a)
	}
	if w.wake <= w.now {
		w.wake = event.MaxTimestamp
	}
	w.batches = append(w.batches, b)
	return nil
}

// sync makes the oldest commit durable.
func (w *world) sync() error {
	i := slices.IndexFunc(w.batches, func(b batch) bool { return !b.synced })
	b := &w.batches[i]
	if w.Crash == (Crash{b.commit + w.disk.lost, BeforeSync}) {
		w.Crash = Crash{}
		return w.crash(0)
	}
	if err := b.sync(); err != nil {
		return err
	}
	b.synced = true
	if len(w.disk.unsynced) > 0 {
		if err := w.disk.synced(1); err != nil {
			return err
		}
	}
	if w.Crash == (Crash{b.commit + w.disk.lost, BeforePerform}) {
		w.Crash = Crash{}
		return w.crash(0)
	}
	return nil
}

// perform does what the oldest commit decided.
func (w *world) perform() error {
	b := w.batches[0]
	w.batches = w.batches[1:]
	for _, a := range b.actions {
		if err := w.act(a); err != nil {
			return err
		}
	}
	if w.Crash == (Crash{b.commit + w.disk.lost, AfterPerform}) {
		w.Crash = Crash{}
		return w.crash(0)
	}
	return nil
}

func (w *world) act(a engine.Action) error {
	switch a := a.(type) {
	case engine.RunBundle:
		if w.Mutant != nil && w.Mutant.order != nil {
			w.Mutant.order(&a.Bundle)
		}
		w.report.Bundles++
		w.jobs = append(w.jobs, &job{order: a.Bundle})
	case engine.SplitBundle:
		for _, j := range w.jobs {
			if j.order.ID == a.ID && (j.work != nil || w.rng.IntN(2) == 0) {
				j.asked = true // One that was not begun may miss it.
			}
		}
	case engine.FinalizeBundle:
		return w.checks.finalized(a.ID)
	case engine.EndJob:
		if a.State == engine.Done {
			w.over = true
			return nil
		}
		// Somebody starts it again.
		w.report.Failures++
		for len(w.disk.unsynced) > 0 {
			if err := w.sync(); err != nil {
				return err
			}
		}
		return w.boot()
	}
	return nil
}

// work lets a worker do something.
func (w *world) work() error {
	i := w.rng.IntN(len(w.jobs))
	j := w.jobs[i]
	faults := w.report.Steps < w.calmAt
	if j.work == nil {
		view := w.disk.live.View()
		defer view.Close()
		return w.worker.begin(j, view)
	}
	if w.worker.waits(j) {
		return nil
	}
	w.jobs = slices.Delete(w.jobs, i, i+1)
	if faults && w.rng.IntN(12) == 0 {
		w.send(engine.BundleFailed{ID: j.order.ID, Err: "chance"}, faults)
		return nil
	}
	m, err := w.finish(j)
	if err != nil {
		return err
	}
	w.send(m, faults)
	return nil
}

func (w *world) finish(j *job) (engine.Message, error) {
	var views []kv.View
	result, err := w.worker.run(j, func(s plan.StageID, g bundle.KeyGroup) kv.View {
		view := kv.Prefixed(w.disk.live.View(), engine.StatePrefix(s, g))
		views = append(views, view)
		return view
	})
	for _, view := range views {
		view.Close()
	}
	return engine.BundleDone{Work: *j.work, Result: result}, err
}

// send puts a report into the inbox, perhaps twice, perhaps with its opposite after it.
func (w *world) send(m engine.Message, faults bool) {
	w.inbox = append(w.inbox, m)
	if faults && w.rng.IntN(10) == 0 {
		w.inbox = append(w.inbox, m)
	}
	if done, ok := m.(engine.BundleDone); ok && faults && w.rng.IntN(10) == 0 {
		w.stale = append(w.stale, engine.BundleFailed{ID: done.Result.ID, Err: "late"})
	}
}

// killWorker ends every bundle that is running.
func (w *world) killWorker() {
	w.trace("worker dies")
	for _, j := range w.jobs {
		w.inbox = append(w.inbox, engine.BundleFailed{ID: j.order.ID, Err: "the worker died"})
	}
	w.jobs = nil
}

// crash ends the process and starts another one. Some of its bundles report to that.
func (w *world) crash(keep int) error {
	w.trace("crash, %d of %d commits survive", keep, len(w.disk.unsynced))
	w.report.Crashes++
	w.stale = append(w.stale, w.inbox...)
	for _, j := range w.jobs {
		if j.work != nil && w.rng.IntN(2) == 0 {
			m, err := w.finish(j)
			if err != nil {
				return err
			}
			w.stale = append(w.stale, m)
		}
	}
	if err := w.disk.crash(keep); err != nil {
		return err
	}
	w.checks.crashed()
	return w.boot()
}
