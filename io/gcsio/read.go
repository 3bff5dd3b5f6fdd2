// SPDX-License-Identifier: Apache-2.0

package gcsio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"strconv"
	"strings"

	"cloud.google.com/go/storage"
	"google.golang.org/api/iterator"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/blob/attempt"
	"github.com/hornbeam-dev/hornbeam/io/blob/bucket"
)

// page is the number of objects that one request lists.
const page = 1000

func (s *store) Stat(ctx context.Context, key string) (blob.Object, error) {
	if err := blob.CheckKey(key); err != nil {
		return blob.Object{}, err
	}
	o, err := s.stat(ctx, key)
	if err != nil {
		return blob.Object{}, s.fail(key, err)
	}
	return o, nil
}

func (s *store) stat(ctx context.Context, key string) (blob.Object, error) {
	var attrs *storage.ObjectAttrs
	_, err := s.loop.Do(ctx, "look at "+s.Object(key), s.Within(0), func(ctx context.Context) (err error) {
		attrs, err = s.handle(key).Attrs(ctx)
		return missing(err)
	}, nil)
	if err != nil {
		return blob.Object{}, err
	}
	return s.known(attrs), nil
}

// known is what the store knows of an object.
func (s *store) known(attrs *storage.ObjectAttrs) blob.Object {
	id, sum := bucket.Written(attrs.Metadata)
	return blob.Object{
		Key:     strings.TrimPrefix(attrs.Name, s.Prefix),
		Size:    attrs.Size,
		Version: strconv.FormatInt(attrs.Generation, 10),
		ID:      id,
		SHA256:  sum,
	}
}

func (s *store) List(ctx context.Context, prefix string) iter.Seq2[blob.Object, error] {
	return func(yield func(blob.Object, error) bool) {
		for token := ""; ; {
			var objects []*storage.ObjectAttrs
			next := ""
			_, err := s.loop.Do(ctx, "list "+s.Object(prefix), s.Within(0), func(ctx context.Context) (err error) {
				objects = nil
				it := s.client.Bucket(s.Bucket).Objects(ctx, &storage.Query{Prefix: s.Prefix + prefix})
				next, err = iterator.NewPager(it, page, token).NextPage(&objects)
				return missing(err)
			}, nil)
			if err != nil {
				yield(blob.Object{}, s.fail(prefix, fmt.Errorf("list: %w", err)))
				return
			}
			for _, attrs := range objects {
				o := s.known(attrs)
				if o.Key == "" || strings.HasSuffix(o.Key, "/") {
					continue // Consoles make such an object when somebody asks for a folder.
				}
				if !yield(o, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			token = next
		}
	}
}

func (s *store) Open(ctx context.Context, o blob.Object, offset int64) (io.ReadCloser, error) {
	return s.loop.Reader(ctx, attempt.Source{
		What:    "read " + s.Object(o.Key),
		Timeout: s.Timeout,
		Open:    func(ctx context.Context, offset int64) (io.ReadCloser, error) { return s.get(ctx, &o, offset) },
		Fail:    func(err error) error { return s.fail(o.Key, err) },
	}, offset)
}

// get asks for the rest of an object. If it has no version it gets the one of the answer.
func (s *store) get(ctx context.Context, o *blob.Object, offset int64) (io.ReadCloser, error) {
	h := s.handle(o.Key).ReadCompressed(!s.emulated) // As it was written, whatever its Content-Encoding.
	if o.Version != "" {
		generation, err := strconv.ParseInt(o.Version, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: %q is not a version of this store", blob.ErrChanged, o.Version)
		}
		h = h.Generation(generation)
	}
	r, err := h.NewRangeReader(ctx, offset, -1)
	err = missing(err)
	switch {
	case err == nil:
		o.Version = strconv.FormatInt(r.Attrs.Generation, 10)
		return r, nil
	case errors.Is(err, fs.ErrNotExist) && o.Version != "":
		return nil, fmt.Errorf("%w: generation %s is not there", blob.ErrChanged, o.Version)
	case status(err) == http.StatusRequestedRangeNotSatisfiable:
		return s.empty(ctx, *o, offset)
	}
	return nil, err
}

// empty returns no bytes, if the offset is the end of the object: the service refuses an empty range.
func (s *store) empty(ctx context.Context, o blob.Object, offset int64) (io.ReadCloser, error) {
	is, err := s.stat(ctx, o.Key)
	switch {
	case err != nil:
		return nil, err
	case o.Version != "" && is.Version != o.Version:
		return nil, fmt.Errorf("%w: generation %s is not there", blob.ErrChanged, o.Version)
	case is.Size != offset:
		return nil, fmt.Errorf("offset %d is behind the end of the object, which has %d bytes", offset, is.Size)
	}
	return http.NoBody, nil
}
