// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// awayPartition makes the fetches of one partition fail.
func awayPartition(c *kfake.Cluster, partition int32) {
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		fetch := req.(*kmsg.FetchRequest)
		if len(fetch.Topics) != 1 || len(fetch.Topics[0].Partitions) != 1 || fetch.Topics[0].Partitions[0].Partition != partition {
			return nil, nil, false
		}
		resp := fetch.ResponseKind().(*kmsg.FetchResponse)
		part := kmsg.NewFetchResponseTopicPartition()
		part.Partition, part.ErrorCode = partition, kerr.NotLeaderForPartition.Code
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic, topic.TopicID, topic.Partitions = fetch.Topics[0].Topic, fetch.Topics[0].TopicID, append(topic.Partitions, part)
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
}

// A partition that is away is told of while the other one is read, and the topic is looked at.
func TestPartitionAwayAlone(t *testing.T) {
	c := fake(t, 2, nil)
	cfg := config(c)
	cfg.Timeout = 1100 * time.Millisecond
	dead, other := newRun(t, cfg), newRun(t, cfg)
	awayPartition(c, 1)
	ended := make(chan error, 1)
	go func() { // Ends with the patience of the read.
		_, err := dead.step(Restriction(dead.parts[1]))
		ended <- err
	}()
	for begin := time.Now(); ; {
		select {
		case err := <-ended:
			if err == nil || !strings.Contains(err.Error(), "topic t, partition 1") || !strings.Contains(err.Error(), "no success for 1.1s") {
				t.Errorf("got %v, want which partition is away", err)
			}
			return
		default:
		}
		if _, err := other.step(Restriction(other.parts[0])); err != nil {
			t.Fatal(err)
		}
		partitionsOf(t, cfg)
		if time.Since(begin) > 2*time.Second {
			t.Fatal("the read of the partition that is away waits on")
		}
	}
}
