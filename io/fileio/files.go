// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/fileio/internal/format"
)

// place is the store of a Write in a worker.
type place struct {
	URL   string // As in WriteConfig.
	JobID string // As in WriteConfig.

	store blob.Store
}

// Setup implements a DoFn: it opens the store and claims it for the job.
func (p *place) Setup(ctx context.Context) error {
	store, err := blob.Open(ctx, p.URL)
	if err != nil {
		return fmt.Errorf("fileio.Write: %w", err)
	}
	p.store = store
	if p.JobID == "" {
		return nil
	}
	if err := blob.Claim(ctx, store, p.JobID); err != nil {
		return fmt.Errorf("fileio.Write: %w", err)
	}
	return nil
}

// Teardown implements a DoFn.
func (p *place) Teardown() error {
	if p.store == nil {
		return nil
	}
	return p.store.Close()
}

// create makes what is in the spool the object at key, and returns its content.
func (p *place) create(ctx context.Context, key string, spool *blob.Spool) (blob.Content, error) {
	c := spool.Content(commitID(p.JobID, key))
	_, err := p.store.Create(ctx, key, c)
	if errors.Is(err, blob.ErrConflict) && !errors.Is(err, blob.ErrOtherBytes) { // That says what to do.
		err = fmt.Errorf("%w: the place holds another job's results, or the input of this job has changed; "+
			"move the files away or name another place", err)
	}
	return c, err
}

// filesFn writes the rows of one group as files.
type filesFn struct {
	Place       place            // Where.
	WriteConfig WriteConfig      // With its defaults.
	Type        beam.EncodedType // Of the elements.

	codec              format.Codec
	rows, files, bytes beam.Counter
}

// Setup implements a DoFn.
func (f *filesFn) Setup(ctx context.Context) error {
	f.rows = beam.NewCounter(namespace, "rows_written")
	f.files = beam.NewCounter(namespace, "files_written")
	f.bytes = beam.NewCounter(namespace, "bytes_written")
	out, err := newOutline(f.WriteConfig, f.Type.T)
	if err != nil {
		return fmt.Errorf("fileio.Write: %w", err)
	}
	f.codec = out.codec
	return f.Place.Setup(ctx)
}

// Teardown implements a DoFn.
func (f *filesFn) Teardown() error { return f.Place.Teardown() }

// ProcessElement implements a DoFn.
func (f *filesFn) ProcessElement(ctx context.Context, pane beam.PaneInfo, w beam.Window, key string, rows func(*[]byte) bool, emit func(File)) error {
	g, err := parseGroup(key)
	if err != nil {
		return fmt.Errorf("fileio.Write: %w", err)
	}
	name := func(part int) string {
		return g.folder + fileName(f.WriteConfig, w, pane, g.shard, part, f.codec.Extension())
	}
	if err := f.writeAll(ctx, name, rows, emit); err != nil {
		return fmt.Errorf("fileio.Write: %w", err)
	}
	return nil
}

// writeAll writes the parts of a group.
func (f *filesFn) writeAll(ctx context.Context, name func(part int) string, rows func(*[]byte) bool, emit func(File)) (err error) {
	srt := &sorter{spool: func() (*blob.Spool, error) { return f.Place.store.Spool(name(0)) }, limit: f.WriteConfig.Memory}
	defer func() { err = errors.Join(err, srt.close()) }() // Also when rows panics, as it does on a broken stream.
	sorted, err := f.sort(srt, rows)
	if err != nil {
		return fmt.Errorf("sort the rows of %s: %w", name(0), err)
	}
	for part := 0; ; part++ {
		if _, ok := sorted.row(); !ok {
			return nil
		}
		file, err := f.write(ctx, name(part), sorted)
		if err != nil {
			return err
		}
		f.rows.Inc(ctx, file.Rows)
		f.files.Inc(ctx, 1)
		f.bytes.Inc(ctx, file.Bytes)
		emit(file)
	}
}

func (f *filesFn) sort(srt *sorter, rows func(*[]byte) bool) (*merge, error) {
	var row []byte
	for rows(&row) {
		if err := srt.add(row); err != nil {
			return nil, err
		}
	}
	return srt.sorted()
}

// write makes one file of the rows that are next, until it has the size to aim at.
func (f *filesFn) write(ctx context.Context, key string, sorted *merge) (file File, err error) {
	spool, err := f.Place.store.Spool(key)
	if err != nil {
		return File{}, err
	}
	defer func() { err = errors.Join(err, spool.Discard()) }()
	count, hash, err := f.fill(spool, sorted)
	if err != nil {
		return File{}, fmt.Errorf("write %s: %w", key, err)
	}
	c, err := f.Place.create(ctx, key, spool)
	if err != nil {
		return File{}, fmt.Errorf("create %s: %w", key, err)
	}
	return File{URL: f.WriteConfig.URL, Key: key, Rows: count, Bytes: c.Size, SHA256: c.SHA256, Hash: hash.String()}, nil
}

func (f *filesFn) fill(spool *blob.Spool, sorted *merge) (count int64, hash RowsHash, err error) {
	buffer := bufio.NewWriterSize(spool, 1<<18)
	w, err := f.codec.NewWriter(buffer)
	if err != nil {
		return 0, hash, err
	}
	for row, ok := sorted.row(); ok; row, ok = sorted.row() {
		if err := w.Write(row); err != nil {
			return 0, hash, errors.Join(err, w.Close())
		}
		hash.Add(row)
		count++
		if err := sorted.skip(); err != nil {
			return 0, hash, errors.Join(err, w.Close())
		}
		if f.WriteConfig.TargetSize > 0 && w.Size() >= f.WriteConfig.TargetSize {
			break
		}
	}
	return count, hash, errors.Join(w.Close(), buffer.Flush())
}
