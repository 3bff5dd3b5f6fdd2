// SPDX-License-Identifier: Apache-2.0

package kinesisio

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/hornbeam-dev/hornbeam/io/internal/outage"
)

// listFn finds the shards with which a read begins. What comes after them is found by reading them.
type listFn struct {
	Place   place
	From    Position
	To      Position
	Timeout time.Duration

	client  *client
	release func()
}

// Setup implements a DoFn.
func (f *listFn) Setup(ctx context.Context) (err error) {
	f.client, f.release, err = clients.Acquire(ctx, f.Place)
	return err
}

// Teardown implements a DoFn.
func (f *listFn) Teardown() {
	if f.release != nil {
		f.release()
		f.client, f.release = nil, nil
	}
}

// ProcessElement emits the restrictions of the read.
func (f *listFn) ProcessElement(ctx context.Context, _ []byte, emit func(Restriction)) error {
	rests, err := f.list(ctx)
	for _, r := range rests {
		emit(r)
	}
	return err
}

func (f *listFn) list(ctx context.Context) (rests []Restriction, err error) {
	err = f.client.patiently(ctx, "its shards", outage.Patience{Timeout: f.Timeout}, func(ctx context.Context) error {
		rests, err = f.tryList(ctx)
		return err
	})
	if code(err) == "ResourceNotFoundException" {
		return nil, fmt.Errorf("kinesisio.Read: %v does not exist; create it first: %w", f.Place, err)
	}
	return rests, err
}

func (f *listFn) tryList(ctx context.Context) ([]Restriction, error) {
	c := f.client
	facts, err := c.factsAnew(ctx)
	if err != nil {
		return nil, err
	}
	shards, now, err := c.shards(ctx, nil)
	if err != nil {
		return nil, err
	}
	from, holder := f.From, ""
	switch from.Kind {
	case "latest":
		from = AtTime(now)
	case "sequence":
		if holder, from.Millis, err = c.find(ctx, shards, from.Sequence); err != nil {
			return nil, err
		}
	}
	parts, err := roots(shards)
	if err != nil {
		return nil, err
	}
	if from.Kind == "time" || from.Kind == "sequence" {
		filter := &types.ShardFilter{Type: types.ShardFilterTypeFromTimestamp, Timestamp: aws.Time(time.UnixMilli(from.Millis))}
		if shards, _, err = c.shards(ctx, filter); err != nil {
			return nil, err
		}
		if parts, err = roots(shards); err != nil {
			return nil, err
		}
	}
	end := int64(math.MaxInt64)
	switch f.To.Kind {
	case "latest":
		end = now.Add(time.Second).UnixMilli()
	case "time":
		end = f.To.Millis
	}
	var rests []Restriction
	for _, p := range parts {
		p.At = Place{Kind: "earliest", Seen: now.UnixMilli()}
		if from.Kind == "time" || from.Kind == "sequence" {
			p.At = Place{Kind: "time", Millis: from.Millis, Seen: needed(from.Millis, now, facts.retention)}
		}
		if p.Shard == holder {
			p.At = Place{Kind: "sequence", Sequence: from.Sequence, Seen: from.Millis}
		}
		rests = append(rests, Restriction{Stream: f.Place.Stream, Created: facts.created, End: end, Parts: []Part{p}})
	}
	return rests, nil
}

// needed is since when all records have to be there for a read that begins at a time: what was deleted before the read
// began cannot be asked for.
func needed(from int64, began time.Time, retention time.Duration) int64 {
	if from <= began.Add(-retention).UnixMilli() {
		return began.UnixMilli()
	}
	return from
}

// find returns the shard of the record with a sequence number, and when it arrived. A number is of one shard, and
// Kinesis refuses it for all others. Of those whose range it lies in, that one begins closest below it.
func (c *client) find(ctx context.Context, shards []types.Shard, sequence string) (shard string, arrived int64, err error) {
	var candidates []types.Shard
	for _, s := range shards {
		if holds(s, sequence) {
			candidates = append(candidates, s)
		}
	}
	slices.SortFunc(candidates, func(a, b types.Shard) int { return compareSequences(firstOf(b), firstOf(a)) })
	for _, s := range candidates {
		it, err := c.api.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
			StreamName: &c.where.Stream, ShardId: s.ShardId, ShardIteratorType: types.ShardIteratorTypeAtSequenceNumber, StartingSequenceNumber: &sequence,
		})
		if code(err) == "InvalidArgumentException" {
			continue
		}
		if err != nil {
			return "", 0, err
		}
		found, err := c.first(ctx, it.ShardIterator)
		if err != nil {
			return "", 0, err
		}
		if found != nil && aws.ToString(found.SequenceNumber) == sequence {
			return aws.ToString(s.ShardId), aws.ToTime(found.ApproximateArrivalTimestamp).UnixMilli(), nil
		}
	}
	return "", 0, permanentError{fmt.Errorf("kinesisio.Read: %v has no record with sequence number %s; if it had one, it was deleted by retention: start at earliest or at a time", c.where, sequence)}
}

// first returns the first record from an iterator on, or nil if there is none. Kinesis may answer with none though there
// are more.
func (c *client) first(ctx context.Context, iterator *string) (*types.Record, error) {
	for {
		out, err := c.api.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: iterator, Limit: aws.Int32(1)})
		switch {
		case err != nil:
			return nil, err
		case len(out.Records) > 0:
			return &out.Records[0], nil
		case aws.ToString(out.NextShardIterator) == "" || aws.ToInt64(out.MillisBehindLatest) == 0:
			return nil, nil
		}
		iterator = out.NextShardIterator
		outage.Pause(ctx, readGap)
	}
}

// holds tells whether a sequence number lies in the range of a shard, as those of other shards may.
func holds(s types.Shard, sequence string) bool {
	if s.SequenceNumberRange == nil {
		return false
	}
	last := aws.ToString(s.SequenceNumberRange.EndingSequenceNumber)
	return compareSequences(firstOf(s), sequence) <= 0 && (last == "" || compareSequences(sequence, last) <= 0)
}

func firstOf(s types.Shard) string { return aws.ToString(s.SequenceNumberRange.StartingSequenceNumber) }

// shardPart is the whole of a shard.
func shardPart(id string, keys *types.HashKeyRange, parents ...*string) (Part, error) {
	p := Part{Shard: id, At: Place{Kind: "earliest"}}
	var ok1, ok2 bool
	if keys != nil {
		p.ShardLow, ok1 = parseHash(aws.ToString(keys.StartingHashKey))
		p.ShardHigh, ok2 = parseHash(aws.ToString(keys.EndingHashKey))
	}
	if id == "" || !ok1 || !ok2 || p.ShardHigh < p.ShardLow {
		return p, fmt.Errorf("kinesisio: the service told shard %q without a range of hash keys", id)
	}
	p.Low, p.High = p.ShardLow, p.ShardHigh
	for _, parent := range parents {
		if parent := aws.ToString(parent); parent != "" {
			p.Parents = append(p.Parents, parent)
		}
	}
	return p, nil
}

// roots returns the parts of shards that no other listed shard leads to, in the order of their names.
func roots(shards []types.Shard) ([]Part, error) {
	var all []Part
	for _, s := range shards {
		p, err := shardPart(aws.ToString(s.ShardId), s.HashKeyRange, s.ParentShardId, s.AdjacentParentShardId)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Part) int { return strings.Compare(a.Shard, b.Shard) })
	var found []Part
	for _, p := range all {
		left := []Part{p}
		for _, parent := range all {
			if slices.Contains(p.Parents, parent.Shard) {
				left = without(left, parent.Low, parent.High)
			}
		}
		found = append(found, left...)
	}
	return found, nil
}

// without takes a range of hash keys out of parts.
func without(parts []Part, low, high string) []Part {
	var left []Part
	for _, p := range parts {
		if p.High < low || high < p.Low {
			left = append(left, p)
			continue
		}
		if p.Low < low {
			q := p
			q.High = before(low)
			left = append(left, q)
		}
		if high < p.High {
			q := p
			q.Low = after(high)
			left = append(left, q)
		}
	}
	return left
}

// within returns what of the candidates lies in the range of p, and whether that is all of p.
func within(p Part, candidates []Part) (found []Part, whole bool) {
	left := []Part{p}
	for _, q := range candidates {
		if p.High < q.Low || q.High < p.Low {
			continue
		}
		q.Low, q.High = max(p.Low, q.Low), min(p.High, q.High)
		left = without(left, q.Low, q.High)
		found = append(found, q)
	}
	return found, len(left) == 0
}

// successors returns the parts that follow a part whose shard is read to its end.
func (c *client) successors(ctx context.Context, p Part, told []types.ChildShard) ([]Part, error) {
	var children []Part
	for _, s := range told {
		var parents []*string
		for _, parent := range s.ParentShards {
			parents = append(parents, &parent)
		}
		q, err := shardPart(aws.ToString(s.ShardId), s.HashKeyRange, parents...)
		if err != nil {
			return nil, err
		}
		children = append(children, q)
	}
	if found, whole := within(p, children); whole {
		return found, nil
	}
	shards, _, err := c.shards(ctx, nil) // Not every server tells children at the end of their parent.
	if err != nil {
		return nil, err
	}
	children = nil
	for _, s := range shards {
		if aws.ToString(s.ParentShardId) != p.Shard && aws.ToString(s.AdjacentParentShardId) != p.Shard {
			continue
		}
		q, err := shardPart(aws.ToString(s.ShardId), s.HashKeyRange, s.ParentShardId, s.AdjacentParentShardId)
		if err != nil {
			return nil, err
		}
		children = append(children, q)
	}
	found, whole := within(p, children)
	if !whole {
		return nil, fmt.Errorf("kinesisio: %v, shard %s is closed, and its children are not known yet", c.where, p.Shard)
	}
	return found, nil
}

// earliest returns the parts with the oldest records there are for the range of a part whose place is gone.
func (c *client) earliest(ctx context.Context, p Part) ([]Part, error) {
	shards, now, err := c.shards(ctx, nil)
	if err != nil {
		return nil, err
	}
	at := Place{Kind: "earliest", Seen: now.UnixMilli()}
	for _, s := range shards {
		if aws.ToString(s.ShardId) == p.Shard {
			p.At = at
			return []Part{p}, nil
		}
	}
	all, err := roots(shards)
	if err != nil {
		return nil, err
	}
	found, whole := within(p, all)
	if !whole {
		return nil, errors.New("kinesisio: the shards that are there do not hold all hash keys")
	}
	for i := range found {
		found[i].At = at
	}
	return found, nil
}
