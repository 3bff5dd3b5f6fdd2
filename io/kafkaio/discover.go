// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/twmb/franz-go/pkg/kerr"
)

// partition is a partition and what to read of it. It is made once and durable before anything is read, so the
// start and the end mean the same after a restart.
type partition struct {
	Topic     string
	TopicID   string
	Partition int32
	Start     int64
	End       int64 // math.MaxInt64 when the read is unbounded.
}

// newTopicTakes is how long a broker may not know a topic that was just created.
const newTopicTakes = 3 * time.Second

// lister finds the partitions of a topic.
type lister struct {
	Brokers []string
	Access  Access
	Topic   string
	From    Position
	To      Position
	Timeout time.Duration

	client  *client
	release func()
}

// Setup implements a DoFn.
func (l *lister) Setup() (err error) {
	l.client, l.release, err = acquire(l.Brokers, l.Access)
	return err
}

// Teardown implements a DoFn.
func (l *lister) Teardown() {
	if l.release != nil {
		l.release()
		l.client, l.release = nil, nil
	}
}

// list returns the partitions from number known on. Those beyond the first list are read from their beginning.
func (l *lister) list(ctx context.Context, known int32) (parts []partition, err error) {
	begin := time.Now()
	err = patiently(ctx, l.client.of(l.Topic, "its partitions"), l.Timeout, nil, func(ctx context.Context) error {
		parts, err = l.tryList(ctx, known)
		if errors.Is(err, kerr.UnknownTopicOrPartition) && time.Since(begin) > newTopicTakes {
			return permanentError{err}
		}
		return err
	})
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil, fmt.Errorf("kafkaio.Read: topic %s does not exist on %s; create it first: %w", l.Topic, l.client.brokers, err)
	}
	return parts, err
}

func (l *lister) tryList(ctx context.Context, known int32) ([]partition, error) {
	meta, err := l.client.adm.Metadata(ctx, l.Topic)
	if err != nil {
		return nil, err
	}
	topic := meta.Topics[l.Topic]
	if topic.Err != nil {
		return nil, fmt.Errorf("topic %s: %w", l.Topic, topic.Err)
	}
	if int32(len(topic.Partitions)) <= known {
		return nil, nil
	}
	from := l.From
	if known > 0 {
		from = Earliest()
	}
	starts, err := l.client.offsets(ctx, l.Topic, from)
	if err != nil {
		return nil, err
	}
	var ends map[int32]int64
	if l.To.Kind != "" {
		if ends, err = l.client.offsets(ctx, l.Topic, l.To); err != nil {
			return nil, err
		}
	}
	var parts []partition
	for id := range topic.Partitions {
		start, ok := starts[id]
		if id < known {
			continue
		}
		if !ok {
			return nil, fmt.Errorf("topic %s, partition %d: %w", l.Topic, id, kerr.LeaderNotAvailable)
		}
		p := partition{Topic: l.Topic, TopicID: topic.ID.String(), Partition: id, Start: start, End: math.MaxInt64}
		if from.Kind == "offset" {
			p.Start = from.Offset
		}
		switch l.To.Kind {
		case "":
		case "offset":
			p.End = max(p.Start, l.To.Offset)
		default:
			p.End = max(p.Start, ends[id])
		}
		parts = append(parts, p)
	}
	slices.SortFunc(parts, func(a, b partition) int { return int(a.Partition - b.Partition) })
	return parts, nil
}

// listFn finds the partitions once.
type listFn struct {
	Lister lister
}

// Setup implements a DoFn.
func (f *listFn) Setup() error { return f.Lister.Setup() }

// Teardown implements a DoFn.
func (f *listFn) Teardown() { f.Lister.Teardown() }

// ProcessElement emits the partitions there are.
func (f *listFn) ProcessElement(ctx context.Context, _ []byte, emit func(partition)) error {
	parts, err := f.Lister.list(ctx, 0)
	for _, p := range parts {
		emit(p)
	}
	return err
}

// discovery is the restriction of discoverFn: the partitions with numbers from Known on are to be found. Kafka
// numbers them from 0 and never takes one away.
type discovery struct {
	Known int32
	Last  bool // Nothing is to be found any more.
}

// discoverTracker implements sdf.RTracker over discovery; a position is the new number of known partitions.
type discoverTracker struct {
	rest discovery
}

func (t *discoverTracker) TryClaim(pos any) bool {
	if t.rest.Last {
		return false
	}
	t.rest.Known = pos.(int32)
	return true
}

func (t *discoverTracker) TrySplit(fraction float64) (primary, residual any, err error) {
	if t.rest.Last || fraction > 0 {
		return t.rest, nil, nil
	}
	rest := t.rest
	t.rest.Last = true
	return t.rest, rest, nil
}

func (t *discoverTracker) GetError() error                        { return nil }
func (t *discoverTracker) GetProgress() (done, remaining float64) { return float64(t.rest.Known), 0 }
func (t *discoverTracker) IsDone() bool                           { return t.rest.Last }
func (t *discoverTracker) GetRestriction() any                    { return t.rest }
func (t *discoverTracker) IsBounded() bool                        { return false }

// discoverFn finds the partitions, and every now and then those that were added.
type discoverFn struct {
	Lister     lister
	Every      time.Duration
	OutOfOrder time.Duration
}

// Setup implements a DoFn.
func (f *discoverFn) Setup() error { return f.Lister.Setup() }

// Teardown implements a DoFn.
func (f *discoverFn) Teardown() { f.Lister.Teardown() }

// CreateInitialRestriction implements a splittable DoFn.
func (f *discoverFn) CreateInitialRestriction([]byte) discovery { return discovery{} }

// SplitRestriction implements a splittable DoFn.
func (f *discoverFn) SplitRestriction(_ []byte, rest discovery) []discovery { return []discovery{rest} }

// RestrictionSize implements a splittable DoFn: there is no backlog in waiting.
func (f *discoverFn) RestrictionSize([]byte, discovery) float64 { return 0 }

// CreateTracker implements a splittable DoFn.
func (f *discoverFn) CreateTracker(rest discovery) *sdf.LockRTracker {
	return sdf.NewLockRTracker(&discoverTracker{rest: rest})
}

// TruncateRestriction implements a splittable DoFn: a drained read looks no further.
func (f *discoverFn) TruncateRestriction(rt *sdf.LockRTracker, _ []byte) discovery {
	rest := rt.GetRestriction().(discovery)
	rest.Last = true
	return rest
}

// InitialWatermarkEstimatorState implements a splittable DoFn; the state is the watermark in milliseconds.
func (f *discoverFn) InitialWatermarkEstimatorState(et beam.EventTime, _ discovery, _ []byte) int64 {
	return et.Milliseconds()
}

// CreateWatermarkEstimator implements a splittable DoFn.
func (f *discoverFn) CreateWatermarkEstimator(ms int64) *floor {
	w := &floor{}
	w.ms.Store(ms)
	return w
}

// WatermarkEstimatorState implements a splittable DoFn.
func (f *discoverFn) WatermarkEstimatorState(w *floor) int64 { return w.ms.Load() }

// ProcessElement emits the partitions that are new. Theirs is the time of the watermark before the look, so
// what is read of them cannot be late.
func (f *discoverFn) ProcessElement(ctx context.Context, w *floor, rt *sdf.LockRTracker, _ []byte, emit func(beam.EventTime, partition)) (sdf.ProcessContinuation, error) {
	rest := rt.GetRestriction().(discovery)
	if rest.Last {
		return sdf.StopProcessing(), nil
	}
	looked := time.Now()
	parts, err := f.Lister.list(ctx, rest.Known)
	if err != nil {
		return sdf.StopProcessing(), err
	}
	if !rt.TryClaim(rest.Known + int32(len(parts))) {
		return sdf.StopProcessing(), nil
	}
	for _, p := range parts {
		emit(mtime.FromMilliseconds(w.ms.Load()), p)
	}
	w.ms.Store(max(w.ms.Load(), looked.Add(-transit-f.OutOfOrder).UnixMilli()))
	return sdf.ResumeProcessingIn(f.Every), nil
}
