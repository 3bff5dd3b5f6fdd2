// SPDX-License-Identifier: Apache-2.0

// Package blob is the words between file connectors and the places that hold files: a local folder,
// an S3 bucket, a GCS bucket. A place is a Store, and a store is opened by a URL, so that a worker on
// another machine can open it again. Packages that implement a store register its scheme when they
// are imported, as drivers of database/sql do:
//
//	import _ "github.com/hornbeam-dev/hornbeam/io/s3io" // s3://bucket/prefix
//
// Credentials are never part of a URL: a store takes them from the environment of the process.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
)

// Errors that stores return, wrapped with the URL of the object and the cause.
var (
	// ErrConflict says that a key holds an object of another writer or with another content.
	ErrConflict = errors.New("the object exists with other content")
	// ErrOtherBytes is the ErrConflict of an object with the ID of the Content, but not with its bytes.
	ErrOtherBytes = fmt.Errorf("%w: an earlier attempt of the same commit wrote other bytes, probably as another version of the program or from other input: "+
		"finish the job with the version and the input it began with, or write to another place", ErrConflict)
	// ErrChanged says that an object is not the version any more that was listed.
	ErrChanged = errors.New("the object has changed since it was listed")
)

// Object is what a store knows of an object.
type Object struct {
	Key     string // Relative to the store's URL; parts are separated by "/".
	Size    int64  // Bytes.
	Version string // Changes whenever the content does; opaque.
	ID      string // Of the Content it was created with; empty when something else made it.
	SHA256  string // Likewise, in hex.
}

// Content is what is to become an object: bytes that are durable or can be made again, on local disk.
type Content struct {
	File   *os.File // Read with ReadAt from 0 to Size; it stays the caller's.
	Size   int64
	SHA256 string // Of the bytes, in hex.
	ID     string // Who writes what: the same for each attempt of one commit, different for any other.
}

// Store holds objects under keys. Its methods may be called concurrently.
//
// Each answer from outside is one of four: done, transient (repeated inside the method, with
// back-off, until ctx ends), permanent (returned), unknown (the store asks what is there before it
// repeats). So an error means that the caller's attempt has failed, not that a repeat helps.
type Store interface {
	// Create makes the object at key appear, whole, if there is none. The same call again, after
	// a crash at any point or by another process, changes nothing and returns existed; an object
	// with another ID or SHA256 is ErrConflict, and stays as it is. Nothing that is not whole is ever visible, and what
	// an earlier attempt left behind (parts, temporary files) is gone when it returns without error.
	// The object is durable by then.
	Create(ctx context.Context, key string, c Content) (existed bool, err error)

	// Stat returns the object at key; errors.Is(err, fs.ErrNotExist) if there is none.
	Stat(ctx context.Context, key string) (Object, error)

	// Open reads the object from a byte offset. It reads the version in o, or returns ErrChanged. Where any part of an
	// object can be read as cheaply, what it returns is an io.ReaderAt, too, whose offsets are those of the object.
	Open(ctx context.Context, o Object, offset int64) (io.ReadCloser, error)

	// List yields the objects whose key begins with prefix, in the order of their keys. ID and SHA256
	// may be empty there. What is not visible as an object (temporary files, open uploads) is left out.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]

	// Spool returns a new, empty file on local disk to build the Content of key in. Close and remove
	// it with its Discard when it is done with. A store may choose a place from which Create need not copy.
	Spool(key string) (*Spool, error)

	// URL is what the store was opened with, without a trailing slash.
	URL() string

	// Close releases connections.
	Close() error
}

// Walker is a Store of real folders, which need not be read to know that nothing in them is wanted.
type Walker interface {
	// Walk is List without what is in the folders that enter refuses. It is asked before the folder is read; the name
	// ends with a slash.
	Walk(ctx context.Context, prefix string, enter func(folder string) bool) iter.Seq2[Object, error]
}

// Opener opens the store at a URL of its scheme. It checks the URL, but need not reach the service.
type Opener func(ctx context.Context, url string) (Store, error)

var (
	mu      sync.Mutex
	openers = map[string]Opener{}
)

// Register makes a scheme known to Open. It panics if the scheme is known already: call it in an init.
func Register(scheme string, open Opener) {
	mu.Lock()
	defer mu.Unlock()
	if _, ok := openers[scheme]; ok {
		panic(fmt.Sprintf("blob: scheme %s is registered twice", scheme))
	}
	openers[scheme] = open
}

// Open opens the store at a URL, like s3://bucket/prefix, or at the path of a local folder.
func Open(ctx context.Context, url string) (Store, error) {
	scheme, _, ok := strings.Cut(url, "://")
	if !ok {
		return OpenDir(url)
	}
	mu.Lock()
	open := openers[scheme]
	known := make([]string, 0, len(openers))
	for name := range openers {
		known = append(known, name+"://")
	}
	mu.Unlock()
	if open == nil {
		slices.Sort(known)
		return nil, fmt.Errorf("blob: %s: no store is registered for %s://; known are local folders, %s", url, scheme, strings.Join(known, ", "))
	}
	store, err := open(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	return store, nil
}
