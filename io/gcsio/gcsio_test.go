// SPDX-License-Identifier: Apache-2.0

package gcsio

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/blob/bucket"
)

// reply is one answer of the scripted server.
type reply struct {
	status int
	body   string
	size   int  // The Content-Length, if it is not that of body.
	cut    bool // The connection is closed without an answer.
	hang   bool // The connection stays open without an answer.
}

// server answers each operation with the replies of its script, in order; the last one is repeated.
type server struct {
	t *testing.T

	mu     sync.Mutex // Guards what follows.
	script map[string][]reply
	log    []string // The operations, as they came.
	seen   []*http.Request
}

// operation names a request.
func operation(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case r.Method == "POST" && q.Get("uploadType") == "multipart":
		return "insert"
	case r.Method == "POST" && q.Get("uploadType") == "resumable":
		return "begin"
	case r.Method == "GET" && q.Get("alt") == "media":
		return "get"
	case r.Method == "GET" && strings.HasSuffix(r.URL.Path, "/o"):
		return "list"
	case r.Method == "GET":
		return "attrs"
	case r.Header.Get("Content-Range") != "":
		return "chunk"
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
	if re.hang {
		<-r.Context().Done()
		return
	}
	if op == "begin" {
		w.Header().Set("Location", "http://"+r.Host+"/session")
	}
	if op == "chunk" && re.status == http.StatusPermanentRedirect {
		w.Header().Set("X-Http-Status-Code-Override", "308")
		w.Header().Set("Range", "bytes=0-8388607")
		re.status = http.StatusOK
	}
	if re.size > 0 {
		w.Header().Set("Content-Length", fmt.Sprint(re.size))
	}
	if re.status == http.StatusPartialContent { // To the end of 10 bytes.
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-9/10", 10-len(re.body)))
	}
	if op == "get" {
		w.Header().Set("X-Goog-Generation", "7")
	}
	w.WriteHeader(re.status)
	io.WriteString(w, re.body)
}

// newStore returns a store on a server with the script, which waits for nothing.
func newStore(t *testing.T, script map[string][]reply) (*store, *server) {
	t.Helper()
	h := &server{t: t, script: script}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	t.Setenv(emulator, strings.TrimPrefix(srv.URL, "http://"))
	opened, err := blob.Open(t.Context(), "gs://bucket/pre/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { opened.Close() })
	s := opened.(*store)
	s.loop.First, s.loop.Most = 1, time.Millisecond
	return s, h
}

func failure(status int, message string) reply {
	return reply{status: status, body: fmt.Sprintf(`{"error": {"code": %d, "message": %q}}`, status, message)}
}

// object is the answer about an object with this content.
func object(c blob.Content) reply {
	b, _ := json.Marshal(map[string]any{
		"name": "pre/k", "bucket": "bucket", "size": fmt.Sprint(c.Size), "generation": "7",
		"metadata": bucket.Metadata(c),
	})
	return reply{status: 200, body: string(b)}
}

var (
	cut      = reply{cut: true}
	hang     = reply{hang: true}
	notFound = failure(404, "No such object: bucket/pre/k")
	there    = failure(412, "At least one of the pre-conditions you specified did not hold.")
	more     = reply{status: 308}
)

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
	return s.Content("job/1")
}

// What Create asks, and returns, when the service answers like this.
func TestCreate(t *testing.T) {
	tiny, large := content(t, 100), content(t, small+1)
	other, otherLarge := tiny, large
	other.ID, otherLarge.SHA256 = "another job", tiny.SHA256
	tests := []struct {
		name    string
		content blob.Content
		script  map[string][]reply
		want    []string
		existed bool
		err     error  // nil: none, unless errText is set.
		errText string // What else the error says.
	}{{
		name: "one request", content: tiny,
		script: map[string][]reply{"insert": {object(tiny)}},
		want:   []string{"insert"},
	}, {
		name: "412 and it is ours", content: tiny, existed: true,
		script: map[string][]reply{"insert": {there}, "attrs": {object(tiny)}},
		want:   []string{"insert", "attrs"},
	}, {
		name: "412 and it is another's", content: tiny,
		script: map[string][]reply{"insert": {there}, "attrs": {object(other)}},
		want:   []string{"insert", "attrs"}, err: blob.ErrConflict, errText: "gs://bucket/pre/k: ",
	}, {
		name: "500 after it was done", content: tiny, existed: true,
		script: map[string][]reply{"insert": {failure(500, "")}, "attrs": {failure(503, ""), object(tiny)}},
		want:   []string{"insert", "attrs", "attrs"},
	}, {
		name: "the answer is lost, and it was not done", content: tiny,
		script: map[string][]reply{"insert": {cut, object(tiny)}, "attrs": {notFound}},
		want:   []string{"insert", "attrs", "insert"},
	}, {
		name: "too many requests", content: tiny,
		script: map[string][]reply{"insert": {failure(429, ""), object(tiny)}},
		want:   []string{"insert", "insert"},
	}, {
		name: "denied", content: tiny,
		script: map[string][]reply{"insert": {failure(403, "no access")}},
		want:   []string{"insert"}, errText: "storage.objects.create",
	}, {
		name: "no bucket", content: large,
		script: map[string][]reply{"attrs": {failure(404, "The specified bucket does not exist.")}},
		want:   []string{"attrs"}, errText: "make the bucket",
	}, {
		name: "chunks", content: large,
		script: map[string][]reply{"attrs": {notFound}, "begin": {{status: 200}}, "chunk": {more, object(large)}},
		want:   []string{"attrs", "begin", "chunk", "chunk"},
	}, {
		name: "chunks, and it is there already", content: large, existed: true,
		script: map[string][]reply{"attrs": {object(large)}},
		want:   []string{"attrs"},
	}, {
		name: "chunks, and another was faster", content: large, err: blob.ErrConflict,
		script: map[string][]reply{"attrs": {notFound, object(otherLarge)}, "begin": {{status: 200}}, "chunk": {more, there}},
		want:   []string{"attrs", "begin", "chunk", "chunk", "attrs"},
	}, {
		name: "chunks, and the session is gone", content: large,
		script: map[string][]reply{"attrs": {notFound}, "begin": {{status: 200}}, "chunk": {more, failure(410, "gone"), more, object(large)}},
		want:   []string{"attrs", "begin", "chunk", "chunk", "attrs", "begin", "chunk", "chunk"},
	}, {
		name: "chunks, and no answer before them", content: large,
		script: map[string][]reply{"attrs": {notFound}, "begin": {hang, {status: 200}}, "chunk": {more, object(large)}},
		want:   []string{"attrs", "begin", "attrs", "begin", "chunk", "chunk"},
	}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, srv := newStore(t, test.script)
			if test.script["begin"] != nil && test.script["begin"][0].hang {
				s.firstChunk = 500 * time.Millisecond
			}
			existed, err := s.Create(t.Context(), "k", test.content)
			if diff := cmp.Diff(test.want, srv.log); diff != "" {
				t.Errorf("operations (-want +got):\n%s", diff)
			}
			if existed != test.existed {
				t.Errorf("got existed %v, want %v", existed, test.existed)
			}
			if fails := test.err != nil || test.errText != ""; fails != (err != nil) {
				t.Fatalf("got error %v, want one: %v", err, fails)
			}
			if err != nil && (test.err != nil && !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.errText)) {
				t.Errorf("got error %v, want %v with %q", err, test.err, test.errText)
			}
			for _, r := range srv.seen {
				if op := operation(r); (op == "insert" || op == "begin") && r.URL.Query().Get("ifGenerationMatch") != "0" {
					t.Errorf("%s: got no condition: %s", op, r.URL)
				}
			}
		})
	}
}

func TestOpen(t *testing.T) {
	tests := []struct {
		name   string
		object blob.Object
		offset int64
		script map[string][]reply
		want   string
		err    error
	}{
		{"all", blob.Object{Key: "k", Version: "7"}, 0, map[string][]reply{"get": {{status: 200, body: "0123456789"}}}, "0123456789", nil},
		{"it goes on after a broken connection", blob.Object{Key: "k"}, 0,
			map[string][]reply{"get": {{status: 200, body: "01234", size: 10}, cut, {status: 206, body: "56789"}}}, "0123456789", nil},
		{"it asks again when no answer comes", blob.Object{Key: "k", Version: "7"}, 0,
			map[string][]reply{"get": {hang, {status: 200, body: "0123456789"}}}, "0123456789", nil},
		{"at the end", blob.Object{Key: "k", Version: "7"}, 10,
			map[string][]reply{"get": {failure(416, "")}, "attrs": {object(blob.Content{Size: 10})}}, "", nil},
		{"gone", blob.Object{Key: "k", Version: "7"}, 0, map[string][]reply{"get": {notFound}}, "", blob.ErrChanged},
		{"of another store", blob.Object{Key: "k", Version: `"etag"`}, 0, nil, "", blob.ErrChanged},
		{"never there", blob.Object{Key: "k"}, 0, map[string][]reply{"get": {notFound}}, "", fs.ErrNotExist},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, srv := newStore(t, test.script)
			if test.script["get"] != nil && test.script["get"][0].hang {
				s.Timeout = 200 * time.Millisecond
			}
			var got []byte
			r, err := s.Open(t.Context(), test.object, test.offset)
			if err == nil {
				got, err = io.ReadAll(r)
				r.Close()
			}
			if !errors.Is(err, test.err) || string(got) != test.want {
				t.Errorf("got %q, %v, want %q, %v", got, err, test.want, test.err)
			}
			for i, r := range srv.seen {
				if generation := r.URL.Query().Get("generation"); operation(r) == "get" && generation != "7" && (i > 0 || test.object.Version != "") {
					t.Errorf("request %d: got generation %q, want 7", i, generation)
				}
			}
		})
	}
}

func TestListGoesOnAfterAPage(t *testing.T) {
	s, srv := newStore(t, map[string][]reply{"list": {
		{status: 200, body: `{"nextPageToken": "next", "items": [{"name": "pre/a/"}, {"name": "pre/a/1", "size": "5", "generation": "7"}]}`},
		cut,
		{status: 200, body: `{"items": [{"name": "pre/a/2", "size": "6", "generation": "8"}]}`},
	}})
	var got []blob.Object
	for o, err := range s.List(t.Context(), "a") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, o)
	}
	want := []blob.Object{{Key: "a/1", Size: 5, Version: "7"}, {Key: "a/2", Size: 6, Version: "8"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	last := srv.seen[len(srv.seen)-1].URL.Query()
	if got := last.Get("prefix") + " " + last.Get("pageToken"); got != "pre/a next" {
		t.Errorf("got prefix and token %q, want %q", got, "pre/a next")
	}
}

// Whoever has no credentials is told so, and secrets in URLs and files are not repeated.
func TestOpenRefuses(t *testing.T) {
	t.Setenv(emulator, "")
	file := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(file, []byte(`{"type": "service_account", "private_key": "canary"`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	for url, want := range map[string]string{
		"gs://bucket":                          "GOOGLE_APPLICATION_CREDENTIALS",
		"gs://canary@bucket":                   "GOOGLE_APPLICATION_CREDENTIALS",
		"gs://bucket?access_token=canary":      "GOOGLE_APPLICATION_CREDENTIALS",
		"gs://bucket?timeout=-1s":              "above zero",
		"gs://bucket?endpoint=http://x/canary": "known are timeout",
	} {
		_, err := blob.Open(t.Context(), url)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got error %v, want %q without the secret", url, err, want)
		}
	}
}
