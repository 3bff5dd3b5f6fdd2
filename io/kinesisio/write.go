// SPDX-License-Identifier: Apache-2.0

package kinesisio

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/state"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/typex"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/hornbeam-dev/hornbeam/io/internal/outage"
)

// What PutRecords takes at most.
const (
	maxBatch        = 500
	maxRequestBytes = 10 << 20 // Data and partition keys.
	maxKeyLength    = 256      // Characters.
)

// aggregateBytes is the size to which records of one key are put together, as the Kinesis Producer Library does.
const aggregateBytes = 50 << 10

// WriteConfig says where records go.
type WriteConfig struct {
	Stream   string
	Region   string        // Empty: what the environment says.
	Endpoint string        // http:// or https://; empty: what the environment says, or Amazon's.
	Timeout  time.Duration // How long the service may accept nothing before the bundle fails; 60 s.

	Unmarked       bool  // Send the data as it is: for readers other than Read, which cannot tell repeats, and on runners on which marks lose records (Delivery guarantees).
	Aggregate      bool  // Put small records of a bundle that have the same key into one Kinesis record, as the Kinesis Producer Library does.
	Lanes          int   // How many writers number records at once; 32. More than shards. A change is a change of the pipeline.
	MaxRecordBytes int64 // What the stream takes as one record, key and mark included; 1 MiB, at most 10 MiB.
}

func (c WriteConfig) withDefaults() (WriteConfig, error) {
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	if c.Lanes == 0 {
		c.Lanes = 32
	}
	if c.MaxRecordBytes == 0 {
		c.MaxRecordBytes = 1 << 20
	}
	errs := []error{checkStream(c.Stream, c.Region, c.Endpoint)}
	if c.Timeout < 0 || c.Lanes < 1 || c.Lanes > 1<<16 {
		errs = append(errs, errors.New("Timeout must not be negative, and Lanes must be 1 to 65536"))
	}
	if c.MaxRecordBytes < maxKeyLength*utf8.UTFMax || c.MaxRecordBytes > maxRequestBytes {
		errs = append(errs, fmt.Errorf("MaxRecordBytes is %d: want 1024 to 10485760", c.MaxRecordBytes))
	}
	return c, errors.Join(errs...)
}

// Write writes a PCollection<KV<[]byte, []byte>>, key and data, or a PCollection<Record> to a stream and returns
// PCollection<DeadLetter>: what Kinesis cannot hold. A key is UTF-8 of at most 256 characters; in place of an empty
// one, the MD5 sum of the data is taken. Of a Record it takes PartitionKey, ExplicitHashKey and Data.
func Write(s beam.Scope, cfg WriteConfig, col beam.PCollection) (dead beam.PCollection) {
	s = s.Scope("kinesisio.Write")
	cfg, err := cfg.withDefaults()
	if err != nil {
		panic(fmt.Sprintf("kinesisio.Write: %v", err))
	}
	l := laner{Stream: cfg.Stream, Lanes: int64(cfg.Lanes), MaxBytes: cfg.MaxRecordBytes}
	if !cfg.Unmarked {
		l.MaxBytes -= markSize
	}
	// A number is of a lane, not of a lane and window.
	col = beam.WindowInto(s, window.NewGlobalWindows(), col)
	bytes := reflect.TypeFor[[]byte]()
	var laned beam.PCollection
	switch t := col.Type(); {
	case t.Type() == reflect.TypeFor[Record]():
		laned, dead = beam.ParDo2(s, &laneRecordFn{laner: l}, col)
	case typex.IsKV(t) && t.Components()[0].Type() == bytes && t.Components()[1].Type() == bytes:
		laned, dead = beam.ParDo2(s, &laneKVFn{laner: l}, col)
	default:
		panic(fmt.Sprintf("kinesisio.Write: input is %v: want KV<[]byte, []byte> or kinesisio.Record", t))
	}
	var entries beam.PCollection
	if cfg.Unmarked {
		entries = beam.DropKey(s, laned)
	} else {
		entries = beam.ParDo(s, &numberFn{Lane: state.MakeValueState[[]byte]("lane/v1")}, laned)
		entries = beam.Reshuffle(s, entries) // The numbers are durable before they are seen outside.
	}
	beam.ParDo0(s, &writeFn{Place: place{Region: cfg.Region, Endpoint: cfg.Endpoint, Stream: cfg.Stream}, Timeout: cfg.Timeout, Aggregate: cfg.Aggregate}, entries)
	return dead
}

// entry is a record on its way to PutRecords.
type entry struct {
	Key      string
	Explicit string // The explicit hash key, decimal, or empty.
	Data     []byte
}

// laner finds the lane of a record, and refuses what Kinesis cannot hold.
type laner struct {
	Stream   string
	Lanes    int64
	MaxBytes int64 // Of key and data.

	dead beam.Counter
}

// Setup implements a DoFn.
func (l *laner) Setup() { l.dead = beam.NewCounter(namespace, "dead_letters") }

func (l *laner) sort(ctx context.Context, r Record, emit func(int64, entry), dead func(DeadLetter)) {
	refuse := func(code, format string, args ...any) {
		l.dead.Inc(ctx, 1)
		dead(DeadLetter{Code: code, Error: fmt.Sprintf(format, args...), Record: r})
	}
	e := entry{Key: r.PartitionKey, Explicit: r.ExplicitHashKey, Data: r.Data}
	if e.Key == "" {
		sum := md5.Sum(r.Data)
		e.Key = hex.EncodeToString(sum[:])
	}
	hash := hashOf(e.Key)
	if e.Explicit != "" {
		var ok bool
		if hash, ok = parseHash(e.Explicit); !ok {
			refuse(CodeBadKey, "the explicit hash key is not a decimal number below 2^128")
			return
		}
	}
	switch size := int64(len(e.Key) + len(e.Data)); {
	case !utf8.ValidString(e.Key):
		refuse(CodeBadKey, "the key is not UTF-8, which Kinesis requires; encode it, for example in hexadecimal digits")
	case utf8.RuneCountInString(e.Key) > maxKeyLength:
		refuse(CodeBadKey, "the key has %d characters, and Kinesis takes %d", utf8.RuneCountInString(e.Key), maxKeyLength)
	case size > l.MaxBytes:
		refuse(CodeTooLarge, "key and data are %d bytes, and %d are left of what stream %s takes; split the record, or raise the stream's limit and MaxRecordBytes", size, l.MaxBytes, l.Stream)
	default:
		top, _ := strconv.ParseUint(hash[:8], 16, 32)
		emit(int64(top)*l.Lanes>>32, e)
	}
}

type laneKVFn struct{ laner }

// ProcessElement emits the record with its lane.
func (f *laneKVFn) ProcessElement(ctx context.Context, key, data []byte, emit func(int64, entry), dead func(DeadLetter)) {
	f.sort(ctx, Record{Stream: f.Stream, PartitionKey: string(key), Data: data}, emit, dead)
}

type laneRecordFn struct{ laner }

// ProcessElement emits the record with its lane.
func (f *laneRecordFn) ProcessElement(ctx context.Context, r Record, emit func(int64, entry), dead func(DeadLetter)) {
	f.sort(ctx, r, emit, dead)
}

// numberFn gives each record of a lane its mark. A state that goes back behind what was sent gives a number twice.
type numberFn struct {
	Lane state.Value[[]byte] // The writer, and the last sequence in 8 bytes.
}

// ProcessElement emits the record with its mark.
func (f *numberFn) ProcessElement(sp state.Provider, _ int64, e entry, emit func(entry)) error {
	raw, ok, err := f.Lane.Read(sp)
	if err != nil {
		return err
	}
	var m Mark
	switch {
	case !ok:
		rand.Read(m.Writer[:])
	case len(raw) != 24:
		return fmt.Errorf("kinesisio: the state of a lane has %d bytes, want 24", len(raw))
	default:
		m = Mark{Writer: [16]byte(raw[:16]), Sequence: binary.BigEndian.Uint64(raw[16:])}
	}
	m.Sequence++
	if err := f.Lane.Write(sp, binary.BigEndian.AppendUint64(m.Writer[:], m.Sequence)); err != nil {
		return err
	}
	e.Data = m.appendTo(e.Data)
	emit(e)
	return nil
}

// writeFn sends records. Its exported fields are those of WriteConfig.
type writeFn struct {
	Place     place
	Timeout   time.Duration
	Aggregate bool

	client  *client
	release func()
	away    *outage.Service // Of this writer alone: some shards may take what is written while others do not.
	pending []types.PutRecordsRequestEntry
	bytes   int // Of pending.
	open    map[openKey]*openRecord
	order   []openKey // Of open: the order of a map decides nothing.

	written, sent, again beam.Counter
}

type openKey struct{ key, explicit string }

// openRecord is an aggregated record that is being filled.
type openRecord struct {
	users []userRecord
	bytes int
}

// Setup implements a DoFn.
func (f *writeFn) Setup(ctx context.Context) (err error) {
	f.written = beam.NewCounter(namespace, "records_written")
	f.sent = beam.NewCounter(namespace, "kinesis_records_written")
	f.again = beam.NewCounter(namespace, "records_sent_again")
	f.away = &outage.Service{Name: "kinesisio.Write: " + f.Place.String()}
	f.client, f.release, err = clients.Acquire(ctx, f.Place)
	return err
}

// Teardown implements a DoFn.
func (f *writeFn) Teardown() {
	if f.release != nil {
		f.release()
		f.client, f.release = nil, nil
	}
}

// StartBundle implements a DoFn.
func (f *writeFn) StartBundle(context.Context) {
	f.pending, f.bytes, f.open, f.order = nil, 0, map[openKey]*openRecord{}, nil
}

// ProcessElement takes one record, and sends when a request is full.
func (f *writeFn) ProcessElement(ctx context.Context, e entry) error {
	f.written.Inc(ctx, 1)
	if f.Aggregate && len(e.Key)+len(e.Data) < aggregateBytes {
		k := openKey{e.Key, e.Explicit}
		o := f.open[k]
		if o == nil {
			o = &openRecord{}
			f.open[k] = o
			f.order = append(f.order, k)
		}
		o.users = append(o.users, userRecord{key: e.Key, explicit: e.Explicit, data: e.Data})
		if o.bytes += len(e.Data); o.bytes < aggregateBytes {
			return nil
		}
		full := f.closeRecord(k)
		return f.add(ctx, k, full)
	}
	return f.add(ctx, openKey{e.Key, e.Explicit}, e.Data)
}

// closeRecord returns the aggregated record of a key and empties it. One alone is not aggregated.
func (f *writeFn) closeRecord(k openKey) []byte {
	users := f.open[k].users
	f.open[k] = &openRecord{}
	if len(users) == 1 {
		return users[0].data
	}
	return aggregate(users)
}

func (f *writeFn) add(ctx context.Context, k openKey, data []byte) error {
	size := len(k.key) + len(data)
	if len(f.pending) == maxBatch || f.bytes+size > maxRequestBytes {
		if err := f.flush(ctx); err != nil {
			return err
		}
	}
	if data == nil {
		data = []byte{}
	}
	e := types.PutRecordsRequestEntry{PartitionKey: &k.key, Data: data}
	if k.explicit != "" {
		e.ExplicitHashKey = &k.explicit
	}
	f.pending = append(f.pending, e)
	f.bytes += size
	return nil
}

// FinishBundle implements a DoFn: it ends when Kinesis has every record of the bundle.
func (f *writeFn) FinishBundle(ctx context.Context) error {
	for _, k := range f.order {
		if len(f.open[k].users) == 0 {
			continue
		}
		if err := f.add(ctx, k, f.closeRecord(k)); err != nil {
			return err
		}
	}
	return f.flush(ctx)
}

// afterRefusal is the wait before what was refused is sent again, when the rest of a request was accepted.
const afterRefusal = 100 * time.Millisecond

// flush sends what is pending, and again what was refused of it, until all is accepted or nothing was for Timeout.
func (f *writeFn) flush(ctx context.Context) error {
	patience := outage.Patience{Timeout: f.Timeout, Attempt: attemptTimeout, Longest: longestWait, Permanent: isPermanent}
	for len(f.pending) > 0 {
		if err := f.away.Do(ctx, patience, f.put); err != nil {
			return f.explain(err)
		}
		if len(f.pending) > 0 {
			outage.Pause(ctx, afterRefusal)
		}
	}
	f.bytes = 0
	return nil
}

// put sends what is pending once, and leaves what was refused. It is an error if that was all.
func (f *writeFn) put(ctx context.Context) error {
	tried := len(f.pending)
	refused, reason := f.pending, error(nil)
	out, err := f.client.api.PutRecords(ctx, &kinesis.PutRecordsInput{StreamName: &f.Place.Stream, Records: f.pending})
	switch {
	case err != nil:
		reason = err
	case len(out.Records) != tried:
		reason = fmt.Errorf("the service answered for %d records of %d", len(out.Records), tried)
	default:
		refused = nil
		for i, r := range out.Records {
			if name := aws.ToString(r.ErrorCode); name != "" {
				refused = append(refused, f.pending[i])
				reason = fmt.Errorf("%s: %s", name, aws.ToString(r.ErrorMessage))
			}
		}
	}
	f.sent.Inc(ctx, int64(tried-len(refused)))
	f.again.Inc(ctx, int64(len(refused)))
	f.pending = refused
	if len(refused) < tried {
		return nil
	}
	return reason
}

func (f *writeFn) explain(err error) error {
	if code(err) == "ResourceNotFoundException" {
		return fmt.Errorf("kinesisio.Write: %v does not exist; create it first: %w", f.Place, err)
	}
	return fmt.Errorf("kinesisio.Write: %v: %w", f.Place, err)
}
