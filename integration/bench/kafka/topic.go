// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hornbeam-dev/hornbeam/integration/connectors/kafkatest"
)

const (
	partitions = 4
	keys       = 1_000
	valueSize  = 92 // With its key a record has a hundred bytes.
)

// The records lie in one hour, which is long ago for the broker's retention.
var begin = time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)

func createTopic(ctx context.Context, client *kgo.Client, name string) error {
	forever := "-1"
	resp, err := kadm.NewClient(client).CreateTopic(ctx, partitions, 1, map[string]*string{"retention.ms": &forever}, name)
	if err == nil {
		err = resp.Err
	}
	if err != nil {
		return fmt.Errorf("create topic %s: %w", name, err)
	}
	return nil
}

// fill makes the topic, with records whose times ascend in each partition.
func fill() error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokerList()...), kgo.DefaultProduceTopic(*topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx := context.Background()
	if err := createTopic(ctx, client, *topic); err != nil {
		return err
	}
	sent := kgo.AbortingFirstErrPromise(client)
	random := rand.NewChaCha8([32]byte{})
	for i := range *n {
		value := make([]byte, valueSize)
		random.Read(value) // So that compression does not make the topic tiny.
		client.Produce(ctx, &kgo.Record{
			Key:       fmt.Appendf(nil, "key-%04d", i*7%keys),
			Value:     value,
			Partition: int32(i % partitions),
			Timestamp: begin.Add(time.Duration(float64(time.Hour) / float64(*n) * float64(i))),
		}, sent.Promise())
	}
	return sent.Err()
}

// printLines prints all that is committed in the topic of the counts.
func printLines() error {
	lines, err := (&kafkatest.Broker{Addr: *brokers}).Lines(*to)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	for _, line := range lines {
		fmt.Fprintln(out, line)
	}
	return out.Flush()
}
