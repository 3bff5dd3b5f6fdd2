// SPDX-License-Identifier: Apache-2.0

// Package kafkaio reads and writes Apache Kafka topics with franz-go, without an expansion service.
//
// Read is an unbounded splittable DoFn: one restriction per partition, and the position in the partition is
// part of the restriction. Nothing is kept in consumer groups. The position is a value of its own: it moves
// over compacted records, markers and aborted transactions. Write is transactional, or a keyed, idempotent
// producer. How to be let in by the brokers is said by Access, in which there are no secrets.
//
// # Delivery guarantees
//
// Read: a runner that commits a bundle's output and its residual together sees each record once, also after
// a crash; nothing is lost or repeated by Read itself. A record that lies outside the stated range of event
// time is a dead letter, and so is a value that does not fit its schema. An offset that the broker no longer has
// is an error, or a counted gap (GonePolicy).
//
// Write, exactly once: a reader with isolation level read_committed finds each record once, whatever is killed and
// when. The records of a shard are numbered in state, and a transaction writes records and, as the offset of a
// group that nobody consumes with, the number of the last one. Whoever writes next, after a crash, a lost answer
// or an error, gets a new producer, which ends the open transaction and fences the old one, asks for the number
// and goes on behind it. This holds if
//
//   - the runner keeps state and what a stage has passed on, once committed, the same on every
//     retry (stable input), and never goes back behind it. Hornbeam does. The Go SDK cannot ask for it. Flink
//     goes back to its last checkpoint and numbers anew what came after it, which the sink finds and refuses: use
//     AtLeastOnce there, as on any runner of which you do not know.
//   - ID stays the same over restarts, and no other sink has it.
//   - the brokers lose nothing: three replicas and min.insync.replicas=2. A single broker of Kafka 4.3 or 4.4.0 that
//     is restarted may forget the end of a transaction (KAFKA-20734); use 4.2 or several brokers.
//   - a sink is not silent for longer than offsets.retention.minutes, by default a week, between two records of a
//     shard: then the number is gone.
//
// What Kafka has is compared with what the job knows whenever a producer is opened. The job stops with an error
// that says what to do, and writes nothing more, if Kafka has less than it had acknowledged, or more than the
// job's state can have written (an older state was put back), or other records, or those of another job with the
// same ID. A state that was put back by less than one bundle is noticed when the job reaches the number in Kafka.
// Records come in the order in which the runner gives them, per key; equal keys share a shard and a partition.
// A transaction waits for records (Every), and needs WRITE on the topic and on the transactional ids ID/SHARD,
// and READ on the groups of the same names.
//
// Write, at least once: every record is acknowledged by all in-sync replicas before its bundle ends, and a
// retry inside the client cannot write twice; but a bundle that runs again, after a crash or an error, writes
// its records again. Order is kept per partition within a bundle.
//
// In both, a record that the broker refuses for good is a dead letter, and the others are written.
//
// # Time
//
// The watermark of a partition is its latest event time less OutOfOrder. A partition that is caught up and
// has been quiet for IdleAfter follows the clock of the worker instead: the time of the fetch that found
// nothing, less one second for records on their way and OutOfOrder. So windows close when all partitions are silent, provided that event times are
// not ahead of the clock; a partition with records yet to read is never idle, however slow. After a restart
// the watermark stays where it was and the wait for idleness begins anew.
//
// As long as new partitions are looked for, the watermark of the whole read stays behind the time of the
// last look, by the second and OutOfOrder too, so that their first records are not late.
package kafkaio

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
	for _, v := range []any{Record{}, Header{}, DeadLetter{}, Restriction{}, WatermarkState{}, partition{}, discovery{}, numbering{}, progress{}, Access{}} {
		beam.RegisterType(reflect.TypeOf(v))
	}
	register.DoFn3x1[context.Context, []byte, func(partition), error](&listFn{})
	register.DoFn5x2[context.Context, *floor, *sdf.LockRTracker, []byte, func(beam.EventTime, partition), sdf.ProcessContinuation, error](&discoverFn{})
	register.DoFn6x2[context.Context, *estimator, *sdf.LockRTracker, partition, func(beam.EventTime, Record), func(DeadLetter), sdf.ProcessContinuation, error](&readFn{})
	register.DoFn6x1[context.Context, *estimator, *sdf.LockRTracker, partition, func(beam.EventTime, Record), func(DeadLetter), error](&readBoundedFn{})
	register.DoFn3x1[context.Context, Record, func(DeadLetter), error](&writeFn{})
	register.DoFn2x0[Record, func(int64, []byte)](&shardFn{})
	register.DoFn3x0[int64, func(*[]byte) bool, func(int64, []byte)](&gatherFn{})
	register.DoFn4x1[state.Provider, int64, []byte, func(int64, []byte), error](&numberFn{})
	register.DoFn5x1[context.Context, state.Provider, int64, []byte, func(DeadLetter), error](&commitFn{})
	register.Function2x1(asRecord)
	register.Emitter2[int64, []byte]()
	register.Iter1[[]byte]()
	register.Emitter1[partition]()
	register.Emitter2[beam.EventTime, partition]()
	register.Emitter2[beam.EventTime, Record]()
	register.Emitter1[DeadLetter]()
}

// namespace is the namespace of the metrics.
const namespace = "kafkaio"

// Record is one record of a topic.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Key       []byte
	Value     []byte
	NoKey     bool  // The record has no key, which is not an empty one.
	Tombstone bool  // The record has no value, which is not an empty one.
	Timestamp int64 // Milliseconds since 1970; -1 when the producer gave none.
	Headers   []Header
	Schema    int32 // With a registry: the id of the schema that the value had.
}

// Header is a header of a record.
type Header struct {
	Key   string
	Value []byte
}

// DeadLetter is a record that cannot be read or written, and why. Of a read it names topic, partition and offset
// and has the value as it is in the topic.
type DeadLetter struct {
	Code   string // One of the Code constants.
	Error  string
	Record Record
}

// The codes of dead letters. There are no others.
const (
	CodeFuture  = "FUTURE"   // Of Read: the event time is too far ahead.
	CodeBadTime = "BAD_TIME" // Of Read: there is no event time, or it is too long ago.

	CodeNoSchema      = "NO_SCHEMA"      // Of Read with a registry: the value does not begin with a zero byte and four bytes of schema id.
	CodeUnknownSchema = "UNKNOWN_SCHEMA" // The registry has no schema with this id.
	CodeBadSchema     = "BAD_SCHEMA"     // The schema is not Avro or JSON, or cannot be read.
	CodeBadAvro       = "BAD_AVRO"       // The value is not what its Avro schema says.
	CodeBadJSON       = "BAD_JSON"       // The value is not JSON.

	CodeTooLarge     = "MESSAGE_TOO_LARGE"     // Of Write, and as the broker says it: this and what follows.
	CodeListTooLarge = "RECORD_LIST_TOO_LARGE" //
	CodeInvalid      = "INVALID_RECORD"        //
	CodeInvalidTime  = "INVALID_TIMESTAMP"     //
)

// Position says where in each partition a read starts or ends. The zero Position is the earliest record as a
// start and never as an end.
type Position struct {
	Kind   string // "", "earliest", "latest", "offset" or "time".
	Offset int64  // For "offset".
	Millis int64  // For "time": milliseconds since 1970.
}

// Earliest is the first record that the broker has.
func Earliest() Position { return Position{Kind: "earliest"} }

// Latest is the end of the partition when the read starts. What an open transaction has written below it
// belongs to the read: a bounded read waits for its outcome, and says so in the log.
func Latest() Position { return Position{Kind: "latest"} }

// AtOffset is an offset, the same in each partition; as an end it is exclusive and may lie in the future.
func AtOffset(offset int64) Position { return Position{Kind: "offset", Offset: offset} }

// AtTime is the first record with this timestamp or a later one, or the end if there is none.
func AtTime(t time.Time) Position { return Position{Kind: "time", Millis: t.UnixMilli()} }

// GonePolicy says what to do when the broker no longer has the wanted offset.
type GonePolicy string

const (
	GoneFails   GonePolicy = ""         // The read fails and says which offset is gone, and which is the earliest.
	GoneSkipsTo GonePolicy = "earliest" // It goes on with the earliest, and counts the gap in offsets_gone.
)

// ReadConfig says what to read.
type ReadConfig struct {
	Brokers []string // HOST:PORT each.
	Topic   string
	Access  Access
	From    Position
	To      Position // When set, the read is bounded; its end is fixed when it starts.

	// Registry is the URL of a schema registry. When it is set, each value begins with a zero byte and the id of
	// its schema, as registry clients write it, and becomes JSON: an Avro value as in Avro's JSON encoding, without
	// the types of unions and with sorted names: a timestamp, time or date is the number its schema counts in, bytes, fixed and
	// decimals are strings of the code points 0 to 255. A JSON value is handed on and not held against its schema.
	// Keys and tombstones stay as they are. A registry that does not answer is waited for; a value that does not
	// fit is a dead letter.
	Registry     string
	RegistryAuth string // A reference (see Access) to USER:PASSWORD, for a registry that asks for it.

	ReadUncommitted bool // Also what transactions have not committed; else only what is committed.

	// EventTime takes the event time out of a record; nil takes the record's timestamp. It must be a function
	// with a name, because a closure cannot travel to a worker. A record it refuses is a dead letter.
	EventTime  func(Record) (time.Time, error)
	OutOfOrder time.Duration // How far a record may lie before the latest one of its partition and be on time.
	IdleAfter  time.Duration // Silence after which a caught-up partition holds no window; 10 s, negative: never.

	MaxAhead  time.Duration // An event time further ahead of the clock, or of the record's timestamp, is dead (FUTURE); 5 min, negative: no bound.
	MaxBehind time.Duration // An event time further before the record's timestamp is dead (BAD_TIME); 0: no bound.

	OffsetGone GonePolicy
	Discover   time.Duration // How often to look for new partitions; 2 s, negative: never. Not in a bounded read.
	Timeout    time.Duration // How long brokers may be away before the bundle fails; 60 s.
	FetchBytes int32         // Of records that one fetch of a partition brings, about, as they are without compression; 4 MiB.
	Turn       time.Duration // How long a partition is read before it rests, though there is more; 0: no bound. For runners that do not interrupt a source. Not in a bounded read.
}

// closureName matches the names that the compiler gives to functions without one, and to method values.
var closureName = regexp.MustCompile(`\.func\d+|-fm$`)

func (c ReadConfig) withDefaults() (ReadConfig, error) {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&c.IdleAfter, 10 * time.Second}, {&c.MaxAhead, 5 * time.Minute}, {&c.Discover, 2 * time.Second}, {&c.Timeout, time.Minute}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.FetchBytes == 0 {
		c.FetchBytes = 4 << 20
	}
	errs := []error{checkTopic(c.Brokers, c.Topic), c.Access.check(), checkRegistry(c.Registry, c.RegistryAuth), c.From.check("From"), c.To.check("To")}
	if c.To.Kind == "earliest" {
		errs = append(errs, errors.New("To is earliest: a read has nothing to end with there"))
	}
	if c.From.Kind == "offset" && c.To.Kind == "offset" && c.To.Offset < c.From.Offset {
		errs = append(errs, fmt.Errorf("To, offset %d, is before From, offset %d", c.To.Offset, c.From.Offset))
	}
	if c.OutOfOrder < 0 || c.MaxBehind < 0 || c.Timeout < 0 || c.FetchBytes < 0 || c.Turn < 0 {
		errs = append(errs, errors.New("OutOfOrder, MaxBehind, Timeout, FetchBytes and Turn must not be negative"))
	}
	if c.Discover > 0 && c.Discover < time.Second {
		errs = append(errs, fmt.Errorf("Discover is %v: want a second or more", c.Discover))
	}
	if c.OffsetGone != GoneFails && c.OffsetGone != GoneSkipsTo {
		errs = append(errs, fmt.Errorf("OffsetGone is %q: want GoneFails or GoneSkipsTo", c.OffsetGone))
	}
	return c, errors.Join(errs...)
}

func (p Position) check(name string) error {
	switch p.Kind {
	case "", "earliest", "latest", "time":
		return nil
	case "offset":
		if p.Offset < 0 {
			return fmt.Errorf("%s is offset %d: want 0 or more", name, p.Offset)
		}
		return nil
	}
	return fmt.Errorf("%s is of kind %q: want earliest, latest, offset or time", name, p.Kind)
}

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

func checkTopic(brokers []string, topic string) error {
	var errs []error
	if len(brokers) == 0 {
		errs = append(errs, errors.New("Brokers is empty: name at least one HOST:PORT"))
	}
	for _, b := range brokers {
		if host, port, ok := strings.Cut(b, ":"); !strings.HasPrefix(b, "[") && (!ok || host == "" || port == "") {
			errs = append(errs, fmt.Errorf("broker %q: want HOST:PORT", b))
		}
	}
	if !topicName.MatchString(topic) || topic == "." || topic == ".." {
		errs = append(errs, fmt.Errorf("topic %q: want 1 to 249 of a-z A-Z 0-9 . _ -", topic))
	}
	return errors.Join(errs...)
}
