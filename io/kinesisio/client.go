// SPDX-License-Identifier: Apache-2.0

package kinesisio

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/hornbeam-dev/hornbeam/io/internal/outage"
	"github.com/hornbeam-dev/hornbeam/io/internal/shared"
)

const (
	attemptTimeout = 10 * time.Second       // After which one request counts as failed.
	longestWait    = 2 * time.Second        // Between two attempts.
	readGap        = 200 * time.Millisecond // Between two reads of a shard, which Kinesis allows to all readers together.
	maxReadGap     = 10 * time.Second       // Two failures must not be so far apart that package outage takes them for two outages.
)

// place is where a stream is, and who reads it.
type place struct {
	Region   string
	Endpoint string
	Stream   string
	Consumer string // The ARN of a registered consumer, or empty.
}

func (p place) String() string {
	text := "stream " + p.Stream
	if p.Endpoint != "" {
		text += " at " + p.Endpoint
	}
	return text
}

// clients are shared by all DoFns of a process.
var clients = newClients()

func newClients() *shared.Pool[place, *client] { return shared.NewPool(newClient, (*client).close) }

// client reads and writes one stream.
type client struct {
	where  place
	config aws.Config
	api    *kinesis.Client

	away outage.Services // The shards; a read of one goes on in other bundles.

	mu     sync.Mutex           // Guards what follows.
	paces  map[string]time.Time // When a shard may be read next.
	parts  map[partID]*partState
	stream *streamFacts
}

// partState is where the last read of a part has ended; all of it can be asked for again.
type partState struct {
	at   Place
	last *batch // What is left of the last read from this place; without records it tells how to go on.
}

// streamFacts change never, or hardly ever.
type streamFacts struct {
	created   int64 // Milliseconds.
	retention time.Duration
}

// newClient looks for the region; credentials are looked for by the first request.
func newClient(ctx context.Context, where place) (*client, error) {
	var options []func(*config.LoadOptions) error
	if where.Region != "" {
		options = append(options, config.WithRegion(where.Region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("kinesisio: configuration of AWS: %w", err)
	}
	if cfg.Region == "" {
		return nil, errors.New("kinesisio: no region: set it in the address (region=eu-central-1) or in AWS_REGION")
	}
	return &client{where: where, config: cfg, api: newAPI(cfg, where), paces: map[string]time.Time{}, parts: map[partID]*partState{}}, nil
}

func newAPI(cfg aws.Config, where place) *kinesis.Client {
	return kinesis.NewFromConfig(cfg, func(o *kinesis.Options) {
		o.Retryer = aws.NopRetryer{} // patiently knows when to stop.
		if where.Endpoint != "" {
			o.BaseEndpoint = aws.String(where.Endpoint)
		}
	})
}

// close ends all subscriptions. There is nothing else that would have to be closed.
func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.parts {
		if s.last.pushed != nil {
			s.last.pushed.close()
		}
	}
}

// permanentError is one that no repetition cures.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// permanent are the answers of Kinesis that no repetition cures. What is not here is tried again: throttling
// (ProvisionedThroughputExceededException, LimitExceededException, KMSThrottlingException), failures of the service, a
// stream that is being changed (ResourceInUseException), tokens that can be had anew (ExpiredIteratorException,
// ExpiredNextTokenException, ExpiredTokenException), and what never reached the service.
var permanent = map[string]bool{
	"AccessDeniedException": true, "InvalidArgumentException": true, "ResourceNotFoundException": true, "ValidationException": true,
	"KMSAccessDeniedException": true, "KMSDisabledException": true, "KMSInvalidStateException": true, "KMSNotFoundException": true,
	"KMSOptInRequired": true, "UnrecognizedClientException": true, "InvalidSignatureException": true, "IncompleteSignature": true,
	"InvalidClientTokenId": true, "MissingAuthenticationTokenException": true, "SerializationException": true, "UnknownOperationException": true,
}

// code is the name of the service's answer, or empty.
func code(err error) string {
	var answer interface{ ErrorCode() string }
	if errors.As(err, &answer) {
		return answer.ErrorCode()
	}
	return ""
}

func isPermanent(err error) bool {
	var gone *goneError
	var sure permanentError
	return errors.As(err, &gone) || errors.As(err, &sure) || permanent[code(err)]
}

// patiently repeats what is asked about a part of the stream while its error may pass, as patience says, which
// needs a timeout. It returns outage.ErrStopped when patience says so between two attempts.
func (c *client) patiently(ctx context.Context, about string, p outage.Patience, act func(context.Context) error) error {
	p.Attempt, p.Longest, p.Permanent = attemptTimeout, longestWait, isPermanent
	asked := c.away.Of(fmt.Sprintf("kinesisio: %v, %s", c.where, about))
	err := asked.Do(ctx, p, act)
	if err == nil || isPermanent(err) || errors.Is(err, outage.ErrStopped) {
		return err
	}
	return fmt.Errorf("%s: %w", asked.Name, err)
}

// lookAgain is how often a wait for a turn looks whether it is over.
const lookAgain = 100 * time.Millisecond

// pace waits until a part may be read, if that needs a request: each read of a shard is a turn. It returns
// outage.ErrStopped when stop says so. A wait that ends early has taken no turn from the others.
func (c *client) pace(ctx context.Context, rest Restriction, p Part, gap time.Duration, stop func() bool) error {
	if c.lastOf(p).remains() || c.receives(rest, p) {
		return nil
	}
	for {
		wait := c.takeTurn(p.Shard, gap)
		if wait <= 0 {
			return nil
		}
		outage.Pause(ctx, min(wait, lookAgain))
		if err := ctx.Err(); err != nil {
			return err
		}
		if stop() {
			return outage.ErrStopped
		}
	}
}

// takeTurn takes a turn of a shard, or returns how long there is none.
func (c *client) takeTurn(shard string, gap time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	wait := c.paces[shard].Sub(now)
	if wait <= 0 {
		c.paces[shard] = now.Add(gap)
	}
	return wait
}

// facts asks for the time of the stream's creation and how long it keeps records.
func (c *client) facts(ctx context.Context) (streamFacts, error) {
	c.mu.Lock()
	known := c.stream
	c.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	out, err := c.api.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &c.where.Stream})
	if err != nil {
		return streamFacts{}, fmt.Errorf("describe %v: %w", c.where, err)
	}
	d := out.StreamDescriptionSummary
	found := streamFacts{created: aws.ToTime(d.StreamCreationTimestamp).UnixMilli(), retention: time.Duration(aws.ToInt32(d.RetentionPeriodHours)) * time.Hour}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stream = &found
	return found, nil
}

// checkCreated refuses a stream that is not the one the read began with.
func (c *client) checkCreated(ctx context.Context, created int64) error {
	facts, err := c.facts(ctx)
	if err == nil && facts.created != created {
		err = permanentError{fmt.Errorf("kinesisio: %v was deleted and created again (at %s, before at %s): positions in the old one mean nothing in it; start a new read",
			c.where, utc(facts.created), utc(created))}
	}
	return err
}

// shards lists the shards that the filter lets through. The time is the service's, to the second.
func (c *client) shards(ctx context.Context, filter *types.ShardFilter) (all []types.Shard, now time.Time, err error) {
	in := &kinesis.ListShardsInput{StreamName: &c.where.Stream, ShardFilter: filter}
	for {
		out, err := c.api.ListShards(ctx, in)
		if err != nil {
			return nil, now, fmt.Errorf("list shards of %v: %w", c.where, err) // Also an expired token: the list begins anew.
		}
		if now.IsZero() {
			now = time.Now()
			if server, ok := middleware.GetServerTime(out.ResultMetadata); ok {
				now = server
			}
			now = now.Truncate(time.Second)
		}
		all = append(all, out.Shards...)
		if out.NextToken == nil {
			return all, now, nil
		}
		in = &kinesis.ListShardsInput{NextToken: out.NextToken}
	}
}

// batch is the answer to one read, or what was pushed. What follows it comes from the iterator or the subscription; with
// neither, the shard is closed and read to its end.
type batch struct {
	records  []types.Record
	iterator string
	pushed   *subscription
	unsure   bool  // The iterator or subscription was made for the place, and what it brings shows whether the place is still there.
	behind   int64 // Milliseconds behind the latest record.
	children []types.ChildShard
	sent     time.Time // When it was asked for, by the worker's clock.
	now      time.Time // By the service's clock, to the second; of what was pushed by the worker's.
}

// from returns b without its first records, which it does not keep in memory.
func (b *batch) from(i int) *batch {
	rest := *b
	if rest.records = nil; i < len(b.records) {
		rest.records = slices.Clone(b.records[i:])
	}
	return &rest
}

// over tells whether nothing follows in the shard.
func (b *batch) over() bool { return b.iterator == "" && b.pushed == nil }

// remains tells whether what comes next is known without a request.
func (b *batch) remains() bool { return b != nil && (len(b.records) > 0 || b.over()) }

// goneError says that the stream may no longer have a place.
type goneError struct {
	where  place
	part   Part
	reason string
}

func (e *goneError) Error() string {
	at := e.part.At.Kind
	switch at {
	case "sequence":
		at = "sequence number " + e.part.At.Sequence
	case "time":
		at = "time " + utc(e.part.At.Millis)
	}
	return fmt.Sprintf("kinesisio: %v, shard %s, %s: %s: records may have been deleted by retention before they were read; "+
		"keep records longer, or set PositionGone to GoneSkipsTo to go on with the earliest and a counted gap", e.where, e.part.Shard, at, e.reason)
}

// fetchOptions are what a read needs beside the place.
type fetchOptions struct {
	records int32         // How many to ask for.
	wait    time.Duration // How long to wait for what is pushed.
}

// get takes records of a part once: it asks for them, when it is its turn, or waits for a subscription. What it returns
// is returned again until reached says that it was taken.
func (c *client) get(ctx context.Context, rest Restriction, p Part, o fetchOptions) (b *batch, err error) {
	if err := c.checkCreated(ctx, rest.Created); err != nil {
		return nil, err
	}
	if last := c.lastOf(p); last.remains() {
		return last, nil
	}
	if c.receives(rest, p) {
		b, err = c.receive(ctx, p, o.wait)
	} else {
		b, err = c.ask(ctx, p, o.records)
	}
	if err != nil {
		return nil, err
	}
	if b.unsure && (len(b.records) > 0 || b.behind == 0 || b.over()) {
		if err := c.checkGone(ctx, p, b); err != nil {
			return nil, err
		}
		b.unsure = false
	}
	c.reached(p.id(), p.At, b)
	return b, nil
}

// ask asks for records.
func (c *client) ask(ctx context.Context, p Part, limit int32) (*batch, error) {
	b := &batch{sent: time.Now()}
	var iterator string
	if last := c.lastOf(p); last != nil && last.iterator != "" {
		iterator, b.unsure = last.iterator, last.unsure
	} else {
		var err error
		if iterator, err = c.iterator(ctx, p); err != nil {
			return nil, err
		}
		b.unsure = true
	}
	out, err := c.api.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: &iterator, Limit: &limit})
	if err != nil {
		if name := code(err); name == "ExpiredIteratorException" || permanent[name] {
			c.forgetPart(p.id()) // The next iterator is made from the place.
			c.forgetStream()
		}
		return nil, fmt.Errorf("read %v, shard %s: %w", c.where, p.Shard, err)
	}
	b.records, b.iterator, b.children = out.Records, aws.ToString(out.NextShardIterator), out.ChildShards
	b.behind, b.now = aws.ToInt64(out.MillisBehindLatest), b.sent
	if server, ok := middleware.GetServerTime(out.ResultMetadata); ok {
		b.now = server
	}
	return b, nil
}

// lastOf is the last read of a part, if it has ended at the place of the part.
func (c *client) lastOf(p Part) *batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.parts[p.id()]; s != nil && s.at.same(p.At) {
		return s.last
	}
	return nil
}

// same ignores when a place was last known to be the end.
func (p Place) same(q Place) bool {
	p.Seen, q.Seen = 0, 0
	return p == q
}

// reached notes that a part is at a place, and what is left of its last read there.
func (c *client) reached(id partID, at Place, rest *batch) {
	c.mu.Lock()
	before := c.parts[id]
	c.parts[id] = &partState{at, rest}
	c.mu.Unlock()
	before.leave(rest.pushed)
}

func (c *client) forgetPart(id partID) {
	c.mu.Lock()
	before := c.parts[id]
	delete(c.parts, id)
	c.mu.Unlock()
	before.leave(nil)
}

// leave ends the subscription of what was the state of a part, unless it is the next one's, too.
func (s *partState) leave(next *subscription) {
	if s != nil && s.last.pushed != nil && s.last.pushed != next {
		s.last.pushed.close()
	}
}

func (c *client) forgetStream() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stream = nil
}

// iterator makes an iterator for a place. Behind a record it is made for the record itself, which must then come first:
// Kinesis answers for one that it has deleted with whatever follows, and says nothing.
func (c *client) iterator(ctx context.Context, p Part) (string, error) {
	in := &kinesis.GetShardIteratorInput{StreamName: &c.where.Stream, ShardId: &p.Shard}
	in.ShardIteratorType, in.StartingSequenceNumber, in.Timestamp = p.At.start()
	out, err := c.api.GetShardIterator(ctx, in)
	if err != nil {
		return "", c.explainPlace(ctx, p, err)
	}
	return aws.ToString(out.ShardIterator), nil
}

// start is where a read begins that goes on from a place.
func (p Place) start() (kind types.ShardIteratorType, sequence *string, at *time.Time) {
	switch p.Kind {
	case "time":
		return types.ShardIteratorTypeAtTimestamp, nil, aws.Time(time.UnixMilli(p.Millis))
	case "sequence":
		return types.ShardIteratorTypeAtSequenceNumber, &p.Sequence, nil
	}
	return types.ShardIteratorTypeTrimHorizon, nil, nil
}

// explainPlace says what the answer means when a place is asked for.
func (c *client) explainPlace(ctx context.Context, p Part, err error) error {
	switch name := code(err); {
	case name == "ResourceNotFoundException":
		if _, facts := c.factsAnew(ctx); facts != nil { // The stream is not there, or no answer.
			return facts
		}
		return &goneError{c.where, p, "the shard is no longer there"}
	case name == "InvalidArgumentException" && p.At.Kind == "sequence":
		return &goneError{c.where, p, err.Error()}
	}
	return fmt.Errorf("find the position in %v, shard %s: %w", c.where, p.Shard, err)
}

func (c *client) factsAnew(ctx context.Context) (streamFacts, error) {
	c.forgetStream()
	return c.facts(ctx)
}

// checkGone takes the first answer to an iterator or a subscription that was made for a place. If the record of the place
// is not there, or the place has none, nothing behind it can be missing as long as all that is to be read came within
// retention. Kinesis itself does not tell: it answers with the earliest record there is.
func (c *client) checkGone(ctx context.Context, p Part, b *batch) error {
	if p.At.Kind == "sequence" && len(b.records) > 0 && aws.ToString(b.records[0].SequenceNumber) == p.At.Sequence {
		return nil
	}
	facts, err := c.facts(ctx)
	if err != nil {
		return err
	}
	switch {
	case p.At.Seen > 0 && b.now.Sub(time.UnixMilli(p.At.Seen)) < facts.retention:
		return nil
	case p.At.Kind == "sequence":
		return &goneError{c.where, p, fmt.Sprintf("the record is no longer there, and the stream keeps %v", facts.retention)}
	case p.At.Seen == 0: // A place from before this was noted.
		return nil
	}
	return &goneError{c.where, p, fmt.Sprintf("nothing was read since %s, and the stream keeps %v", utc(p.At.Seen), facts.retention)}
}

// secondsBehind is the backlog of parts as last seen; 0 when it is not known.
func (c *client) secondsBehind(parts []Part) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	var most int64
	for _, p := range parts {
		if s := c.parts[p.id()]; s != nil {
			most = max(most, s.last.behind)
		}
	}
	return float64(most) / 1000
}
