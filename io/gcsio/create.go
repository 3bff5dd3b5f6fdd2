// SPDX-License-Identifier: Apache-2.0

package gcsio

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"time"

	"cloud.google.com/go/storage"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/blob/bucket"
)

const (
	small = 8 << 20 // Bytes. Up to here an object goes up in one request.
	chunk = 8 << 20 // Bytes of a larger one that go up at a time; they are held in memory.

	// patience is how long a chunk is repeated before the upload begins again.
	patience = 10 * time.Minute
)

// errNoChunk says that an upload in chunks takes too long to begin.
var errNoChunk = errors.New("no chunk of the upload arrived for too long")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (s *store) Create(ctx context.Context, key string, c blob.Content) (existed bool, err error) {
	if err := blob.CheckKey(key); err != nil {
		return false, err
	}
	existed, err = s.create(ctx, key, c)
	if err != nil {
		return false, s.fail(key, err)
	}
	return existed, nil
}

func (s *store) create(ctx context.Context, key string, c blob.Content) (bool, error) {
	if err := bucket.Check(c); err != nil {
		return false, err
	}
	is := func(ctx context.Context) (bool, error) { return s.is(ctx, key, c) }
	timeout := time.Duration(0) // Each chunk has its own, and so has what comes before the first one.
	if c.Size <= small {
		timeout = s.Within(c.Size)
	} else if existed, err := is(ctx); existed || err != nil {
		return existed, err
	}
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, io.NewSectionReader(c.File, 0, c.Size)); err != nil {
		return false, err
	}
	return s.loop.Do(ctx, "write "+s.Object(key), timeout, func(ctx context.Context) error {
		err := s.write(ctx, key, c, sum.Sum32())
		if status(err) == http.StatusNotFound { // Nothing else that is written to can be missing.
			err = fmt.Errorf("%w: %w", errNoBucket, err)
		}
		return err
	}, is)
}

// write makes the object, if there is none.
func (s *store) write(ctx context.Context, key string, c blob.Content, crc uint32) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	h := s.handle(key).If(storage.Conditions{DoesNotExist: true})
	if c.Size > small {
		h = h.Retryer(storage.WithPolicy(storage.RetryIdempotent)) // A chunk is asked for again, not the whole.
	}
	w := h.NewWriter(ctx)
	w.ContentType = "application/octet-stream"
	w.Metadata = bucket.Metadata(c)
	w.CRC32C, w.SendCRC32C = crc, true
	w.ChunkSize = 0
	if c.Size > small {
		w.ChunkSize = chunk
		w.ChunkTransferTimeout = s.Within(chunk)
		w.ChunkRetryDeadline = patience
		// The client waits for ever for the answer to the request that comes before the chunks.
		stuck := time.AfterFunc(s.firstChunk, func() { cancel(errNoChunk) })
		defer stuck.Stop()
		w.ProgressFunc = func(int64) { stuck.Stop() }
	}
	_, err := io.Copy(w, io.NewSectionReader(c.File, 0, c.Size))
	if err != nil {
		cancel(err) // Or Close would end the object here.
		w.Close()
	} else {
		err = w.Close()
	}
	if err != nil && context.Cause(ctx) == errNoChunk {
		return errNoChunk
	}
	return err
}

// is tells whether the object is there, and is the content.
func (s *store) is(ctx context.Context, key string, c blob.Content) (bool, error) {
	o, err := s.stat(ctx, key)
	return bucket.Is(c, o, err)
}
