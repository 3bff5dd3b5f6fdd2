// SPDX-License-Identifier: Apache-2.0

package kinesisio

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/hornbeam-dev/hornbeam/io/internal/outage"
	"github.com/hornbeam-dev/hornbeam/io/internal/shared"
)

func never() bool { return false }

// However many parts are in one shard, all get their turn, one after the other.
func TestTurnsOfOneShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &client{paces: map[string]time.Time{}, parts: map[partID]*partState{}}
		begin := time.Now()
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() {
				if err := c.pace(t.Context(), Restriction{}, Part{Shard: "a"}, readGap, never); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took, want := time.Since(begin), 63*readGap; took < want || took > want+lookAgain {
			t.Errorf("64 turns took %v, want %v", took, want)
		}
	})
}

// Whoever does not wait to the end has no turn, and a turn may be longer than an attempt.
func TestTurnsOfNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &client{paces: map[string]time.Time{}, parts: map[partID]*partState{}}
		p := Part{Shard: "a"}
		if err := c.pace(t.Context(), Restriction{}, p, maxReadGap, never); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			if err := c.pace(ctx, Restriction{}, p, maxReadGap, never); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a wait whose context has ended = %v", err)
			}
			cancel()
			if err := c.pace(t.Context(), Restriction{}, p, maxReadGap, func() bool { return true }); !errors.Is(err, outage.ErrStopped) {
				t.Errorf("a wait that is stopped = %v", err)
			}
		}
		if err := c.pace(t.Context(), Restriction{}, p, maxReadGap, never); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != maxReadGap {
			t.Errorf("the next turn came after %v, want %v", took, maxReadGap)
		}
	})
}

func TestReadGapIsChecked(t *testing.T) {
	for gap, good := range map[time.Duration]bool{0: true, maxReadGap: true, maxReadGap + 1: false, -1: false} {
		if _, err := (ReadConfig{Stream: "s", ReadGap: gap}).withDefaults(); (err == nil) != good {
			t.Errorf("ReadGap %v = %v", gap, err)
		}
	}
}

// What was taken of a batch is not kept in memory by what is left of it.
func TestBatchForgets(t *testing.T) {
	for _, left := range []int{0, 2} {
		taken := make([]types.Record, 5)
		memory := weak.Make(&taken[0])
		rest := (&batch{records: taken}).from(len(taken) - left)
		taken = nil
		runtime.GC()
		if memory.Value() != nil || len(rest.records) != left {
			t.Errorf("%d records of 5 are left, want %d; those taken are in memory: %v", len(rest.records), left, memory.Value() != nil)
		}
		runtime.KeepAlive(rest)
	}
}

// What is known of a stream is dropped some time after its last reader.
func TestClientIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		where := place{Endpoint: "http://127.0.0.1:1", Stream: t.Name()}
		fns := []*readFn{{reader{Place: where}}, {reader{Place: where}}}
		for _, fn := range fns {
			if err := fn.Setup(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		fns[0].Teardown()
		<-time.After(2 * shared.Keep)
		if c, _ := clients.Known(where); c != fns[1].client {
			t.Fatal("the client is dropped while somebody uses it")
		}
		fns[1].Teardown()
		<-time.After(2 * shared.Keep)
		if _, known := clients.Known(where); known {
			t.Error("a client that nobody uses is kept")
		}
	})
}
