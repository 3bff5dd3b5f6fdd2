// SPDX-License-Identifier: Apache-2.0

package kinesisio

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// consumerARN has the name of the stream as its first group.
var consumerARN = regexp.MustCompile(`^arn:[a-z0-9-]+:kinesis:[a-z0-9-]*:[0-9]*:stream/([a-zA-Z0-9_.-]{1,128})/consumer/[a-zA-Z0-9_.-]{1,128}:[0-9]+$`)

func checkConsumer(consumer, stream string) error {
	if consumer == "" {
		return nil
	}
	parts := consumerARN.FindStringSubmatch(consumer)
	switch {
	case parts == nil:
		return errors.New("the consumer is not the ARN of a registered one, like " +
			"arn:aws:kinesis:eu-central-1:123456789012:stream/clicks/consumer/hornbeam:1540591616 (aws kinesis register-stream-consumer prints it)")
	case parts[1] != stream:
		return fmt.Errorf("the consumer is registered with stream %s, and not with %s", parts[1], stream)
	}
	return nil
}

// subscription is what Kinesis pushes of a shard to a registered consumer, from a place on. Kinesis ends it after five
// minutes, and when somebody else subscribes to the shard as the same consumer.
type subscription struct {
	events *kinesis.SubscribeToShardEventStream
	queue  chan arrival // Closed at the end of the subscription.
	cancel context.CancelFunc

	behind int64     // Milliseconds, as the last event says.
	heard  time.Time // When the last event came.
	tip    time.Time // What was in the shard before this time has been taken; zero if that is not known.
}

// arrival is an event that has come.
type arrival struct {
	event  types.SubscribeToShardEvent
	at     time.Time
	waited time.Time // Since when it was waited for; zero if it lay ready, and may be old.
}

// queued is how many events come in before they are taken, beside two: those without records are to be seen as they come.
const queued = 4

// unheard is after how long without an event a connection is taken as broken. Events come every few seconds also when
// there are no records. Amazon's client library waits as long.
const unheard = 35 * time.Second

// subscribe subscribes to what follows a place. The subscription outlives the attempt, and the bundle.
func (c *client) subscribe(attempt context.Context, p Part) (*subscription, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(attempt))
	opened := context.AfterFunc(attempt, cancel)
	in := &kinesis.SubscribeToShardInput{ConsumerARN: &c.where.Consumer, ShardId: &p.Shard, StartingPosition: &types.StartingPosition{}}
	in.StartingPosition.Type, in.StartingPosition.SequenceNumber, in.StartingPosition.Timestamp = p.At.start()
	// With an api of its own: that of the SDK decodes the events of one subscription at a time.
	out, err := newAPI(c.config, c.where).SubscribeToShard(ctx, in)
	if !opened() && err == nil {
		err = errors.Join(attempt.Err(), out.GetStream().Close())
	}
	if err == nil {
		return newSubscription(ctx, out.GetStream(), cancel), nil
	}
	cancel()
	return nil, c.explainSubscribe(attempt, p, err)
}

func (c *client) explainSubscribe(ctx context.Context, p Part, err error) error {
	explained := c.explainPlace(ctx, p, err)
	var gone *goneError
	if !errors.As(explained, &gone) || code(err) != "ResourceNotFoundException" {
		return explained
	}
	shards, _, err := c.shards(ctx, nil)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(shards, func(s types.Shard) bool { return aws.ToString(s.ShardId) == p.Shard }) {
		return permanentError{fmt.Errorf("kinesisio.Read: %v has no consumer %s; register it, or read without a consumer", c.where, c.where.Consumer)}
	}
	return gone
}

// unknown is how far a subscription is behind that has told nothing yet.
const unknown = 1

func newSubscription(ctx context.Context, events *kinesis.SubscribeToShardEventStream, cancel context.CancelFunc) *subscription {
	s := &subscription{events: events, queue: make(chan arrival, queued), cancel: cancel, behind: unknown, heard: time.Now()}
	go s.listen(ctx) // Ends with the subscription.
	return s
}

// close may be called more than once.
func (s *subscription) close() {
	s.cancel()
	s.events.Close() // Its error is that it was cancelled.
}

// listen notes when events come.
func (s *subscription) listen(ctx context.Context) {
	defer close(s.queue)
	for {
		var a arrival
		var event types.SubscribeToShardEventStream
		var ok bool
		select {
		case event, ok = <-s.events.Events():
		default:
			a.waited = time.Now()
			event, ok = <-s.events.Events()
		}
		if !ok {
			return
		}
		a.at = time.Now()
		member, known := event.(*types.SubscribeToShardEventStreamMemberSubscribeToShardEvent)
		if !known { // Of a later version of the service.
			continue
		}
		a.event = member.Value
		select {
		case s.queue <- a:
		case <-ctx.Done():
			return
		}
	}
}

var errSubscriptionOver = errors.New("the subscription is over")

// next takes events up to one with records, and waits for a while if none has come. A batch without records says how far
// the subscription is.
func (s *subscription) next(ctx context.Context, wait time.Duration) (*batch, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for taken := false; ; taken = true {
		var a arrival
		var ok bool
		select {
		case a, ok = <-s.queue:
		default:
			if taken {
				return s.nothing(), nil
			}
			select {
			case a, ok = <-s.queue:
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-timer.C:
				if time.Since(s.heard) > unheard {
					return nil, fmt.Errorf("no event for %v", unheard)
				}
				return s.nothing(), nil
			}
		}
		if !ok {
			if err := s.events.Err(); err != nil {
				return nil, err
			}
			return nil, errSubscriptionOver
		}
		if b := s.take(a); len(b.records) > 0 || b.over() {
			return b, nil
		}
	}
}

func (s *subscription) take(a arrival) *batch {
	s.heard = a.at
	switch s.behind = aws.ToInt64(a.event.MillisBehindLatest); {
	case s.behind > 0:
		s.tip = time.Time{}
	case !a.waited.IsZero():
		s.tip = a.waited
	}
	b := s.nothing()
	b.records, b.children, b.now = a.event.Records, a.event.ChildShards, a.at
	if a.event.ContinuationSequenceNumber == nil {
		b.pushed = nil // The shard has ended.
	}
	return b
}

// nothing is a batch without records.
func (s *subscription) nothing() *batch {
	b := &batch{pushed: s, behind: s.behind, sent: s.tip, now: s.tip}
	if s.tip.IsZero() {
		b.behind = max(b.behind, unknown)
	}
	return b
}

// receives tells whether what follows a part is pushed to a consumer. It is not when another part of its shard has a
// subscription, of which a consumer has one for each shard. Nor is the end of a bounded read, which a subscription, without
// the service's clock, cannot prove.
func (c *client) receives(rest Restriction, p Part) bool {
	if c.where.Consumer == "" {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, s := range c.parts {
		if id.Shard == p.Shard && id != p.id() && s.last.pushed != nil {
			return false
		}
	}
	s := c.parts[p.id()]
	if s == nil || !s.at.same(p.At) || !rest.bounded() {
		return true
	}
	return s.last.pushed != nil && (s.last.behind > 0 || len(s.last.records) > 0)
}

// receive takes what is pushed of a part.
func (c *client) receive(ctx context.Context, p Part, wait time.Duration) (*batch, error) {
	var s *subscription
	unsure := true
	if last := c.lastOf(p); last != nil && last.pushed != nil {
		s, unsure = last.pushed, last.unsure
	} else {
		c.forgetPart(p.id())
		var err error
		if s, err = c.subscribe(ctx, p); err != nil {
			return nil, err
		}
	}
	b, err := s.next(ctx, wait)
	if err != nil {
		s.close()
		c.forgetPart(p.id())
		return nil, fmt.Errorf("receive %v, shard %s, as %s: %w", c.where, p.Shard, c.where.Consumer, err)
	}
	b.unsure = unsure
	return b, nil
}
