// SPDX-License-Identifier: Apache-2.0

// Package fileio reads and writes local files of lines: JSON-lines and CSV.
//
// Write puts each window, pane and shard into one file with a name that follows from them alone;
// Read is a splittable DoFn over records, plain or gzip. Neither looks inside a record: what is
// malformed is the business of the transform that parses it. For object stores see io/s3io and io/gcsio.
//
// # Delivery guarantees
//
// Write: each file appears once and whole. Its content is written under a temporary name in the same
// folder, synced, and linked to its final name, which never replaces anything; then the folder is synced.
// Lines are sorted, so a bundle that runs again after a crash at any point makes the same bytes, finds its
// file and leaves it. This needs a runner on which a group, once committed, is the same on every retry
// (Hornbeam; on others, a group that changes between attempts is reported as an error, never mixed). The
// file that exists with other content stops the job with a message. Equal lines stay as often as they came.
//
// Read: the position is part of the restriction, so on a runner that commits position and output together
// each record comes once. A file that changes between match and read is an error.
package fileio

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
)

func init() {
	for _, v := range []any{Record{}, DeadLetter{}, File{}, Restriction{}, sourceFile{}} {
		beam.RegisterType(reflect.TypeOf(v))
	}
	register.DoFn2x0[string, func(int64, []byte)](&shardStrings{})
	register.DoFn2x0[[]byte, func(int64, []byte)](&shardBytes{})
	register.DoFn3x0[string, []byte, func(int64, []byte)](&shardKeyed{})
	register.DoFn7x1[context.Context, beam.PaneInfo, beam.Window, int64, func(*[]byte) bool, func(File), func(DeadLetter), error](&writeFn{})
	register.DoFn3x1[context.Context, []byte, func(sourceFile), error](&matchFn{})
	register.DoFn6x1[context.Context, *estimator, *sdf.LockRTracker, sourceFile, func(beam.EventTime, Record), func(DeadLetter), error](&readFn{})
	register.Emitter2[int64, []byte]()
	register.Emitter1[File]()
	register.Emitter1[DeadLetter]()
	register.Emitter1[sourceFile]()
	register.Emitter2[beam.EventTime, Record]()
	register.Iter1[[]byte]()
}

// namespace is the namespace of the counters.
const namespace = "fileio"

// Record is one record of a file: a line of JSON-lines, or a CSV record, which may span lines.
type Record struct {
	File   string // Path of the file.
	Line   int64  // Number of the line the record starts in, from 1.
	Offset int64  // Where it starts, in bytes after decompression.
	Header []byte // CSV with Header set: the first record of the file; else empty.
	Bytes  []byte // The record without its line end.
}

// File is one file that Write has made.
type File struct {
	Path  string
	Lines int64
	Bytes int64
}

// DeadLetter is what could not be read or written, and why.
type DeadLetter struct {
	Code   string // TOO_LONG, BAD_TIME or NEWLINE.
	File   string // Empty for Write.
	Line   int64
	Offset int64
	Error  string
	Bytes  []byte // The record; of one that is too long the first KiB.
}

// WriteConfig says where lines go.
type WriteConfig struct {
	Dir    string // The folder; it is made when it does not exist.
	Prefix string // How file names start; "part" by default.
	Suffix string // How they end; ".jsonl" by default.
	Shards int    // Files per window and pane, at most; 1 by default. A shard without lines makes no file.
	JobID  string // When set, the folder is claimed for it (see Claim).
	Memory int    // Bytes of lines sorted in memory before they are spilled to disk; 32 MiB by default.
}

func (c WriteConfig) withDefaults() (WriteConfig, error) {
	if c.Prefix == "" {
		c.Prefix = "part"
	}
	if c.Suffix == "" {
		c.Suffix = ".jsonl"
	}
	if c.Shards == 0 {
		c.Shards = 1
	}
	if c.Memory == 0 {
		c.Memory = 32 << 20
	}
	switch {
	case c.Dir == "":
		return c, fmt.Errorf("Dir is empty: name the folder for the files")
	case c.Shards < 0 || c.Shards > 99999:
		return c, fmt.Errorf("Shards is %d: want 1 to 99999", c.Shards)
	case c.Memory < 0:
		return c, fmt.Errorf("Memory is %d: want a number of bytes", c.Memory)
	case c.Prefix[0] == '.' || c.Prefix[0] == '_' || filepath.Base(c.Prefix) != c.Prefix:
		return c, fmt.Errorf("Prefix is %q: want a file name part that does not start with . or _", c.Prefix)
	case filepath.Base("x"+c.Suffix) != "x"+c.Suffix:
		return c, fmt.Errorf("Suffix is %q: want a file name part", c.Suffix)
	}
	return c, nil
}

// Format is what separates the records of a file.
type Format int

const (
	JSONLines Format = iota // Every line is a record.
	CSV                     // As RFC 4180: a quoted field may hold line ends.
)

// ReadConfig says what to read.
type ReadConfig struct {
	Pattern   string // Of path/filepath.Match, relative to the working directory of the worker.
	Format    Format
	Header    bool  // CSV only: the first record of a file names the columns and is not emitted.
	AllowNone bool  // No matching file is not an error.
	MaxRecord int   // Bytes of the longest record; 16 MiB by default. A longer one is a dead letter.
	Block     int64 // Plain JSON-lines files are split into blocks of this size at first; 64 MiB by default.

	// EventTime takes the event time out of a record; nil leaves the timestamp of the impulse. It must be a
	// function with a name, because a closure cannot travel to a worker. A record it refuses is a dead letter.
	EventTime  func(record []byte) (time.Time, error)
	OutOfOrder time.Duration // How far a record may lie before the latest one of its block and still be on time.
}

func (c ReadConfig) withDefaults() (ReadConfig, error) {
	if c.MaxRecord == 0 {
		c.MaxRecord = 16 << 20
	}
	if c.Block == 0 {
		c.Block = 64 << 20
	}
	switch {
	case c.Pattern == "":
		return c, fmt.Errorf("Pattern is empty: name the files to read")
	case c.MaxRecord < 0 || c.Block < 0 || c.OutOfOrder < 0:
		return c, fmt.Errorf("MaxRecord, Block and OutOfOrder must not be negative")
	case c.Format != JSONLines && c.Format != CSV:
		return c, fmt.Errorf("Format is %d: want JSONLines or CSV", c.Format)
	case c.Header && c.Format != CSV:
		return c, fmt.Errorf("Header is for CSV only")
	}
	if _, err := filepath.Match(c.Pattern, ""); err != nil {
		return c, fmt.Errorf("Pattern %q: %w", c.Pattern, err)
	}
	return c, nil
}
