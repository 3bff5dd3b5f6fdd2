// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/hornbeam-dev/hornbeam/io/internal/outage"
	"github.com/hornbeam-dev/hornbeam/io/internal/shared"
)

const (
	fetchWait      = 500 * time.Millisecond // How long a broker waits for records of a bounded read before it answers with none.
	attemptTimeout = 10 * time.Second       // After which one request counts as failed.
)

// clients are shared by all DoFns of a process: a connection per bundle would be far too slow.
var clients = shared.NewPool(newClient, func(c *client) { c.kgo.Close() })

// cluster is a list of brokers, with commas between them, and a way to be let in.
type cluster struct {
	brokers string
	access  Access
}

// acquire returns the client for the brokers, and what to call once when it is no longer used.
func acquire(brokers []string, access Access) (c *client, release func(), err error) {
	return clients.Acquire(context.Background(), cluster{strings.Join(brokers, ","), access})
}

// client talks to one cluster. Fetches are its own requests, not a kgo consumer's, because a restriction needs
// what a consumer hides: the position after records that are not there.
type client struct {
	brokers string
	kgo     *kgo.Client
	adm     *kadm.Client

	away outage.Services // The partitions; a read of one goes on in other bundles.

	mu    sync.Mutex // Guards parts.
	parts map[partKey]*partState
}

type partKey struct {
	topic     string
	partition int32
}

// partState is what is known of a partition; all of it can be asked for again.
type partState struct {
	leader  int32
	epoch   int32
	topicID kadm.TopicID
	end     int64   // As of the last fetch; -1 before it.
	rest    *batch  // What the last fetch brought and a checkpoint kept from being read.
	swell   float64 // How many bytes of records a byte of the last fetch became; 0 before it.
}

// newClient makes a client, which connects with its first request.
func newClient(_ context.Context, to cluster) (*client, error) {
	opts, err := to.access.options()
	if err != nil {
		return nil, fmt.Errorf("kafkaio: brokers %s: %w", to.brokers, err)
	}
	cl, err := kgo.NewClient(append(opts,
		kgo.SeedBrokers(strings.Split(to.brokers, ",")...),
		kgo.ClientID("hornbeam-read"),
		kgo.DialTimeout(5*time.Second),
		kgo.RequestRetries(2), // The callers try again themselves, and know when to stop.
		kgo.RetryTimeout(5*time.Second),
		kgo.MetadataMinAge(100*time.Millisecond),
	)...)
	if err != nil {
		return nil, fmt.Errorf("kafkaio: brokers %s: %w", to.brokers, err)
	}
	return &client{brokers: to.brokers, kgo: cl, adm: kadm.NewClient(cl), parts: map[partKey]*partState{}}, nil
}

// batch is the answer to one fetch.
type batch struct {
	start   int64 // What was asked for.
	next    int64 // The position after it, which may lie far behind the last record.
	end     int64 // The end of the partition.
	stable  int64 // The first offset of an open transaction, or end.
	records []*kgo.Record
	sent    time.Time

	uncommitted bool // It has what is not committed, too.
}

// from returns what is left of b at a position.
func (b *batch) from(pos int64) *batch {
	rest := *b
	for len(rest.records) > 0 && rest.records[0].Offset < pos {
		rest.records = rest.records[1:]
	}
	rest.start = pos
	return &rest
}

// goneError says that the broker does not have an offset.
type goneError struct {
	topic         string
	partition     int32
	offset        int64
	earliest, end int64
}

func (e *goneError) Error() string {
	where := fmt.Sprintf("kafkaio: topic %s, partition %d: offset %d is ", e.topic, e.partition, e.offset)
	if e.offset < e.earliest {
		return where + fmt.Sprintf("gone from the broker, the earliest is %d: %d offsets were deleted by retention or by hand before they were read; "+
			"keep records longer, or set OffsetGone to GoneSkipsTo to go on with a counted gap", e.earliest, e.earliest-e.offset)
	}
	return where + fmt.Sprintf("past the end, which is %d: the log was truncated, or the topic is not the one that was read", e.end)
}

// permanentError is one that no repetition cures.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// isPermanent is the table of the broker's answers: what Kafka calls retriable is tried again, and so is what
// never reached a broker; what a look at the metadata may cure is in the first group.
func isPermanent(err error) bool {
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.InconsistentTopicID),
		errors.Is(err, kerr.FencedLeaderEpoch), errors.Is(err, kerr.UnknownLeaderEpoch), errors.Is(err, kerr.NotLeaderForPartition):
		return false
	}
	var gone *goneError
	var permanent permanentError
	if errors.As(err, &gone) || errors.As(err, &permanent) {
		return true
	}
	var broker *kerr.Error
	return errors.As(err, &broker) && !broker.Retriable
}

// patiently repeats what is asked of a service while its error may pass, for at most the timeout. It returns
// outage.ErrStopped when stop, which may be nil, says so between two attempts.
func patiently(ctx context.Context, from *outage.Service, timeout time.Duration, stop func() bool, act func(context.Context) error) error {
	err := from.Do(ctx, outage.Patience{
		Timeout: timeout, Attempt: attemptTimeout, Longest: time.Second, Permanent: isPermanent, Stop: stop,
	}, act)
	if err == nil || isPermanent(err) || errors.Is(err, outage.ErrStopped) {
		return err
	}
	return fmt.Errorf("%s: %w", from.Name, err)
}

// of is the service that answers for a partition, or for what else of a topic is named.
func (c *client) of(topic, what string) *outage.Service {
	return c.away.Of("kafkaio: brokers " + c.brokers + ", topic " + topic + ", " + what)
}

// locate finds the leader of a partition. A topic with another id is another topic.
func (c *client) locate(ctx context.Context, r Restriction) (partState, error) {
	key := partKey{r.Topic, r.Partition}
	c.mu.Lock()
	known := c.parts[key]
	if known != nil && known.leader >= 0 && known.topicID.String() == r.TopicID {
		defer c.mu.Unlock()
		return *known, nil
	}
	c.mu.Unlock()
	meta, err := c.adm.Metadata(ctx, r.Topic)
	if err != nil {
		return partState{}, err
	}
	topic := meta.Topics[r.Topic]
	if topic.Err != nil {
		return partState{}, fmt.Errorf("topic %s: %w", r.Topic, topic.Err)
	}
	if topic.ID.String() != r.TopicID {
		return partState{}, permanentError{fmt.Errorf("kafkaio: topic %s was deleted and created again (id %s, was %s): positions in the old one mean nothing in it; "+
			"start a new read", r.Topic, topic.ID, r.TopicID)}
	}
	p, ok := topic.Partitions[r.Partition]
	switch {
	case !ok:
		return partState{}, fmt.Errorf("topic %s, partition %d: %w", r.Topic, r.Partition, kerr.UnknownTopicOrPartition)
	case p.Leader < 0:
		return partState{}, fmt.Errorf("topic %s, partition %d: %w", r.Topic, r.Partition, kerr.LeaderNotAvailable)
	}
	found := partState{leader: p.Leader, epoch: p.LeaderEpoch, topicID: topic.ID, end: -1}
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.parts[key]; known != nil && known.topicID == topic.ID {
		found.end, found.rest, found.swell = known.end, known.rest, known.swell
	}
	c.parts[key] = &found
	return found, nil
}

// forget makes the next fetch look for the leader again.
func (c *client) forget(r Restriction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.parts[partKey{r.Topic, r.Partition}]; p != nil {
		p.leader = -1
	}
}

// keep notes the end of a partition and what is left of its last fetch.
func (c *client) keep(r Restriction, end int64, rest *batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.parts[partKey{r.Topic, r.Partition}]; p != nil && p.topicID.String() == r.TopicID {
		p.end, p.rest = end, rest
	}
}

// measure notes how far the records of a fetch were compressed.
func (c *client) measure(r Restriction, fetched int, records []*kgo.Record) {
	if len(records) == 0 {
		return
	}
	bytes := 0
	for _, rec := range records {
		bytes += len(rec.Key) + len(rec.Value)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.parts[partKey{r.Topic, r.Partition}]; p != nil {
		p.swell = float64(bytes) / float64(fetched)
	}
}

// ask is how many bytes to ask for so that about as many as wanted are in memory, however far the records are
// compressed. Brokers send a whole batch, even if it is larger.
func (p partState) ask(wanted int32) int32 {
	return max(1, int32(float64(wanted)/max(1, p.swell)))
}

// fetchOptions are what a fetch needs beside the position.
type fetchOptions struct {
	bytes       int32
	uncommitted bool
}

// fetch asks once for records of r's partition at a position.
func (c *client) fetch(ctx context.Context, r Restriction, pos int64, o fetchOptions) (*batch, error) {
	p, err := c.locate(ctx, r)
	if err != nil {
		return nil, err
	}
	if b := p.rest; b != nil && b.uncommitted == o.uncommitted && b.start <= pos && pos < b.next {
		c.keep(r, p.end, nil)
		return b.from(pos), nil
	}
	sent := time.Now()
	isolation := kgo.ReadCommitted()
	if o.uncommitted {
		isolation = kgo.ReadUncommitted()
	}
	answer, err := c.kgo.Broker(int(p.leader)).Request(ctx, fetchRequest(r, p, pos, o))
	if err != nil {
		c.forget(r)
		return nil, fmt.Errorf("fetch from broker %d of %s: %w", p.leader, c.brokers, err)
	}
	resp := answer.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		c.forget(r)
		return nil, fmt.Errorf("fetch from broker %d of %s: %w", p.leader, c.brokers, err)
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil, fmt.Errorf("fetch from broker %d of %s: the answer has no partition", p.leader, c.brokers)
	}
	options := kgo.ProcessFetchPartitionOpts{Offset: pos, IsolationLevel: isolation, Topic: r.Topic, Partition: r.Partition}
	part := &resp.Topics[0].Partitions[0]
	got, next := kgo.ProcessFetchPartition(options, part, kgo.DefaultDecompressor(), nil)
	switch {
	case errors.Is(got.Err, kerr.OffsetOutOfRange):
		return nil, c.gone(ctx, r, pos)
	case got.Err != nil:
		c.forget(r)
		return nil, fmt.Errorf("fetch topic %s, partition %d, offset %d: %w", r.Topic, r.Partition, pos, got.Err)
	}
	c.keep(r, got.HighWatermark, nil)
	c.measure(r, len(part.RecordBatches), got.Records)
	return &batch{
		start: pos, next: max(pos, next), end: got.HighWatermark, stable: got.LastStableOffset,
		records: got.Records, sent: sent, uncommitted: o.uncommitted,
	}, nil
}

func fetchRequest(r Restriction, p partState, pos int64, o fetchOptions) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID = -1
	req.MaxWaitMillis = 0 // A runner that splits while a broker waits never learns that the partition is quiet.
	if r.bounded() {
		req.MaxWaitMillis = int32(fetchWait.Milliseconds())
	}
	req.MinBytes = 1
	req.MaxBytes = p.ask(o.bytes)
	req.SessionEpoch = -1
	if !o.uncommitted {
		req.IsolationLevel = 1
	}
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition = r.Partition
	part.CurrentLeaderEpoch = p.epoch
	part.FetchOffset = pos
	part.PartitionMaxBytes = p.ask(o.bytes)
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = r.Topic, p.topicID
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	return req
}

// gone finds out between what offsets the partition lies.
func (c *client) gone(ctx context.Context, r Restriction, pos int64) error {
	starts, err := c.offsets(ctx, r.Topic, Earliest())
	if err != nil {
		return err
	}
	ends, err := c.offsets(ctx, r.Topic, Latest())
	if err != nil {
		return err
	}
	gone := &goneError{r.Topic, r.Partition, pos, starts[r.Partition], ends[r.Partition]}
	if gone.earliest <= pos && pos <= gone.end {
		return fmt.Errorf("topic %s, partition %d: %w", r.Topic, r.Partition, kerr.OffsetNotAvailable) // It came in between.
	}
	return gone
}

// offsets asks for a position of all partitions of a topic.
func (c *client) offsets(ctx context.Context, topic string, at Position) (map[int32]int64, error) {
	var listed kadm.ListedOffsets
	var err error
	switch at.Kind {
	case "latest":
		listed, err = c.adm.ListEndOffsets(ctx, topic)
	case "time":
		listed, err = c.adm.ListOffsetsAfterMilli(ctx, at.Millis, topic)
	default:
		listed, err = c.adm.ListStartOffsets(ctx, topic)
	}
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list offsets of topic %s: %w", topic, err)
	}
	offsets := map[int32]int64{}
	for id, o := range listed[topic] {
		offsets[id] = o.Offset
	}
	return offsets, nil
}
