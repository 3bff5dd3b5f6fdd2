// SPDX-License-Identifier: Apache-2.0

package connectors

import (
	"bytes"
	"context"
	"io"
	"maps"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/integration/connectors/faults"
	"github.com/hornbeam-dev/hornbeam/integration/connectors/s3test"
	"github.com/hornbeam-dev/hornbeam/io/blob"
	_ "github.com/hornbeam-dev/hornbeam/io/s3io"
)

// Writers race, are killed and do not hear: each object is there, once, whole, and of who was told so.
func TestS3Race(t *testing.T) { races(t, raceS3) }

func raceS3(t *testing.T, seed uint64) {
	srv := s3test.Start(t)
	proxy := faults.Start(t, srv.Endpoint, faults.Plan{Seed: seed, Rates: trouble, Delay: lateness, Busy: s3test.SlowDown})
	c := newCampaign(seed)
	s := openStore(t, srv.URL("race", proxy.URL)+"&timeout="+impatience.String())
	told := c.run(t, through(s))
	mustHappen(t, proxy)
	proxy.Calm()
	// A request of a writer that was killed may still have been on its way when the others were done.
	for _, key := range slices.Sorted(maps.Keys(c.keys)) {
		if len(told[key]) != 1 {
			continue
		}
		existed, err := s.Create(t.Context(), key, spooled(t, c.bytesOf(told[key][0], key), told[key][0]+"/"+key))
		if err != nil || !existed {
			t.Errorf("%s again: got %v, %v, want that it is there", key, existed, err)
		}
	}
	if wrong := c.check(t, openStore(t, srv.URL("race", "")), told); len(wrong) > 0 {
		t.Errorf("got:\n%v", wrong)
	}
	if left := srv.Uploads(); len(left) > 0 {
		t.Errorf("got open uploads of %v, want none", left)
	}
}

// The same check finds out writers without a condition, and such that choose a new name each time.
func TestS3RaceControl(t *testing.T) {
	srv := s3test.Start(t)
	plain := func(s blob.Store) create {
		return func(ctx context.Context, key string, c blob.Content) error {
			_, err := srv.Client.PutObject(ctx, &s3.PutObjectInput{
				Bucket: &srv.Bucket, Key: aws.String("plain/" + key), Body: io.NewSectionReader(c.File, 0, c.Size),
			})
			return err
		}
	}
	for name, variant := range map[string]func(blob.Store) create{"plain": plain, "random": randomNames} {
		c := newCampaign(2)
		s := openStore(t, srv.URL(name, ""))
		wrong := c.check(t, s, c.run(t, variant(s)))
		if len(wrong) == 0 {
			t.Errorf("%s: got nothing wrong, want something", name)
		} else {
			t.Logf("%s: %d things are wrong, the first: %s", name, len(wrong), wrong[0])
		}
	}
}

// What earlier attempts have left at a key is gone after Create, and nothing else is.
func TestS3RemovesWhatIsLeft(t *testing.T) {
	srv := s3test.Start(t)
	for _, key := range []string{"left/a", "left/a", "left/a-of-another"} {
		out, err := srv.Client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &srv.Bucket, Key: &key})
		if err != nil {
			t.Fatal(err)
		}
		_, err = srv.Client.UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket: &srv.Bucket, Key: &key, UploadId: out.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader(make([]byte, 5<<20)),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	s := openStore(t, srv.URL("left", ""))
	content := spooled(t, make([]byte, 20<<20+3), "id")
	for i, want := range []bool{false, true} {
		existed, err := s.Create(t.Context(), "a", content)
		if err != nil || existed != want {
			t.Errorf("Create %d: got %v, %v, want %v", i, existed, err, want)
		}
	}
	if diff := cmp.Diff([]string{"left/a-of-another"}, srv.Uploads()); diff != "" {
		t.Errorf("open uploads (-want +got):\n%s", diff)
	}
	if got, err := readAll(t.Context(), s, "a"); err != nil || !bytes.Equal(got, make([]byte, 20<<20+3)) {
		t.Errorf("got %d bytes, %v, want the content", len(got), err)
	}
}

// Reads go on through trouble, byte for byte.
func TestS3ReadsThroughTrouble(t *testing.T) {
	srv := s3test.Start(t)
	readsThroughTrouble(t, openStore(t, srv.URL("read", "")), func() blob.Store {
		proxy := faults.Start(t, srv.Endpoint, faults.Plan{Seed: 3, Rates: trouble, Delay: lateness, Busy: s3test.SlowDown})
		return openStore(t, srv.URL("read", proxy.URL)+"&timeout="+impatience.String())
	})
}

// A version that is not the one any more is not read.
func TestS3Changed(t *testing.T) {
	srv := s3test.Start(t)
	s := openStore(t, srv.URL("changed", ""))
	if _, err := s.Create(t.Context(), "k", spooled(t, []byte("one"), "id")); err != nil {
		t.Fatal(err)
	}
	o, err := s.Stat(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	_, err = srv.Client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &srv.Bucket, Key: aws.String("changed/k"), Body: bytes.NewReader([]byte("two"))})
	if err != nil {
		t.Fatal(err)
	}
	wantChanged(t, s, o)
}

func TestS3OddKeys(t *testing.T) {
	for _, prefix := range []string{"", "pre fix/ö+%41"} {
		t.Run("prefix="+prefix, func(t *testing.T) { oddKeys(t, openStore(t, s3test.Start(t).URL(prefix, ""))) })
	}
}

// What will not heal is an error at once, which says what to do and no secret.
func TestS3Refuses(t *testing.T) {
	srv := s3test.Start(t)
	elsewhere := openStore(t, "s3://no-such-bucket/p?endpoint="+srv.Endpoint)
	wantRefusal(t, elsewhere, "make the bucket")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "canary-of-a-wrong-key")
	wantRefusal(t, openStore(t, srv.URL("p", "")), "check AWS_ACCESS_KEY_ID")
}
