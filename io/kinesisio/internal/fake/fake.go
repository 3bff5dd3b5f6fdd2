// SPDX-License-Identifier: Apache-2.0

// Package fake is a Kinesis service in the process, for tests. It speaks the JSON protocol of the operations that
// kinesisio uses, and fails on demand. It knows no limits of throughput and no authentication.
package fake

import (
	"crypto/md5"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
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
	sequence int64
	token    int64 // Iterators and tokens of an earlier one are expired.
	ahead    time.Duration
	faults   []*Fault
	calls    map[string]int
	pageSize int
}

type stream struct {
	created   time.Time
	retention int
	shards    []*shard
}

type shard struct {
	id       string
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
	Times  int
	Code   string // The error that is answered, and nothing is done.
	Status int    // Instead of Code: the status of an answer without a body.
	Lose   bool   // It is done, but the answer is lost.
	Refuse int    // PutRecords: every Refuse-th record is refused.
}

// Start starts a server that ends with the test. It sets the environment that the AWS SDK needs.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{streams: map[string]*stream{}, calls: map[string]int{}, pageSize: 1000}
	s.http = httptest.NewServer(s)
	s.URL = s.http.URL
	t.Cleanup(s.http.Close)
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
	st := &stream{created: s.now().Add(time.Duration(s.sequence) * time.Millisecond), retention: 24}
	s.sequence++
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
	st.shards = append(st.shards, &shard{id: fmt.Sprintf("shardId-%012d", n), parents: parents, low: low, high: high, first: s.next()})
}

func (s *Server) next() string {
	s.sequence++
	return fmt.Sprintf("495%053d", s.sequence)
}

func (s *Server) put(st *stream, key, explicit string, data []byte) (id, sequence string) {
	sum := md5.Sum([]byte(key))
	hash := new(big.Int).SetBytes(sum[:])
	if explicit != "" {
		hash.SetString(explicit, 10)
	}
	for _, sh := range st.shards {
		if !sh.closed && sh.low.Cmp(hash) <= 0 && hash.Cmp(sh.high) <= 0 {
			sequence = s.next()
			sh.records = append(sh.records, record{sequence, s.now(), key, slices.Clone(data)})
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

// failure is an answer that is an error.
type failure struct{ code, message string }

type object = map[string]any

// request has the fields of all operations.
type request struct {
	StreamName, NextToken, ShardId, ShardIterator string
	ShardIteratorType, StartingSequenceNumber     string
	Timestamp                                     float64
	ShardFilter                                   *struct {
		Type      string
		Timestamp float64
	}
	Limit   int
	Records []struct {
		PartitionKey, ExplicitHashKey string
		Data                          []byte
	}
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	var in request
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.calls[op]++
	fault := s.fault(op)
	now := s.now()
	var out object
	var bad *failure
	switch {
	case fault.Code != "":
		bad = &failure{fault.Code, "a fault of the test"}
	case fault.Status == 0:
		out, bad = s.answer(op, in, fault)
	}
	s.mu.Unlock()
	if fault.Lose {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	if fault.Status != 0 {
		w.WriteHeader(fault.Status)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if bad != nil {
		w.WriteHeader(http.StatusBadRequest)
		out = object{"__type": bad.code, "message": bad.message}
	}
	json.NewEncoder(w).Encode(out) // The client sees an answer that is cut off.
}

func (s *Server) fault(op string) Fault {
	for _, f := range s.faults {
		if (f.Op == "" || f.Op == op) && f.Times > 0 {
			f.Times--
			return *f
		}
	}
	return Fault{}
}

func (s *Server) answer(op string, in request, fault Fault) (object, *failure) {
	switch op {
	case "GetRecords":
		return s.getRecords(in)
	case "ListShards":
		if in.NextToken != "" {
			in.StreamName, _, _ = strings.Cut(in.NextToken, "/")
		}
	}
	st := s.streams[in.StreamName]
	if st == nil {
		return nil, &failure{"ResourceNotFoundException", "Stream " + in.StreamName + " not found"}
	}
	switch op {
	case "DescribeStreamSummary":
		return object{"StreamDescriptionSummary": object{"StreamName": in.StreamName, "StreamStatus": "ACTIVE",
			"StreamCreationTimestamp": seconds(st.created), "RetentionPeriodHours": st.retention}}, nil
	case "ListShards":
		return s.listShards(st, in)
	case "GetShardIterator":
		return s.getShardIterator(st, in)
	case "PutRecords":
		return s.putRecords(st, in, fault)
	}
	return nil, &failure{"UnknownOperationException", op}
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func (sh *shard) describe() object {
	o := object{"ShardId": sh.id, "HashKeyRange": object{"StartingHashKey": sh.low.String(), "EndingHashKey": sh.high.String()}}
	numbers := object{"StartingSequenceNumber": sh.first}
	if sh.closed {
		numbers["EndingSequenceNumber"] = sh.first
		if n := len(sh.records); n > 0 {
			numbers["EndingSequenceNumber"] = sh.records[n-1].sequence
		}
	}
	o["SequenceNumberRange"] = numbers
	if len(sh.parents) > 0 {
		o["ParentShardId"] = sh.parents[0]
	}
	if len(sh.parents) > 1 {
		o["AdjacentParentShardId"] = sh.parents[1]
	}
	return o
}

func (s *Server) listShards(st *stream, in request) (object, *failure) {
	from := 0
	if in.NextToken != "" {
		var token int64
		_, rest, _ := strings.Cut(in.NextToken, "/")
		fmt.Sscanf(rest, "%d/%d", &token, &from)
		if token != s.token {
			return nil, &failure{"ExpiredNextTokenException", "the token has expired"}
		}
	}
	var all []object
	for _, sh := range st.shards {
		if in.ShardFilter != nil && in.ShardFilter.Type == "FROM_TIMESTAMP" && sh.closed && seconds(sh.closedAt) < in.ShardFilter.Timestamp {
			continue
		}
		all = append(all, sh.describe())
	}
	to := min(from+s.pageSize, len(all))
	out := object{"Shards": all[from:to]}
	if to < len(all) {
		out["NextToken"] = fmt.Sprintf("%s/%d/%d", in.StreamName, s.token, to)
	}
	return out, nil
}

func (s *Server) getShardIterator(st *stream, in request) (object, *failure) {
	sh := st.shard(in.ShardId)
	if sh == nil {
		return nil, &failure{"ResourceNotFoundException", "Shard " + in.ShardId + " does not exist"}
	}
	first := func(is func(record) bool) int {
		if i := slices.IndexFunc(sh.records, is); i >= 0 {
			return i
		}
		return len(sh.records)
	}
	at := 0
	switch in.ShardIteratorType {
	case "LATEST":
		at = len(sh.records)
	case "AT_TIMESTAMP":
		at = first(func(r record) bool { return seconds(r.arrival) >= in.Timestamp })
	case "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER":
		n := in.StartingSequenceNumber
		if n < sh.first || len(n) != len(sh.first) || sh.closed && (len(sh.records) == 0 || n > sh.records[len(sh.records)-1].sequence) {
			return nil, &failure{"InvalidArgumentException", "StartingSequenceNumber is invalid because it did not come from this shard"}
		}
		at = first(func(r record) bool {
			return r.sequence > n || r.sequence == n && in.ShardIteratorType == "AT_SEQUENCE_NUMBER"
		})
	}
	return object{"ShardIterator": s.iterator(in.StreamName, sh, at)}, nil
}

func (s *Server) iterator(name string, sh *shard, at int) string {
	return fmt.Sprintf("%s %s %d %d", name, sh.id, s.token, at)
}

func (s *Server) getRecords(in request) (object, *failure) {
	var name, id string
	var token int64
	var at int
	if n, _ := fmt.Sscanf(in.ShardIterator, "%s %s %d %d", &name, &id, &token, &at); n != 4 || s.streams[name] == nil || s.streams[name].shard(id) == nil {
		return nil, &failure{"InvalidArgumentException", "Invalid ShardIterator."}
	}
	if token != s.token {
		return nil, &failure{"ExpiredIteratorException", "Iterator expired"}
	}
	st := s.streams[name]
	sh := st.shard(id)
	at = max(at, sh.trimmed)
	to := len(sh.records)
	if in.Limit > 0 {
		to = min(to, at+in.Limit)
	}
	records := []object{}
	for _, r := range sh.records[at:to] {
		records = append(records, object{"SequenceNumber": r.sequence, "ApproximateArrivalTimestamp": seconds(r.arrival), "PartitionKey": r.key, "Data": r.data})
	}
	out := object{"Records": records, "MillisBehindLatest": 0}
	if to < len(sh.records) {
		out["MillisBehindLatest"] = max(1, s.now().Sub(sh.records[to].arrival).Milliseconds())
	}
	if !sh.closed || to < len(sh.records) {
		out["NextShardIterator"] = s.iterator(name, sh, to)
		return out, nil
	}
	var children []object
	for _, c := range st.shards {
		if slices.Contains(c.parents, id) {
			d := c.describe()
			children = append(children, object{"ShardId": d["ShardId"], "HashKeyRange": d["HashKeyRange"], "ParentShards": c.parents})
		}
	}
	out["ChildShards"] = children
	return out, nil
}

func (s *Server) putRecords(st *stream, in request, fault Fault) (object, *failure) {
	if len(in.Records) == 0 || len(in.Records) > 500 {
		return nil, &failure{"ValidationException", fmt.Sprintf("%d records", len(in.Records))}
	}
	bytes := 0
	for _, r := range in.Records {
		bytes += len(r.PartitionKey) + len(r.Data)
		if r.PartitionKey == "" {
			return nil, &failure{"ValidationException", "a record has no key"}
		}
	}
	if bytes > 10<<20 {
		return nil, &failure{"InvalidArgumentException", fmt.Sprintf("the request has %d bytes", bytes)}
	}
	refused := 0
	var results []object
	for i, r := range in.Records {
		if fault.Refuse > 0 && i%fault.Refuse == 0 {
			refused++
			results = append(results, object{"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "a fault of the test"})
			continue
		}
		id, sequence := s.put(st, r.PartitionKey, r.ExplicitHashKey, r.Data)
		results = append(results, object{"ShardId": id, "SequenceNumber": sequence})
	}
	return object{"FailedRecordCount": refused, "Records": results}, nil
}
