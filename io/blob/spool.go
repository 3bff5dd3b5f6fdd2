// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Spool is a local file that grows into the content of an object.
type Spool struct {
	file  *os.File
	sum   hash.Hash
	size  int64
	named bool // The file has its name still.
}

// NewSpool makes an empty spool in a folder; os.TempDir() if it is empty. It has no name there, so that a
// process that is killed leaves nothing behind.
func NewSpool(dir string) (*Spool, error) {
	s, err := newNamedSpool(dir)
	if err != nil {
		return nil, err
	}
	s.named = false
	if err := os.Remove(s.file.Name()); err != nil {
		return nil, errors.Join(err, s.file.Close())
	}
	return s, nil
}

// newNamedSpool makes a spool that can be linked to another name. Its file is locked as long as it is open,
// which tells it from those of processes that were killed.
func newNamedSpool(dir string) (*Spool, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	for range 100 {
		name := filepath.Join(dir, fmt.Sprintf("%s%016x%s", spoolPrefix, rand.Uint64(), spoolSuffix))
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		locked, err := lockNamed(f)
		if err == nil && locked {
			return &Spool{file: f, sum: sha256.New(), named: true}, nil
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s: no name is left for a temporary file", dir)
}

const (
	spoolPrefix = ".hornbeam-"
	spoolSuffix = ".tmp"
)

func isSpool(name string) bool {
	return strings.HasPrefix(name, spoolPrefix) && strings.HasSuffix(name, spoolSuffix)
}

// lockNamed locks an open file, and tells whether it did and the file still has its name. Who removes a spool
// of another process holds its lock.
func lockNamed(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	mine, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Lstat(f.Name())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(mine, named), err
}

// sweep removes the spools in a folder whose processes were killed.
func sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !isSpool(e.Name()) || !e.Type().IsRegular() {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, e.Name()), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue // It is gone, or another user's.
		}
		if err != nil {
			return err
		}
		abandoned, err := lockNamed(f)
		if err == nil && abandoned {
			err = os.Remove(f.Name())
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Write appends to the content.
func (s *Spool) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	s.sum.Write(p[:n])
	s.size += int64(n)
	return n, err
}

// Size returns the number of bytes written.
func (s *Spool) Size() int64 { return s.size }

// Content returns what was written, as the content of the commit with the given id. Nothing may be written
// after it.
func (s *Spool) Content(id string) Content {
	return Content{File: s.file, Size: s.size, SHA256: hex.EncodeToString(s.sum.Sum(nil)), ID: id}
}

// Discard closes and removes the file.
func (s *Spool) Discard() error {
	var err error
	if s.named {
		// The name goes before the lock does, so that no other process finds it unlocked.
		if err = os.Remove(s.file.Name()); errors.Is(err, fs.ErrNotExist) {
			err = nil // A store may have taken it.
		}
	}
	return errors.Join(err, s.file.Close())
}
