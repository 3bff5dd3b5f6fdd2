// SPDX-License-Identifier: Apache-2.0

package connectors

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/integration/connectors/faults"
	"github.com/hornbeam-dev/hornbeam/io/blob"
)

var raceSeeds = flag.Uint64("race_seeds", 1, "the number of races that TestS3Race and TestGCSRace run")

// races runs a race for each seed.
func races(t *testing.T, race func(t *testing.T, seed uint64)) {
	t.Helper()
	for seed := uint64(1); seed <= *raceSeeds; seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { race(t, seed) })
	}
}

// trouble is what the stores have to live with in these tests.
var trouble = map[faults.Kind]float64{
	faults.Lost: 0.04, faults.Late: 0.02, faults.Failed: 0.04, faults.Refused: 0.04, faults.Reset: 0.04, faults.Severed: 0.02, faults.Torn: 0.04,
}

const (
	impatience = time.Second             // How long the stores wait for an answer.
	lateness   = 1500 * time.Millisecond // Of a late answer.
)

// create is how a writer makes an object.
type create func(ctx context.Context, key string, c blob.Content) error

// campaign is a race of writers. For each key there are two writers of one job, who write the same, and one of
// a rival with another content. Each is killed some times, and begins again.
type campaign struct {
	keys map[string]int // The sizes.
	seed uint64
	kill time.Duration // A writer that is killed lives at most so long.
}

// jobs are the two that want to write each key.
var jobs = []string{"job", "rival"}

// bytesOf returns what a job writes to a key.
func (c campaign) bytesOf(job, key string) []byte {
	h := fnv.New64()
	fmt.Fprintf(h, "%s %s %d", job, key, c.seed)
	out := make([]byte, c.keys[key])
	rand.NewChaCha8([32]byte(bytes.Repeat(h.Sum(nil), 4))).Read(out)
	return out
}

// run runs the race, and returns for each key the jobs that were told that they have written it.
func (c campaign) run(t *testing.T, create create) map[string][]string {
	t.Helper()
	var mu sync.Mutex
	told := map[string][]string{}
	var writers sync.WaitGroup
	for i, key := range slices.Sorted(maps.Keys(c.keys)) {
		for j, job := range []string{jobs[0], jobs[0], jobs[1]} {
			writers.Go(func() {
				random := rand.New(rand.NewPCG(c.seed, uint64(3*i+j)))
				content := spooled(t, c.bytesOf(job, key), job+"/"+key)
				for n := 0; ; n++ {
					ctx, cancel := t.Context(), func() {}
					if n < 3 && random.IntN(3) > 0 {
						ctx, cancel = context.WithTimeout(ctx, time.Duration(random.Int64N(int64(c.kill))))
					}
					err := create(ctx, key, content)
					killed := ctx.Err() != nil
					cancel()
					switch {
					case err == nil:
						mu.Lock()
						if !slices.Contains(told[key], job) {
							told[key] = append(told[key], job)
						}
						mu.Unlock()
						return
					case errors.Is(err, blob.ErrConflict):
						return
					case !killed:
						t.Errorf("%s of %s: got error %v", key, job, err)
						return
					}
				}
			})
		}
	}
	writers.Wait()
	return told
}

// check returns what is wrong with what is in the store after the race.
func (c campaign) check(t *testing.T, s blob.Store, told map[string][]string) []string {
	t.Helper()
	var wrong []string
	there := map[string]int{}
	for o, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		there[o.Key]++
	}
	for _, key := range slices.Sorted(maps.Keys(there)) {
		if _, ok := c.keys[key]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s is there, and nobody wants it", key))
		} else if there[key] != 1 {
			wrong = append(wrong, fmt.Sprintf("%s is there %d times", key, there[key]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.keys)) {
		switch {
		case there[key] == 0:
			wrong = append(wrong, key+" is not there")
			continue
		case len(told[key]) != 1:
			wrong = append(wrong, fmt.Sprintf("%s: %d jobs were told that they have written it: %v", key, len(told[key]), told[key]))
			continue
		}
		got, err := readAll(t.Context(), s, key)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, c.bytesOf(told[key][0], key)) {
			wrong = append(wrong, fmt.Sprintf("%s: its %d bytes are not those of %s, which was told that it has written it", key, len(got), told[key][0]))
		}
	}
	return wrong
}

func readAll(ctx context.Context, s blob.Store, key string) ([]byte, error) {
	o, err := s.Stat(ctx, key)
	if err != nil {
		return nil, err
	}
	r, err := s.Open(ctx, o, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(got); o.SHA256 != "" && hex.EncodeToString(sum[:]) != o.SHA256 {
		return nil, fmt.Errorf("%s: the SHA-256 of its content is not the one in its metadata", key)
	}
	return got, nil
}

// spooled returns bytes as the content of a commit.
func spooled(t testing.TB, b []byte, id string) blob.Content {
	s, err := blob.NewSpool(t.TempDir())
	if err != nil {
		t.Error(err)
		return blob.Content{}
	}
	t.Cleanup(func() { s.Discard() })
	if _, err := s.Write(b); err != nil {
		t.Error(err)
	}
	return s.Content(id)
}

// newCampaign returns one with many small objects and some that go up in parts.
func newCampaign(seed uint64) campaign {
	c := campaign{seed: seed, kill: 400 * time.Millisecond, keys: map[string]int{}}
	for i := range 40 {
		c.keys[fmt.Sprintf("date=2018-04-%02d/small-%d", i%7+1, i)] = i * i * 997
	}
	for i := range 4 {
		c.keys[fmt.Sprintf("date=2018-04-%02d/large-%d", i+1, i)] = 8<<20 + 1 + i*5<<20
	}
	return c
}

// openStore opens a store, and closes it when the test ends.
func openStore(t *testing.T, url string) blob.Store {
	t.Helper()
	s, err := blob.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// through is how a store makes an object.
func through(s blob.Store) create {
	return func(ctx context.Context, key string, c blob.Content) error {
		_, err := s.Create(ctx, key, c)
		return err
	}
}

// randomNames gives each attempt a name of its own, as writers without a protocol do.
func randomNames(s blob.Store) create {
	return func(ctx context.Context, key string, c blob.Content) error {
		_, err := s.Create(ctx, fmt.Sprintf("%s-%08x", key, rand.Uint32()), c)
		return err
	}
}

// mustHappen fails the test if one of the faults has not happened.
func mustHappen(t *testing.T, p *faults.Proxy) {
	t.Helper()
	counts := p.Counts()
	t.Logf("requests: %v", counts)
	for kind := range trouble {
		if counts[kind] == 0 {
			t.Errorf("got no request that was %s: the campaign is too small", kind)
		}
	}
}

// readsThroughTrouble writes objects to a clean store, and lists and reads them through another one.
func readsThroughTrouble(t *testing.T, clean blob.Store, troubled func() blob.Store) {
	t.Helper()
	want := bytes.Repeat([]byte("hornbeam "), 1<<20)
	var keys []string
	for i := range 30 {
		key := fmt.Sprintf("%02d", i)
		keys = append(keys, key)
		size := i * 1000
		if i == 0 {
			size = len(want)
		}
		if _, err := clean.Create(t.Context(), key, spooled(t, want[:size], key)); err != nil {
			t.Fatal(err)
		}
	}
	s := troubled()
	var got []string
	for o, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, o.Key)
		b, err := readAll(t.Context(), s, o.Key)
		if err != nil || !bytes.Equal(b, want[:o.Size]) {
			t.Errorf("%s: got %d bytes, %v, want %d", o.Key, len(b), err, o.Size)
		}
	}
	if diff := cmp.Diff(keys, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

// wantChanged reads an object of which there is another version now.
func wantChanged(t *testing.T, s blob.Store, o blob.Object) {
	t.Helper()
	for _, offset := range []int64{0, 1, o.Size} {
		r, err := s.Open(t.Context(), o, offset)
		if err == nil {
			_, err = io.ReadAll(r)
			r.Close()
		}
		if !errors.Is(err, blob.ErrChanged) {
			t.Errorf("from offset %d: got error %v, want %v", offset, err, blob.ErrChanged)
		}
	}
}

// oddKeys holds, with all keys that begin alike, what URLs, XML and JSON write in another way.
func oddKeys(t *testing.T, s blob.Store) {
	t.Helper()
	keys := []string{
		"a/empty", "a/percent %41+?#&=<>\"'", "a/ö/日本 🂡", "a=b,c;d/~!@$^*()|{}[]`", "a~/..b/.c",
	}
	slices.Sort(keys)
	for i, key := range keys {
		id := "job " + key
		for _, want := range []bool{false, true} {
			existed, err := s.Create(t.Context(), key, spooled(t, bytes.Repeat([]byte("x"), i), id))
			if err != nil || existed != want {
				t.Fatalf("Create %q: got %v, %v, want %v", key, existed, err, want)
			}
		}
		if o, err := s.Stat(t.Context(), key); err != nil || o.Key != key || o.ID != id || o.Size != int64(i) {
			t.Errorf("Stat %q: got %+v, %v", key, o, err)
		}
		if got, err := readAll(t.Context(), s, key); err != nil || len(got) != i {
			t.Errorf("read %q: got %q, %v, want %d bytes", key, got, err, i)
		}
	}
	for _, prefix := range []string{"", "a/", "a=b", "none"} {
		var want, got []string
		for _, key := range keys {
			if strings.HasPrefix(key, prefix) {
				want = append(want, key)
			}
		}
		for o, err := range s.List(t.Context(), prefix) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, o.Key)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("List %q (-want +got):\n%s", prefix, diff)
		}
	}
}

// wantRefusal writes a small and a large object, and lists, in vain.
func wantRefusal(t *testing.T, s blob.Store, want string) {
	t.Helper()
	errs := map[string]error{}
	_, errs["small"] = s.Create(t.Context(), "k", spooled(t, []byte("x"), "id"))
	_, errs["large"] = s.Create(t.Context(), "k", spooled(t, make([]byte, 9<<20), "id"))
	for _, err := range s.List(t.Context(), "") {
		errs["list"] = err
	}
	for _, name := range []string{"small", "large", "list"} {
		if err := errs[name]; err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got error %v, want one with %q and no secret", name, err, want)
		}
	}
}
