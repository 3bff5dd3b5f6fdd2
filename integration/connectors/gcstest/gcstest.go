// SPDX-License-Identifier: Apache-2.0

// Package gcstest runs a GCS server in the process of a test.
package gcstest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/fsouza/fake-gcs-server/fakestorage"
)

// Server is a GCS server on 127.0.0.1 with one bucket.
type Server struct {
	Endpoint string // http://HOST:PORT
	Bucket   string // Is empty at the start.

	t testing.TB
}

// Start starts a server, stops it when the test ends, and sets the environment so that gcsio talks to it.
func Start(t testing.TB) *Server {
	t.Helper()
	srv, err := fakestorage.NewServerWithOptions(fakestorage.Options{Scheme: "http", Host: "127.0.0.1", Port: 0})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Stop)
	s := &Server{Endpoint: srv.URL(), Bucket: "hornbeam", t: t}
	srv.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: s.Bucket})
	s.Through(s.Endpoint)
	return s
}

// Through makes the stores that are opened from now on talk to another address, in between.
func (s *Server) Through(endpoint string) {
	s.t.Setenv("STORAGE_EMULATOR_HOST", strings.TrimPrefix(endpoint, "http://"))
}

// URL returns the URL of a store below a prefix of the bucket.
func (s *Server) URL(prefix string) string {
	return fmt.Sprintf("gs://%s/%s", s.Bucket, prefix)
}

// Busy answers a request as a busy GCS does.
func Busy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusTooManyRequests)
	fmt.Fprint(w, `{"error": {"code": 429, "message": "The rate of requests is too high."}}`)
}
