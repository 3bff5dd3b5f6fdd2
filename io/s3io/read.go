// SPDX-License-Identifier: Apache-2.0

package s3io

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/blob/attempt"
	"github.com/hornbeam-dev/hornbeam/io/blob/bucket"
)

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
	var out *s3.HeadObjectOutput
	_, err := s.loop.Do(ctx, "look at "+s.Object(key), s.Within(0), func(ctx context.Context) (err error) {
		out, err = s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.Bucket, Key: aws.String(s.Prefix + key)})
		if status(err) == http.StatusNotFound {
			return fs.ErrNotExist // The answer has no body that says more.
		}
		return err
	}, nil)
	if err != nil {
		return blob.Object{}, err
	}
	id, sum := bucket.Written(out.Metadata)
	return blob.Object{
		Key:     key,
		Size:    aws.ToInt64(out.ContentLength),
		Version: aws.ToString(out.ETag),
		ID:      id,
		SHA256:  sum,
	}, nil
}

func (s *store) List(ctx context.Context, prefix string) iter.Seq2[blob.Object, error] {
	return func(yield func(blob.Object, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: &s.Bucket, Prefix: aws.String(s.Prefix + prefix)}
		for {
			var out *s3.ListObjectsV2Output
			_, err := s.loop.Do(ctx, "list "+s.Object(prefix), s.Within(0), func(ctx context.Context) (err error) {
				out, err = s.client.ListObjectsV2(ctx, in)
				return err
			}, nil)
			if err != nil {
				yield(blob.Object{}, s.fail(prefix, fmt.Errorf("list: %w", err)))
				return
			}
			for _, o := range out.Contents {
				key := strings.TrimPrefix(aws.ToString(o.Key), s.Prefix)
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
	return s.loop.Reader(ctx, attempt.Source{
		What:    "read " + s.Object(o.Key),
		Timeout: s.Timeout,
		Open:    func(ctx context.Context, offset int64) (io.ReadCloser, error) { return s.get(ctx, &o, offset) },
		Fail:    func(err error) error { return s.fail(o.Key, err) },
	}, offset)
}

// get asks for the rest of an object. If it has no version it gets the one of the answer.
func (s *store) get(ctx context.Context, o *blob.Object, offset int64) (io.ReadCloser, error) {
	in := &s3.GetObjectInput{Bucket: &s.Bucket, Key: aws.String(s.Prefix + o.Key)}
	if o.Version != "" {
		in.IfMatch = aws.String(o.Version)
	}
	if offset > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	out, err := s.client.GetObject(ctx, in)
	if err == nil {
		o.Version = aws.ToString(out.ETag)
		return out.Body, nil
	}
	switch status := status(err); {
	case status == http.StatusPreconditionFailed:
		return nil, fmt.Errorf("%w: it is not version %s", blob.ErrChanged, o.Version)
	case code(err) == "NoSuchKey" && o.Version != "":
		return nil, fmt.Errorf("%w: %w", blob.ErrChanged, fs.ErrNotExist)
	case code(err) == "NoSuchKey":
		return nil, fs.ErrNotExist
	case status == http.StatusRequestedRangeNotSatisfiable:
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
		return nil, fmt.Errorf("%w: it is not version %s", blob.ErrChanged, o.Version)
	case is.Size != offset:
		return nil, fmt.Errorf("offset %d is behind the end of the object, which has %d bytes", offset, is.Size)
	}
	return http.NoBody, nil
}
