// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/hornbeam-dev/hornbeam/runner/internal/store"
)

// grown returns a directory with n commits, in tables and in several logs, as a kill leaves it.
func grown(t *testing.T, n uint64, memTable int64) *vfs.MemFS {
	t.Helper()
	disk := vfs.NewCrashableMem()
	s, err := store.Open("state", store.Options{FS: disk, MemTableSize: memTable})
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= n; i++ {
		sync, err := commitRow(s, i)
		if err == nil {
			err = sync()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	left := killed(disk)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return left
}

// killed returns what the death of the process leaves, which is everything.
func killed(disk *vfs.MemFS) *vfs.MemFS {
	return disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
}

// copyOf returns a copy of disk in which change has changed one file.
func copyOf(t *testing.T, disk *vfs.MemFS, path string, change func([]byte) []byte) *vfs.MemFS {
	t.Helper()
	other := disk.CrashClone(vfs.CrashCloneCfg{})
	write(t, other, path, change(read(t, other, path)))
	return other
}

func read(t *testing.T, disk *vfs.MemFS, path string) []byte {
	t.Helper()
	file, err := disk.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, info.Size())
	if _, err := file.ReadAt(content, 0); err != nil && info.Size() > 0 {
		t.Fatal(err)
	}
	return content
}

func write(t *testing.T, disk *vfs.MemFS, path string, content []byte) {
	t.Helper()
	file, err := disk.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		t.Fatal(err)
	}
}

// files returns the paths of the state directory, with those of the database.
func files(t *testing.T, disk *vfs.MemFS) []string {
	t.Helper()
	var paths []string
	for _, dir := range []string{"state", "state/db"} {
		names, err := disk.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if path := dir + "/" + name; name != "db" && name != "LOCK" {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// outcome opens a damaged directory: it is refused, or everything is there, or the damage was silent.
func outcome(disk *vfs.MemFS, n uint64) (refused bool, silent error) {
	s, err := store.Open("state", store.Options{FS: disk, MemTableSize: 64 << 10})
	if err != nil {
		return true, nil
	}
	view := s.View()
	wrong := verify(s, n)
	view.Close()
	closing := s.Close()
	if wrong != nil && (closing != nil || strings.Contains(wrong.Error(), "state at") ||
		strings.Contains(wrong.Error(), "scan state")) {
		return true, nil // A read reported it.
	}
	return closing != nil, wrong
}

// TestFlips flips single bits and cuts off ends of every kind of file.
func TestFlips(t *testing.T) {
	t.Parallel()
	const n = 230
	disks := []*vfs.MemFS{grown(t, n, 64<<10), grown(t, n, 8<<20)} // Flushed often, and never.
	tries := 600
	if testing.Short() {
		tries = 100
	}
	rng, count, refused := rand.New(rand.NewPCG(3, 3)), map[string]int{}, map[string]int{}
	for i := range tries {
		disk := disks[i%2]
		paths := files(t, disk)
		path := paths[rng.IntN(len(paths))]
		what := "flip in "
		damaged := copyOf(t, disk, path, func(content []byte) []byte {
			if len(content) == 0 {
				return content
			}
			at := rng.IntN(len(content))
			if rng.IntN(4) == 0 {
				what = "end cut off "
				return content[:at]
			}
			content[at] ^= 1 << rng.IntN(8)
			return content
		})
		what += kindOf(path)
		count[what]++
		found, silent := outcome(damaged, n)
		if silent != nil {
			t.Errorf("try %d, %s (%s): silent: %v", i, what, path, silent)
		}
		if found {
			refused[what]++
		}
	}
	for what := range count {
		t.Logf("%-22s %4d tried, %4d refused, others harmless", what, count[what], refused[what])
	}
}

func kindOf(path string) string {
	base := filepath.Base(path)
	if strings.HasPrefix(base, "0") {
		return filepath.Ext(base)
	}
	kind, _, _ := strings.Cut(base, "-")
	kind, _, _ = strings.Cut(kind, ".0")
	return kind
}

// TestHoles damages each record of a log in the way that Pebble takes for its end, so that it goes
// on with the next log: with what is called a hole, some commits are missing and later ones there.
func TestHoles(t *testing.T) {
	t.Parallel()
	const n = 300
	disk, flush := vfs.NewCrashableMem(), make(chan struct{})
	var hold atomic.Bool
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if hold.Load() && op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") {
			<-flush // Keeps several logs in use.
		}
		return nil
	})
	s, err := store.Open("state", store.Options{FS: errorfs.Wrap(disk, inject), MemTableSize: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	hold.Store(true)
	for i := uint64(1); i <= n; i++ {
		if sync, err := commitRow(s, i); errors.Join(err, sync()) != nil {
			t.Fatal(err)
		}
	}
	picture := killed(disk)
	close(flush)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	holes, tried := 0, 0
	for _, path := range files(t, picture) {
		if !strings.HasSuffix(path, ".log") {
			continue
		}
		for i, at := range records(read(t, picture, path)) {
			if i%11 != 0 {
				continue
			}
			tried++
			damaged := copyOf(t, picture, path, func(content []byte) []byte {
				content[at+7]++ // The number of the log that the record is of.
				return content
			})
			s, err := store.Open("state", store.Options{FS: damaged})
			switch {
			case err == nil:
				t.Errorf("%s, record %d: opened, with commits up to %d", path, i, s.Sequence())
			case strings.Contains(err.Error(), "though later ones are there"):
				holes++
			}
		}
	}
	t.Logf("%d records damaged, %d holes", tried, holes)
	if holes == 0 {
		t.Error("no hole was made")
	}
}

// records returns where the chunks of a log begin.
func records(log []byte) []int {
	const header, block = 19, 32 << 10
	var all []int
	for at := 0; at+header < len(log); {
		if size := int(log[at+4]) | int(log[at+5])<<8; size > 0 {
			all = append(all, at)
			at += header + size
		} else {
			at = at - at%block + block
		}
		if left := block - at%block; left < header {
			at += left
		}
	}
	return all
}

// TestRemovedAndSwapped removes each file, and replaces the database by an older copy.
func TestRemovedAndSwapped(t *testing.T) {
	t.Parallel()
	const n = 230
	disk := grown(t, n, 64<<10)
	for _, path := range files(t, disk) {
		damaged := disk.CrashClone(vfs.CrashCloneCfg{})
		if err := damaged.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, silent := outcome(damaged, n); silent != nil {
			t.Errorf("without %s: %v", path, silent)
		}
	}
	older := grown(t, n-1, 64<<10)
	guard := read(t, disk, "state/db/GUARD")
	rolledBack := copyOf(t, older, "state/db/GUARD", func(content []byte) []byte {
		return append(append([]byte(nil), guard[:24]...), content[24:]...)
	})
	_, err := store.Open("state", store.Options{FS: rolledBack})
	if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "rolled back") {
		t.Errorf("an older database: got %v", err)
	}
}

// TestRefusalChangesNothing opens a damaged directory twice: the second refusal is the same.
func TestRefusalChangesNothing(t *testing.T) {
	const n = 100
	disk := grown(t, n, 8<<20)
	var path string // The log of the rows is the last.
	for _, p := range files(t, disk) {
		if strings.HasSuffix(p, ".log") {
			path = max(path, p)
		}
	}
	before := read(t, disk, path)[:10000]
	damaged := copyOf(t, disk, path, func([]byte) []byte { return before })
	for range 2 {
		if _, err := store.Open("state", store.Options{FS: damaged}); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("a part of %s: got %v", path, err)
		}
	}
	if string(read(t, damaged, path)) != string(before) {
		t.Errorf("a refused directory has changed in %s", path)
	}
}

// TestReadErrors checks that a read that fails is not taken for an absent key, and that nothing
// decided on it can be committed.
func TestReadErrors(t *testing.T) {
	const n = 300
	disk := grown(t, n, 64<<10)
	var broken atomic.Bool
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, ".sst") {
			return syscall.EIO
		}
		return nil
	})
	s, err := store.Open("state", store.Options{FS: errorfs.Wrap(disk, inject), CacheSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	failures := 0
	for i := uint64(n - liveRows + 1); i <= n; i++ {
		view := s.View()
		if _, ok := view.Get(row(i)); !ok && view.Err() == nil {
			t.Errorf("row %d reads as absent", i)
		}
		if view.Err() != nil {
			failures++
		}
		view.Close()
	}
	if failures == 0 {
		t.Error("no read has failed")
	}
	tx := s.Begin()
	seen := 0
	tx.Scan(nil, nil, func(_, _ []byte) bool { seen++; return true })
	if tx.Err() == nil {
		t.Errorf("a scan of %d pairs on a broken disk reports nothing", seen)
	}
	tx.Set([]byte("a"), []byte("b"))
	if _, ok := tx.Get([]byte("a")); ok {
		t.Error("a View that has failed reads on")
	}
	if _, err := tx.Commit(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Commit after a failed read: got %v", err)
	}
	broken.Store(false)
	if err := verify(s, n); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	for name, test := range map[string]struct {
		content map[string]string
		want    string
	}{
		"foreign":        {map[string]string{"my.txt": "x"}, "not a state directory"},
		"newer":          {map[string]string{"FORMAT": "hornbeam state directory, format 99\n"}, "format 99"},
		"no format":      {map[string]string{"FORMAT": "what\n"}, "does not name a format"},
		"no database":    {map[string]string{"FORMAT": "hornbeam state directory, format 1\n"}, "db is missing"},
		"format is gone": {map[string]string{"db/x": "x"}, "not a state directory"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for path, content := range test.content {
				path = filepath.Join(dir, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := store.Open(dir, store.Options{})
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v, want an error with %q and the path", err, test.want)
			}
			for path := range test.content {
				if _, err := os.Stat(filepath.Join(dir, path)); err != nil {
					t.Errorf("%s has gone: %v", path, err)
				}
			}
		})
	}
}

func TestLocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func(string, store.Options) (*store.Store, error){
		"Open": store.Open, "OpenReadOnly": store.OpenReadOnly,
	} {
		_, err = open(dir, store.Options{})
		want := fmt.Sprintf("pid %d", os.Getpid())
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: got %v, want a refusal with %q and the path", name, err, want)
		}
	}
	err = filepath.Walk(filepath.Dir(filepath.Dir(dir)), func(path string, info os.FileInfo, err error) error {
		if err == nil && strings.HasPrefix(path, dir) && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v, want nothing for others", path, info.Mode())
		}
		return err
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	s, err = store.OpenReadOnly(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenReadOnly(t.TempDir(), store.Options{}); err == nil {
		t.Error("OpenReadOnly of an empty directory: got no error")
	}
}
