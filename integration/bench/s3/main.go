// SPDX-License-Identifier: Apache-2.0

// S3 writes objects of 128 MiB from a local file, through Hornbeam's store or with the SDK alone, and
// prints what that took as one line of JSON. scripts/bench runs both by turns.
//
//	s3 bucket --endpoint=URL
//	s3 hornbeam --endpoint=URL --to=run-1 --n=3
//	s3 plain --endpoint=URL --to=run-2 --n=3
//	s3 lines --endpoint=URL --to=run-1
//
// The plain upload is in plain.go. Credentials come from the environment.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	_ "github.com/hornbeam-dev/hornbeam/io/s3io" // Registers s3://.
)

const (
	bucket = "hornbeam-bench"
	size   = 128 << 20 // Of an object.
)

var (
	endpoint = flag.String("endpoint", "", "The S3 server, http://HOST:PORT.")
	to       = flag.String("to", "", "The folder in the bucket that the objects are in.")
	n        = flag.Int("n", 1, "How many objects.")
)

func main() {
	commands := map[string]func(context.Context, *s3.Client) error{
		"bucket": makeBucket,
		"hornbeam": func(ctx context.Context, _ *s3.Client) error {
			store, err := blob.Open(ctx, fmt.Sprintf("s3://%s/%s?endpoint=%s", bucket, *to, *endpoint))
			if err != nil {
				return err
			}
			defer store.Close()
			return write(func(key string, c blob.Content) error {
				_, err := store.Create(ctx, key, c)
				return err
			})
		},
		"plain": func(ctx context.Context, client *s3.Client) error {
			return write(func(key string, c blob.Content) error { return upload(ctx, client, *to+"/"+key, c.File, c.Size) })
		},
		"lines": takeAway,
	}
	var command func(context.Context, *s3.Client) error
	if len(os.Args) > 1 {
		command = commands[os.Args[1]]
	}
	if command == nil {
		fmt.Fprintln(os.Stderr, "usage: s3 bucket|hornbeam|plain|lines FLAGS; scripts/bench -only s3 does it all")
		os.Exit(2)
	}
	os.Args = append(os.Args[:1], os.Args[2:]...)
	flag.Parse()
	ctx := context.Background()
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion("us-east-1"))
	if err == nil {
		err = command(ctx, s3.NewFromConfig(cfg, func(o *s3.Options) {
			o.BaseEndpoint, o.UsePathStyle = endpoint, true
		}))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "s3:", err)
		os.Exit(1)
	}
}

func makeBucket(ctx context.Context, client *s3.Client) error {
	_, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucket)})
	return err
}

// write creates the objects one after the other, each from the same file, and tells how long that
// took. The file is there before the clock starts: a sink fills it as its elements come.
func write(create func(key string, c blob.Content) error) error {
	spool, err := blob.NewSpool("")
	if err != nil {
		return err
	}
	defer spool.Discard()
	if _, err := io.CopyN(spool, rand.NewChaCha8([32]byte{}), size); err != nil {
		return err
	}
	before, began := processorTime(), time.Now()
	for i := range *n {
		key := fmt.Sprintf("object-%03d", i)
		if err := create(key, spool.Content(*to+"/"+key)); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"seconds":     time.Since(began).Seconds(),
		"cpu_seconds": (processorTime() - before).Seconds(),
	})
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err) // It knows RUSAGE_SELF.
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// takeAway prints a line for each object of the folder, with a hash of its content, and removes it.
func takeAway(ctx context.Context, client *s3.Client) error {
	pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: aws.String(*to + "/")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, object := range page.Contents {
			got, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: object.Key})
			if err != nil {
				return err
			}
			sum := sha256.New()
			_, err = io.Copy(sum, got.Body)
			got.Body.Close()
			if err != nil {
				return err
			}
			fmt.Printf("%s %x\n", (*object.Key)[len(*to)+1:], sum.Sum(nil))
			if _, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: object.Key}); err != nil {
				return err
			}
		}
	}
	return nil
}
