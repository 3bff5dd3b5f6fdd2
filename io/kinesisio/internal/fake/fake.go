// SPDX-License-Identifier: Apache-2.0

// Package fake is a Kinesis service in the process, for tests. It speaks the JSON protocol of the operations that
// kinesisio uses, and fails on demand. It knows no limits of throughput and no authentication.
package fake

import (
	"crypto/md5"
	"fmt"
	"math/big"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Server is a service with its streams.
type Server struct {
	URL string

	http *httptest.Server

	mu       sync.Mutex // Guards what follows, streams included.
	streams  map[string]*stream
	counted  int64
	token    int64 // Iterators and tokens of an earlier one are expired.
	ahead    time.Duration
	faults   []*Fault
	calls    map[string]int
	pageSize int
	pushing
}

type stream struct {
	created   time.Time
	retention int
	shards    []*shard
}

type shard struct {
	id       string
	number   int   // Of the id.
	born     int64 // Larger than that of every shard before it.
	parents  []string
	low      *big.Int
	high     *big.Int
	first    string
	records  []record
	trimmed  int // How many of records are gone.
	closed   bool
	closedAt time.Time
}

type record struct {
	sequence string
	arrival  time.Time
	key      string
	data     []byte
}

// Fault is something that goes wrong with one operation, Times times.
type Fault struct {
	Op     string // The name of the operation; empty: every one.
	Shard  string // The shard that is asked for; empty: every one. Not of GetRecords.
	Times  int
	Code   string // The error that is answered, and nothing is done.
	Status int    // Instead of Code: the status of an answer without a body.
	Lose   bool   // It is done, but the answer is lost.
	Refuse int    // PutRecords: every Refuse-th record is refused.
	Empty  bool   // GetRecords: the answer has no record, though there are some.
}

// Start starts a server that ends with the test. The AWS SDK needs the variables of Environment to talk to it.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{streams: map[string]*stream{}, calls: map[string]int{}, pageSize: 1000, pushing: pushing{
		consumers: map[string]string{}, subscriptions: map[subscribed]*subscription{}, changed: make(chan struct{}), stopped: make(chan struct{}),
	}}
	s.http = httptest.NewServer(s)
	s.URL = s.http.URL
	t.Cleanup(func() {
		close(s.stopped)
		s.http.Close()
	})
	return s
}

// HangUp closes the connections of all clients.
func (s *Server) HangUp() { s.http.CloseClientConnections() }

// Environment makes the AWS SDK find a region and credentials that are none.
func Environment(setenv func(name, value string)) {
	setenv("AWS_REGION", "us-east-1")
	setenv("AWS_ACCESS_KEY_ID", "test")
	setenv("AWS_SECRET_ACCESS_KEY", "test")
	setenv("AWS_CONFIG_FILE", "/dev/null")
	setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	setenv("AWS_EC2_METADATA_DISABLED", "true")
}

// Create creates a stream, or creates it again.
func (s *Server) Create(name string, shards int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &stream{created: s.now().Add(time.Duration(s.count()) * time.Millisecond), retention: 24}
	width := new(big.Int).Div(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(int64(shards)))
	for i := range shards {
		low := new(big.Int).Mul(width, big.NewInt(int64(i)))
		high := new(big.Int).Sub(new(big.Int).Add(low, width), big.NewInt(1))
		if i == shards-1 {
			high = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(1))
		}
		s.add(st, low, high)
	}
	s.streams[name] = st
}

func (s *Server) now() time.Time { return time.Now().Add(s.ahead).Truncate(time.Millisecond) }

// Advance moves the service's clock.
func (s *Server) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead += d
}

// PageSize sets how many shards ListShards tells at once.
func (s *Server) PageSize(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pageSize = n
}

// Fail adds a fault.
func (s *Server) Fail(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// Heal ends all faults.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// ExpireIterators makes every iterator and list token that was given invalid.
func (s *Server) ExpireIterators() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token++
}

// Calls is how often an operation was asked for.
func (s *Server) Calls(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

// Put puts a record in and returns its sequence number.
func (s *Server) Put(name, key string, data []byte) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, sequence := s.put(s.streams[name], key, "", data)
	return sequence
}

// PutIn puts a record in a shard, as with an explicit hash key of that shard.
func (s *Server) PutIn(name, id, key string, data []byte) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[name]
	_, sequence := s.put(st, key, st.shard(id).low.String(), data)
	return sequence
}

// Split splits a shard in halves.
func (s *Server) Split(name, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[name]
	sh := st.shard(id)
	middle := new(big.Int).Rsh(new(big.Int).Add(sh.low, sh.high), 1)
	s.close(sh)
	s.add(st, sh.low, middle, id)
	s.add(st, new(big.Int).Add(middle, big.NewInt(1)), sh.high, id)
}

// Merge merges two neighbours.
func (s *Server) Merge(name, low, high string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[name]
	a, b := st.shard(low), st.shard(high)
	s.close(a)
	s.close(b)
	s.add(st, a.low, b.high, low, high)
}

// Trim deletes the first n records of a shard.
func (s *Server) Trim(name, id string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[name].shard(id).trimmed = n
}

// Remove deletes a closed shard.
func (s *Server) Remove(name, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[name]
	st.shards = slices.DeleteFunc(st.shards, func(sh *shard) bool { return sh.id == id })
}

// Records returns the data of all records with a key, shard by shard.
func (s *Server) Records(name string) (data [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sh := range s.streams[name].shards {
		for _, r := range sh.records {
			data = append(data, r.data)
		}
	}
	return data
}

func (s *Server) close(sh *shard) { sh.closed, sh.closedAt = true, s.now() }

func (s *Server) add(st *stream, low, high *big.Int, parents ...string) {
	n := 0
	if len(st.shards) > 0 {
		n, _ = strconv.Atoi(strings.TrimPrefix(st.shards[len(st.shards)-1].id, "shardId-"))
		n++
	}
	st.shards = append(st.shards, &shard{id: fmt.Sprintf("shardId-%012d", n), parents: parents, low: low, high: high, born: s.count(), number: n})
	sh := st.shards[len(st.shards)-1]
	sh.first = s.next(sh)
	s.wake()
}

func (s *Server) count() int64 {
	s.counted++
	return s.counted
}

// next is a sequence number of a shard. Like those of Kinesis, it begins with when the shard was made and ends with
// which one it is, so that the numbers of two shards do not tell which record came first.
func (s *Server) next(sh *shard) string {
	return fmt.Sprintf("495%012d%029d%012d", sh.born, s.count(), sh.number)
}

// encoded is the name of the shard of a sequence number, or empty.
func encoded(sequence string) string {
	if len(sequence) != 56 {
		return ""
	}
	return "shardId-" + sequence[44:]
}

func (s *Server) put(st *stream, key, explicit string, data []byte) (id, sequence string) {
	sum := md5.Sum([]byte(key))
	hash := new(big.Int).SetBytes(sum[:])
	if explicit != "" {
		hash.SetString(explicit, 10)
	}
	for _, sh := range st.shards {
		if !sh.closed && sh.low.Cmp(hash) <= 0 && hash.Cmp(sh.high) <= 0 {
			sequence = s.next(sh)
			sh.records = append(sh.records, record{sequence, s.now(), key, slices.Clone(data)})
			s.wake()
			return sh.id, sequence
		}
	}
	panic("the shards do not hold all hash keys")
}

func (st *stream) shard(id string) *shard {
	for _, sh := range st.shards {
		if sh.id == id {
			return sh
		}
	}
	return nil
}
