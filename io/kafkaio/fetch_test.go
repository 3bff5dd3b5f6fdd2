// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestCompressed reads records that are many times as large as the broker has them.
func TestCompressed(t *testing.T) {
	const n, size, wanted = 4_000, 1_000, 64 << 10
	c := fake(t, 1, nil)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic("t"), kgo.ProducerBatchMaxBytes(16<<10),
		kgo.ProducerBatchCompression(kgo.SnappyCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	sent := kgo.AbortingFirstErrPromise(cl)
	for range n {
		cl.Produce(t.Context(), &kgo.Record{Value: bytes.Repeat([]byte("x"), size)}, sent.Promise())
	}
	if err := sent.Err(); err != nil {
		t.Fatal(err)
	}
	r := newRun(t, config(c))
	var brought []int
	for pos := int64(0); pos < n; {
		b, err := r.fn.client.fetch(t.Context(), Restriction(r.parts[0]), pos, fetchOptions{bytes: wanted})
		if err != nil {
			t.Fatal(err)
		}
		brought, pos = append(brought, len(b.records)*size), b.next
	}
	if len(brought) < 2 || brought[0] < 4*wanted {
		t.Fatalf("the fetches brought %v bytes: want the first one to find out how far the records are compressed", brought)
	}
	for _, got := range brought[1:] {
		if got > 2*wanted {
			t.Errorf("a later fetch brought %d bytes of records, want about %d", got, wanted)
		}
	}
}

// A read of what is committed gets nothing that another read, of what is not, has left over.
func TestRestIsOfOneIsolation(t *testing.T) {
	c := fake(t, 1, nil)
	produce(t, c, "", rec(0, "a"), rec(0, "b"), rec(0, "c"))
	r := newRun(t, config(c))
	part, of := Restriction(r.parts[0]), r.fn.client
	if _, err := of.fetch(t.Context(), part, 0, fetchOptions{bytes: 1 << 20, uncommitted: true}); err != nil {
		t.Fatal(err)
	}
	left := []*kgo.Record{{Topic: "t", Offset: 1, Value: []byte("aborted")}}
	of.keep(part, 3, &batch{start: 1, next: 2, end: 3, records: left, uncommitted: true})
	b, err := of.fetch(t.Context(), part, 1, fetchOptions{bytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if len(b.records) != 2 || string(b.records[0].Value) == "aborted" {
		t.Errorf("got %d records, want the two of the broker", len(b.records))
	}
}
