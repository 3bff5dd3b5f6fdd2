// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/fileio/internal/format"
)

func (c WriteConfig) withDefaults() WriteConfig {
	c.Prefix = cmp.Or(c.Prefix, "part")
	c.Zone = cmp.Or(c.Zone, "UTC")
	c.Shards = cmp.Or(c.Shards, 1)
	c.Memory = cmp.Or(c.Memory, 32<<20)
	return c
}

// problems are a config's, apart from those of its outline.
func (c WriteConfig) problems(windowing *window.WindowingStrategy) []error {
	var errs []error
	refuse := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	refuse(c.URL == "", "URL is empty: name a folder, or s3://bucket/prefix or gs://bucket/prefix")
	refuse(strings.ContainsAny(c.JobID, "\r\n") || len(c.JobID) > 1024, "JobID must be one line of at most 1,024 bytes")
	refuse(len(c.Prefix) > maxPrefix, "Prefix has %d bytes: at most %d are allowed", len(c.Prefix), maxPrefix)
	refuse(strings.Contains(c.Prefix, "/"), "Prefix %q has a slash: folders are made by URL, Partition and Fields", c.Prefix)
	refuse(strings.HasPrefix(c.Prefix, "_") || strings.HasPrefix(c.Prefix, "."),
		"Prefix %q begins with %q: readers take such files for hidden ones", c.Prefix, c.Prefix[:1])
	if err := blob.CheckKey(c.Prefix); err != nil && len(c.Prefix) <= maxPrefix && !strings.Contains(c.Prefix, "/") {
		errs = append(errs, fmt.Errorf("Prefix cannot begin a name: %w", err))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"Window", c.Window}, {"Early", c.Early}, {"Lateness", c.Lateness}, {"Late", c.Late}} {
		refuse(d.value < 0 || d.value%time.Millisecond != 0, "%s is %v: want whole milliseconds, not below zero", d.name, d.value)
		refuse(d.name != "Window" && c.Window == 0 && d.value != 0,
			"%s is %v, but Window is 0, which leaves windows and triggers as the input has them: set Window, or the %s of the input", d.name, d.value, d.name)
	}
	refuse(c.Window > 0 && c.Late > 0 && c.Lateness == 0, "Late is %v, but Lateness is 0, so that no element is late: set Lateness", c.Late)
	refuse(c.Shards < 0, "Shards is %d: want at least 1", c.Shards)
	refuse(c.TargetSize < 0, "TargetSize is %d: want a number of bytes, or 0 for files of any size", c.TargetSize)
	refuse(c.Memory < leastMemory, "Memory is %d: want at least %d bytes", c.Memory, leastMemory)
	if c.Complete && c.Window == 0 {
		errs = append(errs, canComplete(windowing))
	}
	return errs
}

// leastMemory keeps the number of runs on disk low.
const leastMemory = 1 << 20

// maxPrefix leaves room for the rest of a name, and for what file systems and stores take.
const maxPrefix = 64

// canComplete tells whether a manifest means something in the windows of the input.
func canComplete(windowing *window.WindowingStrategy) error {
	const instead = "set Window, or leave Complete out"
	switch kind := windowing.Fn.Kind; {
	case kind == window.Sessions:
		return errors.New("Complete is set, but the input is in sessions: each group of elements has windows of its own, so that none " +
			"is complete at any time; " + instead)
	case kind != window.GlobalWindows && kind != window.FixedWindows:
		return fmt.Errorf("Complete is set, but the windows of the input (%v) overlap: the files of a window cannot be told from those "+
			"of its neighbours once they are written; %s", windowing.Fn, instead)
	case windowing.AccumulationMode == window.Accumulating:
		return errors.New("Complete is set, but the panes of the input accumulate: its files repeat rows, so that sums mean nothing; " + instead)
	}
	return nil
}

// outline is what a config means for elements of one type.
type outline struct {
	codec   format.Codec
	folders *folders
}

func newOutline(cfg WriteConfig, t reflect.Type) (outline, error) {
	var errs []error
	codec, err := format.New(cfg.Format, cfg.Compression, t)
	extension := ""
	switch {
	case (cfg.Format == Avro || cfg.Format == Parquet) && t.Kind() != reflect.Struct:
		errs = append(errs, fmt.Errorf("Format is Avro or Parquet, which have columns, but elements are %v: write structs, or use JSONLines or CSV", t))
	case err != nil:
		errs = append(errs, err)
	default:
		extension = codec.Extension()
	}
	// A store's URL ends with what its keys begin with, so that no more of them is counted than there is.
	room := blob.MaxKey - len(cfg.URL) - len(cfg.Prefix) - nameRoom - len(extension)
	folders, err := newFolders(cfg, t, room)
	if err != nil {
		errs = append(errs, err)
	}
	if room < 0 {
		errs = append(errs, fmt.Errorf("URL has %d bytes, which leaves no room for names: stores take keys of %d", len(cfg.URL), blob.MaxKey))
	}
	return outline{codec: codec, folders: folders}, errors.Join(errs...)
}
