// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var syntax = Syntax{Scheme: "x", Options: []string{"region", "timeout"}, NoCredentials: "no credentials"}

func TestParse(t *testing.T) {
	none := map[string]string{}
	tests := []struct {
		url  string
		want Place
		err  string
	}{
		{"x://bucket", Place{URL: "x://bucket", Bucket: "bucket", Options: none}, ""},
		{"x://bucket/", Place{URL: "x://bucket", Bucket: "bucket", Options: none}, ""},
		{"x://bucket/a b/%41/", Place{URL: "x://bucket/a b/%41", Bucket: "bucket", Prefix: "a b/%41/", Options: none}, ""},
		{"x://bucket/p/?region=a%20b", Place{URL: "x://bucket/p?region=a%20b", Bucket: "bucket", Prefix: "p/", Options: map[string]string{"region": "a b"}}, ""},
		{"y://bucket", Place{}, "x://bucket/prefix"},
		{"x://", Place{}, "name of a bucket"},
		{"x:///p", Place{}, "name of a bucket"},
		{"x://bucket//p", Place{}, "empty part"},
		{"x://bucket/p//", Place{}, "empty part"},
		{"x://AKIA:canary/x@bucket/p", Place{}, "no credentials"},
		{"x://canary@bucket/p", Place{}, "no credentials"},
		{"x://bucket/p?secret_access_key=canary", Place{}, "no credentials"},
		{"x://bucket/p?X-Amz-Signature=canary", Place{}, "no credentials"},
		{"x://bucket/p?acl=canary", Place{}, "known are region, timeout"},
		{"x://bucket?timeout=2s", Place{URL: "x://bucket?timeout=2s", Bucket: "bucket", Options: map[string]string{"timeout": "2s"}, Timeout: 2 * time.Second}, ""},
		{"x://bucket?timeout=0s", Place{}, "above zero"},
		{"x://bucket/p?region=canary&region=b", Place{}, "2 times"},
		{"x://bucket/p?region=canary;%", Place{}, "name=value"},
	}
	for _, test := range tests {
		if test.err == "" && test.want.Timeout == 0 {
			test.want.Timeout = time.Minute
		}
		got, err := syntax.Parse(test.url)
		if (err != nil) != (test.err != "") || err != nil && (!strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "canary")) {
			t.Errorf("%s: got error %v, want %q without the secret", test.url, err, test.err)
		}
		if diff := cmp.Diff(test.want, got, cmpopts.IgnoreUnexported(Place{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.url, diff)
		}
	}
}

func TestObject(t *testing.T) {
	p, err := syntax.Parse("x://bucket/p?region=r")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.Object("a/b"), "x://bucket/p/a/b"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
