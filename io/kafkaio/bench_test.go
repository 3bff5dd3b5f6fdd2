// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"bytes"
	"context"
	"math"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// BenchmarkRead is the DoFn alone: from a cluster in the same process to an emitter that does nothing.
func BenchmarkRead(b *testing.B) {
	const n = 200_000
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic("t"))
	if err != nil {
		b.Fatal(err)
	}
	defer cl.Close()
	value := bytes.Repeat([]byte("x"), 100)
	for range n {
		cl.Produce(b.Context(), &kgo.Record{Value: value}, nil)
	}
	if err := cl.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	cfg, err := ReadConfig{Brokers: c.ListenAddrs(), Topic: "t"}.withDefaults()
	if err != nil {
		b.Fatal(err)
	}
	l := &lister{Brokers: cfg.Brokers, Topic: "t", Timeout: cfg.Timeout}
	fn := &readBoundedFn{reader: reader{Brokers: cfg.Brokers, MaxAhead: cfg.MaxAhead, Timeout: cfg.Timeout, FetchBytes: cfg.FetchBytes}}
	if err := l.Setup(); err != nil {
		b.Fatal(err)
	}
	defer l.Teardown()
	if err := fn.Setup(); err != nil {
		b.Fatal(err)
	}
	defer fn.Teardown()
	parts, err := l.list(b.Context(), 0)
	if err != nil {
		b.Fatal(err)
	}
	seen := 0
	emit := func(beam.EventTime, Record) { seen++ }
	for b.Loop() {
		rest := Restriction(parts[0])
		rest.End = n
		we := newEstimator(WatermarkState{Watermark: math.MinInt32})
		if err := fn.ProcessElement(context.Background(), we, fn.CreateTracker(rest), parts[0], emit, func(DeadLetter) {}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(seen)/b.Elapsed().Seconds(), "records/s")
}
