// SPDX-License-Identifier: Apache-2.0

package s3io

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/blob/bucket"
)

const (
	small    = 8 << 20 // Bytes. Up to here an object goes up in one request.
	partSize = 8 << 20 // Bytes, at least.
	maxParts = 10_000  // The service has no more.
	parallel = 4       // Parts of an object that are on their way.
)

// goodbye is how long a Create that fails tries to abort what it has begun. The next attempt
// aborts what is left.
const goodbye = 5 * time.Second

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
	if c.Size <= small {
		return s.put(ctx, key, c)
	}
	existed, err := s.is(ctx, key, c)
	if err == nil && !existed {
		existed, err = s.upload(ctx, key, c)
	}
	if err != nil {
		return false, err
	}
	return existed, s.sweep(ctx, key)
}

// put makes an object with one request.
func (s *store) put(ctx context.Context, key string, c blob.Content) (existed bool, err error) {
	sum, err := hex.DecodeString(c.SHA256)
	if err != nil {
		return false, fmt.Errorf("the SHA-256 of the content is not in hex: %w", err)
	}
	return s.loop.Do(ctx, "put "+s.Object(key), s.Within(c.Size), func(ctx context.Context) error {
		_, err := s.client.PutObject(ctx, &s3.PutObjectInput{
			Bucket:         &s.Bucket,
			Key:            aws.String(s.Prefix + key),
			Body:           io.NewSectionReader(c.File, 0, c.Size),
			ContentLength:  &c.Size,
			ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum)),
			IfNoneMatch:    aws.String("*"),
			Metadata:       bucket.Metadata(c),
		})
		return err
	}, s.found(key, c))
}

// found tells whether the object is there, and is the content.
func (s *store) found(key string, c blob.Content) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) { return s.is(ctx, key, c) }
}

func (s *store) is(ctx context.Context, key string, c blob.Content) (bool, error) {
	o, err := s.stat(ctx, key)
	return bucket.Is(c, o, err)
}

// upload makes an object in parts. It begins again when the service has lost the upload.
func (s *store) upload(ctx context.Context, key string, c blob.Content) (existed bool, err error) {
	u := &multipart{store: s, key: key, content: c}
	again := s.loop
	again.Classify = classifyUpload // The requests of an upload have been repeated already.
	found, err := again.Do(ctx, "upload "+s.Object(key), 0, u.run, s.found(key, c))
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
		defer cancel()
		for _, id := range u.ids {
			s.abort(ctx, key, id)
		}
	}
	return found || u.existed, err
}

// multipart is a call of Create that makes an object in parts.
type multipart struct {
	*store
	key     string
	content blob.Content
	ids     []string // Of the uploads it has begun.
	existed bool     // The object was there when the answer to the last request was not clear.
}

// run is one upload. After it returned nil the object is there, with our content.
func (u *multipart) run(ctx context.Context) error {
	var id string
	_, err := u.loop.Do(ctx, "begin to upload "+u.Object(u.key), u.Within(0), func(ctx context.Context) error {
		out, err := u.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
			Bucket:            &u.Bucket,
			Key:               aws.String(u.Prefix + u.key),
			ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
			ChecksumType:      u.checksumType,
			Metadata:          bucket.Metadata(u.content),
		})
		if err != nil {
			return err
		}
		id = aws.ToString(out.UploadId)
		return nil
	}, nil)
	if err != nil {
		return err
	}
	u.ids = append(u.ids, id)
	parts, err := u.parts(ctx, id)
	if err != nil {
		return err
	}
	u.existed, err = u.complete(ctx, id, parts)
	if err != nil || u.existed {
		return err
	}
	there, err := u.is(ctx, u.key, u.content)
	if err == nil && !there {
		err = lostUpload{errors.New("the service said that the object is complete, but it is not there")}
	}
	return err
}

// complete makes the parts an object, if there is none, or finds it there.
func (u *multipart) complete(ctx context.Context, id string, parts []types.CompletedPart) (existed bool, err error) {
	return u.loop.Do(ctx, "complete "+u.Object(u.key), 5*u.Within(0), func(ctx context.Context) error {
		_, err := u.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket:          &u.Bucket,
			Key:             aws.String(u.Prefix + u.key),
			UploadId:        &id,
			IfNoneMatch:     aws.String("*"),
			ChecksumType:    u.checksumType,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		})
		// After a conflict the service wants a new upload.
		return lost(err, "NoSuchUpload", "ConditionalRequestConflict")
	}, u.found(u.key, u.content))
}

// parts uploads all parts, some at a time.
func (u *multipart) parts(ctx context.Context, id string) ([]types.CompletedPart, error) {
	size := sizeOfParts(u.content.Size)
	n := int((u.content.Size + size - 1) / size)
	done := make([]types.CompletedPart, n)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(parallel, n) {
		workers.Go(func() {
			for i := range next {
				offset := int64(i) * size
				part, err := u.part(ctx, id, int32(i+1), io.NewSectionReader(u.content.File, offset, min(size, u.content.Size-offset)))
				if err != nil {
					cancel(err) // Of the first one.
				}
				done[i] = part
			}
		})
	}
	for i := 0; i < n && ctx.Err() == nil; i++ {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	workers.Wait()
	return done, context.Cause(ctx)
}

// part uploads one part.
func (u *multipart) part(ctx context.Context, id string, number int32, body *io.SectionReader) (types.CompletedPart, error) {
	part := types.CompletedPart{PartNumber: &number}
	_, err := u.loop.Do(ctx, fmt.Sprintf("part %d of %s", number, u.Object(u.key)), u.Within(body.Size()), func(ctx context.Context) error {
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return err
		}
		out, err := u.client.UploadPart(ctx, &s3.UploadPartInput{
			Bucket:            &u.Bucket,
			Key:               aws.String(u.Prefix + u.key),
			UploadId:          &id,
			PartNumber:        &number,
			Body:              body,
			ContentLength:     aws.Int64(body.Size()),
			ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
		})
		if err != nil {
			return lost(err, "NoSuchUpload")
		}
		part.ETag, part.ChecksumCRC32 = out.ETag, out.ChecksumCRC32
		return nil
	}, u.useless)
	return part, err
}

// useless ends the upload of a part if there is an object by now. Who made that has aborted our upload, and a
// server that closes the connection before it has read the part does not get to tell.
func (u *multipart) useless(ctx context.Context) (bool, error) {
	_, err := u.stat(ctx, u.key)
	switch {
	case err == nil:
		return false, lostUpload{errors.New("another attempt has made the object")}
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, err
}

// sizeOfParts returns the bytes of each part but the last: whole MiB, and so many that the parts are not too many.
func sizeOfParts(size int64) int64 {
	const mib = 1 << 20
	least := (size + maxParts - 1) / maxParts
	return max(partSize, (least+mib-1)/mib*mib)
}

// lost marks an error with one of the codes as the end of the upload.
func lost(err error, codes ...string) error {
	for _, c := range codes {
		if err != nil && code(err) == c {
			return lostUpload{err}
		}
	}
	return err
}

// sweep aborts all uploads at exactly this key. It is called when the object is there: none of them
// can become an object any more, whoever began it.
func (s *store) sweep(ctx context.Context, key string) error {
	_, err := s.loop.Do(ctx, "remove what is left of uploads of "+s.Object(key), 0, func(ctx context.Context) error {
		ids, err := s.uploads(ctx, key)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := s.abort(ctx, key, id); err != nil {
				return err
			}
		}
		return nil
	}, nil)
	if err != nil {
		return fmt.Errorf("the object is there, but parts of earlier attempts are too, and cannot be removed: %w", err)
	}
	return nil
}

// uploads returns the ids of the uploads at exactly this key.
func (s *store) uploads(ctx context.Context, key string) ([]string, error) {
	var ids []string
	in := &s3.ListMultipartUploadsInput{Bucket: &s.Bucket, Prefix: aws.String(s.Prefix + key)}
	for {
		var out *s3.ListMultipartUploadsOutput
		_, err := s.loop.Do(ctx, "list uploads of "+s.Object(key), s.Within(0), func(ctx context.Context) (err error) {
			out, err = s.client.ListMultipartUploads(ctx, in)
			return err
		}, nil)
		if err != nil {
			return nil, err
		}
		for _, u := range out.Uploads {
			if aws.ToString(u.Key) == s.Prefix+key {
				ids = append(ids, aws.ToString(u.UploadId))
			}
		}
		if !aws.ToBool(out.IsTruncated) {
			return ids, nil
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
}

// abort aborts an upload until it has no parts. A part that is on its way may arrive after an abort,
// so one may not be enough.
func (s *store) abort(ctx context.Context, key, id string) error {
	_, err := s.loop.Do(ctx, "abort an upload of "+s.Object(key), s.Within(0), func(ctx context.Context) error {
		_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.Bucket, Key: aws.String(s.Prefix + key), UploadId: &id})
		if err != nil && code(err) != "NoSuchUpload" {
			return err
		}
		out, err := s.client.ListParts(ctx, &s3.ListPartsInput{Bucket: &s.Bucket, Key: aws.String(s.Prefix + key), UploadId: &id})
		switch {
		case err != nil && code(err) == "NoSuchUpload":
			return nil
		case err != nil:
			return err
		case len(out.Parts) > 0:
			return errRemains
		}
		return nil
	}, nil)
	return err
}
