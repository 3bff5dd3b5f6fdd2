// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/hornbeam-dev/hornbeam/io/fileio/internal/format"
)

// group is what one pane's files are made of: it follows from an element alone, so that one which is encoded again
// meets its first group.
type group struct {
	folder string // With a slash at its end, or empty.
	shard  int64
}

// key is the group as the key of a GroupByKey.
func (g group) key() string { return g.folder + strconv.FormatInt(g.shard, 10) }

func parseGroup(key string) (group, error) {
	cut := strings.LastIndexByte(key, '/') + 1
	shard, err := strconv.ParseInt(key[cut:], 10, 64)
	if err != nil {
		return group{}, fmt.Errorf("group %q: %w", key, err)
	}
	return group{folder: key[:cut], shard: shard}, nil
}

func shardOf(key []byte, shards int) int64 {
	h := fnv.New64a()
	h.Write(key)
	return int64(h.Sum64() % uint64(shards))
}

// rows turns elements into rows in groups.
type rows struct {
	WriteConfig WriteConfig      // With its defaults.
	Type        beam.EncodedType // Of the elements.

	codec   format.Codec
	folders *folders
	dead    beam.Counter
}

// Setup implements a DoFn.
func (r *rows) Setup() error {
	r.dead = beam.NewCounter(namespace, "dead_letters")
	out, err := newOutline(r.WriteConfig, r.Type.T)
	if err != nil {
		return fmt.Errorf("fileio.Write: %w", err)
	}
	r.codec, r.folders = out.codec, out.folders
	return nil
}

// encode emits the row of an element; shardBy, if it is not nil, chooses the shard instead of it.
func (r *rows) encode(ctx context.Context, at beam.EventTime, element any, shardBy []byte, emit func(string, []byte), dead func(DeadLetter)) {
	if r.WriteConfig.Window > 0 && at < 0 { // The SDK puts it into a window that does not hold it.
		r.refuse(ctx, dead, DeadLetter{Code: CodeBadTime, Error: "the event time is before 1970, where windows begin, or the element has none", Bytes: written(element)})
		return
	}
	row, err := r.codec.Row(element)
	if err != nil {
		r.refuse(ctx, dead, DeadLetter{Code: CodeBadRow, Error: err.Error(), Bytes: written(element)})
		return
	}
	folder, err := r.folders.of(time.UnixMilli(at.Milliseconds()), element)
	if err != nil {
		r.refuse(ctx, dead, DeadLetter{Code: CodeBadFolder, Error: err.Error(), Bytes: row})
		return
	}
	if shardBy == nil {
		shardBy = row
	}
	emit(group{folder: folder, shard: shardOf(shardBy, r.WriteConfig.Shards)}.key(), row)
}

func (r *rows) refuse(ctx context.Context, dead func(DeadLetter), letter DeadLetter) {
	r.dead.Inc(ctx, 1)
	dead(letter)
}

// written is the element of a dead letter that has no row.
func written(element any) []byte {
	switch e := element.(type) {
	case string:
		return []byte(e)
	case []byte:
		return e
	default:
		return asJSON(e)
	}
}

// asJSON is a struct in a dead letter. One that JSON has no words for, as NaN, or would change, as text that is not UTF-8,
// is printed.
func asJSON(element any) []byte {
	b, err := json.Marshal(element)
	if err != nil || bytes.Contains(b, []byte(`\ufffd`)) {
		return fmt.Appendf(nil, "%+v", element)
	}
	return b
}

// elementFn takes elements of any type.
type elementFn struct {
	Rows rows // What it does.
}

// Setup implements a DoFn.
func (f *elementFn) Setup() error { return f.Rows.Setup() }

// ProcessElement implements a DoFn.
func (f *elementFn) ProcessElement(ctx context.Context, at beam.EventTime, element beam.T, emit func(string, []byte), dead func(DeadLetter)) {
	f.Rows.encode(ctx, at, element, nil, emit, dead)
}

// keyedFn takes records whose key chooses the shard.
type keyedFn struct {
	Rows rows // What it does.
}

// Setup implements a DoFn.
func (f *keyedFn) Setup() error { return f.Rows.Setup() }

// ProcessElement implements a DoFn.
func (f *keyedFn) ProcessElement(ctx context.Context, at beam.EventTime, key string, record []byte, emit func(string, []byte), dead func(DeadLetter)) {
	f.Rows.encode(ctx, at, record, append([]byte{}, key...), emit, dead)
}
