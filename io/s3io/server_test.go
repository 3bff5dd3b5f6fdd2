// SPDX-License-Identifier: Apache-2.0

package s3io

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/blob/bucket"
)

// TestMain keeps the configuration of whoever runs the tests out of them.
func TestMain(m *testing.M) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"} {
		os.Unsetenv(name)
	}
	os.Setenv("AWS_CONFIG_FILE", os.DevNull)
	os.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	os.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	os.Exit(m.Run())
}

// reply is one answer of the scripted server.
type reply struct {
	status int
	body   string
	header map[string]string
	cut    bool // The connection is closed without an answer.
}

// server answers each operation with the replies of its script, in order; the last one is repeated.
type server struct {
	t *testing.T

	mu     sync.Mutex // Guards what follows.
	script map[string][]reply
	log    []string // The operations, as they came.
	seen   []*http.Request
}

// operation names a request as S3's API does.
func operation(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case r.Method == "PUT" && q.Has("partNumber"):
		return "UploadPart"
	case r.Method == "PUT":
		return "PutObject"
	case r.Method == "POST" && q.Has("uploads"):
		return "CreateMultipartUpload"
	case r.Method == "POST" && q.Has("uploadId"):
		return "CompleteMultipartUpload"
	case r.Method == "DELETE" && q.Has("uploadId"):
		return "AbortMultipartUpload"
	case r.Method == "GET" && q.Has("uploadId"):
		return "ListParts"
	case r.Method == "GET" && q.Has("uploads"):
		return "ListMultipartUploads"
	case r.Method == "GET" && q.Has("list-type"):
		return "ListObjectsV2"
	case r.Method == "GET":
		return "GetObject"
	case r.Method == "HEAD":
		return "HeadObject"
	}
	return r.Method + " " + r.URL.String()
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	op := operation(r)
	s.mu.Lock()
	s.log = append(s.log, op)
	s.seen = append(s.seen, r)
	replies := s.script[op]
	if len(replies) > 1 {
		s.script[op] = replies[1:]
	}
	s.mu.Unlock()
	if len(replies) == 0 {
		s.t.Errorf("got %s, which the script does not have", op)
		w.WriteHeader(http.StatusTeapot)
		return
	}
	re := replies[0]
	if re.cut {
		panic(http.ErrAbortHandler)
	}
	for name, value := range re.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(re.status)
	if r.Method != "HEAD" {
		io.WriteString(w, re.body)
	}
}

// operations returns what was asked, without the parts, which come in any order and number.
func (s *server) operations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ops []string
	for _, op := range s.log {
		if op != "UploadPart" {
			ops = append(ops, op)
		}
	}
	return ops
}

// newStore returns a store on a server with the script, which waits for nothing.
func newStore(t *testing.T, script map[string][]reply) (*store, *server) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", accessCanary)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secretCanary)
	t.Setenv("AWS_SESSION_TOKEN", tokenCanary)
	h := &server{t: t, script: script}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	opened, err := blob.Open(t.Context(), "s3://bucket/pre?endpoint="+srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { opened.Close() })
	s := opened.(*store)
	s.loop.First, s.loop.Most = 1, time.Millisecond
	return s, h
}

const (
	accessCanary = "AKIACANARYCANARY"
	secretCanary = "canary-of-the-secret-key"
	tokenCanary  = "canary-of-the-session-token"
)

// xmlError is an error as the service writes it.
func xmlError(status int, code string) reply {
	return reply{status: status, body: fmt.Sprintf(`<?xml version="1.0"?><Error><Code>%s</Code><Message>about %s</Message></Error>`, code, code)}
}

var (
	ok       = reply{status: 200, header: map[string]string{"ETag": `"e"`}}
	cut      = reply{cut: true}
	notFound = reply{status: 404}
	begun    = reply{status: 200, body: `<InitiateMultipartUploadResult><UploadId>up</UploadId></InitiateMultipartUploadResult>`}
	complete = reply{status: 200, body: `<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>`}
	aborted  = reply{status: 204}
	noUpload = xmlError(404, "NoSuchUpload")
	noOrphan = reply{status: 200, body: `<ListMultipartUploadsResult></ListMultipartUploadsResult>`}
)

// orphans is a list of uploads: pairs of key and id.
func orphans(pairs ...string) reply {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(&b, "<Upload><Key>%s</Key><UploadId>%s</UploadId></Upload>", pairs[i], pairs[i+1])
	}
	return reply{status: 200, body: "<ListMultipartUploadsResult>" + b.String() + "</ListMultipartUploadsResult>"}
}

// head is the answer about an object with this content.
func head(c blob.Content) reply {
	return reply{status: 200, header: map[string]string{
		"ETag": `"e"`, "Content-Length": fmt.Sprint(c.Size),
		"X-Amz-Meta-Hornbeam-Id": bucket.Metadata(c)["hornbeam-id"], "X-Amz-Meta-Hornbeam-Sha256": c.SHA256,
	}}
}

// content returns a content of n bytes.
func content(t *testing.T, n int) blob.Content {
	t.Helper()
	s, err := blob.NewSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Discard() })
	if _, err := s.Write([]byte(strings.Repeat("hornbeam", n/8+1)[:n])); err != nil {
		t.Fatal(err)
	}
	return s.Content("job/ö 1")
}
