// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"os"
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
func (fs *stateFS) watch(g *guard, readOnly bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.hold = true
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

func (fs *stateFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
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
		return &manifestFile{File: file, guard: g, number: number}, nil
	}
	return file, nil
}

func (fs *stateFS) MkdirAll(dir string, _ os.FileMode) error { return fs.FS.MkdirAll(dir, 0o700) }

// Unwrap returns the file system below.
func (fs *stateFS) Unwrap() vfs.FS { return fs.FS }

// manifestFile is a manifest that is being written.
type manifestFile struct {
	vfs.File
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
	return f.guard.noteManifest(f.number, f.size)
}
