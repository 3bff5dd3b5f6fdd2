// SPDX-License-Identifier: Apache-2.0

package kinesisio

import (
	"context"
	"fmt"
	"time"

	"github.com/hornbeam-dev/hornbeam/io/internal/outage"
)

// checkTimeout is how long Check waits for an answer, and checkPatience for how long it asks again when there is none,
// or the service is busy.
const (
	checkTimeout  = 10 * time.Second
	checkPatience = 2 * time.Second
)

// Check says whether the service answers and has the stream of a ReadConfig. It is for programs that want to tell
// their user before a pipeline begins; Read and Write do not need it.
func Check(ctx context.Context, cfg ReadConfig) error {
	if err := checkStream(cfg.Stream, cfg.Region, cfg.Endpoint); err != nil {
		return fmt.Errorf("kinesisio: %w", err)
	}
	c, release, err := clients.Acquire(ctx, place{Region: cfg.Region, Endpoint: cfg.Endpoint, Stream: cfg.Stream})
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err = c.patiently(ctx, "its shards", outage.Patience{Timeout: checkPatience}, func(ctx context.Context) error {
		_, err := c.factsAnew(ctx)
		return err
	})
	switch {
	case code(err) == "ResourceNotFoundException":
		return fmt.Errorf("kinesisio: %v does not exist; create it first: %w", c.where, err)
	case err != nil:
		return fmt.Errorf("kinesisio: no answer for %v; are the endpoint, the region and the credentials (AWS_PROFILE, AWS_ACCESS_KEY_ID …) right? (%w)", c.where, err)
	}
	return nil
}
