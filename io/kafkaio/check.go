// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// checkTimeout is how long Check waits for an answer.
const checkTimeout = 10 * time.Second

// Check says whether a broker answers and has the topic. It is for programs that want to tell their
// user before a pipeline begins; Read and Write do not need it.
func Check(ctx context.Context, brokers []string, access Access, topic string) error {
	if err := checkTopic(brokers, topic); err != nil {
		return fmt.Errorf("kafkaio: %w", err)
	}
	c, release, err := acquire(brokers, access)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	meta, err := c.adm.Metadata(ctx, topic)
	where := strings.Join(brokers, ",")
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return fmt.Errorf("kafkaio: %s does not accept user and password (%w)", where, err)
	case err != nil && access.SASL != "":
		return fmt.Errorf("kafkaio: no answer from %s; is the broker running there, and does it accept user and password? (%w)", where, err)
	case err != nil:
		return fmt.Errorf("kafkaio: no answer from %s; is the broker running there? (%w)", where, err)
	case errors.Is(meta.Topics[topic].Err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("kafkaio: topic %s does not exist on %s; create it first", topic, where)
	case meta.Topics[topic].Err != nil:
		return fmt.Errorf("kafkaio: topic %s on %s: %w", topic, where, meta.Topics[topic].Err)
	}
	return nil
}
