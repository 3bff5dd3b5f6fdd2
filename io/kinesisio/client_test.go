// SPDX-License-Identifier: Apache-2.0

package kinesisio

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A service that is away for longer than the timeout is told of, however often the wait is interrupted.
func TestPatienceEndsOverCheckpoints(t *testing.T) {
	c := &client{}
	away := errors.New("nobody there")
	const timeout = 300 * time.Millisecond
	for bundles := 1; ; bundles++ {
		err := c.patiently(t.Context(), timeout, func() bool { return true }, func(context.Context) error { return away })
		if errors.Is(err, away) {
			return
		}
		if !errors.Is(err, errStopped) || bundles > 10 {
			t.Fatalf("got %v in bundle %d, each of which waits for a third of the timeout, want that the service is away", err, bundles)
		}
	}
}
