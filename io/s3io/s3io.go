// SPDX-License-Identifier: Apache-2.0

// Package s3io is the store of package blob in a bucket of Amazon S3, or of a server that speaks its
// protocol. Import it, and blob.Open takes s3:// URLs:
//
//	s3://bucket/prefix?region=eu-central-1&endpoint=http://127.0.0.1:9000&path_style=true&timeout=1m
//
// The prefix is taken as it is written, without percent-decoding. All options may be left out. endpoint
// is the address of another server than Amazon's; path_style puts the bucket into the path of requests
// and not into the name of the host (as it is when an endpoint is given); timeout is how long a
// request may go without an answer, one minute if it is not given.
//
// Credentials, the region and an endpoint come from where all of AWS's programs take them: environment
// variables like AWS_ACCESS_KEY_ID, AWS_REGION and AWS_ENDPOINT_URL, the files in ~/.aws, the role of the
// machine or container. A URL with credentials in it is refused.
//
// # Delivery guarantees
//
// Create is exactly once: an object is there whole or not at all, and a key is written once, because
// the service itself refuses a second object (If-None-Match: *). The server must support that for
// PutObject and for CompleteMultipartUpload, as Amazon's does. Whenever it is open whether a request was
// done (a lost answer, a 5xx, a 409, a 412, an upload that the server does not know any more), what is at
// the key is compared by the id and the SHA-256 in its metadata; the answer to
// CompleteMultipartUpload is never believed without that, since not every server's is true.
//
// The bytes of a commit that is repeated must be those of its first attempt. Another version of the program may make
// others: that is blob.ErrOtherBytes, and nothing is written over.
//
// An object above 8 MiB goes up in parts. An upload that a crash leaves behind is invisible but
// billed; the next Create of the same key removes it before it returns. If none follows, a lifecycle rule of the
// bucket (AbortIncompleteMultipartUpload) has to. Therefore the credentials need
// s3:AbortMultipartUpload, s3:ListBucketMultipartUploads and s3:ListMultipartUploadParts, beside s3:PutObject,
// s3:GetObject and s3:ListBucket; without them Create of a large object fails although the object is there.
//
// The service checks each request against a checksum (SHA-256, or CRC-32 of each part). What it sends is checked
// when an object is read from its first byte to its last over one connection, and has a checksum of all its bytes.
// That is so for objects that this store makes, except for those above 8 MiB on another server than Amazon's, which have
// one of their parts only. A read from another offset is not checked, and therefore not one that goes on after its
// connection broke.
package s3io

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/blob/attempt"
)

func init() { blob.Register("s3", open) }

// store is a bucket, or what is below a prefix of it.
type store struct {
	place
	client *s3.Client
	http   aws.HTTPClient
	loop   attempt.Loop

	// checksumType is that of objects that are made in parts; empty for what the server prefers.
	checksumType types.ChecksumType
}

var _ blob.Store = (*store)(nil)

// open opens the store at a URL. It does not reach the service.
func open(ctx context.Context, url string) (blob.Store, error) {
	p, err := parse(url)
	if err != nil {
		return nil, err
	}
	var options []func(*config.LoadOptions) error
	if region := p.Options["region"]; region != "" {
		options = append(options, config.WithRegion(region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("%s: the configuration of AWS: %w", p.Object(""), err)
	}
	s := &store{place: p, loop: attempt.Loop{Classify: classify, First: 100 * time.Millisecond, Most: 20 * time.Second}}
	s.http = httpClient(cfg, p.Timeout)
	if cfg.Credentials == nil {
		return nil, fmt.Errorf("%s: %w", p.Object(""), &credentialsError{error: errors.New("none are configured")})
	}
	credentials := aws.NewCredentialsCache(&provider{CredentialsProvider: cfg.Credentials})
	s.client = s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.HTTPClient = s.http
		o.Credentials = credentials
		o.Retryer = aws.NopRetryer{} // The loop decides, since it can look at the object.
		o.DisableLogOutputChecksumValidationSkipped = true
		if endpoint := p.Options["endpoint"]; endpoint != "" {
			o.BaseEndpoint = &endpoint
		}
		o.UsePathStyle = o.BaseEndpoint != nil
		if p.pathStyle != nil {
			o.UsePathStyle = *p.pathStyle
		}
		if o.Region == "" && o.BaseEndpoint != nil {
			o.Region = "us-east-1" // Other servers want one, and do not care which.
		}
	})
	if s.client.Options().BaseEndpoint == nil {
		s.checksumType = types.ChecksumTypeFullObject // Some other servers have only those of the parts.
	}
	if s.client.Options().Region == "" {
		return nil, fmt.Errorf("%s: the region of the bucket is not known: set AWS_REGION, or add ?region= to the URL", p.Object(""))
	}
	return s, nil
}

// httpClient is the one of cfg, but does not wait for ever.
func httpClient(cfg aws.Config, timeout time.Duration) aws.HTTPClient {
	client, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		client = awshttp.NewBuildableClient()
	}
	return client.WithTransportOptions(func(t *http.Transport) {
		t.ResponseHeaderTimeout = timeout
		t.MaxIdleConnsPerHost = 4 * parallel
	}).Freeze()
}

func (s *store) URL() string { return s.place.URL }

func (s *store) Spool(string) (*blob.Spool, error) { return blob.NewSpool("") }

func (s *store) Close() error {
	if c, ok := s.http.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
	return nil
}

// fail names the object in an error, and says what may be done.
func (s *store) fail(key string, err error) error { return s.Fail(key, err, hint(err)) }
