// SPDX-License-Identifier: Apache-2.0

package connectors

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/state"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/hornbeam-dev/hornbeam/integration/connectors/kinesistest"
	"github.com/hornbeam-dev/hornbeam/io/kinesisio"
	"github.com/hornbeam-dev/hornbeam/runner"
)

func init() {
	register.Function1x1(kinesisData)
	register.Function1x2(keyAndValue)
	register.Function1x2(withOne)
	register.DoFn4x1[state.Provider, string, int64, func(string, int64), error](&timesFn{})
	register.DoFn2x0[string, int64](&noteFn{})
	register.Emitter2[string, int64]()
}

func kinesisData(r kinesisio.Record) string { return string(r.Data) }

func keyAndValue(s string) ([]byte, []byte) { return []byte(s), []byte(s) }

func withOne(s string) (string, int64) { return s, 1 }

// timesFn counts, in the state of the job, how often each text was seen.
type timesFn struct{ Times state.Value[int64] }

// ProcessElement emits the text and how often it was seen by now.
func (f *timesFn) ProcessElement(sp state.Provider, text string, n int64, emit func(string, int64)) error {
	times, _, err := f.Times.Read(sp)
	if err != nil {
		return err
	}
	emit(text, times+n)
	return f.Times.Write(sp, times+n)
}

// seen has, for each text, the most that timesFn said. The tests that use it run one after another.
var seen = struct {
	mu    sync.Mutex // Guards times.
	times map[string]int64
}{times: map[string]int64{}}

type noteFn struct{}

// ProcessElement notes the count of a text.
func (*noteFn) ProcessElement(text string, n int64) {
	seen.mu.Lock()
	defer seen.mu.Unlock()
	seen.times[text] = max(seen.times[text], n)
}

// awaitSeen waits until n texts were seen.
func awaitSeen(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		seen.mu.Lock()
		got := len(seen.times)
		seen.mu.Unlock()
		if got >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d texts were read, want %d", got, n)
		}
	}
}

// TestKinesis runs everything on one server, because it takes seconds to start.
func TestKinesis(t *testing.T) {
	srv := kinesistest.Start(t)
	t.Run("round trip", func(t *testing.T) { kinesisRoundTrip(t, srv) })
	t.Run("resharding", func(t *testing.T) { kinesisResharding(t, srv) })
	t.Run("positions", func(t *testing.T) { kinesisPositions(t, srv) })
	t.Run("refused", func(t *testing.T) { kinesisRefused(t, srv) })
}

// What is written is read once each.
func kinesisRoundTrip(t *testing.T, srv *kinesistest.Server) {
	srv.Create(t, "round", 4)
	for _, aggregate := range []bool{false, true} {
		var texts []any
		for i := range 2000 {
			texts = append(texts, fmt.Sprint(aggregate, " ", i))
		}
		begin := time.Now().Truncate(time.Second)
		p, s := beam.NewPipelineWithRoot()
		cfg := kinesisio.WriteConfig{Stream: "round", Endpoint: srv.URL, Aggregate: aggregate}
		passert.Empty(s, kinesisio.Write(s, cfg, beam.ParDo(s, keyAndValue, beam.Create(s, texts...))))
		ptest.RunAndValidate(t, p)

		p, s = beam.NewPipelineWithRoot()
		records, dead := kinesisio.Read(s, kinesisio.ReadConfig{Stream: "round", Endpoint: srv.URL, From: kinesisio.AtTime(begin), To: kinesisio.Latest(), Dedupe: true})
		passert.Empty(s, dead)
		if aggregate {
			passert.Count(s, records, "records", 2000)
		} else {
			passert.Equals(s, beam.ParDo(s, kinesisData, records), texts...)
		}
		ptest.RunAndValidate(t, p)
		time.Sleep(2 * time.Second) // The next one starts with another second.
	}
}

// Shards are split and merged while they are read, and the read is stopped and continued: each record is there once.
func kinesisResharding(t *testing.T, srv *kinesistest.Server) {
	srv.Create(t, "reshard", 2)
	stateDir(t)
	written := 0
	put := func(n int) {
		var texts []string
		for range n {
			texts = append(texts, fmt.Sprint("text ", written))
			written++
		}
		srv.Put(t, "reshard", texts...)
	}
	read := func(work func()) {
		p, s := beam.NewPipelineWithRoot()
		records, _ := kinesisio.Read(s, kinesisio.ReadConfig{Stream: "reshard", Endpoint: srv.URL})
		counted := beam.ParDo(s, &timesFn{Times: state.MakeValueState[int64]("times")}, beam.ParDo(s, withOne, beam.ParDo(s, kinesisData, records)))
		beam.ParDo0(s, &noteFn{}, counted)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() { // Ends when ctx is cancelled.
			_, err := beam.Run(ctx, "hornbeam", p)
			ended <- err
		}()
		work()
		cancel()
		if err := <-ended; !errors.Is(err, runner.ErrStopped) {
			t.Fatal(err)
		}
	}
	quarter := new(big.Int).Lsh(big.NewInt(1), 126)
	put(500)
	read(func() {
		awaitSeen(t, 200)
		put(500)
		srv.Split(t, "reshard", "shardId-000000000000", quarter.String()) // 2 and 3.
		put(500)
		awaitSeen(t, 1500)
		put(500)
		srv.Merge(t, "reshard", "shardId-000000000003", "shardId-000000000001") // 4.
		put(500)
		awaitSeen(t, 2300)
	})
	put(300)
	srv.Merge(t, "reshard", "shardId-000000000002", "shardId-000000000004") // 5.
	put(300)
	read(func() {
		awaitSeen(t, written)
		srv.Split(t, "reshard", "shardId-000000000005", quarter.String())
		put(300)
		awaitSeen(t, written)
		time.Sleep(2 * time.Second) // Time for what must not come.
	})
	if got := srv.Shards(t, "reshard"); len(got) != 8 {
		t.Errorf("the stream has shards %v, want 8", got)
	}
	for i := range written {
		if got := seen.times[fmt.Sprint("text ", i)]; got != 1 {
			t.Errorf("text %d was read %d times, want once", i, got)
		}
	}
	if len(seen.times) != written {
		t.Errorf("got %d texts, want %d", len(seen.times), written)
	}
}

// A read begins where it should.
func kinesisPositions(t *testing.T, srv *kinesistest.Server) {
	srv.Create(t, "positions", 2)
	srv.Put(t, "positions", "a", "b", "c")
	time.Sleep(2500 * time.Millisecond)
	middle := time.Now().Add(-time.Second)
	srv.Put(t, "positions", "d", "e", "f")
	expect := func(from, to kinesisio.Position, want ...any) {
		t.Helper()
		p, s := beam.NewPipelineWithRoot()
		records, _ := kinesisio.Read(s, kinesisio.ReadConfig{Stream: "positions", Endpoint: srv.URL, From: from, To: to})
		passert.Equals(s, beam.ParDo(s, kinesisData, records), want...)
		ptest.RunAndValidate(t, p)
	}
	expect(kinesisio.Earliest(), kinesisio.Latest(), "a", "b", "c", "d", "e", "f")
	expect(kinesisio.AtTime(middle), kinesisio.Latest(), "d", "e", "f")
	expect(kinesisio.Earliest(), kinesisio.AtTime(middle), "a", "b", "c")
}

// Errors say what to do.
func kinesisRefused(t *testing.T, srv *kinesistest.Server) {
	cfg := kinesisio.ReadConfig{Stream: "missing", Endpoint: srv.URL}
	if err := kinesisio.Check(t.Context(), cfg); err == nil || !slices.Contains([]string{"ResourceNotFoundException"}, errorCode(err)) {
		t.Errorf("Check of a stream that is not there = %v", err)
	}
}

func errorCode(err error) string {
	var answer interface{ ErrorCode() string }
	if errors.As(err, &answer) {
		return answer.ErrorCode()
	}
	return ""
}
