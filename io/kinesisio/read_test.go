// SPDX-License-Identifier: Apache-2.0

package kinesisio

import (
	"context"
	"fmt"
	"math/rand"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/google/go-cmp/cmp"
	"github.com/hornbeam-dev/hornbeam/io/kinesisio/internal/fake"
)

// FC-10: a kill at every index of an aggregated record.
func TestAggregatedResume(t *testing.T) {
	srv := start(t, 1)
	var users []userRecord
	for i := range 4 {
		users = append(users, userRecord{key: fmt.Sprint("k", i), data: []byte(fmt.Sprint(i))})
	}
	srv.Put("s", "x", aggregate(users))
	srv.Put("s", "x", aggregate(nil))
	srv.Put("s", "x", []byte("4"))
	for stop := 1; stop <= 5; stop++ {
		r := newRun(t, readOf(srv))
		n := 0
		r.each = func(rt *sdf.LockRTracker) *Restriction {
			if n++; n == stop {
				return checkpoint(t, rt)
			}
			return nil
		}
		rest, err := r.step(r.rests[0])
		if err != nil || rest == nil || len(r.got) != stop {
			t.Fatalf("stop at %d: residual %v, %v after %v", stop, rest, err, r.got)
		}
		r.restart()
		r.all(*rest)
		if diff := cmp.Diff(numbers(5), r.got); diff != "" {
			t.Errorf("stop at %d: records (-want +got):\n%s", stop, diff)
		}
	}
}

// FC-10: user records of the other half, and a record whose sum is wrong.
func TestAggregatedAfterSplit(t *testing.T) {
	srv := start(t, 1)
	srv.Split("s", "shardId-000000000000")
	low, high := "5", "340282366920938463463374607431768211000"
	both := aggregate([]userRecord{{key: "a", explicit: low, data: []byte("e")}, {key: "a", explicit: high, data: []byte("f")}})
	damaged := slices.Clone(both)
	damaged[len(damaged)-1] ^= 1
	put := func(data []byte) string { return srv.Put("s", "k", data) } // "k" is in the first half.
	if p, err := shardPart("x", nil); err == nil {
		t.Errorf("a shard without hash keys is %v", p)
	}
	put(both)
	put(aggregate([]userRecord{{key: "a", explicit: high, data: []byte("g")}}))
	last := put(damaged)
	r := newRun(t, readOf(srv))
	r.everything()
	inLow := hashOf("k") < "8"
	want := []string{"e", string(damaged)}
	if !inLow {
		want = []string{"f", "g", string(damaged)}
	}
	if diff := cmp.Diff(want, r.got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	found := false
	for _, rest := range r.rests {
		for _, p := range rest.Parts {
			found = found || p.At.same(Place{Kind: "sequence", Sequence: last, Taken: -1})
		}
	}
	if !found {
		t.Errorf("no position is behind the last record: %+v", r.rests)
	}
}

func TestPositions(t *testing.T) {
	srv := start(t, 2)
	put := func(n int) string { return srv.Put("s", fmt.Sprint("key ", n), []byte(fmt.Sprint(n))) }
	var seqs []string
	for i := range 10 {
		seqs = append(seqs, put(i))
		srv.Advance(10 * time.Second)
	}
	first := srvTime(t, srv)
	for _, c := range []struct {
		name     string
		from, to Position
		want     []string
	}{
		{"zero", Position{}, Position{}, numbers(10)},
		{"earliest", Earliest(), Latest(), numbers(10)},
		{"latest", Latest(), Latest(), nil},
		{"sequence", AtSequence(seqs[6]), Position{}, numbers(10)[6:]},
		{"time", AtTime(first.Add(-45 * time.Second)), Position{}, numbers(10)[6:]},
		{"between", AtTime(first.Add(-65 * time.Second)), AtTime(first.Add(-25 * time.Second)), numbers(10)[4:8]},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := readOf(srv)
			cfg.From, cfg.To = c.from, c.to
			r := newRun(t, cfg)
			if c.to.Kind == "latest" {
				srv.Advance(5 * time.Second) // The end has come.
			}
			r.everything()
			slices.SortFunc(r.got, func(a, b string) int { return strings.Compare(a, b) })
			if diff := cmp.Diff(c.want, r.got); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
		})
	}
	cfg := readOf(srv)
	cfg.From = AtSequence(seqs[6] + "1")
	l := &listFn{Place: place{Endpoint: srv.URL, Stream: "s"}, From: cfg.From, Timeout: 5 * time.Second}
	if err := l.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.list(t.Context()); err == nil || !strings.Contains(err.Error(), "no record with sequence number") {
		t.Errorf("a sequence number that is not there = %v", err)
	}
}

// A read from the number of a record begins with it in its shard, whichever that is, and in the others with what
// arrived when it did; answers without records do not hide it.
func TestFromSequence(t *testing.T) {
	srv := start(t, 4)
	ids := []string{"shardId-000000000000", "shardId-000000000001", "shardId-000000000002", "shardId-000000000003"}
	sequences := map[string]string{}
	for _, round := range []string{"before ", "then ", "after "} {
		for _, id := range ids {
			sequences[round+id] = srv.PutIn("s", id, "k", []byte(round+id))
		}
		srv.Advance(time.Minute)
	}
	srv.Fail(fake.Fault{Op: "GetRecords", Times: 2, Empty: true})
	for _, id := range ids {
		cfg := readOf(srv)
		cfg.From, cfg.MaxAhead = AtSequence(sequences["then "+id]), -1
		r := newRun(t, cfg)
		r.everything()
		for name := range sequences {
			if strings.HasPrefix(name, "then") && name != "then "+id {
				continue // It arrived in the same millisecond, or not.
			}
			want := !strings.HasPrefix(name, "before")
			if got := slices.Contains(r.got, name); got != want {
				t.Errorf("from then in %s: read %q: %v, want %v", id, name, got, want)
			}
		}
	}
}

// srvTime is the service's clock.
func srvTime(t *testing.T, srv *fake.Server) time.Time {
	t.Helper()
	c, release, err := clients.Acquire(t.Context(), place{Endpoint: srv.URL, Stream: "s"})
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	_, now, err := c.shards(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// keyed checks that each key's records come in their order, and each once.
func keyed(t *testing.T, recs []Record, want map[string]int) {
	t.Helper()
	next := map[string]int{}
	for _, r := range recs {
		if got := string(r.Data); got != strconv.Itoa(next[r.PartitionKey]) {
			t.Fatalf("key %s: got %s, want %d", r.PartitionKey, got, next[r.PartitionKey])
		}
		next[r.PartitionKey]++
	}
	if diff := cmp.Diff(want, next); diff != "" {
		t.Errorf("records per key (-want +got):\n%s", diff)
	}
}

// Whatever is split and merged, and wherever a read is cut and its process ends, each record comes once, and those of
// a key in their order.
func TestResharding(t *testing.T) {
	for seed := range int64(16) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewSource(seed))
			srv := start(t, 1+rnd.Intn(3))
			srv.PageSize(1 + rnd.Intn(3))
			written := map[string]int{}
			write := func(n int) {
				for range n {
					key := fmt.Sprint("key ", rnd.Intn(20))
					srv.Put("s", key, []byte(strconv.Itoa(written[key])))
					written[key]++
				}
			}
			open := newShards(srv)
			write(30)
			if rnd.Intn(2) == 0 { // Some shards are closed before the read begins.
				open.change(rnd)
				write(30)
			}
			cfg := readOf(srv)
			cfg.FetchRecords = int32(1 + rnd.Intn(10))
			if seed%2 == 1 {
				cfg.Consumer = srv.Register("s", "c")
			}
			r := newRun(t, cfg)
			r.each = func(rt *sdf.LockRTracker) *Restriction {
				if rnd.Intn(10) > 0 {
					return nil
				}
				if rnd.Intn(3) == 0 {
					r.restart()
				}
				if rnd.Intn(4) == 0 {
					srv.ExpireIterators()
					srv.EndSubscriptions()
				}
				return checkpoint(t, rt)
			}
			for range 60 {
				i := rnd.Intn(len(r.rests))
				if rnd.Intn(4) == 0 {
					write(rnd.Intn(20))
				}
				if rnd.Intn(6) == 0 {
					open.change(rnd)
				}
				if rnd.Intn(2) == 0 {
					r.rests[i] = r.all(r.rests[i])
					continue
				}
				next, err := r.step(r.rests[i])
				if err != nil {
					t.Fatal(err)
				}
				if next == nil {
					t.Fatalf("%+v has ended", r.rests[i])
				}
				r.rests[i] = *next
			}
			r.each = nil
			all := 0
			for _, n := range written {
				all += n
			}
			r.until(all)
			keyed(t, r.recs, written)
			tile(t, r.rests)
		})
	}
}

// tile checks that the parts hold all hash keys, each once.
func tile(t *testing.T, rests []Restriction) {
	t.Helper()
	var parts []Part
	for _, r := range rests {
		parts = append(parts, r.Parts...)
	}
	slices.SortFunc(parts, func(a, b Part) int { return strings.Compare(a.Low, b.Low) })
	next := strings.Repeat("0", 32)
	for _, p := range parts {
		if p.Low != next {
			t.Fatalf("%+v do not tile", parts)
		}
		next = after(p.High)
	}
	if next != "" {
		t.Fatalf("%+v do not reach the last hash key", parts)
	}
}

// shards are the open shards in the order of their hash keys.
type shards struct {
	srv  *fake.Server
	open []string
	made int
}

func newShards(srv *fake.Server) *shards {
	s := &shards{srv: srv}
	c, release, err := clients.Acquire(context.Background(), place{Endpoint: srv.URL, Stream: "s"})
	if err != nil {
		panic(err)
	}
	defer release()
	all, _, err := c.shards(context.Background(), nil)
	if err != nil {
		panic(err)
	}
	for _, sh := range all {
		s.open = append(s.open, *sh.ShardId)
	}
	s.made = len(all)
	return s
}

func (s *shards) next() string {
	s.made++
	return fmt.Sprintf("shardId-%012d", s.made-1)
}

// change splits a shard or merges two.
func (s *shards) change(rnd *rand.Rand) {
	i := rnd.Intn(len(s.open))
	if rnd.Intn(2) == 0 || i == len(s.open)-1 {
		s.srv.Split("s", s.open[i])
		s.open = slices.Replace(s.open, i, i+1, s.next(), s.next())
		return
	}
	s.srv.Merge("s", s.open[i], s.open[i+1])
	s.open = slices.Replace(s.open, i, i+2, s.next())
}

// Both parents are finished before the child begins, when they are in one restriction.
func TestMergeWaits(t *testing.T) {
	srv := start(t, 1)
	r := newRun(t, readOf(srv))
	srv.Put("s", "k", []byte("first"))
	srv.Split("s", "shardId-000000000000")
	// All in the other half, so that the half of "k" is read to its end long before them.
	others := 0
	for i := range 100 {
		if key := fmt.Sprint("key ", i); (hashOf(key) < "8") != (hashOf("k") < "8") {
			srv.Put("s", key, []byte(key))
			others++
		}
	}
	srv.Merge("s", "shardId-000000000001", "shardId-000000000002")
	srv.Put("s", "k", []byte("last"))
	r.fn.FetchRecords = 5
	rest := r.all(r.rests[0])
	if len(rest.Parts) != 1 || rest.Parts[0].Shard != "shardId-000000000003" {
		t.Errorf("%+v is left, want the merged shard", rest.Parts)
	}
	if want := others + 2; len(r.got) != want || slices.Index(r.got, "last") != want-1 {
		t.Errorf("got %d records, %q at %d; want %d and it at their end", len(r.got), "last", slices.Index(r.got, "last"), want)
	}
}

// trimmed reads two of six records, of which the first four are then deleted, and is a new process. It returns what is
// left to read.
func trimmed(t *testing.T, srv *fake.Server, cfg ReadConfig) (*run, *Restriction) {
	t.Helper()
	for _, n := range numbers(6) {
		srv.Put("s", "k", []byte(n))
	}
	r := newRun(t, cfg)
	n := 0
	r.each = func(rt *sdf.LockRTracker) *Restriction {
		if n++; n == 2 {
			return checkpoint(t, rt)
		}
		return nil
	}
	rest, err := r.step(r.rests[0])
	if err != nil {
		t.Fatal(err)
	}
	srv.Trim("s", "shardId-000000000000", 4)
	r.restart()
	return r, rest
}

func TestPositionGone(t *testing.T) {
	srv := start(t, 1)
	cfg := readOf(srv)
	cfg.MaxAhead = -1 // The service's clock will be ahead.
	r, rest := trimmed(t, srv, cfg)
	within, err := r.step(*rest) // It arrived just now, so the stream has all that follows.
	if err != nil || within == nil {
		t.Errorf("a position within the retention = %v, %v", within, err)
	}
	srv.Advance(25 * time.Hour)
	r.restart()
	_, err = r.step(*rest)
	for _, word := range []string{"stream s", "shardId-000000000000", rest.Parts[0].At.Sequence, "keeps 24h", "GoneSkipsTo"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("error %v does not say %q", err, word)
		}
	}
	r.fn.PositionGone = GoneSkipsTo
	r.got = nil
	r.all(*rest)
	if diff := cmp.Diff(numbers(6)[4:], r.got); diff != "" {
		t.Errorf("with a gap (-want +got):\n%s", diff)
	}

	// The shard itself is gone.
	srv.Split("s", "shardId-000000000000")
	srv.Put("s", "k", []byte("new"))
	srv.Remove("s", "shardId-000000000000")
	r.restart()
	r.got = nil
	after := r.all(*rest)
	if diff := cmp.Diff([]string{"new"}, r.got); diff != "" || len(after.Parts) != 2 {
		t.Errorf("after the shard (-want +got):\n%s%+v", diff, after.Parts)
	}

	srv.Create("s", 1)
	r.restart()
	if _, err := r.step(*rest); err == nil || !strings.Contains(err.Error(), "created again") {
		t.Errorf("another stream of the same name = %v", err)
	}
}

// Each answer that may pass is tried again, and nothing is read twice for it.
func TestFaults(t *testing.T) {
	for name, f := range map[string]fake.Fault{
		"throttled":      {Op: "GetRecords", Times: 2, Code: "ProvisionedThroughputExceededException"},
		"iterators":      {Op: "GetShardIterator", Times: 2, Code: "ProvisionedThroughputExceededException"},
		"list":           {Op: "ListShards", Times: 2, Code: "LimitExceededException"},
		"token":          {Op: "ListShards", Times: 1, Code: "ExpiredNextTokenException"},
		"expired":        {Op: "GetRecords", Times: 1, Code: "ExpiredIteratorException"},
		"internal":       {Op: "GetRecords", Times: 2, Status: 500},
		"unavailable":    {Times: 2, Status: 503},
		"lost answer":    {Op: "GetRecords", Times: 2, Lose: true},
		"lost iterators": {Op: "GetShardIterator", Times: 2, Lose: true},
	} {
		t.Run(name, func(t *testing.T) {
			srv := start(t, 1)
			for i := range 20 {
				srv.Put("s", "k", []byte(fmt.Sprint(i)))
			}
			srv.Fail(f)
			cfg := readOf(srv)
			cfg.FetchRecords = 7
			r := newRun(t, cfg)
			r.everything()
			if diff := cmp.Diff(numbers(20), r.got); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
		})
	}
}

func TestGivesUp(t *testing.T) {
	srv := start(t, 1)
	r := newRun(t, readOf(srv))
	r.fn.Timeout = 300 * time.Millisecond
	srv.Fail(fake.Fault{Op: "GetRecords", Times: 1 << 30, Code: "ProvisionedThroughputExceededException"})
	if _, err := r.step(r.rests[0]); err == nil || !strings.Contains(err.Error(), "no success for 300ms") || !strings.Contains(err.Error(), "ProvisionedThroughputExceeded") {
		t.Errorf("throttled for ever = %v", err)
	}
	srv.Heal()
	calls := srv.Calls("GetRecords")
	srv.Fail(fake.Fault{Op: "GetRecords", Times: 1 << 30, Code: "AccessDeniedException"})
	if _, err := r.step(r.rests[0]); err == nil || srv.Calls("GetRecords") != calls+1 {
		t.Errorf("access denied = %v after %d calls, want 1", err, srv.Calls("GetRecords")-calls)
	}
	l := &listFn{Place: place{Endpoint: srv.URL, Stream: "missing"}, Timeout: 5 * time.Second}
	if err := l.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.list(t.Context()); err == nil || !strings.Contains(err.Error(), "stream missing") || !strings.Contains(err.Error(), "create it first") {
		t.Errorf("a stream that is not there = %v", err)
	}
	if err := Check(t.Context(), ReadConfig{Stream: "missing", Endpoint: srv.URL}); err == nil || !strings.Contains(err.Error(), "create it first") {
		t.Errorf("Check of a stream that is not there = %v", err)
	}
	if err := Check(t.Context(), ReadConfig{Stream: "s", Endpoint: srv.URL}); err != nil {
		t.Errorf("Check = %v", err)
	}
}
