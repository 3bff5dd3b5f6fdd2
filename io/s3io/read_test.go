// SPDX-License-Identifier: Apache-2.0

package s3io

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/io/blob"
)

func TestOpen(t *testing.T) {
	object := blob.Object{Key: "k", Size: 10, Version: `"e"`}
	short := reply{status: 200, body: "01234", header: map[string]string{"ETag": `"e"`, "Content-Length": "10"}}
	tests := []struct {
		name   string
		object blob.Object
		offset int64
		script map[string][]reply
		want   string
		ranges []string // What the requests asked for.
		err    error
	}{{
		name: "all", object: object, want: "0123456789", ranges: []string{""},
		script: map[string][]reply{"GetObject": {{status: 200, body: "0123456789"}}},
	}, {
		name: "from an offset", object: object, offset: 7, want: "789", ranges: []string{"bytes=7-"},
		script: map[string][]reply{"GetObject": {{status: 206, body: "789"}}},
	}, {
		name: "it goes on after a broken connection", object: blob.Object{Key: "k"}, want: "0123456789", ranges: []string{"", "bytes=5-"},
		script: map[string][]reply{"GetObject": {short, {status: 206, body: "56789"}}},
	}, {
		name: "it has changed when the connection broke", object: object, want: "01234", ranges: []string{"", "bytes=5-"}, err: blob.ErrChanged,
		script: map[string][]reply{"GetObject": {short, xmlError(412, "PreconditionFailed")}},
	}, {
		name: "at the end", object: object, offset: 10, ranges: []string{"bytes=10-"},
		script: map[string][]reply{
			"GetObject":  {xmlError(416, "InvalidRange")},
			"HeadObject": {{status: 200, header: map[string]string{"ETag": `"e"`, "Content-Length": "10"}}},
		},
	}, {
		name: "changed", object: object, ranges: []string{""}, err: blob.ErrChanged,
		script: map[string][]reply{"GetObject": {xmlError(412, "PreconditionFailed")}},
	}, {
		name: "gone", object: object, ranges: []string{""}, err: blob.ErrChanged,
		script: map[string][]reply{"GetObject": {xmlError(404, "NoSuchKey")}},
	}, {
		name: "never there", object: blob.Object{Key: "k"}, ranges: []string{""}, err: fs.ErrNotExist,
		script: map[string][]reply{"GetObject": {xmlError(404, "NoSuchKey")}},
	}, {
		name: "busy", object: object, want: "0123456789", ranges: []string{"", "", ""},
		script: map[string][]reply{"GetObject": {xmlError(503, "SlowDown"), cut, {status: 200, body: "0123456789"}}},
	}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, srv := newStore(t, test.script)
			var got []byte
			r, err := s.Open(t.Context(), test.object, test.offset)
			if err == nil {
				got, err = io.ReadAll(r)
				r.Close()
			}
			if !errors.Is(err, test.err) {
				t.Errorf("got error %v, want %v", err, test.err)
			}
			if string(got) != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			var ranges []string
			for i, r := range srv.seen {
				if operation(r) != "GetObject" {
					continue
				}
				ranges = append(ranges, r.Header.Get("Range"))
				if want := `"e"`; (test.object.Version != "" || i > 0) && r.Header.Get("If-Match") != want {
					t.Errorf("got If-Match %q, want %q", r.Header.Get("If-Match"), want)
				}
			}
			if diff := cmp.Diff(test.ranges, ranges); diff != "" {
				t.Errorf("ranges (-want +got):\n%s", diff)
			}
		})
	}
}

// The checksum of an object is believed when all of it is read, and that of parts is not one.
func TestOpenChecks(t *testing.T) {
	const right, wrong, ofParts = "poTHxg==", "AAAAAA==", "AAAAAA==-2"
	for sum, fails := range map[string]bool{right: false, wrong: true, ofParts: false} {
		s, srv := newStore(t, map[string][]reply{"GetObject": {{status: 200, body: "0123456789", header: map[string]string{"X-Amz-Checksum-Crc32": sum}}}})
		r, err := s.Open(t.Context(), blob.Object{Key: "k"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(r)
		r.Close()
		if (err != nil) != fails || len(srv.seen) != 1 {
			t.Errorf("checksum %s: got error %v after %d requests, want one after 1: %v", sum, err, len(srv.seen), fails)
		}
	}
}

func TestListGoesOnAfterAPage(t *testing.T) {
	s, srv := newStore(t, map[string][]reply{"ListObjectsV2": {
		{status: 200, body: `<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>next</NextContinuationToken>
			<Contents><Key>pre/a/</Key><Size>0</Size></Contents><Contents><Key>pre/a/1</Key><Size>5</Size><ETag>"x"</ETag></Contents></ListBucketResult>`},
		cut,
		{status: 200, body: `<ListBucketResult><Contents><Key>pre/a/2</Key><Size>6</Size><ETag>"y"</ETag></Contents></ListBucketResult>`},
	}})
	var got []blob.Object
	for o, err := range s.List(t.Context(), "a") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, o)
	}
	want := []blob.Object{{Key: "a/1", Size: 5, Version: `"x"`}, {Key: "a/2", Size: 6, Version: `"y"`}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	last := srv.seen[len(srv.seen)-1].URL.Query()
	if got := last.Get("prefix") + " " + last.Get("continuation-token"); got != "pre/a next" {
		t.Errorf("got prefix and token %q, want %q", got, "pre/a next")
	}
}

func TestStat(t *testing.T) {
	c := content(t, 100)
	s, _ := newStore(t, map[string][]reply{"HeadObject": {head(c), notFound}})
	got, err := s.Stat(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	want := blob.Object{Key: "k", Size: 100, Version: `"e"`, ID: c.ID, SHA256: c.SHA256}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := s.Stat(t.Context(), "k"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got error %v, want %v", err, fs.ErrNotExist)
	}
}

func TestURLs(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-central-1")
	tests := []struct{ url, want, err string }{
		{"s3://bucket/p/?region=x&endpoint=http://127.0.0.1:9000&path_style=false&timeout=2s", "s3://bucket/p?region=x&endpoint=http://127.0.0.1:9000&path_style=false&timeout=2s", ""},
		{"s3://AKIA:canary/x@bucket/p", "", "set AWS_ACCESS_KEY_ID"},
		{"s3://bucket/p?secret_access_key=canary", "", "set AWS_ACCESS_KEY_ID"},
		{"s3://bucket/p?endpoint=http://user:canary@host", "", "set AWS_ACCESS_KEY_ID"},
		{"s3://bucket/p?endpoint=host:9000", "", "http://host:port"},
		{"s3://bucket/p?path_style=maybe", "", "neither true nor false"},
		{"s3://bucket/p?timeout=0s", "", "above zero"},
		{"s3://bucket/p?acl=public", "", "known are region"},
	}
	for _, test := range tests {
		s, err := blob.Open(t.Context(), test.url)
		switch {
		case (err != nil) != (test.err != ""):
			t.Errorf("%s: got error %v, want %q", test.url, err, test.err)
		case err != nil && (!strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "canary")):
			t.Errorf("%s: got error %v, want %q without the secret", test.url, err, test.err)
		case err == nil && s.URL() != test.want:
			t.Errorf("%s: got URL %s, want %s", test.url, s.URL(), test.want)
		}
	}
}

func TestOpenWithoutRegionOrCredentials(t *testing.T) {
	if _, err := blob.Open(t.Context(), "s3://bucket"); err == nil || !strings.Contains(err.Error(), "set AWS_REGION") {
		t.Errorf("got error %v, want one that says to set AWS_REGION", err)
	}
	s, err := blob.Open(t.Context(), "s3://bucket?endpoint=http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(t.Context(), "k"); err == nil || !strings.Contains(err.Error(), "set AWS_ACCESS_KEY_ID") {
		t.Errorf("got error %v, want one that says to set AWS_ACCESS_KEY_ID", err)
	}
}
