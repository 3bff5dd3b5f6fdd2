// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
)

// Manifest is the content of the JSON file that says that a window is whole. It is written once all files are there
// that the window has got by the time its end has passed, as _complete-<prefix>-<window>.json below URL; and again,
// as _complete-<prefix>-<window>-pane<N>.json, with the sums of everything so far, for each late pane. The first one of
// a window whose elements were all late has no pane in its name, too. A window without files has none.
type Manifest struct {
	WindowStart time.Time      `json:"window_start"` // Zero in the global window, as is WindowEnd.
	WindowEnd   time.Time      `json:"window_end"`
	Pane        int64          `json:"pane"`      // Of the manifests of the window, from 0.
	Watermark   time.Time      `json:"watermark"` // Everything up to here was expected to have come when it was written; zero is everything.
	Rows        int64          `json:"rows"`
	Bytes       int64          `json:"bytes"`
	Hash        string         `json:"hash"`  // Of all rows, whatever their order and their files; see RowsHash.
	Files       []ManifestFile `json:"files"` // In the order of their keys.
}

// ManifestFile is a file in a Manifest.
type ManifestFile struct {
	Key    string `json:"key"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// writeManifests writes the manifests of files. The GroupByKey keeps the files of a window until its end, so that a
// manifest is made of what is stored, and is the same when it is made again.
func writeManifests(s beam.Scope, cfg WriteConfig, files beam.PCollection) error {
	s = s.Scope("Complete")
	waiting, err := untilComplete(s, files)
	if err != nil {
		return err
	}
	all := beam.GroupByKey(s, beam.AddFixedKey(s, waiting))
	beam.ParDo0(s, &manifestFn{Place: place{URL: cfg.URL, JobID: cfg.JobID}, Prefix: cfg.Prefix}, all)
	return nil
}

// manifestFn writes the manifest of the files of one window.
type manifestFn struct {
	Place  place  // Where.
	Prefix string // As in WriteConfig.
}

// Setup implements a DoFn.
func (f *manifestFn) Setup(ctx context.Context) error { return f.Place.Setup(ctx) }

// Teardown implements a DoFn.
func (f *manifestFn) Teardown() error { return f.Place.Teardown() }

// ProcessElement implements a DoFn.
func (f *manifestFn) ProcessElement(ctx context.Context, pane beam.PaneInfo, w beam.Window, _ int, files func(*File) bool) error {
	key := manifestName(f.Prefix, w, pane)
	m, err := newManifest(w, pane.Index, files)
	if err == nil {
		err = f.write(ctx, key, m)
	}
	if err != nil {
		return fmt.Errorf("fileio.Write: manifest %s: %w", key, err)
	}
	return nil
}

func newManifest(w beam.Window, pane int64, files func(*File) bool) (Manifest, error) {
	m := Manifest{Pane: pane}
	if span, ok := w.(window.IntervalWindow); ok {
		m.WindowStart, m.WindowEnd = span.Start.ToTime().UTC(), span.End.ToTime().UTC()
		m.Watermark = m.WindowEnd
	}
	var hash RowsHash
	var file File
	for files(&file) {
		rows, err := ParseRowsHash(file.Hash)
		if err != nil {
			return Manifest{}, err
		}
		hash.Merge(rows)
		m.Rows += file.Rows
		m.Bytes += file.Bytes
		m.Files = append(m.Files, ManifestFile{Key: file.Key, Rows: file.Rows, Bytes: file.Bytes, SHA256: file.SHA256})
	}
	m.Hash = hash.String()
	slices.SortFunc(m.Files, func(a, b ManifestFile) int { return cmp.Compare(a.Key, b.Key) })
	return m, nil
}

func (f *manifestFn) write(ctx context.Context, key string, m Manifest) (err error) {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	spool, err := f.Place.store.Spool(key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, spool.Discard()) }()
	if _, err := spool.Write(append(text, '\n')); err != nil {
		return err
	}
	_, err = f.Place.create(ctx, key, spool)
	return err
}
