// SPDX-License-Identifier: Apache-2.0

// Package gcsio is the store of package blob in a bucket of Google Cloud Storage. Import it, and
// blob.Open takes gs:// URLs:
//
//	gs://bucket/prefix?timeout=1m
//
// The prefix is taken as it is written, without percent-decoding. timeout is how long a request may go
// without an answer, one minute if it is not given.
//
// Credentials are the application default credentials: the file that GOOGLE_APPLICATION_CREDENTIALS names,
// those of gcloud, or the account of the machine. A URL with credentials in it is refused. With
// STORAGE_EMULATOR_HOST set, the store talks to the server there, without credentials.
//
// # Delivery guarantees
//
// Create is exactly once: an object is there whole or not at all, and a key is written once, because
// the service itself refuses a second object (ifGenerationMatch=0). Whenever it is open whether a
// request was done (a lost answer, a 5xx, a 412), what is at the key is compared by the id and the SHA-256 in its
// metadata. The service checks all bytes of an object against a CRC-32C.
//
// The bytes of a commit that is repeated must be those of its first attempt. Another version of the program may make
// others: that is blob.ErrOtherBytes, and nothing is written over.
//
// An object above 8 MiB goes up in chunks. An upload that a crash leaves behind is invisible, is not
// billed, and is removed by the service after a week.
package gcsio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"cloud.google.com/go/storage"
	"google.golang.org/api/option"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/blob/attempt"
	"github.com/hornbeam-dev/hornbeam/io/blob/bucket"
)

func init() { blob.Register("gs", open) }

// emulator is the environment variable that names a server other than Google's.
const emulator = "STORAGE_EMULATOR_HOST"

const loginHint = "log in with \"gcloud auth application-default login\", or set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account"

var syntax = bucket.Syntax{
	Scheme:        "gs",
	Options:       []string{"timeout"},
	NoCredentials: "credentials do not go into the URL: " + loginHint,
}

// store is a bucket, or what is below a prefix of it.
type store struct {
	bucket.Place
	firstChunk time.Duration // How long an upload may take until its first chunk is there.
	emulated   bool          // The server is not Google's.
	client     *storage.Client
	loop       attempt.Loop
}

var _ blob.Store = (*store)(nil)

// open opens the store at a URL. It does not reach the service.
func open(ctx context.Context, url string) (blob.Store, error) {
	place, err := syntax.Parse(url)
	if err != nil {
		return nil, err
	}
	s := &store{
		Place: place, emulated: os.Getenv(emulator) != "",
		loop: attempt.Loop{Classify: classify, First: 100 * time.Millisecond, Most: 20 * time.Second},
	}
	s.firstChunk = s.Within(0) + s.Within(chunk)
	options := []option.ClientOption{option.WithScopes(storage.ScopeReadWrite)}
	if s.emulated {
		// The other way to read asks a host that an emulator is not, and this one cannot read compressed.
		options = []option.ClientOption{option.WithoutAuthentication(), storage.WithJSONReads()}
	}
	// The client outlives the call that opened it.
	s.client, err = storage.NewClient(context.WithoutCancel(ctx), options...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w (%s)", s.Object(""), err, loginHint)
	}
	s.client.SetRetry(storage.WithPolicy(storage.RetryNever)) // The loop decides, since it can look at the object.
	return s, nil
}

func (s *store) URL() string { return s.Place.URL }

func (s *store) Spool(string) (*blob.Spool, error) { return blob.NewSpool("") }

func (s *store) Close() error { return s.client.Close() }

// handle is the object at a key.
func (s *store) handle(key string) *storage.ObjectHandle {
	return s.client.Bucket(s.Bucket).Object(s.Prefix + key)
}

// fail names the object in an error, and says what may be done.
func (s *store) fail(key string, err error) error { return s.Fail(key, err, hint(err)) }

// errNoBucket says that the bucket is not there, and not only the object.
var errNoBucket = errors.New("the bucket is not there")
