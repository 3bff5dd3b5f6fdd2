// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// failure is an answer that is an error.
type failure struct{ code, message string }

type object = map[string]any

// request has the fields of all operations.
type request struct {
	StreamName, NextToken, ShardId, ShardIterator string
	ShardIteratorType, StartingSequenceNumber     string
	Timestamp                                     float64
	ConsumerARN                                   string
	StartingPosition                              struct {
		Type, SequenceNumber string
		Timestamp            float64
	}
	ShardFilter *struct {
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
	fault := s.fault(op, in.ShardId)
	now := s.now()
	var out object
	var bad *failure
	switch {
	case fault.Code != "":
		bad = &failure{fault.Code, "a fault of the test"}
	case fault.Status == 0 && op != "SubscribeToShard":
		out, bad = s.answer(op, in, fault)
	}
	s.mu.Unlock()
	if op == "SubscribeToShard" && fault == (Fault{}) {
		if bad = s.subscribe(w, r, in); bad == nil {
			return
		}
	}
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

func (s *Server) fault(op, shard string) Fault {
	for _, f := range s.faults {
		if (f.Op == "" || f.Op == op) && (f.Shard == "" || f.Shard == shard) && f.Times > 0 {
			f.Times--
			return *f
		}
	}
	return Fault{}
}

func (s *Server) answer(op string, in request, fault Fault) (object, *failure) {
	switch op {
	case "GetRecords":
		return s.getRecords(in, fault)
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
	at, bad := sh.at(in.ShardIteratorType, in.StartingSequenceNumber, in.Timestamp)
	if bad != nil {
		return nil, bad
	}
	return object{"ShardIterator": s.iterator(in.StreamName, sh, at)}, nil
}

// at is the index of the first record that a position of a kind asks for.
func (sh *shard) at(kind, sequence string, timestamp float64) (int, *failure) {
	first := func(is func(record) bool) int {
		if i := slices.IndexFunc(sh.records, is); i >= 0 {
			return i
		}
		return len(sh.records)
	}
	switch kind {
	case "LATEST":
		return len(sh.records), nil
	case "AT_TIMESTAMP":
		return first(func(r record) bool { return seconds(r.arrival) >= timestamp }), nil
	case "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER":
		if of := encoded(sequence); of != sh.id {
			return 0, &failure{"InvalidArgumentException", fmt.Sprintf("Invalid StartingSequenceNumber. It encodes %s, while it was used in a call to a shard with %s", of, sh.id)}
		}
		if sequence < sh.first || sh.closed && (len(sh.records) == 0 || sequence > sh.records[len(sh.records)-1].sequence) {
			return 0, &failure{"InvalidArgumentException", "StartingSequenceNumber is invalid because it did not come from this shard"}
		}
		return first(func(r record) bool {
			return r.sequence > sequence || r.sequence == sequence && kind == "AT_SEQUENCE_NUMBER"
		}), nil
	}
	return 0, nil
}

func (s *Server) iterator(name string, sh *shard, at int) string {
	return fmt.Sprintf("%s %s %d %d", name, sh.id, s.token, at)
}

func (s *Server) getRecords(in request, fault Fault) (object, *failure) {
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
	limit := in.Limit
	if limit == 0 {
		limit = len(sh.records)
	}
	if fault.Empty {
		limit = 0
	}
	out, next := s.read(st, sh, at, limit)
	if _, last := out["ChildShards"]; !last {
		out["NextShardIterator"] = s.iterator(name, sh, next)
	}
	return out, nil
}

// read is what an answer or event says of up to limit records, with the children at the end of a closed shard, and the
// index of what follows.
func (s *Server) read(st *stream, sh *shard, at, limit int) (out object, next int) {
	to := min(len(sh.records), at+limit)
	records := []object{}
	for _, r := range sh.records[at:to] {
		records = append(records, object{"SequenceNumber": r.sequence, "ApproximateArrivalTimestamp": seconds(r.arrival), "PartitionKey": r.key, "Data": r.data})
	}
	out = object{"Records": records, "MillisBehindLatest": 0}
	if to < len(sh.records) {
		out["MillisBehindLatest"] = max(1, s.now().Sub(sh.records[to].arrival).Milliseconds())
	}
	if !sh.closed || to < len(sh.records) {
		return out, to
	}
	var children []object
	for _, c := range st.shards {
		if slices.Contains(c.parents, sh.id) {
			d := c.describe()
			children = append(children, object{"ShardId": d["ShardId"], "HashKeyRange": d["HashKeyRange"], "ParentShards": c.parents})
		}
	}
	out["ChildShards"] = children
	return out, to
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
