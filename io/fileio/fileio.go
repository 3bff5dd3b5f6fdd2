// SPDX-License-Identifier: Apache-2.0

// Package fileio writes and reads files of JSON lines, CSV, Avro or Parquet, compressed or not, in a local folder, an S3
// bucket or a GCS bucket. The store of a bucket is there once its package is imported: io/s3io or io/gcsio.
//
// Write puts each window, pane, folder and shard into files with names that follow from them alone, and says with a
// manifest when a window is whole. Read is a splittable DoFn over the records of JSON lines and CSV. It does not look
// inside a record: what is malformed is the business of the transform that parses it. ReadRows is one over the rows of
// Avro and Parquet, which become structs.
//
// # Delivery guarantees
//
// Write: each file appears once and whole. Rows are sorted and formats are deterministic, so that a bundle that runs
// again after a crash at any point makes the same bytes under the same name, finds its file and leaves it. Equal rows
// stay as often as they came. A File is put out, and a manifest is written, after what they tell of is durable. What the
// place has to do for it:
//
//   - a local folder: content is written under a temporary name, synced, and linked to its final name, which never
//     replaces anything; then the folder is synced. The contents of files tell equal from different. What a killed
//     process left behind is removed when the next one begins to write.
//   - s3:// and gs://: the object is created on the condition that there is none. It carries a commit ID, made of the job,
//     prefix, window, pane, folder, shard and part, and its SHA-256, by which an attempt knows an object of its own.
//
// An object that is there and is not the one to write stops the job with a message, whoever made it. With JobID, places are
// claimed, so that two jobs cannot share one by accident.
//
// This needs a runner on which a group, once committed, is the same on every attempt. Hornbeam is one, and Dataflow.
// Flink goes back to its last checkpoint and makes groups again: those by event time alone come out the same, those of
// triggers in processing time, as Early and Late are, may not. A group that has changed between attempts finds a file
// with other content, which is reported as above: never mixed, never replaced.
//
// Read and ReadRows: the position is part of the restriction, so on a runner that commits position and output together each record
// or row comes once. A file that changes between match and read is an error.
package fileio

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/fileio/internal/format"
)

func init() {
	for _, v := range []any{Record{}, DeadLetter{}, File{}, Restriction{}, rowRange{}, sourceFile{}} {
		beam.RegisterType(reflect.TypeOf(v))
	}
	register.DoFn5x0[context.Context, beam.EventTime, beam.T, func(string, []byte), func(DeadLetter)](&elementFn{})
	register.DoFn6x0[context.Context, beam.EventTime, string, []byte, func(string, []byte), func(DeadLetter)](&keyedFn{})
	register.DoFn6x1[context.Context, beam.PaneInfo, beam.Window, string, func(*[]byte) bool, func(File), error](&filesFn{})
	register.DoFn5x1[context.Context, beam.PaneInfo, beam.Window, int, func(*File) bool, error](&manifestFn{})
	register.DoFn3x1[context.Context, []byte, func(sourceFile), error](&matchFn{})
	register.DoFn6x1[context.Context, *estimator, *sdf.LockRTracker, sourceFile, func(beam.EventTime, Record), func(DeadLetter), error](&readFn{})
	register.DoFn6x1[context.Context, *estimator, *sdf.LockRTracker, sourceFile, func(beam.EventTime, beam.X), func(DeadLetter), error](&readRowsFn{})
	register.Emitter2[string, []byte]()
	register.Emitter1[File]()
	register.Emitter1[DeadLetter]()
	register.Emitter1[sourceFile]()
	register.Emitter2[beam.EventTime, Record]()
	register.Emitter2[beam.EventTime, beam.X]()
	register.Iter1[[]byte]()
	register.Iter1[File]()
}

// Format is how the records of a file are written.
type Format = format.Format

// The formats.
const (
	JSONLines = format.JSONLines // Each line is a JSON value.
	CSV       = format.CSV       // As RFC 4180, with the names of the columns in the first record if elements are structs.
	Avro      = format.Avro      // Object container file of Avro 1.11; the schema is in the file.
	Parquet   = format.Parquet   // Typed columns with statistics.
)

// Compression is how a file, or for Avro and Parquet its blocks, are compressed.
type Compression = format.Compression

// The compressions.
const (
	Usual = format.Usual // Zstd for Avro and Parquet, none for text.
	None  = format.None
	Gzip  = format.Gzip // For Avro deflate, which is what the format has.
	Zstd  = format.Zstd
)

// namespace is the namespace of the counters.
const namespace = "fileio"

// Record is one record of a file: a line of JSON-lines, or a CSV record, which may span lines.
type Record struct {
	File   string // Path or URL of the file.
	Line   int64  // Number of the line the record starts in, from 1.
	Offset int64  // Where it starts, in bytes after decompression.
	Header []byte // CSV with Header set: the first record of the file; else empty.
	Bytes  []byte // The record without its line end.
}

// File is one file that Write has made.
type File struct {
	URL    string // Of the folder or bucket it is in, as in WriteConfig.
	Key    string // Its path below URL, with slashes.
	Rows   int64
	Bytes  int64
	SHA256 string // Of its bytes, in hex.
	Hash   string // Of its rows, whatever their order: the same rows in several files sum up to the same (see RowsHash).
}

// DeadLetter is what could not be read or written, and why.
type DeadLetter struct {
	Code   string // One of the Code constants.
	File   string // Empty for Write.
	Line   int64  // Of Read.
	Offset int64  // Of Read.
	Row    int64  // Of ReadRows: its number in the file, from 0.
	Error  string
	Bytes  []byte // The record or row, or a struct as JSON; of one that is too long the first KiB, of one with a bad value nothing.
}

// The codes of dead letters. There are no others.
const (
	CodeTooLong   = "TOO_LONG"   // Of Read: a record is longer than ReadConfig.MaxRecord.
	CodeBadTime   = "BAD_TIME"   // A record or row has no event time, or for WriteConfig.Window one before 1970.
	CodeBadValue  = "BAD_VALUE"  // Of ReadRows: a field cannot hold what the row has, as a null or a number that is too large.
	CodeBadRow    = "BAD_ROW"    // Of Write: the format cannot hold an element so that Read gives it back, as a record with a line end or an empty one.
	CodeBadFolder = "BAD_FOLDER" // Of Write: an element has no event time for its folder, or a path that is too long or no legal name.
)

// WriteConfig says where elements go, and in what shape.
type WriteConfig struct {
	URL         string      // A folder, or s3://bucket/prefix or gs://bucket/prefix in a program that imports s3io or gcsio.
	Prefix      string      // How the names of files start; "part" by default.
	JobID       string      // When set, the place is claimed for it (see blob.Claim).
	Format      Format      // JSONLines by default.
	Compression Compression // The usual one of the format by default.

	// Window is the event time that one set of files covers, from the beginning of 1970, in UTC; an element before that is
	// a dead letter. 0 leaves windows and triggers as the input has them, and then Early, Lateness and Late have to be 0,
	// too.
	Window   time.Duration
	Early    time.Duration // An element waits no longer than this for the end of its window; 0 is for ever.
	Lateness time.Duration // How late an element may be; what is later is dropped and counted by the runner.
	Late     time.Duration // Late elements of a window are collected for this long before they make a file.

	// Partition are folders by the event time of an element: of year, month, day, date and hour. {"date", "hour"}
	// makes date=2018-04-01/hour=13.
	Partition []string
	Zone      string   // The time zone of Partition, of the IANA database; "UTC" by default.
	Fields    []string // Folders by columns of a struct, which stay in its row, after those of Partition: country=DE.

	Shards     int   // Files per window, pane and folder that are written at once, at most; 1 by default.
	TargetSize int64 // Bytes after which a file ends and another part begins; 0 is never.
	Complete   bool  // A manifest for each window, once everything of it is there (see Manifest).
	Memory     int   // Bytes of rows sorted in memory before they are spilled to disk; 32 MiB by default, at least 1 MiB.
}

// Written is what Write has made of its input.
type Written struct {
	Files beam.PCollection // PCollection<File>
	Dead  beam.PCollection // PCollection<DeadLetter>, in the windows of the input.
}

// ReadConfig says what to read.
type ReadConfig struct {
	// Pattern is a path or an s3:// or gs:// URL with *, ?, [a-z] and ** for any number of folders (see blob.Glob). It passes
	// over names that begin with _ or a dot, as claims and manifests of Write, where the pattern does not begin so, too. A
	// path is relative to the working directory of the worker. Options of a URL are at its end: gs://cards/**/*.csv?timeout=1m.
	Pattern   string
	Format    Format // JSONLines or CSV.
	Header    bool   // CSV only: the first record of a file names the columns and is not emitted.
	AllowNone bool   // No matching file is not an error.
	MaxRecord int    // Bytes of the longest record; 16 MiB by default. A longer one is a dead letter.
	Block     int64  // Plain JSON-lines files are split into blocks of this size at first; 64 MiB by default.

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
		return c, fmt.Errorf("Format is %d: Read takes JSONLines and CSV", c.Format)
	case c.Header && c.Format != CSV:
		return c, fmt.Errorf("Header is for CSV only")
	}
	if err := blob.CheckSplit(c.Pattern); err != nil {
		return c, fmt.Errorf("Pattern: %w", err)
	}
	return c, nil
}
