// SPDX-License-Identifier: Apache-2.0

// Package driver is the loop of a job: it brings messages to the engine, makes what the engine
// decided durable, and then does it. All waiting, all goroutines and the clock are here and in the
// workers. It decides nothing.
package driver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/hornbeam-dev/hornbeam/runner/internal/engine"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/worker"
)

// Config is what a job runs with.
type Config struct {
	Plan    *plan.Plan
	Engine  *engine.Engine
	Table   kv.Table
	Worker  worker.Worker  // For stages of kind User.
	Builtin worker.Worker  // For the stages that the runner does itself.
	First   engine.Message // Submitted or Restarted.
	Clock   *Clock
	Log     *slog.Logger
	// Admit is asked, at most every second, whether the table may grow. Its error ends the job,
	// which can be started again once there is room. Nil admits always.
	Admit func() error
}

// Job is a running job.
type Job struct {
	Config
	inbox    chan engine.Message
	synced   chan batch
	failures chan error // Of the table; the first one ends the job.
	asks     chan chan engine.Snapshot
	stop     context.CancelCauseFunc
	told     string // The failure that was logged last.
	done     chan struct{}
	admitted time.Time // When Admit was asked last.

	workers sync.WaitGroup // Bundles and finalizations under way.

	// Written before done is closed.
	final engine.Snapshot
	err   error
}

// ErrStopped is the end of a job that was told to stop. All it has done is durable.
var ErrStopped = errors.New("the job was stopped")

// Start starts a job. It ends by itself, when it fails, or when ctx is cancelled.
func Start(ctx context.Context, c Config) *Job {
	ctx, stop := context.WithCancelCause(ctx)
	j := &Job{
		Config:   c,
		inbox:    make(chan engine.Message, 256),
		synced:   make(chan batch, 16),
		failures: make(chan error, 1),
		asks:     make(chan chan engine.Snapshot),
		stop:     stop,
		done:     make(chan struct{}),
	}
	go j.run(ctx)
	return j
}

// Stop ends the job without ending its work: it can be started again from its table.
func (j *Job) Stop() { j.stop(ErrStopped) }

// Cancel ends the job for good.
func (j *Job) Cancel(reason string) {
	select {
	case j.inbox <- engine.Cancelled{Reason: reason}:
	case <-j.done:
	}
}

// Wait waits until the job has ended and returns how. The error is the runner's or the world's, or
// ErrStopped; that of the pipeline is in the Snapshot.
func (j *Job) Wait() (engine.Snapshot, error) {
	<-j.done
	return j.final, j.err
}

// Snapshot describes the job as it is now, or as it ended.
func (j *Job) Snapshot() engine.Snapshot {
	ask := make(chan engine.Snapshot, 1)
	select {
	case j.asks <- ask:
		return <-ask
	case <-j.done:
		return j.final
	}
}

// run is the loop. It owns the engine.
func (j *Job) run(ctx context.Context) {
	defer close(j.done)
	work, cancel := context.WithCancel(ctx)
	performed := make(chan error, 1)
	go func() { performed <- j.perform(work) }()
	j.err = j.loop(ctx)
	j.final = j.Engine.Snapshot()
	cancel()
	close(j.synced)
	if err := <-performed; err != nil {
		j.err = err
	}
	j.workers.Wait()
}

func (j *Job) loop(ctx context.Context) error {
	messages := []engine.Message{j.First}
	for {
		over, err := j.step(messages)
		if err != nil || over {
			return err
		}
		messages, err = j.next(ctx, messages[:0])
		if err != nil {
			return err
		}
	}
}

// next waits until there is something for the engine.
func (j *Job) next(ctx context.Context, messages []engine.Message) ([]engine.Message, error) {
	for {
		select {
		case m := <-j.inbox:
			return j.drain(append(messages, m)), nil
		case <-j.Clock.Wake():
			if j.Clock.Passed() {
				return messages, nil
			}
		case ask := <-j.asks:
			ask <- j.Engine.Snapshot()
		case err := <-j.failures:
			return nil, err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// step applies messages in one transaction and passes on what came of it.
func (j *Job) step(messages []engine.Message) (over bool, err error) {
	if err := j.admit(); err != nil {
		return false, err
	}
	tx := j.Table.Begin()
	defer tx.Discard()
	j.tell(messages)
	now := engine.ClockAdvanced{Now: j.Clock.Now()}
	actions, err := j.decide(tx, append([]engine.Message{now}, messages...))
	if err != nil {
		return false, err
	}
	sync, err := tx.Commit()
	if err != nil {
		return false, fmt.Errorf("commit: %w", err)
	}
	for _, a := range actions {
		switch a := a.(type) {
		case engine.WakeAt:
			j.Clock.WakeAt(a.At)
		case engine.EndJob:
			over = true
		}
	}
	j.synced <- batch{sync, actions}
	return over, nil
}

// tell logs what bundles fail of. An element at fault fails many bundles until it is alone, mostly with
// the same words, which are logged once.
func (j *Job) tell(messages []engine.Message) {
	for _, m := range messages {
		failed, ok := m.(engine.BundleFailed)
		if !ok {
			continue
		}
		if text := headline(failed.Err); text != j.told {
			j.told = text
			j.Log.Warn("a bundle failed and will be tried again", slog.String("error", text))
		}
	}
}

// headline is an error without the stack that follows a panic. The error of the job has it, in case
// it comes to that.
func headline(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if at := strings.LastIndex(line, " goroutine "); at > 0 && strings.HasSuffix(line, "]:") {
		line = line[:at]
	}
	return line
}

// decide turns a broken invariant of the engine into the end of the job, not of the process.
func (j *Job) decide(tx kv.Tx, messages []engine.Message) (actions []engine.Action, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.Join(tx.Err(), fmt.Errorf("internal error, please report it: %v\n%s", p, debug.Stack()))
		}
	}()
	return j.Engine.Step(tx, messages...)
}

// admit asks, at most once a second, whether the table may grow.
func (j *Job) admit() error {
	if now := time.Now(); j.Admit != nil && now.Sub(j.admitted) >= time.Second {
		j.admitted = now
		return j.Admit()
	}
	return nil
}

// maxBatch bounds the messages of one transaction, so that the first of them does not wait long.
const maxBatch = 64

func (j *Job) drain(messages []engine.Message) []engine.Message {
	for len(messages) < maxBatch {
		select {
		case m := <-j.inbox:
			messages = append(messages, m)
		default:
			return messages
		}
	}
	return messages
}
