// SPDX-License-Identifier: Apache-2.0

// Package kinesisio reads and writes Amazon Kinesis data streams.
//
// Read is an unbounded splittable DoFn. The position in each shard is part of the restriction: the sequence number
// of a record, and how many of the user records inside it were read. Write uses PutRecords. Credentials come
// from the default chain of the AWS SDK in the worker's process, and from nowhere else.
//
// # Delivery guarantees
//
// Read: a runner that commits a bundle's output and its residual together sees each user record of the stream
// once, also after a crash, and also those of a record that holds many (the aggregation of the Kinesis Producer
// Library); nothing is lost or repeated by Read itself. A record that lies outside the stated range of event time is
// a dead letter. A position that the stream may no longer have is an error, or a counted gap (GonePolicy).
//
// Write: at least once. Kinesis has neither transactions nor conditional writes: an answer that is lost, or a
// bundle that runs again, writes records again. Therefore each user record carries a mark (below), which is fixed
// before it is first sent; Read with Dedupe takes the marks off and drops what it has seen. A key or a record
// that Kinesis cannot hold is a dead letter. PutRecords gives no order: the records of a key may
// change places when the service refuses some of them.
//
// Marks are right only if the runner keeps state and what a Reshuffle has passed on, once committed, the same on every
// retry, and never goes back behind it. Hornbeam does. Elsewhere they lose records: a state that goes back behind what
// was sent gives the same numbers to other records, and Read with Dedupe drops those as repeats though it has never
// seen them. Neither side can find out. So
//
//   - set Unmarked on Flink, which goes back to its last checkpoint after a failure, and on any runner of which you do
//     not know. Then readers see repeats, and nothing is lost.
//   - do not go on with an older copy of a job's state. Start the job anew: its writers are then new ones.
//
// # The mark
//
// The data of a user record that Write sends is, with integers in big-endian order:
//
//	 4 bytes  0x89 'H' 'B' 0x01
//	16 bytes  the writer: a random number, drawn once and kept in the state of the job for each lane
//	 8 bytes  the sequence: 1, 2, 3 … for each writer, kept in the state of the job
//	 4 bytes  the length of what follows the header
//	 4 bytes  CRC-32C of the 32 bytes before
//
// and then the data as it was given to Write. Data that does not begin with a whole and consistent header has no
// mark. A lane is a part of the hash keys, of equal size, so that one lane is in one shard or a few. The number is
// given in a stateful step, and a durable boundary (Reshuffle) lies between that step and the one that sends.
//
// # Shards that split and merge
//
// A restriction is a range of hash keys for ever: at the start, one for each shard. Where its shard ends, the
// children take over, each with the part of the range that is its own, from their first record. So a record with
// a partition key is read after all older records of that key, whatever was split or merged, the whole
// position is in the restriction, and no restriction ever waits for another one, which Beam could not express.
// Inside one restriction both parents of a merged shard are finished before it begins. Two restrictions whose shards
// are merged both read the child, and each takes the records of its own range: after a merge such a shard
// is read twice, within the same limit of reads. After many splits the ranges are larger than the shards, and one
// restriction reads several; a new read begins with a restriction for each shard again. (Records with an
// explicit hash key keep their order only as long as shards do not merge.)
//
// # Time
//
// The watermark of a restriction is the least of those of its shards. That of a shard is its latest event time less
// OutOfOrder; one that is caught up and has been quiet for IdleAfter follows the clock of the worker instead:
// the time of the read that found nothing (of what is pushed: since when the event that says so was waited for), less
// one second for records on their way and OutOfOrder. A shard with records yet to read is never idle, however slow, and
// a child begins with the watermark of its parent, or the least of both.
// After a restart the watermark stays where it was and the wait for idleness begins anew.
//
// # Enhanced fan-out
//
// All who poll a shard share five reads and 2 MB a second. With ReadConfig.Consumer, the ARN of a consumer that was
// registered with the stream (aws kinesis register-stream-consumer), each shard is pushed with 2 MB a second of its own. It
// changes no guarantee: positions, the order and the gaps are the same. A consumer has one subscription for a
// shard; of parts of one shard that are read apart, as after a merge, the others are polled, and so is the end of a
// bounded read. Two reads at the same time need two consumers: with one they take the subscription from each other. The
// credentials need kinesis:SubscribeToShard for the consumer, beside the rest.
package kinesisio

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/state"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
)

func init() {
	for _, v := range []any{Record{}, DeadLetter{}, Restriction{}, Part{}, Place{}, WatermarkState{}, PartTime{}, entry{}} {
		beam.RegisterType(reflect.TypeOf(v))
	}
	register.DoFn3x1[context.Context, []byte, func(Restriction), error](&listFn{})
	register.DoFn6x2[context.Context, *estimator, *sdf.LockRTracker, Restriction, func(beam.EventTime, Record), func(DeadLetter), sdf.ProcessContinuation, error](&readFn{})
	register.DoFn6x1[context.Context, *estimator, *sdf.LockRTracker, Restriction, func(beam.EventTime, Record), func(DeadLetter), error](&readBoundedFn{})
	register.DoFn3x0[Record, func(string, Record), func(Record)](&unmarkFn{})
	register.DoFn5x1[context.Context, state.Provider, string, Record, func(Record), error](&dedupeFn{})
	register.DoFn5x0[context.Context, []byte, []byte, func(int64, entry), func(DeadLetter)](&laneKVFn{})
	register.DoFn4x0[context.Context, Record, func(int64, entry), func(DeadLetter)](&laneRecordFn{})
	register.DoFn4x1[state.Provider, int64, entry, func(entry), error](&numberFn{})
	register.DoFn2x1[context.Context, entry, error](&writeFn{})
	register.Emitter1[Restriction]()
	register.Emitter2[beam.EventTime, Record]()
	register.Emitter2[string, Record]()
	register.Emitter2[int64, entry]()
	register.Emitter1[Record]()
	register.Emitter1[entry]()
	register.Emitter1[DeadLetter]()
}

// namespace is the namespace of the metrics.
const namespace = "kinesisio"

// Record is one user record of a stream.
type Record struct {
	Stream          string
	Shard           string
	Sequence        string // The sequence number of the Kinesis record that holds it.
	Index           int64  // Its place in an aggregated record; else 0.
	PartitionKey    string // In UTF-8.
	ExplicitHashKey string // Decimal; Kinesis tells it for aggregated records only. Empty when there is none.
	Data            []byte
	Arrival         int64 // When it came to the stream, by Kinesis' clock: milliseconds since 1970.
}

// DeadLetter is a record that was not read or not written, and why.
type DeadLetter struct {
	Code   string // One of the Code constants.
	Error  string
	Record Record
}

// The codes of dead letters. There are no others.
const (
	CodeFuture   = "FUTURE"    // Of Read: the event time is too far ahead.
	CodeBadTime  = "BAD_TIME"  // Of Read: there is no event time, or it is too long ago.
	CodeBadKey   = "BAD_KEY"   // Of Write: Kinesis does not take the key.
	CodeTooLarge = "TOO_LARGE" // Of Write: key and data are larger than the stream takes.
)

// Position says where a read starts or ends. The zero Position is the earliest record as a start and never as
// an end.
type Position struct {
	Kind     string // "", "earliest", "latest", "sequence" or "time".
	Sequence string // For "sequence".
	Millis   int64  // For "time": milliseconds since 1970.
}

// Earliest is the first record that the stream still has (its trim horizon).
func Earliest() Position { return Position{Kind: "earliest"} }

// Latest is the moment when the read starts, by the service's clock, to the second: Kinesis has no number for the
// end of a shard. As a start it is the second's beginning, as an end the second's end.
func Latest() Position { return Position{Kind: "latest"} }

// AtSequence is the record with this sequence number; the other shards start with what arrived when it did. It is no end.
func AtSequence(number string) Position { return Position{Kind: "sequence", Sequence: number} }

// AtTime is the first record that arrived at this time or later. As an end it is exclusive and may lie in the
// future: a shard ends with the first record that arrived then or later, or when it is caught up after that time.
func AtTime(t time.Time) Position { return Position{Kind: "time", Millis: t.UnixMilli()} }

// GonePolicy says what to do when the stream may no longer have the wanted position: the record there was trimmed, or
// nothing was read there yet, and the last record read and the last time the read was caught up are both longer ago
// than what the stream keeps. A read that begins at a time needs the records from that time on, and one that begins
// at the earliest record those from its own beginning on: what Kinesis deletes before that is not missed.
type GonePolicy string

const (
	GoneFails   GonePolicy = ""         // The read fails and says which position is gone.
	GoneSkipsTo GonePolicy = "earliest" // It goes on with the earliest record, and counts the gap in positions_gone.
)

// ReadConfig says what to read.
type ReadConfig struct {
	Stream   string
	Region   string // Empty: what the environment says.
	Endpoint string // http:// or https://; empty: what the environment says, or Amazon's.
	From     Position
	To       Position // "latest" or "time". When set, the read is bounded; its end is fixed when it starts.

	// Consumer is the ARN of a consumer that is registered with the stream, for enhanced fan-out; see the package
	// comment. Empty: the read shares what a shard gives with others.
	Consumer string

	// EventTime takes the event time out of a record; nil takes the time of its arrival. It must be a function
	// with a name, because a closure cannot travel to a worker. A record it refuses is a dead letter. With Dedupe
	// the record still has its mark.
	EventTime  func(Record) (time.Time, error)
	OutOfOrder time.Duration // How far a record may lie before the latest one of its shard and be on time.
	IdleAfter  time.Duration // Silence after which a caught-up shard holds no window; 10 s, negative: never.

	MaxAhead  time.Duration // An event time further ahead of the clock, or of the record's arrival, is dead (FUTURE); 5 min, negative: no bound.
	MaxBehind time.Duration // An event time further before the record's arrival is dead (BAD_TIME); 0: no bound.

	// Dedupe takes the marks of Write off and drops what was read before. A record without a mark goes through.
	Dedupe bool

	PositionGone GonePolicy
	Timeout      time.Duration // How long the service may be away or refuse before the bundle fails; 60 s.
	FetchRecords int32         // What one read of a shard asks for; 2,000, at most 10,000.
	Turn         time.Duration // How long shards are read before they rest, though there is more; 0: no bound. For runners that do not interrupt a source. Not in a bounded read.
	ReadGap      time.Duration // The least time between two reads of one shard in a process; 200 ms, as Kinesis allows 5 a second to all readers together; at most 10 s.
}

// closureName matches the names that the compiler gives to functions without one, and to method values.
var closureName = regexp.MustCompile(`\.func\d+|-fm$`)

func (c ReadConfig) withDefaults() (ReadConfig, error) {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&c.IdleAfter, 10 * time.Second}, {&c.MaxAhead, 5 * time.Minute}, {&c.Timeout, time.Minute}, {&c.ReadGap, readGap}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.FetchRecords == 0 {
		c.FetchRecords = 2000
	}
	errs := []error{checkStream(c.Stream, c.Region, c.Endpoint), checkConsumer(c.Consumer, c.Stream), c.From.check("From"), c.To.check("To")}
	if c.To.Kind == "earliest" || c.To.Kind == "sequence" {
		errs = append(errs, fmt.Errorf("To is of kind %q: a read ends at latest or at a time", c.To.Kind))
	}
	if c.From.Kind == "time" && c.To.Kind == "time" && c.To.Millis < c.From.Millis {
		errs = append(errs, fmt.Errorf("To, %s, is before From, %s", utc(c.To.Millis), utc(c.From.Millis)))
	}
	if c.OutOfOrder < 0 || c.MaxBehind < 0 || c.Timeout < 0 || c.ReadGap < 0 || c.Turn < 0 {
		errs = append(errs, errors.New("OutOfOrder, MaxBehind, Timeout, Turn and ReadGap must not be negative"))
	}
	if c.ReadGap > maxReadGap {
		errs = append(errs, fmt.Errorf("ReadGap is %v: want at most %v", c.ReadGap, maxReadGap))
	}
	if c.FetchRecords < 1 || c.FetchRecords > 10_000 {
		errs = append(errs, fmt.Errorf("FetchRecords is %d: want 1 to 10000", c.FetchRecords))
	}
	if c.PositionGone != GoneFails && c.PositionGone != GoneSkipsTo {
		errs = append(errs, fmt.Errorf("PositionGone is %q: want GoneFails or GoneSkipsTo", c.PositionGone))
	}
	return c, errors.Join(errs...)
}

func utc(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

var sequenceNumber = regexp.MustCompile(`^(0|[1-9][0-9]{0,128})$`)

func (p Position) check(name string) error {
	switch p.Kind {
	case "", "earliest", "latest", "time":
		return nil
	case "sequence":
		if !sequenceNumber.MatchString(p.Sequence) {
			return fmt.Errorf("%s is sequence number %q: want decimal digits", name, p.Sequence)
		}
		return nil
	}
	return fmt.Errorf("%s is of kind %q: want earliest, latest, sequence or time", name, p.Kind)
}

var (
	streamName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)
	regionName = regexp.MustCompile(`^[a-z0-9-]{0,32}$`)
)

func checkStream(stream, region, endpoint string) error {
	var errs []error
	if !streamName.MatchString(stream) {
		errs = append(errs, fmt.Errorf("stream %q: want 1 to 128 of a-z A-Z 0-9 . _ -", stream))
	}
	if !regionName.MatchString(region) {
		errs = append(errs, fmt.Errorf("region %q: want one like eu-central-1", region))
	}
	if endpoint != "" && !strings.HasPrefix(endpoint, "http://") && !strings.HasPrefix(endpoint, "https://") {
		errs = append(errs, errors.New("the endpoint does not start with http:// or https://"))
	}
	if strings.Contains(endpoint, "@") {
		errs = append(errs, errors.New("the endpoint holds a user or password; credentials come from the environment (AWS_PROFILE, AWS_ACCESS_KEY_ID …)"))
	}
	return errors.Join(errs...)
}
