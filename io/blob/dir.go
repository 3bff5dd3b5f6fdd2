// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// OpenDir opens a local folder as a store. The folder is made when the first object is; the parts of a key
// are folders below it. The folder must be on one file system, which must have hard links.
//
// A file has no place for an ID: Create compares contents byte by byte, and objects have neither ID nor
// SHA256. The version is made of size, time of modification and inode. Symbolic links to files are
// followed, those to folders below the store's are not.
//
// Objects are built under names like .hornbeam-*.tmp, which are locked while their process lives. The first
// Spool or Create removes those of processes that were killed.
func OpenDir(path string) (Store, error) {
	if path == "" {
		return nil, errors.New("blob: the path of a local folder is empty")
	}
	root := filepath.Clean(path)
	if info, err := os.Stat(root); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("blob: %s is a file: name a folder", root)
	}
	d := &dirStore{root: root, durable: map[string]bool{}}
	d.sweep = sync.OnceValue(func() error { return sweep(root) })
	return d, nil
}

var _ Walker = (*dirStore)(nil)

type dirStore struct {
	root  string
	sweep func() error // Works once.

	mu      sync.Mutex
	durable map[string]bool // Folders whose names are on disk.
}

// URL implements Store.
func (d *dirStore) URL() string { return d.root }

// Close implements Store.
func (d *dirStore) Close() error { return nil }

// Spool implements Store.
func (d *dirStore) Spool(key string) (*Spool, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	if err := d.makeFolder(d.root); err != nil {
		return nil, err
	}
	if err := d.sweep(); err != nil {
		return nil, fmt.Errorf("blob: remove old temporary files: %w", err)
	}
	s, err := newNamedSpool(d.root)
	if err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	return s, nil
}

// Create implements Store.
func (d *dirStore) Create(ctx context.Context, key string, c Content) (existed bool, err error) {
	if err := errors.Join(CheckKey(key), ctx.Err()); err != nil {
		return false, err
	}
	file := c.File
	if !d.own(file) {
		sp, err := d.Spool(key)
		if err != nil {
			return false, err
		}
		defer func() { err = errors.Join(err, sp.Discard()) }()
		if n, err := io.Copy(sp.file, io.NewSectionReader(c.File, 0, c.Size)); err != nil {
			return false, fmt.Errorf("blob: copy to %s: %w", d.path(key), err)
		} else if n != c.Size {
			return false, fmt.Errorf("blob: the content of %s has %d bytes, not %d", d.path(key), n, c.Size)
		}
		file = sp.file
	}
	if info, err := file.Stat(); err != nil {
		return false, fmt.Errorf("blob: %w", err)
	} else if info.Size() != c.Size {
		return false, fmt.Errorf("blob: the content of %s has %d bytes, not %d", d.path(key), info.Size(), c.Size)
	}
	if err := file.Sync(); err != nil {
		return false, fmt.Errorf("blob: sync %s: %w", file.Name(), err)
	}
	return d.link(file, key)
}

// own tells whether a file is a spool in the store's folder, so that it can be linked.
func (d *dirStore) own(f *os.File) bool {
	dir, name := filepath.Split(f.Name())
	if filepath.Clean(dir) != d.root || !isSpool(name) {
		return false
	}
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(f.Name())
	return err == nil && os.SameFile(mine, named)
}

// link gives a file that is on disk its key.
func (d *dirStore) link(f *os.File, key string) (existed bool, err error) {
	path := d.path(key)
	folder := filepath.Dir(path)
	if err := d.makeFolder(folder); err != nil {
		return false, err
	}
	err = os.Link(f.Name(), path)
	switch {
	case errors.Is(err, fs.ErrExist):
		if err := d.compare(f, path); err != nil {
			return false, err
		}
		existed = true
	case err != nil:
		return false, fmt.Errorf("blob: link %s (the folder must be on one file system with hard links): %w", path, err)
	}
	if err := syncPath(folder); err != nil {
		return false, err
	}
	return existed, nil
}

// compare returns ErrConflict if the file at path is not equal to f, and makes it durable if it is.
func (d *dirStore) compare(f *os.File, path string) error {
	other, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	defer other.Close()
	info, err := other.Stat()
	if err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("blob: %s: %w: it is no file", path, ErrConflict)
	}
	equal, err := sameContent(f, other)
	if err != nil {
		return fmt.Errorf("blob: compare with %s: %w", path, err)
	}
	if !equal {
		return fmt.Errorf("blob: %s: %w", path, ErrConflict)
	}
	if err := other.Sync(); err != nil {
		return fmt.Errorf("blob: sync %s: %w", path, err)
	}
	return nil
}

// sameContent compares files from their beginnings, wherever they were read.
func sameContent(f, g *os.File) (bool, error) {
	infoF, errF := f.Stat()
	infoG, errG := g.Stat()
	if err := errors.Join(errF, errG); err != nil {
		return false, err
	}
	size := infoF.Size()
	if infoG.Size() != size {
		return false, nil
	}
	a := bufio.NewReaderSize(io.NewSectionReader(f, 0, size), 1<<16)
	b := bufio.NewReaderSize(io.NewSectionReader(g, 0, size), 1<<16)
	bufA, bufB := make([]byte, 1<<16), make([]byte, 1<<16)
	for at := int64(0); at < size; {
		n := min(size-at, 1<<16)
		_, errA := io.ReadFull(a, bufA[:n])
		_, errB := io.ReadFull(b, bufB[:n])
		if err := errors.Join(errA, errB); err != nil {
			return false, err
		}
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			return false, nil
		}
		at += n
	}
	return true, nil
}

func (d *dirStore) path(key string) string { return filepath.Join(d.root, filepath.FromSlash(key)) }

// makeFolder makes a folder of the store, and its name durable.
func (d *dirStore) makeFolder(folder string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if info, err := os.Stat(folder); err == nil && info.IsDir() && d.durable[folder] {
		return nil
	}
	if err := makeDirs(folder); err != nil {
		return fmt.Errorf("blob: make the folder for the files: %w", err)
	}
	// Another process may have made a folder here a moment ago.
	for f := folder; f != d.root; f = filepath.Dir(f) {
		if err := syncPath(filepath.Dir(f)); err != nil {
			return err
		}
	}
	d.durable[folder] = true
	return nil
}

// makeDirs is os.MkdirAll with the names of the new folders on disk.
func makeDirs(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDirs(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, err := os.Stat(dir); err != nil {
		return err
	} else if !info.IsDir() {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	}
	return syncPath(parent)
}

func syncPath(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("blob: sync folder %s: %w", dir, err)
	}
	return nil
}

// Stat implements Store.
func (d *dirStore) Stat(ctx context.Context, key string) (Object, error) {
	if err := errors.Join(checkLocal(key), ctx.Err()); err != nil {
		return Object{}, err
	}
	info, err := os.Stat(d.path(key))
	if errors.Is(err, syscall.ENOTDIR) || err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "stat", Path: d.path(key), Err: fs.ErrNotExist}
	}
	if err != nil {
		return Object{}, fmt.Errorf("blob: %w", err)
	}
	return object(key, info), nil
}

// checkLocal refuses a key that leaves the folder. Files with names that Create refuses can be read.
func checkLocal(key string) error {
	if !filepath.IsLocal(filepath.FromSlash(key)) {
		return fmt.Errorf("blob: key %q is not below the folder", key)
	}
	return nil
}

func object(key string, info fs.FileInfo) Object {
	return Object{Key: key, Size: info.Size(), Version: version(info)}
}

func version(info fs.FileInfo) string {
	v := fmt.Sprintf("%d-%d", info.Size(), info.ModTime().UnixNano())
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		v += fmt.Sprintf("-%d", st.Ino)
	}
	return v
}

// Open implements Store.
func (d *dirStore) Open(ctx context.Context, o Object, offset int64) (io.ReadCloser, error) {
	if err := errors.Join(checkLocal(o.Key), ctx.Err()); err != nil {
		return nil, err
	}
	path := d.path(o.Key)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	r := &dirReader{file: f, version: o.Version}
	if err := r.unchanged(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(fmt.Errorf("blob: %w", err), f.Close())
	}
	return r, nil
}

// dirReader reads a file that must not change before its end is read.
type dirReader struct {
	file    *os.File
	version string
}

// Read implements io.Reader.
func (r *dirReader) Read(p []byte) (int, error) {
	n, err := r.file.Read(p)
	if err == io.EOF {
		if err := r.unchanged(); err != nil {
			return n, err
		}
	}
	return n, err
}

// ReadAt implements io.ReaderAt.
func (r *dirReader) ReadAt(p []byte, offset int64) (int, error) {
	n, err := r.file.ReadAt(p, offset)
	if err := r.unchanged(); err != nil {
		return 0, err
	}
	return n, err
}

// Close implements io.Closer.
func (r *dirReader) Close() error { return r.file.Close() }

func (r *dirReader) unchanged() error {
	info, err := r.file.Stat()
	if err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	if version(info) != r.version {
		return fmt.Errorf("blob: %s: %w", r.file.Name(), ErrChanged)
	}
	return nil
}

// List implements Store.
func (d *dirStore) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return d.Walk(ctx, prefix, func(string) bool { return true })
}

// Walk implements Walker.
func (d *dirStore) Walk(ctx context.Context, prefix string, enter func(folder string) bool) iter.Seq2[Object, error] {
	begins := func(folder string) bool {
		return (strings.HasPrefix(folder, prefix) || strings.HasPrefix(prefix, folder)) && enter(folder)
	}
	return func(yield func(Object, error) bool) { d.walk(ctx, "", walk{prefix, begins, yield}) }
}

// walk is what is looked for in a folder.
type walk struct {
	prefix string
	enter  func(folder string) bool
	yield  func(Object, error) bool
}

// walk yields the objects of a folder, which is empty or ends with a slash; it returns false when it is to stop.
func (d *dirStore) walk(ctx context.Context, folder string, w walk) bool {
	entries, err := os.ReadDir(d.path(folder))
	if err := errors.Join(ctx.Err(), notGone(err)); err != nil {
		w.yield(Object{}, fmt.Errorf("blob: list %s: %w", d.root, err))
		return false
	}
	// A folder's keys go on with a slash, which decides where they are among those of files.
	name := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(name(a), name(b)) })
	for _, e := range entries {
		key := folder + name(e)
		if e.IsDir() {
			if w.enter(key) && !d.walk(ctx, key, w) {
				return false
			}
			continue
		}
		if !strings.HasPrefix(key, w.prefix) || isSpool(e.Name()) {
			continue
		}
		info, err := os.Stat(d.path(key))
		if err != nil {
			if notGone(err) == nil {
				continue
			}
			w.yield(Object{}, fmt.Errorf("blob: list %s: %w", d.root, err))
			return false
		}
		if info.Mode().IsRegular() && !w.yield(object(key, info), nil) {
			return false
		}
	}
	return true
}

func notGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
