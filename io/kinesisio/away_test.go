// SPDX-License-Identifier: Apache-2.0

package kinesisio

import (
	"strings"
	"testing"
	"time"

	"github.com/hornbeam-dev/hornbeam/io/kinesisio/internal/fake"
)

// A shard that is away is told of though each bundle that waits for it is interrupted, the other one is read, and the
// shards are listed.
func TestShardAwayAlone(t *testing.T) {
	srv := start(t, 2)
	cfg := readOf(srv)
	cfg.Timeout = 300 * time.Millisecond
	r := newRun(t, cfg)
	away := r.rests[1]
	srv.Fail(fake.Fault{Op: "GetShardIterator", Shard: away.Parts[0].Shard, Times: 1 << 30, Status: 500})
	for range 10 {
		rt := r.fn.CreateTracker(away)
		if checkpoint(t, rt) == nil {
			t.Fatal("nothing is left of the shard")
		}
		_, err := r.fn.step(t.Context(), &reading{rt: rt, we: newEstimator(WatermarkState{})}, away, away.Parts[0])
		if err != nil {
			if !strings.Contains(err.Error(), "shardId-000000000001: no success for 300ms") {
				t.Errorf("got %v, want which shard is away", err)
			}
			return
		}
		if _, err := r.step(r.rests[0]); err != nil {
			t.Fatal(err)
		}
		restrictionsOf(t, cfg)
	}
	t.Error("ten bundles have waited, each for a third of the timeout, and none has failed")
}
