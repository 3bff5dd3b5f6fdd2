// SPDX-License-Identifier: Apache-2.0

package s3io

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/blob/attempt"
)

func (s *store) Stat(ctx context.Context, key string) (blob.Object, error) {
	o, err := s.stat(ctx, key)
	if err != nil {
		return blob.Object{}, s.fail(key, err)
	}
	return o, nil
}

func (s *store) stat(ctx context.Context, key string) (blob.Object, error) {
	var out *s3.HeadObjectOutput
	_, err := s.loop.Do(ctx, "look at "+s.object(key), s.within(0), func(ctx context.Context) (err error) {
		out, err = s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: aws.String(s.prefix + key)})
		if status(err) == http.StatusNotFound {
			return fs.ErrNotExist // The answer has no body that says more.
		}
		return err
	}, nil)
	if err != nil {
		return blob.Object{}, err
	}
	id := out.Metadata[metaID]
	if text, err := url.PathUnescape(id); err == nil {
		id = text
	}
	return blob.Object{
		Key:     key,
		Size:    aws.ToInt64(out.ContentLength),
		Version: aws.ToString(out.ETag),
		ID:      id,
		SHA256:  out.Metadata[metaSHA],
	}, nil
}

func (s *store) List(ctx context.Context, prefix string) iter.Seq2[blob.Object, error] {
	return func(yield func(blob.Object, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: aws.String(s.prefix + prefix)}
		for {
			var out *s3.ListObjectsV2Output
			_, err := s.loop.Do(ctx, "list "+s.object(prefix), s.within(0), func(ctx context.Context) (err error) {
				out, err = s.client.ListObjectsV2(ctx, in)
				return err
			}, nil)
			if err != nil {
				yield(blob.Object{}, s.fail(prefix, fmt.Errorf("list: %w", err)))
				return
			}
			for _, o := range out.Contents {
				key := strings.TrimPrefix(aws.ToString(o.Key), s.prefix)
				if key == "" || strings.HasSuffix(key, "/") {
					continue // Consoles make such an object when somebody asks for a folder.
				}
				if !yield(blob.Object{Key: key, Size: aws.ToInt64(o.Size), Version: aws.ToString(o.ETag)}, nil) {
					return
				}
			}
			if !aws.ToBool(out.IsTruncated) {
				return
			}
			in.ContinuationToken = out.NextContinuationToken
		}
	}
}

func (s *store) Open(ctx context.Context, o blob.Object, offset int64) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	r := &reader{store: s, ctx: ctx, cancel: cancel, object: o, offset: offset}
	if err := r.open(); err != nil {
		cancel(nil)
		return nil, s.fail(o.Key, err)
	}
	return r, nil
}

var (
	errStuck  = errors.New("no bytes arrived for too long")
	errClosed = errors.New("the reader is closed")
)

// reader reads an object. When the connection breaks it goes on where it was.
type reader struct {
	*store
	ctx    context.Context
	cancel context.CancelCauseFunc
	object blob.Object // Version is the one of the first answer, if it was empty.
	offset int64       // Of the next byte.
	body   io.ReadCloser
	stuck  context.CancelCauseFunc // Ends the request of body.
	broken error                   // What body said at its end.
	fails  int                     // Broken connections since bytes arrived.
}

// open asks for the rest of the object.
func (r *reader) open() error {
	_, err := r.loop.Do(r.ctx, "read "+r.store.object(r.object.Key), 0, r.request, nil)
	return err
}

func (r *reader) request(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	in := &s3.GetObjectInput{Bucket: &r.bucket, Key: aws.String(r.prefix + r.object.Key)}
	if r.object.Version != "" {
		in.IfMatch = &r.object.Version
	}
	if r.offset > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", r.offset))
	}
	out, err := r.client.GetObject(ctx, in)
	if err == nil {
		r.body, r.stuck = out.Body, cancel
		r.object.Version = aws.ToString(out.ETag)
		return nil
	}
	cancel(nil)
	switch code, status := code(err), status(err); {
	case status == http.StatusPreconditionFailed:
		return fmt.Errorf("%w: it is not version %s", blob.ErrChanged, r.object.Version)
	case code == "NoSuchKey" && r.object.Version != "":
		return fmt.Errorf("%w: %w", blob.ErrChanged, fs.ErrNotExist)
	case code == "NoSuchKey":
		return fs.ErrNotExist
	case status == http.StatusRequestedRangeNotSatisfiable:
		return r.atEnd()
	}
	return err
}

// atEnd makes r end at once, if the offset is the end of the object: the service refuses an empty range.
func (r *reader) atEnd() error {
	o, err := r.stat(r.ctx, r.object.Key)
	switch {
	case err != nil:
		return err
	case r.object.Version != "" && o.Version != r.object.Version:
		return fmt.Errorf("%w: it is not version %s", blob.ErrChanged, r.object.Version)
	case o.Size != r.offset:
		return fmt.Errorf("offset %d is behind the end of the object, which has %d bytes", r.offset, o.Size)
	}
	r.body, r.stuck = io.NopCloser(bytes.NewReader(nil)), func(error) {}
	return nil
}

func (r *reader) Read(p []byte) (int, error) {
	for {
		if err := r.broken; err != nil && err != io.EOF {
			if err := r.reopen(err); err != nil {
				return 0, r.fail(r.object.Key, err)
			}
		}
		if r.broken == io.EOF || len(p) == 0 {
			return 0, r.broken
		}
		timer := time.AfterFunc(r.timeout, func() { r.stuck(errStuck) })
		n, err := r.body.Read(p)
		timer.Stop()
		r.offset += int64(n)
		r.broken = err
		if n > 0 {
			r.fails = 0
			return n, nil
		}
	}
}

// reopen goes on after the body has failed.
func (r *reader) reopen(err error) error {
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	r.body.Close()
	r.stuck(nil)
	if !errors.Is(err, io.ErrUnexpectedEOF) && network(err) == attempt.Permanent && !errors.Is(err, context.Canceled) {
		return err // Among them a checksum that is wrong.
	}
	if r.fails > 0 && !attempt.Wait(r.ctx, min(r.loop.First<<min(r.fails, 16), r.loop.Most)) {
		return fmt.Errorf("%w; the connection had ended with: %w", context.Cause(r.ctx), err)
	}
	r.fails++
	if err := r.open(); err != nil {
		return err
	}
	r.broken = nil
	return nil
}

func (r *reader) Close() error {
	err := r.body.Close()
	r.cancel(errClosed)
	return err
}
