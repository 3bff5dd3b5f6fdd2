// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	usualBatch   = 1_000_012 // Bytes: what brokers take when nobody says otherwise, and franz-go with them.
	largestBatch = 64 << 20  // Bytes: more does not fit into a request of franz-go.
)

// batchLimit is how many bytes a batch of records, and so one record, may have. The topic says so (max.message.bytes),
// and the producer keeps to it: with its own limit it would refuse records that the broker takes. The zero value is
// the usual limit.
type batchLimit struct{ bytes atomic.Int32 }

// option is asked by a producer when it first sees a partition.
func (l *batchLimit) option() kgo.Opt {
	return kgo.ProducerBatchMaxBytesFn(func(string) int32 {
		if n := l.bytes.Load(); n > 0 {
			return n
		}
		return usualBatch
	})
}

// ask asks for the limit of a topic. A user who may not know keeps the usual one.
func (l *batchLimit) ask(ctx context.Context, adm *kadm.Client, topic string) error {
	configs, err := adm.DescribeTopicConfigs(ctx, topic)
	var of kadm.ResourceConfig
	if err == nil {
		of, err = configs.On(topic, nil)
	}
	if err == nil {
		err = of.Err
	}
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return nil
	case err != nil:
		return fmt.Errorf("ask for the largest record of topic %s: %w", topic, err)
	}
	for _, c := range of.Configs {
		if c.Key != "max.message.bytes" || c.Value == nil {
			continue
		}
		n, err := strconv.ParseInt(*c.Value, 10, 64)
		if err != nil {
			return fmt.Errorf("topic %s: max.message.bytes is %q", topic, *c.Value)
		}
		l.bytes.Store(int32(min(max(n, 512), largestBatch)))
	}
	return nil
}
