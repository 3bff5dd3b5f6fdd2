// SPDX-License-Identifier: Apache-2.0

// Package iotest checks that a connector keeps what a connector has to keep: the suite that each source and each
// sink passes, on Hornbeam and, where it can be, on Prism.
//
// A connector gives an adapter, Source or Sink, in its own tests; RunSource and RunSink do the rest. The suite
// makes the records, so that it knows what has to come out: the adapter takes the event time of a record with
// TimeOf, which refuses what the suite has poisoned, and translates between the connector's types and those of
// this package. What a connector can do beyond this is for its own tests.
//
// # An adapter
//
// A source of files, in which a partition is a file and a position a line:
//
//	func feedOf(dir string) *iotest.Feed {
//		cfg := fileio.ReadConfig{Pattern: dir + "/*", EventTime: timeOf}
//		return &iotest.Feed{
//			Fill: func(tb testing.TB, records ...iotest.Record) {
//				… // Appends the value of each as a line to dir/PARTITION.
//			},
//			Read: func(s beam.Scope, e iotest.Extent) (records, dead beam.PCollection) {
//				records, dead = fileio.Read(s, cfg)
//				return beam.ParDo(s, toSuite, records), beam.ParDo(s, deadToSuite, dead)
//			},
//			Splittable: func(tb testing.TB, e iotest.Extent) iotest.Splittable {
//				return iotest.Splittable{New: func() any { return newReadFn(cfg) }, Elements: …, Record: …, Dead: …}
//			},
//			Fail: func(n int) { … }, // A store that fails n times, then works.
//		}
//	}
//
//	func TestConnectorSource(t *testing.T) {
//		iotest.RunSource(t, iotest.Source{Open: …, Ends: true, LargeMax: 1 << 20, Refusals: …})
//	}
//
// The adapters of fileio, kafkaio and kinesisio are whole ones.
package iotest

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/go-cmp/cmp"
)

func init() {
	for _, v := range []any{Record{}, Header{}, DeadLetter{}, kept{}} {
		beam.RegisterType(reflect.TypeOf(v))
	}
}

// Record is a record as the suite knows it.
type Record struct {
	Partition int // Of a source: counted from 0.
	Key       []byte
	Value     []byte
	Headers   []Header
	Time      int64  // Milliseconds. Of what was read it is the event time of the element.
	Position  string // Of what was read: where it was in its partition, in the connector's words.
}

// Header is a header of a record.
type Header struct {
	Name  string
	Value []byte
}

// DeadLetter is a record that was refused, and why.
type DeadLetter struct {
	Record Record
	Reason string
}

// epoch is the event time of the first record of the suite. It lies in the past of every clock.
var epoch = time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC).UnixMilli()

const poison = "poison"

// TimeOf takes the event time out of a value that the suite has made. It is what the adapter of a source gives as
// the connector's function of event time. It refuses poisoned values, which have to become dead letters.
func TimeOf(value []byte) (time.Time, error) {
	if len(value) == 0 {
		return time.UnixMilli(epoch), nil
	}
	first, _, _ := bytes.Cut(value, []byte(" "))
	ms, err := strconv.ParseInt(string(first), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("the value does not begin with a time: %w", err)
	}
	return time.UnixMilli(ms), nil
}

// sample is the n-th record of a partition. Those of a partition have rising times.
func sample(partition, n int) Record {
	r := Record{
		Partition: partition, Key: fmt.Append(nil, "key ", partition, ".", n), Time: epoch + int64(n)*1000,
		Headers: []Header{{"number", strconv.AppendInt(nil, int64(n), 10)}, {"empty", []byte{}}},
	}
	r.Value = fmt.Append(nil, r.Time, " record ", partition, ".", n)
	return r
}

// samples are the first n records of each partition, partition by partition.
func samples(partitions, n int) (all []Record) {
	for p := range partitions {
		for i := range n {
			all = append(all, sample(p, i))
		}
	}
	return all
}

// keeps says what of a record comes out as it went in.
type keeps struct{ keys, headers, partitions bool }

// text describes what has to come out of a record.
func (k keeps) text(r Record) string {
	var b strings.Builder
	if k.partitions {
		fmt.Fprintf(&b, "partition %d ", r.Partition)
	}
	if k.keys {
		fmt.Fprintf(&b, "key %q ", r.Key)
	}
	if k.headers {
		for _, h := range r.Headers {
			fmt.Fprintf(&b, "%s=%q ", h.Name, h.Value)
		}
	}
	value := string(r.Value)
	if len(value) > 60 {
		value = fmt.Sprintf("%s… (%d bytes, sum %x)", value[:40], len(value), checksum(r.Value))
	}
	fmt.Fprintf(&b, "at %d: %q", r.Time, value)
	return b.String()
}

// checksum tells large values apart.
func checksum(data []byte) (sum uint64) {
	for _, c := range data {
		sum = sum*31 + uint64(c)
	}
	return sum
}

// compare reports what is missing, doubled or changed. The order does not count.
func (k keeps) compare(tb testing.TB, what string, want, got []Record) {
	tb.Helper()
	texts := func(records []Record) (all []string) {
		for _, r := range records {
			all = append(all, k.text(r))
		}
		slices.Sort(all)
		return all
	}
	if diff := cmp.Diff(texts(want), texts(got)); diff != "" {
		tb.Errorf("%s: records (-want +got):\n%s", what, diff)
	}
}

// comparePositions reports records whose position is missing, or that of another record.
func comparePositions(tb testing.TB, what string, got []Record) {
	tb.Helper()
	seen := map[string]bool{}
	for _, r := range got {
		at := fmt.Sprint(r.Partition, " ", r.Position)
		if r.Position == "" || seen[at] {
			tb.Errorf("%s: the position of %s is %q, want one of its own", what, keeps{}.text(r), r.Position)
		}
		seen[at] = true
	}
}
