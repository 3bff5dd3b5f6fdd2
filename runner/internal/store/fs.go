// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// stateFS is the file system that Pebble sees. Files are private to their owner; each sync of a
// manifest is noted in the guard; and while a directory is being opened nothing in it is deleted,
// so that one that is refused in the end is as it was.
type stateFS struct {
	vfs.FS
	disk bool

	mu    sync.Mutex // Guards the rest.
	guard *guard
	fail  func(error) // Nil until the directory is being opened.
	hold  bool
	held  []string // Files to be removed when the directory is known to be good.
}

var _ vfs.FS = (*stateFS)(nil)

func newStateFS(fs vfs.FS) *stateFS {
	if fs == nil {
		return &stateFS{FS: vfs.Default, disk: true}
	}
	return &stateFS{FS: fs}
}

// watch begins to hold removals back, and to note manifests unless the store is only read.
func (fs *stateFS) watch(g *guard, readOnly bool, fail func(error)) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.hold, fs.fail = true, fail
	if !readOnly {
		fs.guard = g
	}
}

// release carries out what was held back. A file that stays does no harm: Pebble removes it later.
func (fs *stateFS) release() {
	fs.mu.Lock()
	held := fs.held
	fs.hold, fs.held = false, nil
	fs.mu.Unlock()
	for _, name := range held {
		_ = fs.FS.Remove(name)
	}
}

// Remove removes a file, later if need be.
func (fs *stateFS) Remove(name string) error {
	base := fs.PathBase(name)
	if strings.HasPrefix(base, "MANIFEST-") || strings.HasSuffix(base, ".log") ||
		strings.HasSuffix(base, ".sst") || strings.HasSuffix(base, ".blob") {
		fs.mu.Lock()
		hold := fs.hold
		if hold {
			fs.held = append(fs.held, name)
		}
		fs.mu.Unlock()
		if hold {
			return nil
		}
	}
	return fs.FS.Remove(name)
}

// keep forgets that name is to be removed: there is a new file of that name.
func (fs *stateFS) keep(name string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.held = slices.DeleteFunc(fs.held, func(held string) bool { return held == name })
}

// Rename renames a file.
func (fs *stateFS) Rename(from, to string) error {
	fs.keep(to)
	return fs.FS.Rename(from, to)
}

// Link makes a second name of a file.
func (fs *stateFS) Link(from, to string) error {
	fs.keep(to)
	return fs.FS.Link(from, to)
}

// ReuseForWrite renames a file to write it anew.
func (fs *stateFS) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (vfs.File, error) {
	fs.keep(to)
	return fs.FS.ReuseForWrite(from, to, category)
}

// Create creates a file, or empties it.
func (fs *stateFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	fs.keep(name)
	file, err := fs.FS.Create(name, category)
	if err != nil {
		return nil, err
	}
	if fs.disk {
		if err := os.Chmod(name, 0o600); err != nil {
			return nil, errors.Join(err, file.Close())
		}
	}
	fs.mu.Lock()
	g := fs.guard
	fs.mu.Unlock()
	if number, ok := manifestNumber(fs.PathBase(name)); ok && g != nil {
		return &manifestFile{File: file, fs: fs.FS, dir: fs.PathDir(name), guard: g, number: number}, nil
	}
	return file, nil
}

// Lock locks a file, which it creates.
func (fs *stateFS) Lock(name string) (io.Closer, error) {
	lock, err := fs.FS.Lock(name)
	if err == nil && fs.disk {
		err = os.Chmod(name, 0o600)
	}
	return lock, err
}

// OpenDir opens a directory to sync it.
func (fs *stateFS) OpenDir(name string) (vfs.File, error) {
	file, err := fs.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.fail == nil {
		return file, nil
	}
	return &dirFile{File: file, fail: fs.fail}, nil
}

// MkdirAll makes a directory that is private to its owner.
func (fs *stateFS) MkdirAll(dir string, _ os.FileMode) error { return fs.FS.MkdirAll(dir, 0o700) }

// Unwrap returns the file system below.
func (fs *stateFS) Unwrap() vfs.FS { return fs.FS }

// manifestFile is a manifest that is being written.
type manifestFile struct {
	vfs.File
	fs     vfs.FS
	dir    string
	named  bool // The directory entry is on disk.
	guard  *guard
	number uint64
	size   uint64
}

func (f *manifestFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.size += uint64(n)
	return n, err
}

func (f *manifestFile) Sync() error {
	if err := f.File.Sync(); err != nil {
		return err
	}
	// Pebble does not see to it that the name is on disk before the marker that points to it.
	if !f.named {
		if err := syncDir(f.fs, f.dir); err != nil {
			return err
		}
		f.named = true
	}
	return f.guard.noteManifest(f.number, f.size)
}

// dirFile is a directory that Pebble may sync in a goroutine of its own. If that failed, Pebble
// would panic there, where nobody can catch it; so it fails the store, and does not return.
type dirFile struct {
	vfs.File
	fail func(error)
}

func (f *dirFile) Sync() error {
	if err := f.File.Sync(); err != nil {
		f.fail(fmt.Errorf("sync a directory: %w", err))
		select {}
	}
	return nil
}
