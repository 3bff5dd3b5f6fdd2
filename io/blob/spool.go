// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io/fs"
	"os"
)

// Spool is a local file that grows into the content of an object.
type Spool struct {
	file *os.File
	sum  hash.Hash
	size int64
}

// NewSpool makes an empty spool in a folder; os.TempDir() if it is empty.
func NewSpool(dir string) (*Spool, error) {
	f, err := os.CreateTemp(dir, ".hornbeam-*.tmp")
	if err != nil {
		return nil, err
	}
	return &Spool{file: f, sum: sha256.New()}, nil
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

// Content returns what was written, as the content of the commit with the given id.
func (s *Spool) Content(id string) Content {
	return Content{File: s.file, Size: s.size, SHA256: hex.EncodeToString(s.sum.Sum(nil)), ID: id}
}

// Discard closes and removes the file.
func (s *Spool) Discard() error {
	err := os.Remove(s.file.Name())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // A store may have taken it.
	}
	return errors.Join(err, s.file.Close())
}
