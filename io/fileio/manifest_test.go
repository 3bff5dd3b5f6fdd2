// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/teststream"
	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/io/blob"
)

// faults is a store of the scheme faulty://, which is a local folder with faults.
type faults struct {
	blob.Store
}

// fault is asked before and after each Create of a faulty store.
var fault struct {
	sync.Mutex
	ask  func(key string, done bool) error
	keys []string // Of objects that were created, in their order.
}

func init() {
	blob.Register("faulty", func(_ context.Context, url string) (blob.Store, error) {
		dir, err := blob.OpenDir(strings.TrimPrefix(url, "faulty://"))
		return faults{dir}, err
	})
}

// Create implements blob.Store. An error after the object was made is that of a lost answer.
func (f faults) Create(ctx context.Context, key string, c blob.Content) (bool, error) {
	fault.Lock()
	defer fault.Unlock()
	if err := fault.ask(key, false); err != nil {
		return false, err
	}
	existed, err := f.Store.Create(ctx, key, c)
	if err != nil {
		return existed, err
	}
	if !existed {
		fault.keys = append(fault.keys, key)
	}
	return existed, fault.ask(key, true)
}

// faulty returns the URL of a folder whose faults are as told.
func faulty(dir string, ask func(key string, done bool) error) (url string) {
	fault.Lock()
	defer fault.Unlock()
	fault.ask, fault.keys = ask, nil
	return "faulty://" + dir
}

// manifests returns those of a folder.
func manifests(t *testing.T, dir string) map[string]Manifest {
	t.Helper()
	found := map[string]Manifest{}
	for name, content := range list(t, dir) {
		if strings.HasPrefix(name, "_complete-") {
			var m Manifest
			if err := json.Unmarshal([]byte(content), &m); err != nil {
				t.Fatal(err)
			}
			found[name] = m
		}
	}
	return found
}

func hashOf(rows ...string) string {
	var h RowsHash
	for _, row := range rows {
		h.Add([]byte(row))
	}
	return h.String()
}

// checkManifest compares a manifest, whose files have to be as listed, with what it is to tell.
func checkManifest(t *testing.T, dir string, got Manifest, pane int64, rows []string, keys ...string) {
	t.Helper()
	if got.Pane != pane || got.Rows != int64(len(rows)) || got.Hash != hashOf(rows...) {
		t.Errorf("manifest %+v, want pane %d of rows %q", got, pane, rows)
	}
	content := list(t, dir)
	var listed []string
	size := int64(0)
	for _, f := range got.Files {
		listed = append(listed, f.Key)
		size += f.Bytes
		if int64(len(content[f.Key])) != f.Bytes || int64(strings.Count(content[f.Key], "\n")) != f.Rows {
			t.Errorf("manifest lists %+v, content is %q", f, content[f.Key])
		}
	}
	if diff := cmp.Diff(keys, listed); diff != "" || size != got.Bytes {
		t.Errorf("%d bytes, want %d, in files (-want +got):\n%s", got.Bytes, size, diff)
	}
}

// The first manifest has everything of the early panes and the one in time, later ones what was late, too.
func TestManifests(t *testing.T) {
	dir := t.TempDir()
	p, s := beam.NewPipelineWithRoot()
	Write(s, WriteConfig{
		URL: dir, Window: time.Minute, Early: 10 * time.Second, Lateness: time.Hour, Late: 5 * time.Second, Complete: true,
	}, teststream.Create(s, events(t,
		"1 a", "2 b", 11*time.Second,
		"3 c", watermark(time.Minute),
		"4 d", 6*time.Second, "5 e", 6*time.Second,
		"61 early only", 11*time.Second, watermark(2*time.Minute),
		"121 x", watermark(4*time.Minute), "181 all late", 6*time.Second,
	)))
	ptest.RunAndValidate(t, p)
	found := manifests(t, dir)
	names := []string{}
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	want := []string{
		minute(0, "_complete-part-W-pane1.json"), minute(0, "_complete-part-W-pane2.json"), minute(0, "_complete-part-W.json"),
		minute(1, "_complete-part-W.json"), minute(2, "_complete-part-W.json"), minute(3, "_complete-part-W.json"),
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Fatalf("manifests (-want +got):\n%s", diff)
	}
	file := func(pane string) string { return minute(0, "part-W-"+pane+"-00000-of-00001.jsonl") }
	first := found[want[2]]
	checkManifest(t, dir, first, 0, []string{"1 a", "2 b", "3 c"}, file("pane0"), file("pane1"))
	checkManifest(t, dir, found[want[0]], 1, []string{"1 a", "2 b", "3 c", "4 d"}, file("pane0"), file("pane1"), file("pane2"))
	checkManifest(t, dir, found[want[1]], 2, []string{"1 a", "2 b", "3 c", "4 d", "5 e"}, file("pane0"), file("pane1"), file("pane2"), file("pane3"))
	checkManifest(t, dir, found[want[3]], 0, []string{"61 early only"}, minute(1, "part-W-pane0-00000-of-00001.jsonl"))
	end := time.Unix(60, 0).UTC()
	if !first.WindowStart.Equal(time.Unix(0, 0)) || !first.WindowEnd.Equal(end) || !first.Watermark.Equal(end) {
		t.Errorf("manifest of the first minute: %+v", first)
	}
}

// The global window is complete at the end of the input.
func TestManifestOfAll(t *testing.T) {
	dir := t.TempDir()
	p, s := beam.NewPipelineWithRoot()
	Write(s, WriteConfig{URL: dir, Complete: true, Prefix: "x"}, beam.Create(s, "b", "a"))
	ptest.RunAndValidate(t, p)
	m, ok := manifests(t, dir)["_complete-x.json"]
	if !ok || !m.WindowStart.IsZero() || !m.WindowEnd.IsZero() {
		t.Fatalf("got %+v in %v", m, list(t, dir))
	}
	checkManifest(t, dir, m, 0, []string{"a", "b"}, "x-00000-of-00001.jsonl")
}

// As long as one file of a window cannot be written, it has no manifest; other windows do. The same job goes on once
// it can.
func TestManifestWaits(t *testing.T) {
	tries(t, "1")
	dir := t.TempDir()
	broken := errors.New("the disk of this test is full")
	var stuck string
	write := func(url string) *beam.Pipeline {
		p, s := beam.NewPipelineWithRoot()
		lines := beam.ParDo(s, stamp, beam.Create(s, "1 a", "2 b", "3 c", "4 d", "5 e", "6 f", "7 g", "8 h"))
		Write(s, WriteConfig{URL: url, JobID: "j", Window: time.Minute, Shards: 4, Complete: true}, lines)
		return p
	}
	url := faulty(dir, func(key string, done bool) error {
		if stuck == "" && strings.HasPrefix(key, "part-") && len(fault.keys) >= 2 { // The claim and a file.
			stuck = key
		}
		if key == stuck {
			return broken
		}
		return nil
	})
	if err := ptest.Run(write(url)); err == nil || !strings.Contains(err.Error(), broken.Error()) {
		t.Fatalf("run = %v", err)
	}
	if m := manifests(t, dir); len(m) > 0 || stuck == "" {
		t.Errorf("%s cannot be written, but there are manifests: %v", stuck, m)
	}
	faulty(dir, func(string, bool) error { return nil })
	if err := ptest.Run(write(url)); err != nil {
		t.Fatal(err)
	}
	m := manifests(t, dir)[minute(0, "_complete-part-W.json")]
	if m.Hash != hashOf("1 a", "2 b", "3 c", "4 d", "5 e", "6 f", "7 g", "8 h") {
		t.Errorf("manifest %+v", m)
	}
}

// Requests that fail, before or after they are done, change nothing in the end; manifests come last.
func TestWriteFaults(t *testing.T) {
	tries(t, "100")
	lines := []any{}
	for i := range 40 {
		lines = append(lines, []string{"1 a", "2 b", "61 c", "62 d"}[i%4]+strings.Repeat("x", i))
	}
	write := func(url string) {
		p, s := beam.NewPipelineWithRoot()
		Write(s, WriteConfig{URL: url, Window: time.Minute, Shards: 2, TargetSize: 100, Complete: true},
			teststream.Create(s, events(t, append(lines, watermark(10*time.Minute))...)))
		ptest.RunAndValidate(t, p)
	}
	clean, dir := t.TempDir(), t.TempDir()
	faulty(clean, func(string, bool) error { return nil })
	write("faulty://" + clean)
	failed := map[string]int{}
	url := faulty(dir, func(key string, done bool) error {
		id := key
		if done {
			id += " done"
		}
		if failed[id]++; failed[id] == 1 {
			return errors.New("connection reset")
		}
		return nil
	})
	write(url)
	if diff := cmp.Diff(list(t, clean), list(t, dir)); diff != "" {
		t.Errorf("files without and with faults (-want +got):\n%s", diff)
	}
	for _, name := range []string{minute(0, "part-W"), minute(1, "part-W")} {
		manifest := slices.Index(fault.keys, "_complete-"+name+".json")
		if manifest < 0 || slices.ContainsFunc(fault.keys[manifest:], func(key string) bool { return strings.HasPrefix(key, name) }) {
			t.Errorf("the manifest of %s is not after its files: %v", name, fault.keys)
		}
	}
}
