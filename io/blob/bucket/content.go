// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"

	"github.com/hornbeam-dev/hornbeam/io/blob"
)

// The names of the metadata that say who wrote an object.
const (
	metaID  = "hornbeam-id"
	metaSHA = "hornbeam-sha256"
)

// Metadata returns what the metadata of an object says about its content.
func Metadata(c blob.Content) map[string]string {
	// Escaped, because headers are ASCII.
	return map[string]string{metaID: url.PathEscape(c.ID), metaSHA: c.SHA256}
}

// Written returns what metadata says about the content; both are empty when something else made the object.
func Written(metadata map[string]string) (id, sha256 string) {
	id = metadata[metaID]
	if text, err := url.PathUnescape(id); err == nil {
		id = text
	}
	return id, metadata[metaSHA]
}

// Check refuses content whose file is too short.
func Check(c blob.Content) error {
	info, err := c.File.Stat()
	switch {
	case err != nil:
		return err
	case info.Size() < c.Size:
		return fmt.Errorf("its local file %s has %d bytes, want %d", c.File.Name(), info.Size(), c.Size)
	}
	return nil
}

// Is tells whether the answer to Stat, an object or an error, is that the content is there. An object that is not the
// content is an ErrConflict; that there is none is no error.
func Is(c blob.Content, o blob.Object, err error) (bool, error) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case o.ID != c.ID:
		return false, fmt.Errorf("%w: it has id %q, SHA-256 %q and %d bytes, want id %q, %s and %d bytes: move it away, or write below another prefix",
			blob.ErrConflict, o.ID, o.SHA256, o.Size, c.ID, c.SHA256, c.Size)
	case o.SHA256 != c.SHA256 || o.Size != c.Size:
		return false, fmt.Errorf("%w (it has SHA-256 %s and %d bytes, want %s and %d bytes)",
			blob.ErrOtherBytes, o.SHA256, o.Size, c.SHA256, c.Size)
	}
	return true, nil
}
