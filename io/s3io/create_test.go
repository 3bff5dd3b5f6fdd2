// SPDX-License-Identifier: Apache-2.0

package s3io

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/blob/attempt"
)

// What Create asks, and returns, when the service answers like this.
func TestCreate(t *testing.T) {
	tiny, large := content(t, 100), content(t, small+1)
	other := tiny
	other.ID = "another job"
	otherLarge := large
	otherLarge.ID = "another job"
	tests := []struct {
		name    string
		content blob.Content
		script  map[string][]reply
		want    []string // The operations; nil: their order is not certain.
		existed bool
		err     error  // nil: none, unless errText is set.
		errText string // What else the error says.
	}{{
		name: "one request", content: tiny,
		script: map[string][]reply{"PutObject": {ok}},
		want:   []string{"PutObject"},
	}, {
		name: "412 and it is ours", content: tiny, existed: true,
		script: map[string][]reply{"PutObject": {xmlError(412, "PreconditionFailed")}, "HeadObject": {head(tiny)}},
		want:   []string{"PutObject", "HeadObject"},
	}, {
		name: "412 and it is another's", content: tiny,
		script: map[string][]reply{"PutObject": {xmlError(412, "PreconditionFailed")}, "HeadObject": {head(other)}},
		want:   []string{"PutObject", "HeadObject"}, err: blob.ErrConflict, errText: "s3://bucket/pre/k: ",
	}, {
		name: "412 and then it is gone", content: tiny,
		script: map[string][]reply{"PutObject": {xmlError(412, "PreconditionFailed"), ok}, "HeadObject": {notFound}},
		want:   []string{"PutObject", "HeadObject", "PutObject"},
	}, {
		name: "409 and not there", content: tiny,
		script: map[string][]reply{"PutObject": {xmlError(409, "ConditionalRequestConflict"), ok}, "HeadObject": {notFound}},
		want:   []string{"PutObject", "HeadObject", "PutObject"},
	}, {
		name: "slow down", content: tiny,
		script: map[string][]reply{"PutObject": {xmlError(503, "SlowDown"), xmlError(503, "SlowDown"), ok}},
		want:   []string{"PutObject", "PutObject", "PutObject"},
	}, {
		name: "500 after it was done", content: tiny, existed: true,
		script: map[string][]reply{"PutObject": {xmlError(500, "InternalError")}, "HeadObject": {xmlError(500, ""), head(tiny)}},
		want:   []string{"PutObject", "HeadObject", "HeadObject"},
	}, {
		name: "the answer is lost", content: tiny, existed: true,
		script: map[string][]reply{"PutObject": {cut}, "HeadObject": {head(tiny)}},
		want:   []string{"PutObject", "HeadObject"},
	}, {
		name: "denied", content: tiny,
		script: map[string][]reply{"PutObject": {xmlError(403, "AccessDenied")}},
		want:   []string{"PutObject"}, errText: "about AccessDenied",
	}, {
		name: "no bucket", content: tiny,
		script: map[string][]reply{"PutObject": {xmlError(404, "NoSuchBucket")}},
		want:   []string{"PutObject"}, errText: "make the bucket",
	}, {
		name: "parts", content: large,
		script: map[string][]reply{
			"HeadObject": {notFound, head(large)}, "CreateMultipartUpload": {begun}, "UploadPart": {ok},
			"CompleteMultipartUpload": {complete}, "ListMultipartUploads": {noOrphan},
		},
		want: []string{"HeadObject", "CreateMultipartUpload", "CompleteMultipartUpload", "HeadObject", "ListMultipartUploads"},
	}, {
		name: "parts, and there already with what a crash left", content: large, existed: true,
		script: map[string][]reply{
			"HeadObject": {head(large)}, "ListMultipartUploads": {orphans("pre/k", "old", "pre/k2", "not mine")},
			"AbortMultipartUpload": {aborted}, "ListParts": {noUpload},
		},
		want: []string{"HeadObject", "ListMultipartUploads", "AbortMultipartUpload", "ListParts"},
	}, {
		name: "an abort that fails, and one that is not enough", content: large, existed: true,
		script: map[string][]reply{
			"HeadObject": {head(large)}, "ListMultipartUploads": {orphans("pre/k", "old")},
			"AbortMultipartUpload": {xmlError(500, "InternalError"), aborted},
			"ListParts":            {{status: 200, body: "<ListPartsResult><Part><PartNumber>1</PartNumber></Part></ListPartsResult>"}, noUpload},
		},
		want: []string{"HeadObject", "ListMultipartUploads", "AbortMultipartUpload", "AbortMultipartUpload", "ListParts", "AbortMultipartUpload", "ListParts"},
	}, {
		name: "an abort that is denied", content: large,
		script: map[string][]reply{
			"HeadObject": {head(large)}, "ListMultipartUploads": {orphans("pre/k", "old")},
			"AbortMultipartUpload": {xmlError(403, "AccessDenied")},
		},
		want: []string{"HeadObject", "ListMultipartUploads", "AbortMultipartUpload"}, errText: "s3:AbortMultipartUpload",
	}, {
		name: "a server that says 200 for another's object", content: large, err: blob.ErrConflict,
		script: map[string][]reply{
			"HeadObject": {notFound, head(otherLarge)}, "CreateMultipartUpload": {begun}, "UploadPart": {ok},
			"CompleteMultipartUpload": {complete}, "AbortMultipartUpload": {aborted}, "ListParts": {noUpload},
		},
		want: []string{"HeadObject", "CreateMultipartUpload", "CompleteMultipartUpload", "HeadObject", "AbortMultipartUpload", "ListParts"},
	}, {
		name: "a repeated Complete of which the server says 200 for another's object", content: large, err: blob.ErrConflict,
		script: map[string][]reply{
			"HeadObject": {notFound, notFound, head(otherLarge)}, "CreateMultipartUpload": {begun}, "UploadPart": {ok},
			"CompleteMultipartUpload": {cut, complete}, "AbortMultipartUpload": {aborted}, "ListParts": {noUpload},
		},
		want: []string{"HeadObject", "CreateMultipartUpload", "CompleteMultipartUpload", "HeadObject", "CompleteMultipartUpload", "HeadObject", "AbortMultipartUpload", "ListParts"},
	}, {
		name: "the answer to Complete is lost", content: large, existed: true,
		script: map[string][]reply{
			"HeadObject": {notFound, head(large)}, "CreateMultipartUpload": {begun}, "UploadPart": {ok},
			"CompleteMultipartUpload": {cut}, "ListMultipartUploads": {noOrphan},
		},
		want: []string{"HeadObject", "CreateMultipartUpload", "CompleteMultipartUpload", "HeadObject", "ListMultipartUploads"},
	}, {
		name: "no such upload, but the object", content: large, existed: true,
		script: map[string][]reply{
			"HeadObject": {notFound, head(large)}, "CreateMultipartUpload": {begun}, "UploadPart": {ok},
			"CompleteMultipartUpload": {noUpload}, "ListMultipartUploads": {noOrphan},
		},
		want: []string{"HeadObject", "CreateMultipartUpload", "CompleteMultipartUpload", "HeadObject", "ListMultipartUploads"},
	}, {
		name: "no such upload, and no object", content: large,
		script: map[string][]reply{
			"HeadObject": {notFound, notFound, head(large)}, "CreateMultipartUpload": {begun}, "UploadPart": {ok},
			"CompleteMultipartUpload": {noUpload, complete}, "ListMultipartUploads": {noOrphan},
		},
		want: []string{"HeadObject", "CreateMultipartUpload", "CompleteMultipartUpload", "HeadObject",
			"CreateMultipartUpload", "CompleteMultipartUpload", "HeadObject", "ListMultipartUploads"},
	}, {
		name: "the connection breaks because another attempt is done", content: large, existed: true,
		script: map[string][]reply{
			"HeadObject": {notFound, head(large)}, "CreateMultipartUpload": {begun}, "UploadPart": {cut},
			"ListMultipartUploads": {orphans("pre/k", "up"), noOrphan}, "AbortMultipartUpload": {noUpload}, "ListParts": {noUpload},
		},
	}, {
		name: "409 of Complete", content: large,
		script: map[string][]reply{
			"HeadObject": {notFound, notFound, head(large)}, "CreateMultipartUpload": {begun}, "UploadPart": {ok},
			"CompleteMultipartUpload": {xmlError(409, "ConditionalRequestConflict"), complete}, "ListMultipartUploads": {noOrphan},
		},
		want: []string{"HeadObject", "CreateMultipartUpload", "CompleteMultipartUpload", "HeadObject",
			"CreateMultipartUpload", "CompleteMultipartUpload", "HeadObject", "ListMultipartUploads"},
	}, {
		name: "an upload whose parts are refused is aborted", content: large, errText: "about EntityTooLarge",
		script: map[string][]reply{
			"HeadObject": {notFound}, "CreateMultipartUpload": {begun}, "UploadPart": {xmlError(400, "EntityTooLarge")},
			"AbortMultipartUpload": {aborted}, "ListParts": {noUpload},
		},
		want: []string{"HeadObject", "CreateMultipartUpload", "AbortMultipartUpload", "ListParts"},
	}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, srv := newStore(t, test.script)
			existed, err := s.Create(t.Context(), "k", test.content)
			if diff := cmp.Diff(test.want, srv.operations()); diff != "" && test.want != nil {
				t.Errorf("operations (-want +got):\n%s", diff)
			}
			if existed != test.existed {
				t.Errorf("got existed %v, want %v", existed, test.existed)
			}
			if fails := test.err != nil || test.errText != ""; fails != (err != nil) {
				t.Fatalf("got error %v, want one: %v", err, fails)
			}
			if err == nil {
				return
			}
			if test.err != nil && !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.errText) {
				t.Errorf("got error %v, want %v with %q", err, test.err, test.errText)
			}
			for _, canary := range []string{accessCanary, secretCanary, tokenCanary} {
				if strings.Contains(err.Error(), canary) {
					t.Errorf("got a secret in the error: %v", err)
				}
			}
		})
	}
}

// Each request that makes an object says that there may be none, and what the bytes are.
func TestCreateSendsItsConditions(t *testing.T) {
	s, srv := newStore(t, map[string][]reply{
		"HeadObject": {notFound, head(content(t, small+1))}, "CreateMultipartUpload": {begun}, "UploadPart": {ok}, "PutObject": {ok},
		"CompleteMultipartUpload": {complete}, "ListMultipartUploads": {noOrphan},
	})
	s.checksumType = types.ChecksumTypeFullObject
	for _, n := range []int{100, small + 1} {
		if _, err := s.Create(t.Context(), "k", content(t, n)); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string][]string{
		"PutObject":               {"If-None-Match", "X-Amz-Checksum-Sha256", "X-Amz-Meta-Hornbeam-Id", "X-Amz-Meta-Hornbeam-Sha256"},
		"CreateMultipartUpload":   {"X-Amz-Checksum-Algorithm", "X-Amz-Checksum-Type", "X-Amz-Meta-Hornbeam-Id", "X-Amz-Meta-Hornbeam-Sha256"},
		"UploadPart":              {"X-Amz-Checksum-Crc32"},
		"CompleteMultipartUpload": {"If-None-Match", "X-Amz-Checksum-Type"},
	}
	for _, r := range srv.seen {
		for _, header := range want[operation(r)] {
			if r.Header.Get(header) == "" {
				t.Errorf("%s: got no %s", operation(r), header)
			}
		}
		delete(want, operation(r))
	}
	if len(want) > 0 {
		t.Errorf("got no request of %v", want)
	}
}

// Only Amazon's server is known to have checksums of all bytes of an object that was made in parts.
func TestChecksumType(t *testing.T) {
	for url, want := range map[string]types.ChecksumType{
		"s3://bucket?region=eu-central-1":             types.ChecksumTypeFullObject,
		"s3://bucket?endpoint=http://127.0.0.1:9000/": "",
	} {
		s, err := blob.Open(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.(*store).checksumType; got != want {
			t.Errorf("%s: got %q, want %q", url, got, want)
		}
	}
}

func TestCreateOfAFileThatIsTooShort(t *testing.T) {
	s, srv := newStore(t, nil)
	c := content(t, 100)
	c.Size = 101
	if _, err := s.Create(t.Context(), "k", c); err == nil || !strings.Contains(err.Error(), "has 100 bytes, want 101") {
		t.Errorf("got error %v, want one about 100 bytes", err)
	}
	if len(srv.operations()) > 0 {
		t.Errorf("got requests %v, want none", srv.operations())
	}
}

// A Create that is told to stop aborts what it has begun, and returns.
func TestCreateStops(t *testing.T) {
	s, srv := newStore(t, map[string][]reply{
		"HeadObject": {notFound}, "CreateMultipartUpload": {begun}, "UploadPart": {xmlError(503, "SlowDown")},
		"AbortMultipartUpload": {aborted}, "ListParts": {noUpload},
	})
	ctx, cancel := context.WithCancel(t.Context())
	s.loop.Classify = func(err error) attempt.Outcome {
		if code(err) == "SlowDown" {
			cancel()
		}
		return classify(err)
	}
	_, err := s.Create(ctx, "k", content(t, small+1))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
	want := []string{"HeadObject", "CreateMultipartUpload", "AbortMultipartUpload", "ListParts"}
	if diff := cmp.Diff(want, srv.operations()); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
}

func TestSizeOfParts(t *testing.T) {
	const mib, tib = 1 << 20, 1 << 40
	for size, want := range map[int64]int64{1: 8 * mib, 8*mib + 1: 8 * mib, 80_000 * mib: 8 * mib, 80_000*mib + 1: 9 * mib, 5 * tib: 525 * mib} {
		got := sizeOfParts(size)
		if got != want {
			t.Errorf("%d bytes: got parts of %d, want %d", size, got, want)
		}
		if n := (size + got - 1) / got; n > maxParts {
			t.Errorf("%d bytes: got %d parts, want at most %d", size, n, maxParts)
		}
	}
}

// A large object goes from its file to the service without any part of it in memory.
func TestCreateKeepsNoPartInMemory(t *testing.T) {
	c := content(t, 0)
	c.Size = 64 << 20
	if err := c.File.Truncate(c.Size); err != nil {
		t.Fatal(err)
	}
	s, _ := newStore(t, map[string][]reply{
		"HeadObject": {notFound, head(c)}, "CreateMultipartUpload": {begun}, "UploadPart": {ok},
		"CompleteMultipartUpload": {complete}, "ListMultipartUploads": {noOrphan},
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := s.Create(t.Context(), "k", c); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > partSize {
		t.Errorf("got %d bytes allocated, want at most one part of %d", got, partSize)
	} else {
		t.Logf("%d bytes allocated", got)
	}
}
