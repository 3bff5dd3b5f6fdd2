// SPDX-License-Identifier: Apache-2.0

package connectors

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/hornbeam-dev/hornbeam/integration/connectors/s3test"
	"github.com/hornbeam-dev/hornbeam/io/blob"
)

// BenchmarkS3Write writes objects of 128 MiB by turns with s3io and with the SDK alone: parts of the same size, as many
// at a time, from the same file, without a condition, a look at the object, or a clean-up. It reports MB/s of
// both, and s3io's as a part of the other.
func BenchmarkS3Write(b *testing.B) {
	srv := s3test.Start(b)
	const size = 128 << 20
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(data)
	content := spooled(b, data, "bench")
	s, err := blob.Open(b.Context(), srv.URL("bench", ""))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var ours, plain time.Duration
	for i := 0; b.Loop(); i++ {
		begin := time.Now()
		if _, err := s.Create(b.Context(), fmt.Sprint(i), content); err != nil {
			b.Fatal(err)
		}
		ours += time.Since(begin)
		begin = time.Now()
		if err := plainUpload(b.Context(), srv, fmt.Sprintf("plain/%d", i), content); err != nil {
			b.Fatal(err)
		}
		plain += time.Since(begin)
	}
	mb := float64(b.N) * size / 1e6
	b.ReportMetric(mb/ours.Seconds(), "s3io-MB/s")
	b.ReportMetric(mb/plain.Seconds(), "plain-MB/s")
	b.ReportMetric(plain.Seconds()/ours.Seconds(), "s3io/plain")
	b.ReportMetric(0, "ns/op")
}

// plainUpload is what a program does that has only the SDK.
func plainUpload(ctx context.Context, srv *s3test.Server, key string, c blob.Content) error {
	const part, parallel = 8 << 20, 4
	begun, err := srv.Client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &srv.Bucket, Key: &key, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
	})
	if err != nil {
		return err
	}
	parts := make([]types.CompletedPart, (c.Size+part-1)/part)
	errs := make([]error, len(parts))
	var workers sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for i := range parts {
		slots <- struct{}{}
		workers.Go(func() {
			defer func() { <-slots }()
			number := aws.Int32(int32(i + 1))
			out, err := srv.Client.UploadPart(ctx, &s3.UploadPartInput{
				Bucket: &srv.Bucket, Key: &key, UploadId: begun.UploadId, PartNumber: number, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
				Body: io.NewSectionReader(c.File, int64(i)*part, min(part, c.Size-int64(i)*part)),
			})
			if err != nil {
				errs[i] = err
				return
			}
			parts[i] = types.CompletedPart{PartNumber: number, ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32}
		})
	}
	workers.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	_, err = srv.Client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &srv.Bucket, Key: &key, UploadId: begun.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	return err
}
