// SPDX-License-Identifier: Apache-2.0

package blob_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/blob/blobtest"
)

func openDir(t *testing.T, path string) blob.Store {
	t.Helper()
	s, err := blob.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t *testing.T, s blob.Store, key, data string) {
	t.Helper()
	if _, err := s.Create(t.Context(), key, blobtest.NewContent(t, t.TempDir(), []byte(data), "id")); err != nil {
		t.Fatal(err)
	}
}

func TestCheckKey(t *testing.T) {
	for key, want := range map[string]string{
		"a": "", "a/b.c": "", "date=2018/é x": "", "..a": "", "...": "", strings.Repeat("x", 1024): "",
		"": "empty", strings.Repeat("x", 1025): "1025 bytes", "/a": "empty part", "a/": "empty part", "a//b": "empty part",
		"..": "no name", "a/../b": "no name", ".": "no name", "a\x7f": "control", "\xff": "UTF-8", "a/.hornbeam-1.tmp": "temporary",
	} {
		err := blob.CheckKey(key)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("CheckKey(%.40q) = %v, want %q", key, err, want)
		}
	}
}

func TestSplitGlob(t *testing.T) {
	for url, want := range map[string][2]string{
		"s3://b/p/year=*/**/x.jsonl": {"s3://b/p", "year=*/**/x.jsonl"},
		"s3://b/p/x.jsonl":           {"s3://b/p", "x.jsonl"},
		"s3://b/x?":                  {"s3://b", "x?"},
		"s3://b/**":                  {"s3://b", "**"},
		"s3://b":                     {"s3://b", ""},
		"gs://b/p/":                  {"gs://b/p", ""},
		"dir/x[ab]/y":                {"dir", "x[ab]/y"},
		"x":                          {".", "x"},
		"*.jsonl":                    {".", "*.jsonl"},
		"/x":                         {"/", "x"},
		"/data/a*/b":                 {"/data", "a*/b"},
		"../up/x":                    {"../up", "x"},
		"s3://b/p/*.csv?region=x":    {"s3://b/p?region=x", "*.csv"},
		"s3://b/**?endpoint=http://h:1&path_style=true": {"s3://b?endpoint=http://h:1&path_style=true", "**"},
		"s3://b/x?/y?region=x":                          {"s3://b?region=x", "x?/y"},
		"s3://b/a.csv?region=x":                         {"s3://b?region=x", "a.csv"},
		"s3://b?region=x":                               {"s3://b?region=x", ""},
		"s3://b/y?=1/a":                                 {"s3://b", "y?=1/a"},
		"dir/x?y=1":                                     {"dir", "x?y=1"},
	} {
		base, pattern := blob.SplitGlob(url)
		if got := [2]string{base, pattern}; got != want {
			t.Errorf("SplitGlob(%q) = %q, want %q", url, got, want)
		}
	}
}

func TestCheckSplit(t *testing.T) {
	for url, want := range map[string]string{
		"s3://b/p/*.csv?region=x": "", "s3://b/y?=1/a?": "", "dir/x?y=1/*": "", "s3://b/x?/y?region=x": "",
		"s3://b/p?region=x/*.csv": "?region= is inside", "s3://b/*?region=x?timeout=1m": "?region= is inside", "s3://b?region=x": "names no object", "s3://b/*//b": "empty part",
	} {
		err := blob.CheckSplit(url)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("CheckSplit(%q) = %v, want %q", url, err, want)
		}
	}
}

// walked notes the folders that are read.
type walked struct {
	blob.Store
	blob.Walker
	folders []string
}

// Walk implements blob.Walker.
func (w *walked) Walk(ctx context.Context, prefix string, enter func(string) bool) iter.Seq2[blob.Object, error] {
	return w.Walker.Walk(ctx, prefix, func(folder string) bool {
		is := enter(folder)
		if is {
			w.folders = append(w.folders, folder)
		}
		return is
	})
}

// A file that changes while it is read at several places is an error.
func TestReadAtChanged(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir)
	create(t, s, "x", "content")
	o, err := s.Stat(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(t.Context(), o, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := make([]byte, 3)
	if n, err := r.(io.ReaderAt).ReadAt(p, 2); n != 3 || err != nil || string(p) != "nte" {
		t.Errorf("ReadAt = %d, %v, %q", n, err, p)
	}
	if err := os.WriteFile(filepath.Join(dir, "x"), []byte("other content"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := r.(io.ReaderAt).ReadAt(p, 2); !errors.Is(err, blob.ErrChanged) {
		t.Errorf("ReadAt of a changed file = %v", err)
	}
}

// glob joins the keys that match.
func glob(t *testing.T, s blob.Store, pattern string) string {
	t.Helper()
	var keys []string
	for o, err := range blob.Glob(t.Context(), s, pattern) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return strings.Join(keys, " ")
}

func TestGlob(t *testing.T) {
	s, hidden := openDir(t, t.TempDir()), openDir(t, t.TempDir())
	for _, key := range []string{"a.csv", "a.csv.gz", "b/a.csv", "b/c/a.csv", "b/c/d/a.csv", "b/c/d/x", "y=1/a.csv", "y=2/a.csv", "y=10/a.csv"} {
		create(t, s, key, key)
	}
	for pattern, want := range map[string]string{
		"a.csv":        "a.csv",
		"*.csv":        "a.csv",
		"a.csv*":       "a.csv a.csv.gz",
		"*":            "a.csv a.csv.gz",
		"**/a.csv":     "a.csv b/a.csv b/c/a.csv b/c/d/a.csv y=1/a.csv y=10/a.csv y=2/a.csv",
		"b/**/a.csv":   "b/a.csv b/c/a.csv b/c/d/a.csv",
		"b/**":         "b/a.csv b/c/a.csv b/c/d/a.csv b/c/d/x",
		"b/**/d/*":     "b/c/d/a.csv b/c/d/x",
		"**/c/**/x":    "b/c/d/x",
		"y=?/a.csv":    "y=1/a.csv y=2/a.csv",
		"y=[2-9]/*":    "y=2/a.csv",
		`y\=1/a.csv`:   "y=1/a.csv",
		"b":            "",
		"**/**/d/**/x": "b/c/d/x",
		"a.csv/**":     "",
	} {
		if got := glob(t, s, pattern); got != want {
			t.Errorf("Glob(%q) = %q, want %q", pattern, got, want)
		}
	}
	// Hidden names are found only by patterns that begin as they do.
	for _, key := range []string{"_job", "b/_m.json", "b/.t", "_tmp/x/b", ".d/_e/b", "_k=1/b", "c/_l/b"} {
		create(t, hidden, key, key)
	}
	for pattern, want := range map[string]string{
		"*": "", "**": "_k=1/b", "*/*": "_k=1/b", "**/b": "_k=1/b", "?job": "", "[_]job": "",
		"_*": "_job", `\_job`: "_job", "_job": "_job", "b/*": "", "b/_*": "b/_m.json", "b/.*": "b/.t", "*/_m*": "b/_m.json",
		"_tmp/*/b": "_tmp/x/b", "_tmp/**": "_tmp/x/b", ".d/**": "", ".d/**/_e/*": ".d/_e/b", "**/_l/*": "c/_l/b", "**/_*": "_job b/_m.json",
	} {
		if got := glob(t, hidden, pattern); got != want {
			t.Errorf("Glob(%q) = %q, want %q", pattern, got, want)
		}
	}
	// Folders that cannot have a match are not looked at, so it does not matter what is wrong with them.
	counted := &walked{Store: s, Walker: s.(blob.Walker)}
	for pattern, want := range map[string]string{
		"*.csv": "", "a.csv": "", "b/*.csv": "b/", "b/*/*": "b/ b/c/", "y=1*/a.csv": "y=1/ y=10/", "*/c/*": "b/ b/c/ y=1/ y=10/ y=2/",
		"b/c/**": "b/ b/c/ b/c/d/", "**/x": "b/ b/c/ b/c/d/ y=1/ y=10/ y=2/", "b/**/c/*": "b/ b/c/ b/c/d/", "a.csv/**": "",
	} {
		counted.folders = nil
		for _, err := range blob.Glob(t.Context(), counted, pattern) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Join(counted.folders, " "); got != want {
			t.Errorf("Glob(%q) has read the folders %q, want %q", pattern, got, want)
		}
	}
	counted = &walked{Store: hidden, Walker: hidden.(blob.Walker)}
	if glob(t, counted, "**/_l/*"); strings.Join(counted.folders, " ") != "_k=1/ b/ c/ c/_l/" {
		t.Errorf("Glob has read the folders %q", counted.folders)
	}
	for _, pattern := range []string{"", "a/[", "a//b", "/a"} {
		for _, err := range blob.Glob(t.Context(), s, pattern) {
			if err == nil {
				t.Errorf("Glob(%q) is no error", pattern)
			}
		}
	}
}

func TestClaim(t *testing.T) {
	s := openDir(t, filepath.Join(t.TempDir(), "a", "b"))
	for _, step := range []struct{ job, refusal string }{
		{"one", ""}, {"one", ""}, {"two", `results of job "one"`}, {"", "must be one line"}, {"x\ny", "must be one line"},
	} {
		err := blob.Claim(t.Context(), s, step.job)
		if (step.refusal == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), step.refusal) {
			t.Errorf("Claim(%q) = %v, want %q", step.job, err, step.refusal)
		}
	}
	foreign := openDir(t, t.TempDir())
	create(t, foreign, ".hidden", "")
	create(t, foreign, "papers/thesis.doc", "")
	if err := blob.Claim(t.Context(), foreign, "one"); err == nil || !strings.Contains(err.Error(), "belongs to no job") {
		t.Errorf("Claim of a place with files = %v", err)
	}
}

func TestClaimRace(t *testing.T) {
	s := openDir(t, t.TempDir())
	errs := make([]error, 16)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = blob.Claim(t.Context(), s, []string{"even", "odd"}[i%2]) })
	}
	wg.Wait()
	won := 0
	for i, err := range errs {
		if (err == nil) != (errs[i%2] == nil) {
			t.Errorf("claims of one job got %v and %v", err, errs[i%2])
		}
		if err == nil {
			won++
		}
	}
	if won != 8 {
		t.Errorf("%d of 16 claims were granted, want those of one job: 8", won)
	}
}

// What a killed process left is removed, what a living one holds is not.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	living, err := openDir(t, dir).Spool("k")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := living.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		".hornbeam-0123.tmp": "left behind", "object": "linked", "other.tmp": "", ".hornbeam-notes.txt": "", ".hornbeam": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Killed between the link and the removal of the first name.
	if err := os.Link(filepath.Join(dir, "object"), filepath.Join(dir, ".hornbeam-4567.tmp")); err != nil {
		t.Fatal(err)
	}
	create(t, openDir(t, dir), "new", "new")
	got := names(t, dir)
	want := []string{".hornbeam", filepath.Base(living.Content("").File.Name()), ".hornbeam-notes.txt", "new", "object", "other.tmp"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "object")); string(b) != "linked" {
		t.Errorf("object holds %q, %v", b, err)
	}
	if err := living.Discard(); err != nil {
		t.Error(err)
	}
	// Linked and not yet told: the next attempt of the same commit finds it.
	s := openDir(t, dir)
	if existed, err := s.Create(t.Context(), "object", blobtest.NewContent(t, t.TempDir(), []byte("linked"), "id")); !existed || err != nil {
		t.Errorf("Create after a crash = %v, %v, want true, nil", existed, err)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestSpoolWithoutName(t *testing.T) {
	dir := t.TempDir()
	s, err := blob.NewSpool(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("content")); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("a spool has the name %v", got)
	}
	if _, err := openDir(t, dir).Create(t.Context(), "k", s.Content("id")); err != nil {
		t.Errorf("Create: %v", err)
	}
	if err := s.Discard(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"k"}, names(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestDirRefuses(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir)
	create(t, s, "a", "x")
	if _, err := s.Create(t.Context(), "a/b", blobtest.NewContent(t, t.TempDir(), nil, "id")); err == nil {
		t.Error("Create below a file is no error")
	}
	if _, err := blob.OpenDir(filepath.Join(dir, "a")); err == nil || !strings.Contains(err.Error(), "is a file") {
		t.Errorf("OpenDir of a file = %v", err)
	}
	if _, err := s.Stat(t.Context(), "../x"); err == nil || !strings.Contains(err.Error(), "not below") {
		t.Errorf("Stat of ../x = %v", err)
	}
	if _, err := blob.Open(t.Context(), "ftp://host/x"); err == nil || !strings.Contains(err.Error(), "no store is registered for ftp://") {
		t.Errorf("Open of ftp:// = %v", err)
	}
	// A file that grows while it is read.
	o, err := s.Stat(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(t.Context(), o, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("x and more"), 0o644); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	for err == nil {
		_, err = r.Read(buf)
	}
	if !strings.Contains(err.Error(), "has changed") {
		t.Errorf("read of a file that grows = %v, want ErrChanged", err)
	}
}
