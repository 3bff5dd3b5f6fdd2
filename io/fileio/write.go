// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"path/filepath"
	"reflect"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/typex"
)

// Write writes a PCollection<string>, PCollection<[]byte> or PCollection<KV<string, []byte>> as lines, one
// file per window, pane and shard, and returns PCollection<File> and PCollection<DeadLetter>. The shard
// follows from the line, or from the key of a KV, which is not written. A line that holds a line end is a
// dead letter. A file is named
//
//	<prefix>-<window start>-<window end>[-pane<N>]-<shard>-of-<shards>.jsonl
//
// without times in the global window, and without the pane if it is its window's only one.
func Write(s beam.Scope, cfg WriteConfig, col beam.PCollection) (files, dead beam.PCollection) {
	s = s.Scope("fileio.Write")
	cfg, err := cfg.withDefaults()
	if err != nil {
		panic(fmt.Sprintf("fileio.Write: %v", err))
	}
	var sharder any
	switch t := col.Type(); {
	case t.Type() == reflect.TypeFor[string]():
		sharder = &shardStrings{Shards: cfg.Shards}
	case t.Type() == reflect.TypeFor[[]byte]():
		sharder = &shardBytes{Shards: cfg.Shards}
	case typex.IsKV(t) && t.Components()[0].Type() == reflect.TypeFor[string]() && t.Components()[1].Type() == reflect.TypeFor[[]byte]():
		sharder = &shardKeyed{Shards: cfg.Shards}
	default:
		panic(fmt.Sprintf("fileio.Write: input is %v: want string, []byte or KV<string, []byte>", t))
	}
	grouped := beam.GroupByKey(s, beam.ParDo(s, sharder, col))
	return beam.ParDo2(s, &writeFn{WriteConfig: cfg}, grouped)
}

// shardOf depends on nothing but its arguments: a line that is sharded again must meet its first group.
func shardOf(key []byte, shards int) int64 {
	h := fnv.New64a()
	h.Write(key)
	return int64(h.Sum64() % uint64(shards))
}

type shardStrings struct {
	Shards int // As in WriteConfig.
}

func (f *shardStrings) ProcessElement(line string, emit func(int64, []byte)) {
	emit(shardOf([]byte(line), f.Shards), []byte(line))
}

type shardBytes struct {
	Shards int // As in WriteConfig.
}

func (f *shardBytes) ProcessElement(line []byte, emit func(int64, []byte)) {
	emit(shardOf(line, f.Shards), line)
}

type shardKeyed struct {
	Shards int // As in WriteConfig.
}

func (f *shardKeyed) ProcessElement(key string, line []byte, emit func(int64, []byte)) {
	emit(shardOf([]byte(key), f.Shards), line)
}

// writeFn writes one group as one file.
type writeFn struct {
	WriteConfig WriteConfig // With its defaults.

	lines, files, dead beam.Counter
}

func (f *writeFn) Setup() error {
	f.lines = beam.NewCounter(namespace, "lines_written")
	f.files = beam.NewCounter(namespace, "files_written")
	f.dead = beam.NewCounter(namespace, "dead_letters")
	if f.WriteConfig.JobID != "" {
		return Claim(f.WriteConfig.Dir, f.WriteConfig.JobID)
	}
	return makeDir(f.WriteConfig.Dir)
}

func (f *writeFn) ProcessElement(ctx context.Context, pane beam.PaneInfo, w beam.Window, shard int64, lines func(*[]byte) bool, emit func(File), dead func(DeadLetter)) error {
	cfg := f.WriteConfig
	srt := &sorter{dir: cfg.Dir, limit: cfg.Memory}
	defer srt.close()
	var line []byte
	for lines(&line) {
		if bytes.IndexByte(line, '\n') >= 0 {
			f.dead.Inc(ctx, 1)
			dead(DeadLetter{Code: "NEWLINE", Error: "the line holds a line end and would become two; write compact JSON", Bytes: line})
			continue
		}
		if err := srt.add(line); err != nil {
			return fmt.Errorf("fileio.Write: sort lines for %s: %w", cfg.Dir, err)
		}
	}
	if srt.count == 0 {
		return nil
	}
	path := filepath.Join(cfg.Dir, fileName(cfg, w, pane, shard))
	size, err := publish(path, srt.writeTo)
	if err != nil {
		return fmt.Errorf("fileio.Write: %w", err)
	}
	f.lines.Inc(ctx, srt.count)
	f.files.Inc(ctx, 1)
	emit(File{Path: path, Lines: srt.count, Bytes: size})
	return nil
}

// fileName is the same for the same arguments and different for different ones: prefix and suffix are fixed
// for one Write, the other parts have one form each.
func fileName(cfg WriteConfig, w beam.Window, pane beam.PaneInfo, shard int64) string {
	name := cfg.Prefix
	switch w := w.(type) {
	case window.GlobalWindow:
	case window.IntervalWindow:
		name += "-" + compact(w.Start) + "-" + compact(w.End)
	default:
		name += "-" + compact(w.MaxTimestamp())
	}
	if !pane.IsFirst || !pane.IsLast {
		name += fmt.Sprintf("-pane%d", pane.Index)
	}
	return name + fmt.Sprintf("-%05d-of-%05d%s", shard, cfg.Shards, cfg.Suffix)
}

func compact(t mtime.Time) string {
	layout := "20060102T150405Z"
	if t.Milliseconds()%1000 != 0 {
		layout = "20060102T150405.000Z"
	}
	return time.UnixMilli(t.Milliseconds()).UTC().Format(layout)
}
