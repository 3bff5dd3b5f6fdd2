// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	v1pb "github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx/v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/util/protox"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"github.com/hornbeam-dev/hornbeam/runner/internal/driver"
	"github.com/hornbeam-dev/hornbeam/runner/internal/engine"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/planner"
	"github.com/hornbeam-dev/hornbeam/runner/internal/store"
	"github.com/hornbeam-dev/hornbeam/runner/internal/urn"
	"github.com/hornbeam-dev/hornbeam/runner/internal/worker/builtin"
	"github.com/hornbeam-dev/hornbeam/runner/internal/worker/embedded"
)

// Job is a job that was opened: a new one, or one that a crash or a stop has left unfinished.
type Job struct {
	opt     Options
	record  Record
	resumed bool
	table   kv.Table
	store   *store.Store // Nil if the job is kept in memory.
	ended   bool         // Done or cancelled, as Wait has told.
	closed  bool
	failed  chan error // The store's failure, after which nothing is known of the last commits.
}

// Record is what is known of a job before its pipeline.
type Record struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Created   time.Time `json:"created"`
	Epoch     uint64    `json:"epoch"` // Counts the starts.
	KeyGroups int       `json:"key_groups"`
	NoFusion  bool      `json:"no_fusion,omitempty"`
	NoLifting bool      `json:"no_lifting,omitempty"`
	// Told says that the job has ended and the program that ran it knows. Until then the job is
	// opened again, so that a process that was killed at the last moment is not taken for one
	// that has begun nothing.
	Told bool `json:"told,omitempty"`
}

// Rows of the runner itself; the engine's begin with other bytes.
var (
	recordKey   = []byte("Rrecord")
	pipelineKey = []byte("Rpipeline")
)

// Open opens the state directory of o, and locks it until Close. If it holds a job that has not
// ended, or that has failed, that job is resumed; else a new one begins.
func Open(o Options) (*Job, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	j := &Job{opt: o, failed: make(chan error, 1)}
	if o.StateDir == "" {
		j.table = kv.NewMem()
	} else {
		s, err := store.Open(o.StateDir, store.Options{
			MemTableSize: min(o.budget()/8, 64<<20),
			CacheSize:    o.budget() / 8,
			UnsafeNoSync: o.unsafeNoSync,
			OnFailure:    func(err error) { j.failed <- err },
		})
		if err != nil {
			return nil, fmt.Errorf("open state directory %s: %w", o.StateDir, err)
		}
		j.store, j.table = s, s
	}
	if err := j.begin(); err != nil {
		j.table.Close()
		return nil, err
	}
	return j, nil
}

// begin reads the job's record or makes a new one.
func (j *Job) begin() error {
	view := j.table.View()
	defer view.Close()
	record, err := readRecord(view)
	if err != nil {
		return err
	}
	if record != nil && !record.Told {
		j.record, j.resumed = *record, true
		return nil
	}
	now := time.Now().UTC()
	var random [4]byte
	if _, err := rand.Read(random[:]); err != nil {
		return err
	}
	j.record = Record{
		ID:        fmt.Sprintf("%s-%s-%s", j.opt.jobName(), now.Format("20060102-150405"), hex.EncodeToString(random[:])),
		Name:      j.opt.jobName(),
		Created:   now,
		KeyGroups: engine.Defaults().KeyGroups,
		NoFusion:  j.opt.NoFusion,
		NoLifting: j.opt.NoLifting,
	}
	if j.opt.KeyGroups > 0 {
		j.record.KeyGroups = j.opt.KeyGroups
	}
	return j.replace()
}

// readRecord returns nil if the table holds no job.
func readRecord(view kv.View) (*Record, error) {
	row, ok := view.Get(recordKey)
	if err := view.Err(); err != nil || !ok {
		return nil, err
	}
	var r Record
	if err := json.Unmarshal(row, &r); err != nil {
		return nil, fmt.Errorf("the job's record is malformed: %w", err)
	}
	return &r, nil
}

// replace puts the record of a new job in place of the job that the table holds, which has ended.
// From now on the job's ID is known, whatever happens.
func (j *Job) replace() error {
	tx := j.table.Begin()
	defer tx.Discard()
	tx.DeleteRange([]byte{1}, nil)
	if err := j.saveRecord(tx); err != nil {
		return err
	}
	return commit(tx)
}

func (j *Job) saveRecord(tx kv.Tx) error {
	row, err := json.Marshal(j.record)
	if err != nil {
		return err
	}
	tx.Set(recordKey, row)
	return nil
}

func commit(tx kv.Tx) error {
	sync, err := tx.Commit()
	if err != nil {
		return err
	}
	return sync()
}

// ID returns the job's ID. It stays the same when the job is resumed.
func (j *Job) ID() string { return j.record.ID }

// Resumed tells whether the job had begun before it was opened.
func (j *Job) Resumed() bool { return j.resumed }

// StateDir returns the job's directory, or "" if it is kept in memory.
func (j *Job) StateDir() string { return j.opt.StateDir }

// Close frees the state directory. Further calls do nothing.
func (j *Job) Close() error {
	if j.closed {
		return nil
	}
	j.closed = true
	var err error
	if j.ended {
		err = j.tell()
	}
	return errors.Join(err, j.table.Close())
}

// tell notes that the program knows of the job's end.
func (j *Job) tell() error {
	tx := j.table.Begin()
	defer tx.Discard()
	j.record.Told = true
	if err := j.saveRecord(tx); err != nil {
		return err
	}
	return commit(tx)
}

// Run runs p as this job and waits until it ends. If the job is resumed, p must be the pipeline
// with which it began. When ctx is cancelled the job stops, Run returns ErrStopped, and the job can
// be resumed. A Job is run once.
func (j *Job) Run(ctx context.Context, p *beam.Pipeline) (*Result, error) {
	running, err := j.Start(ctx, p)
	if err != nil {
		return nil, err
	}
	return running.Wait()
}

// Start starts p as this job; see Run.
func (j *Job) Start(ctx context.Context, p *beam.Pipeline) (*Running, error) {
	beam.PipelineOptions.LoadOptionsFromFlags(nil)
	pipeline, err := marshal(p)
	if err != nil {
		return nil, err
	}
	staged, err := planner.Plan(pipeline, planner.Options{NoFusion: j.record.NoFusion, NoLifting: j.record.NoLifting})
	if err != nil {
		return nil, err
	}
	if err := j.nextEpoch(pipeline); err != nil {
		return nil, err
	}
	return j.startPlan(ctx, staged)
}

// ErrStopped is the error of a job that was stopped before it ended; it can be resumed.
var ErrStopped = driver.ErrStopped

func marshal(p *beam.Pipeline) (*pipepb.Pipeline, error) {
	edges, _, err := p.Build()
	if err != nil {
		return nil, err
	}
	if err := checkFunctions(edges); err != nil {
		return nil, err
	}
	pipeline, err := graphx.Marshal(edges, &graphx.Options{
		Environment: &pipepb.Environment{Urn: embedded.EnvironmentURN},
	})
	if err != nil {
		return nil, fmt.Errorf("the pipeline cannot be encoded: %w", err)
	}
	return pipeline, canonical(pipeline)
}

// canonical takes out of a pipeline what differs each time the SDK encodes it and has no meaning:
// the order of maps. A program that is run again has to give the same pipeline.
func canonical(p *pipepb.Pipeline) error {
	slices.Sort(p.RootTransformIds)
	for id, t := range p.GetComponents().GetTransforms() {
		slices.Sort(t.Subtransforms)
		if t.GetSpec().GetUrn() != urn.ParDo {
			continue
		}
		var payload pipepb.ParDoPayload
		if err := proto.Unmarshal(t.Spec.Payload, &payload); err != nil {
			return fmt.Errorf("payload of transform %s: %w", id, err)
		}
		if err := canonicalFn(payload.DoFn); err != nil {
			return fmt.Errorf("DoFn of transform %s: %w", id, err)
		}
		encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(&payload)
		if err != nil {
			return err
		}
		t.Spec.Payload = encoded
	}
	return nil
}

// canonicalFn does so for what the Go SDK says of a DoFn: that of a Reshuffle has a map of coders.
func canonicalFn(fn *pipepb.FunctionSpec) error {
	var payload v1pb.TransformPayload
	if err := protox.DecodeBase64(string(fn.GetPayload()), &payload); err != nil {
		return err
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(&payload)
	if err != nil {
		return err
	}
	fn.Payload = []byte(base64.StdEncoding.EncodeToString(encoded))
	return nil
}

// nextEpoch writes the job's record with a new epoch, and for a new job its pipeline. Nothing of an
// earlier epoch counts after it has returned.
func (j *Job) nextEpoch(p *pipepb.Pipeline) error {
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(p)
	if err != nil {
		return err
	}
	tx := j.table.Begin()
	defer tx.Discard()
	if j.resumed {
		if old, ok := tx.Get(pipelineKey); ok && !bytes.Equal(old, encoded) {
			return fmt.Errorf("state directory %s holds the unfinished job %s of another pipeline, or of other flags: "+
				"continue it with the command that began it, or give this one another --job_name or --state_dir",
				j.opt.StateDir, j.record.ID)
		}
	}
	j.record.Epoch++
	if err := j.saveRecord(tx); err != nil {
		return err
	}
	tx.Set(pipelineKey, encoded)
	return commit(tx)
}

func (j *Job) startPlan(ctx context.Context, p *plan.Plan) (*Running, error) {
	view := j.table.View()
	defer view.Close()
	e, err := engine.New(p, j.opt.engine(j.record.Epoch, j.record.KeyGroups), view)
	if err != nil {
		return nil, err
	}
	own, err := builtin.New(p)
	if err != nil {
		return nil, err
	}
	var first engine.Message = engine.Submitted{}
	floor := event.MinTimestamp
	if j.resumed {
		first, floor = engine.Restarted{}, e.Snapshot().Clock
	}
	ctx, cancel := context.WithCancelCause(ctx)
	r := &Running{job: j, plan: p, worker: embedded.New(p, embedded.Options{KeyGroups: j.record.KeyGroups}), cancel: cancel}
	r.driver = driver.Start(ctx, driver.Config{
		Plan:    p,
		Engine:  e,
		Table:   j.table,
		Worker:  r.worker,
		Builtin: own,
		First:   first,
		Clock:   driver.NewClock(floor),
		Log:     j.opt.log(),
		Admit:   j.admit,
	})
	return r, nil
}

// minFree is the space that has to stay free for the table to be recovered and to be emptied.
const minFree = 64 << 20

// admit refuses to go on when the disk is nearly full or the store has failed.
func (j *Job) admit() error {
	if j.store == nil {
		return nil
	}
	if err := j.store.Err(); err != nil {
		return err
	}
	free, err := j.store.FreeSpace()
	if err != nil {
		return fmt.Errorf("free space of %s: %w", j.opt.StateDir, err)
	}
	if free < minFree {
		return fmt.Errorf("%w: %d MiB are free in %s, the job needs %d MiB: "+
			"make room and run the same command again, it continues", ErrDiskFull, free>>20, j.opt.StateDir, minFree>>20)
	}
	return nil
}

// ErrDiskFull is the error of a job that stopped because its state directory has no room.
var ErrDiskFull = errors.New("the disk is full")

// Size returns the number of bytes that the job's state takes on disk.
func (j *Job) Size() uint64 {
	if j.store == nil {
		return 0
	}
	return j.store.Size()
}
