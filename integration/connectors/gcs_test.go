// SPDX-License-Identifier: Apache-2.0

package connectors

import (
	"bytes"
	"context"
	"io"
	"maps"
	"slices"
	"testing"

	"cloud.google.com/go/storage"
	"google.golang.org/api/option"

	"github.com/hornbeam-dev/hornbeam/integration/connectors/faults"
	"github.com/hornbeam-dev/hornbeam/integration/connectors/gcstest"
	"github.com/hornbeam-dev/hornbeam/io/blob"
	_ "github.com/hornbeam-dev/hornbeam/io/gcsio"
)

// Writers race, are killed and do not hear: each object is there, once, whole, and of who was told so.
func TestGCSRace(t *testing.T) { races(t, raceGCS) }

func raceGCS(t *testing.T, seed uint64) {
	srv := gcstest.Start(t)
	proxy := faults.Start(t, srv.Endpoint, faults.Plan{Seed: seed, Rates: trouble, Delay: lateness, Busy: gcstest.Busy})
	srv.Through(proxy.URL)
	c := newCampaign(seed)
	s := openStore(t, srv.URL("race")+"?timeout="+impatience.String())
	told := c.run(t, through(s))
	mustHappen(t, proxy)
	proxy.Calm()
	for _, key := range slices.Sorted(maps.Keys(c.keys)) {
		if len(told[key]) != 1 {
			continue
		}
		existed, err := s.Create(t.Context(), key, spooled(t, c.bytesOf(told[key][0], key), told[key][0]+"/"+key))
		if err != nil || !existed {
			t.Errorf("%s again: got %v, %v, want that it is there", key, existed, err)
		}
	}
	if wrong := c.check(t, s, told); len(wrong) > 0 {
		t.Errorf("got:\n%v", wrong)
	}
}

// The same check finds out writers without a condition, and such that choose a new name each time.
func TestGCSRaceControl(t *testing.T) {
	srv := gcstest.Start(t)
	client, err := storage.NewClient(t.Context(), option.WithoutAuthentication())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	plain := func(s blob.Store) create {
		return func(ctx context.Context, key string, c blob.Content) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			w := client.Bucket(srv.Bucket).Object("plain/" + key).NewWriter(ctx)
			if _, err := io.Copy(w, io.NewSectionReader(c.File, 0, c.Size)); err != nil {
				return err
			}
			return w.Close()
		}
	}
	for name, variant := range map[string]func(blob.Store) create{"plain": plain, "random": randomNames} {
		c := newCampaign(2)
		s := openStore(t, srv.URL(name))
		wrong := c.check(t, s, c.run(t, variant(s)))
		if len(wrong) == 0 {
			t.Errorf("%s: got nothing wrong, want something", name)
		} else {
			t.Logf("%s: %d things are wrong, the first: %s", name, len(wrong), wrong[0])
		}
	}
}

// Reads go on through trouble, byte for byte.
func TestGCSReadsThroughTrouble(t *testing.T) {
	srv := gcstest.Start(t)
	readsThroughTrouble(t, openStore(t, srv.URL("read")), func() blob.Store {
		proxy := faults.Start(t, srv.Endpoint, faults.Plan{Seed: 3, Rates: trouble, Delay: lateness, Busy: gcstest.Busy})
		srv.Through(proxy.URL)
		return openStore(t, srv.URL("read")+"?timeout="+impatience.String())
	})
}

// A version that is not the one any more is not read.
func TestGCSChanged(t *testing.T) {
	srv := gcstest.Start(t)
	s := openStore(t, srv.URL("changed"))
	if _, err := s.Create(t.Context(), "k", spooled(t, []byte("one"), "id")); err != nil {
		t.Fatal(err)
	}
	o, err := s.Stat(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	client, err := storage.NewClient(t.Context(), option.WithoutAuthentication())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	w := client.Bucket(srv.Bucket).Object("changed/k").NewWriter(t.Context())
	io.Copy(w, bytes.NewReader([]byte("two")))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	wantChanged(t, s, o)
}

func TestGCSOddKeys(t *testing.T) {
	for _, prefix := range []string{"", "pre fix/ö+%41"} {
		t.Run("prefix="+prefix, func(t *testing.T) { oddKeys(t, openStore(t, gcstest.Start(t).URL(prefix))) })
	}
}

// What will not heal is an error at once, which says what to do.
func TestGCSRefuses(t *testing.T) {
	gcstest.Start(t)
	wantRefusal(t, openStore(t, "gs://no-such-bucket/p"), "make the bucket")
}
