// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// upload is what a program does that has only the SDK: parts of the same size as the store's, as
// many at a time, but no condition, no look at the object, and no clean-up.
func upload(ctx context.Context, client *s3.Client, key string, file io.ReaderAt, size int64) error {
	const part, parallel = 8 << 20, 4
	bucket := aws.String(bucket)
	begun, err := client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: bucket, Key: &key, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
	})
	if err != nil {
		return err
	}
	parts := make([]types.CompletedPart, (size+part-1)/part)
	errs := make([]error, len(parts))
	var workers sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for i := range parts {
		slots <- struct{}{}
		workers.Go(func() {
			defer func() { <-slots }()
			number := aws.Int32(int32(i + 1))
			out, err := client.UploadPart(ctx, &s3.UploadPartInput{
				Bucket: bucket, Key: &key, UploadId: begun.UploadId, PartNumber: number, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
				Body: io.NewSectionReader(file, int64(i)*part, min(part, size-int64(i)*part)),
			})
			if err != nil {
				errs[i] = err
				return
			}
			parts[i] = types.CompletedPart{PartNumber: number, ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32}
		})
	}
	workers.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	_, err = client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: bucket, Key: &key, UploadId: begun.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	return err
}
