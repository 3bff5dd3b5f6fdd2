// SPDX-License-Identifier: Apache-2.0

package kinesisio

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"
	"github.com/hornbeam-dev/hornbeam/io/kinesisio/internal/fake"
)

// What is written is read once each, whatever was refused and whatever answers were lost.
func TestWriteRead(t *testing.T) {
	for name, c := range map[string]struct {
		cfg    WriteConfig
		faults []fake.Fault
		more   bool // The stream has records twice.
	}{
		"plain":          {},
		"aggregate":      {cfg: WriteConfig{Aggregate: true}},
		"refused":        {faults: []fake.Fault{{Op: "PutRecords", Times: 3, Refuse: 2}, {Op: "PutRecords", Times: 1, Code: "ProvisionedThroughputExceededException"}}},
		"lost":           {faults: []fake.Fault{{Op: "PutRecords", Times: 2, Lose: true}}, more: true},
		"lost aggregate": {cfg: WriteConfig{Aggregate: true}, faults: []fake.Fault{{Op: "PutRecords", Times: 2, Lose: true}}, more: true},
	} {
		t.Run(name, func(t *testing.T) {
			srv := start(t, 3)
			for _, f := range c.faults {
				srv.Fail(f)
			}
			var values []any
			for i := range 700 {
				values = append(values, fmt.Sprint(i))
			}
			c.cfg.Stream, c.cfg.Endpoint = "s", srv.URL
			p, s := beam.NewPipelineWithRoot()
			passert.Empty(s, Write(s, c.cfg, beam.ParDo(s, pair, beam.Create(s, values...))))
			ptest.RunAndValidate(t, p)
			// Without a fault there may be more, too: a slow machine makes a request time out.
			if got := len(srv.Records("s")); got < 700 || c.more && got == 700 {
				t.Errorf("the stream has %d records, of 700; want more: %v", got, c.more)
			}
			p, s = beam.NewPipelineWithRoot()
			cfg := readOf(srv)
			cfg.To, cfg.Dedupe = Latest(), true
			records, dead := Read(s, cfg)
			passert.Equals(s, beam.ParDo(s, data, records), values...)
			passert.Empty(s, dead)
			ptest.RunAndValidate(t, p)
		})
	}
}

// A bundle whose records have one key becomes few records.
func TestAggregate(t *testing.T) {
	srv := start(t, 2)
	f := &writeFn{Place: place{Endpoint: srv.URL, Stream: "s"}, Timeout: 5 * time.Second, Aggregate: true}
	if err := f.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.StartBundle(t.Context())
	var want []string
	for i := range 300 {
		text := fmt.Sprintf("%d %s", i, strings.Repeat("x", 500))
		want = append(want, text)
		if err := f.ProcessElement(t.Context(), entry{Key: "k", Data: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.FinishBundle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(srv.Records("s")); n > 4 {
		t.Errorf("300 small records became %d, want at most 4", n)
	}
	r := newRun(t, readOf(srv))
	r.everything()
	if diff := cmp.Diff(want, r.got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// Keys and sizes that Kinesis does not take are dead letters; those at the edge are written.
func TestWriteRefuses(t *testing.T) {
	l := &laner{Stream: "s", Lanes: 4, MaxBytes: 1000}
	l.Setup()
	for name, c := range map[string]struct {
		record Record
		code   string
	}{
		"no key":         {Record{Data: []byte("x")}, ""},
		"nothing":        {Record{PartitionKey: "k"}, ""},
		"256 characters": {Record{PartitionKey: strings.Repeat("é", 256)}, ""},
		"257 characters": {Record{PartitionKey: strings.Repeat("e", 257)}, "BAD_KEY"},
		"not UTF-8":      {Record{PartitionKey: "\xff"}, "BAD_KEY"},
		"full":           {Record{PartitionKey: "k", Data: make([]byte, 999)}, ""},
		"too large":      {Record{PartitionKey: "k", Data: make([]byte, 1000)}, "TOO_LARGE"},
		"last hash":      {Record{PartitionKey: "k", ExplicitHashKey: "340282366920938463463374607431768211455"}, ""},
		"hash too large": {Record{PartitionKey: "k", ExplicitHashKey: "340282366920938463463374607431768211456"}, "BAD_KEY"},
		"hash is a word": {Record{PartitionKey: "k", ExplicitHashKey: "first"}, "BAD_KEY"},
	} {
		code, lane := "nothing", int64(-1)
		l.sort(context.Background(), c.record, func(n int64, e entry) { code, lane = "", n }, func(d DeadLetter) { code = d.Code })
		if code != c.code || code == "" && (lane < 0 || lane > 3) {
			t.Errorf("%s: %q, lane %d; want %q", name, code, lane, c.code)
		}
	}
}

func TestWriteGivesUp(t *testing.T) {
	srv := start(t, 1)
	for _, c := range []struct {
		stream string
		fault  fake.Fault
		words  []string
	}{
		{"missing", fake.Fault{}, []string{"stream missing", "create it first"}},
		{"s", fake.Fault{Op: "PutRecords", Times: 1 << 30, Refuse: 1}, []string{"no success for 300ms", "ProvisionedThroughputExceeded"}},
		{"s", fake.Fault{Op: "PutRecords", Times: 1 << 30, Code: "AccessDeniedException"}, []string{"AccessDenied"}},
	} {
		srv.Heal()
		srv.Fail(c.fault)
		f := &writeFn{Place: place{Endpoint: srv.URL, Stream: c.stream}, Timeout: 300 * time.Millisecond}
		if err := f.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.StartBundle(t.Context())
		err := f.ProcessElement(t.Context(), entry{Key: "k", Data: []byte("x")})
		if err == nil {
			err = f.FinishBundle(t.Context())
		}
		for _, word := range c.words {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("error %v does not say %q", err, word)
			}
		}
	}
}

// The requests keep the limits of PutRecords, which the service checks.
func TestRequestLimits(t *testing.T) {
	srv := start(t, 1)
	f := &writeFn{Place: place{Endpoint: srv.URL, Stream: "s"}, Timeout: 5 * time.Second}
	if err := f.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.StartBundle(t.Context())
	n := 0
	for _, size := range append([]int{4 << 20, 4 << 20, 4 << 20, 10<<20 - 1}, make([]int, 1001)...) {
		n++
		if err := f.ProcessElement(t.Context(), entry{Key: "k", Data: make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.FinishBundle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := len(srv.Records("s")); got != n {
		t.Errorf("got %d records, want %d", got, n)
	}
}

func FuzzMark(f *testing.F) {
	f.Add([]byte("data"), uint64(7))
	f.Add(Mark{Sequence: 3}.appendTo([]byte("x")), uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, n uint64) {
		want := Mark{Writer: [16]byte{1, 2, 3}, Sequence: n}
		marked := want.appendTo(data)
		got, rest, ok := ParseMark(marked)
		if !ok || got != want || !bytes.Equal(rest, data) {
			t.Errorf("mark %v before %q is read as %v, %q, %v", want, data, got, rest, ok)
		}
		for _, bad := range [][]byte{marked[:len(marked)-1], append(slices.Clone(marked), 0), marked[1:]} {
			if m, _, ok := ParseMark(bad); ok && len(data) == 0 {
				t.Errorf("a cut mark is read as %v", m)
			}
		}
		if m, rest, ok := ParseMark(data); ok && !bytes.Equal(m.appendTo(rest), data) {
			t.Errorf("%q is read as %v and is something else", data, m)
		}
	})
}

// The spans are the set of the numbers that came, however they came.
func TestSpans(t *testing.T) {
	for seed := range int64(200) {
		rnd := rand.New(rand.NewSource(seed))
		var spans []span
		seen := map[uint64]bool{}
		for range 200 {
			n := uint64(1 + rnd.Intn(60))
			var isNew bool
			if spans, isNew = addToSpans(spans, n); isNew == seen[n] {
				t.Fatalf("seed %d: %d is new: %v, but was seen: %v", seed, n, isNew, seen[n])
			}
			seen[n] = true
			again, err := decodeSpans(encodeSpans(spans))
			if diff := cmp.Diff(spans, again, cmp.AllowUnexported(span{})); diff != "" || err != nil {
				t.Fatalf("seed %d: %v, spans (-want +got):\n%s", seed, err, diff)
			}
			for i := 1; i < len(spans); i++ {
				if spans[i-1].last+1 >= spans[i].first {
					t.Fatalf("seed %d: spans touch: %v", seed, spans)
				}
			}
		}
	}
}

func FuzzSpans(f *testing.F) {
	f.Add([]byte{1, 5, 3, 0})
	f.Fuzz(func(t *testing.T, raw []byte) { decodeSpans(raw) })
}

func FuzzDisaggregate(f *testing.F) {
	f.Add(aggregate([]userRecord{{"a", "", []byte("x")}, {"b", "77", nil}, {"a", "0", []byte("y")}}), "k", "5", []byte("z"))
	f.Fuzz(func(t *testing.T, raw []byte, key, explicit string, data []byte) {
		disaggregate(raw)
		want := []userRecord{{key: key, data: data}, {key: "other", data: []byte{}}}
		if _, ok := parseHash(explicit); ok {
			want[0].explicit = explicit
		}
		got, ok := disaggregate(aggregate(want))
		if !ok || len(got) != 2 {
			t.Fatalf("%v are read as %v, %v", want, got, ok)
		}
		for i := range want {
			if got[i].key != want[i].key || got[i].explicit != want[i].explicit || !bytes.Equal(got[i].data, want[i].data) {
				t.Errorf("got %v, want %v", got[i], want[i])
			}
		}
	})
}
