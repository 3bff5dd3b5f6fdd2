// SPDX-License-Identifier: Apache-2.0

package kinesisio

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/io/kinesisio/internal/fake"
)

// pushedTo is a read of the stream of start to a consumer.
func pushedTo(s *fake.Server) ReadConfig {
	cfg := readOf(s)
	cfg.Consumer = s.Register("s", "c")
	return cfg
}

// until reads until there are n records, and then what else comes at once.
func (r *run) until(n int) {
	r.t.Helper()
	for begin := time.Now(); len(r.recs) < n; {
		r.everything()
		if time.Since(begin) > 20*time.Second {
			r.t.Fatalf("%d records after %v, want %d", len(r.recs), time.Since(begin), n)
		}
	}
	r.everything()
}

// What is pushed is read over a split without a poll, and what comes to a read that has caught up, too.
func TestPushed(t *testing.T) {
	srv := start(t, 1)
	put := func(from, to int) {
		for _, n := range numbers(to)[from:] {
			srv.Put("s", "k", []byte(n))
		}
	}
	put(0, 10)
	r := newRun(t, pushedTo(srv))
	r.until(10)
	put(10, 20)
	r.until(20)
	srv.Split("s", "shardId-000000000000")
	put(20, 30)
	r.until(30)
	if diff := cmp.Diff(numbers(30), r.got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if n := srv.Calls("GetRecords"); n > 0 {
		t.Errorf("the shards were polled %d times", n)
	}
}

// However a subscription ends, the next one goes on where it was.
func TestSubscriptionEnds(t *testing.T) {
	for name, end := range map[string]func(*fake.Server, *run){
		"after five minutes": func(srv *fake.Server, _ *run) { srv.EndSubscriptions() },
		"broken":             func(srv *fake.Server, _ *run) { srv.HangUp() },
		"taken over":         func(_ *fake.Server, r *run) { r.restart() },
		"refused for a time": func(srv *fake.Server, _ *run) {
			srv.Fail(fake.Fault{Op: "SubscribeToShard", Times: 1, Code: "LimitExceededException"})
			srv.Fail(fake.Fault{Op: "SubscribeToShard", Times: 1, Status: 500})
			srv.EndSubscriptions()
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := start(t, 1)
			for _, n := range numbers(20) {
				srv.Put("s", "k", []byte(n))
			}
			r := newRun(t, pushedTo(srv))
			r.each = func(rt *sdf.LockRTracker) *Restriction {
				if len(r.got) == 6 { // In the midst of an event.
					end(srv, r)
					return checkpoint(t, rt)
				}
				return nil
			}
			r.until(20)
			end(srv, r)
			srv.Put("s", "k", []byte("20"))
			r.until(21)
			if n := srv.Calls("SubscribeToShard"); n < 2 {
				t.Errorf("%d subscriptions, want another one after the first", n)
			}
			if diff := cmp.Diff(numbers(21), r.got); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
		})
	}
}

// A consumer has one subscription for a shard: the other part of it, of another restriction, is polled.
func TestPartsOfAShardThatIsPushed(t *testing.T) {
	srv := start(t, 2)
	written := map[string]int{}
	put := func() {
		for i := range 20 {
			key := fmt.Sprint("key ", i)
			srv.Put("s", key, []byte(fmt.Sprint(written[key])))
			written[key]++
		}
	}
	put()
	r := newRun(t, pushedTo(srv))
	r.until(20)
	srv.Merge("s", "shardId-000000000000", "shardId-000000000001")
	put()
	r.until(40)
	if srv.Calls("GetRecords") == 0 {
		t.Error("no part was polled")
	}
	put()
	r.until(60)
	keyed(t, r.recs, written)
}

func TestPositionGoneOfASubscription(t *testing.T) {
	srv := start(t, 1)
	r, rest := trimmed(t, srv, pushedTo(srv))
	rest.Parts[0].At.Seen -= (25 * time.Hour).Milliseconds()
	if _, err := r.step(*rest); err == nil || !strings.Contains(err.Error(), "GoneSkipsTo") {
		t.Errorf("a position that is gone = %v", err)
	}
	r.fn.PositionGone, r.got, r.recs = GoneSkipsTo, nil, nil
	r.rests[0] = *rest
	r.until(2)
	if got := strings.Join(r.got, " "); got != "4 5" {
		t.Errorf("with a gap got %q, want %q", got, "4 5")
	}
}

func TestConsumerIsChecked(t *testing.T) {
	srv := start(t, 1)
	arn := srv.Register("s", "c")
	for consumer, want := range map[string]string{
		arn:                                   "",
		"c":                                   "not the ARN",
		strings.Replace(arn, "/s/", "/t/", 1): "registered with stream t",
	} {
		cfg := readOf(srv)
		cfg.Consumer = consumer
		_, err := cfg.withDefaults()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("consumer %s = %v, want %q", consumer, err, want)
		}
	}
	if cfg, err := ParseURL("kinesis://s?consumer=" + arn); err != nil || cfg.Consumer != arn {
		t.Errorf("ParseURL gives consumer %q, %v", cfg.Consumer, err)
	}
	cfg := readOf(srv)
	cfg.Consumer = strings.Replace(arn, "/c:", "/unknown:", 1)
	r := newRun(t, cfg)
	if _, err := r.step(r.rests[0]); err == nil || !strings.Contains(err.Error(), "has no consumer "+cfg.Consumer) {
		t.Errorf("a consumer that is not registered = %v", err)
	}
}

// events are a subscription without a service.
type events struct {
	all chan types.SubscribeToShardEventStream
	err error
}

func (e *events) Events() <-chan types.SubscribeToShardEventStream { return e.all }
func (e *events) Close() error                                     { return nil }
func (e *events) Err() error                                       { return e.err }

func (e *events) push(behind int64, records ...types.Record) {
	e.all <- &types.SubscribeToShardEventStreamMemberSubscribeToShardEvent{Value: types.SubscribeToShardEvent{
		Records: records, MillisBehindLatest: &behind, ContinuationSequenceNumber: aws.String("1"),
	}}
}

// A subscription has caught up with a time only if what says so was waited for: an event that lay ready may be old.
func TestTipOfASubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := &events{all: make(chan types.SubscribeToShardEventStream, 99)}
		s := newSubscription(t.Context(), kinesis.NewSubscribeToShardEventStream(
			func(es *kinesis.SubscribeToShardEventStream) { es.Reader = from }), func() {})
		next := func(what string, behind int64, records int, tip time.Time) {
			t.Helper()
			b, err := s.next(t.Context(), time.Second)
			if err != nil || b.behind != behind || len(b.records) != records || !b.sent.Equal(tip) || b.over() {
				t.Errorf("%s: got %+v, %v, want %d ms behind, %d records, the tip at %v", what, b, err, behind, records, tip)
			}
		}
		waits := time.Now()
		next("before the first event", unknown, 0, time.Time{})
		from.push(0)
		next("an event that was waited for", 0, 0, waits)
		waits = time.Now()
		next("after it", 0, 0, waits.Add(-time.Second))
		from.push(2, types.Record{}, types.Record{})
		from.push(0, types.Record{})
		next("a backlog", 2, 2, time.Time{})
		next("its end, which lay ready", unknown, 1, time.Time{})
		waits = time.Now()
		next("after it", unknown, 0, time.Time{})
		for range 50 { // Most of them cannot be heard before the next one is there.
			from.push(0)
		}
		for synctest.Wait(); len(from.all)+len(s.queue) > 0; synctest.Wait() {
			next("the first of many was waited for", 0, 0, waits)
		}

		<-time.After(unheard)
		if _, err := s.next(t.Context(), time.Second); err == nil || !strings.Contains(err.Error(), "no event") {
			t.Errorf("a long silence = %v", err)
		}
		from.all <- &types.UnknownUnionMember{}
		from.push(0, types.Record{})
		if b, err := s.next(t.Context(), time.Second); err != nil || len(b.records) != 1 {
			t.Errorf("after an event that is not known: %+v, %v", b, err)
		}
		from.all <- &types.SubscribeToShardEventStreamMemberSubscribeToShardEvent{}
		if b, err := s.next(t.Context(), time.Second); err != nil || !b.over() {
			t.Errorf("the last event of a shard = %+v, %v", b, err)
		}
		close(from.all)
		if _, err := s.next(t.Context(), time.Second); !errors.Is(err, errSubscriptionOver) {
			t.Errorf("the end of a subscription = %v", err)
		}
		from.err = errors.New("taken over")
		if _, err := s.next(t.Context(), time.Second); !errors.Is(err, from.err) {
			t.Errorf("a subscription that was taken over = %v", err)
		}
	})
}

// A shard that is caught up and quiet holds no window.
func TestIdleSubscription(t *testing.T) {
	srv := start(t, 1)
	cfg := pushedTo(srv)
	cfg.IdleAfter = 20 * time.Millisecond
	srv.Put("s", "k", []byte("0"))
	r := newRun(t, cfg)
	r.until(1)
	record := r.state.Watermark
	for begin := time.Now(); r.state.Watermark <= record+transit.Milliseconds(); r.everything() {
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("the watermark is %d after %v, and not behind that of the record, %d", r.state.Watermark, time.Since(begin), record)
		}
	}
}
