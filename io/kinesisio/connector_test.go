// SPDX-License-Identifier: Apache-2.0

package kinesisio

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/io/iotest"
	"github.com/hornbeam-dev/hornbeam/io/kinesisio/internal/fake"
)

func init() {
	register.Function1x1(toSuite)
	register.Function1x1(deadToSuite)
	register.Function1x1(fromSuite)
	beam.RegisterFunction(suiteTime)
}

func suiteTime(r Record) (time.Time, error) { return iotest.TimeOf(r.Data) }

// toSuite and fromSuite translate records between this package and the suite.
func toSuite(r Record) iotest.Record {
	out := iotest.Record{Key: []byte(r.PartitionKey), Value: r.Data, Position: fmt.Sprint(r.Sequence, ".", r.Index)}
	fmt.Sscanf(r.Shard, "shardId-%d", &out.Partition)
	return out
}

func fromSuite(r iotest.Record) Record { return Record{PartitionKey: string(r.Key), Data: r.Value} }

func deadToSuite(d DeadLetter) iotest.DeadLetter {
	return iotest.DeadLetter{Record: toSuite(d.Record), Reason: d.Code + ": " + d.Error}
}

// feedOf is the stream "s" of a service, which is polled or pushed to a consumer.
func feedOf(srv *fake.Server, consumer string) *iotest.Feed {
	until := func(e iotest.Extent) ReadConfig {
		cfg := readOf(srv)
		cfg.Consumer = consumer
		cfg.EventTime, cfg.FetchRecords = suiteTime, 4
		if e == iotest.ToNow {
			cfg.To = Latest()
		} else {
			cfg.IdleAfter = time.Millisecond
		}
		return cfg
	}
	return &iotest.Feed{
		Fill: func(tb testing.TB, records ...iotest.Record) {
			for _, r := range records {
				srv.PutIn("s", fmt.Sprintf("shardId-%012d", r.Partition), string(r.Key), r.Value)
			}
			srv.Advance(time.Second) // The end of a read is told to the second.
		},
		Read: func(s beam.Scope, e iotest.Extent) (records, dead beam.PCollection) {
			records, dead = Read(s, until(e))
			return beam.ParDo(s, toSuite, records), beam.ParDo(s, deadToSuite, dead)
		},
		Splittable: func(tb testing.TB, e iotest.Extent) iotest.Splittable {
			cfg, err := until(e).withDefaults()
			if err != nil {
				tb.Fatal(err)
			}
			s := iotest.Splittable{
				Record: func(r any) iotest.Record { return toSuite(r.(Record)) },
				Dead:   func(d any) iotest.DeadLetter { return deadToSuite(d.(DeadLetter)) },
				Forget: forget,
				New: func() any {
					if e == iotest.ToNow {
						return &readBoundedFn{reader: newReader(cfg)}
					}
					return &readFn{reader: newReader(cfg)}
				},
			}
			for _, r := range restrictionsOf(tb, cfg) {
				s.Elements = append(s.Elements, r)
			}
			srv.Advance(5 * time.Second) // The end has come.
			return s
		},
		Fail: func(n int) {
			srv.Fail(fake.Fault{Op: "GetRecords", Times: n, Code: "ProvisionedThroughputExceededException"})
			srv.Fail(fake.Fault{Op: "SubscribeToShard", Times: n, Code: "LimitExceededException"})
		},
	}
}

// withSecret is the environment in which the AWS SDK looks for credentials. The fake does not ask for them.
func withSecret(tb testing.TB, secret string) *fake.Server {
	tb.Helper()
	tb.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	tb.Setenv("AWS_SESSION_TOKEN", "token-"+secret)
	forget()
	tb.Cleanup(forget)
	return start(tb, 1)
}

func TestConnectorSource(t *testing.T) {
	for name, feed := range map[string]func(*fake.Server) *iotest.Feed{
		"polled": func(srv *fake.Server) *iotest.Feed { return feedOf(srv, "") },
		"pushed": func(srv *fake.Server) *iotest.Feed { return feedOf(srv, srv.Register("s", "c")) },
	} {
		t.Run(name, func(t *testing.T) {
			iotest.RunSource(t, iotest.Source{
				Open:     func(tb testing.TB, partitions int) *iotest.Feed { return feed(start(tb, partitions)) },
				Keys:     true,
				LargeMax: 1 << 20,
				Secured:  func(tb testing.TB, secret string) *iotest.Feed { return feed(withSecret(tb, secret)) },
				Refusals: refusals(t),
			})
		})
	}
}

// refusals are what is refused before a pipeline runs, with and without secrets in the wrong place.
func refusals(t *testing.T) []iotest.Refusal {
	srv := start(t, 1)
	ofURL := func(format string) func(string) error {
		return func(secret string) error {
			_, err := ParseURL(strings.ReplaceAll(format, "SECRET", secret))
			return err
		}
	}
	return []iotest.Refusal{
		{Name: "no stream", Try: func(string) error {
			return Check(t.Context(), ReadConfig{Stream: "missing", Endpoint: srv.URL})
		}, Want: []string{"stream missing", "does not exist", "create it first"}},
		{Name: "read of nothing", Try: func(string) error {
			_, s := beam.NewPipelineWithRoot()
			Read(s, ReadConfig{})
			return nil
		}, Want: []string{"kinesisio.Read", "stream", "1 to 128"}},
		{Name: "write of nothing", Try: func(string) error {
			_, s := beam.NewPipelineWithRoot()
			Write(s, WriteConfig{}, beam.Create(s, 1))
			return nil
		}, Want: []string{"kinesisio.Write", "stream", "1 to 128"}},
		{Name: "user and password in the address", Try: ofURL("kinesis://ann:SECRET@s"), Want: []string{"AWS_PROFILE"}},
		{Name: "user and password in the endpoint", Try: ofURL("kinesis://s?endpoint=https://ann:SECRET@kinesis.example.com"), Want: []string{"AWS_PROFILE"}},
		{Name: "parameter mistyped", Try: ofURL("kinesis://s?secret=SECRET"), Want: []string{"none of region, endpoint, from, to, consumer"}},
		{Name: "parameter whose name is a secret", Try: ofURL("kinesis://s?region=ab&SECRET"), Want: []string{"none of region, endpoint, from, to, consumer"}},
		{Name: "parameter badly escaped", Try: ofURL("kinesis://s?secret=%zzSECRET"), Want: []string{"NAME=VALUE"}},
	}
}

// placeOf is the stream "s" of a service, which is written with cfg.
func placeOf(srv *fake.Server, cfg WriteConfig) *iotest.Place {
	cfg.Stream, cfg.Endpoint, cfg.Timeout = "s", srv.URL, 5*time.Second
	return &iotest.Place{
		Write: func(s beam.Scope, col beam.PCollection) beam.PCollection {
			return beam.ParDo(s, deadToSuite, Write(s, cfg, beam.ParDo(s, fromSuite, col)))
		},
		Contents: func(tb testing.TB) (all []iotest.Record) {
			r := newRun(tb, readOf(srv))
			r.everything()
			seen := map[Mark]bool{}
			for _, rec := range r.recs {
				if m, data, ok := ParseMark(rec.Data); ok && !seen[m] { // As Read with Dedupe does.
					seen[m], rec.Data = true, data
					all = append(all, toSuite(rec))
				} else if !ok {
					all = append(all, toSuite(rec))
				}
			}
			return all
		},
		Fail: func(n int) {
			srv.Fail(fake.Fault{Op: "PutRecords", Times: n, Code: "ProvisionedThroughputExceededException"})
		},
		Lose: func(n int) { srv.Fail(fake.Fault{Op: "PutRecords", Times: n, Lose: true}) },
		Break: func(testing.TB) {
			srv.Fail(fake.Fault{Op: "PutRecords", Times: 1 << 30, Code: "AccessDeniedException"})
		},
		Want:   []string{"kinesisio.Write", "stream s", "AccessDenied"},
		HangUp: srv.HangUp,
	}
}

func TestConnectorSink(t *testing.T) {
	for name, cfg := range map[string]WriteConfig{
		"marked":     {},
		"aggregated": {Aggregate: true},
		"unmarked":   {Unmarked: true},
	} {
		t.Run(name, func(t *testing.T) {
			iotest.RunSink(t, iotest.Sink{
				Open:     func(tb testing.TB) *iotest.Place { return placeOf(start(tb, 2), cfg) },
				Keys:     true,
				Once:     !cfg.Unmarked,
				LargeMax: 1<<20 - 1024,
				Refused:  []iotest.Record{{Key: []byte("\xff"), Value: []byte("no key")}, {Key: []byte("k"), Value: make([]byte, 1<<20)}},
				Secured:  func(tb testing.TB, secret string) *iotest.Place { return placeOf(withSecret(tb, secret), cfg) },
				Refusals: refusals(t),
			})
		})
	}
}

// Both what was never read and what a read began with are missed when the stream has forgotten it.
func TestPositionGoneBeforeTheFirstRecord(t *testing.T) {
	for name, from := range map[string]Position{"earliest": Earliest(), "time": AtTime(time.Now().Add(-time.Hour))} {
		t.Run(name, func(t *testing.T) {
			srv := start(t, 1)
			cfg := readOf(srv)
			cfg.From, cfg.MaxAhead = from, -1 // The service's clock will be ahead.
			r := newRun(t, cfg)
			for _, n := range numbers(4) {
				srv.Put("s", "k", []byte(n))
			}
			begin := r.rests[0]
			srv.Advance(22 * time.Hour)
			r.restart()
			r.all(begin) // All is there.
			srv.Advance(3 * time.Hour)
			srv.Trim("s", "shardId-000000000000", 2)
			r.restart()
			_, err := r.step(begin)
			for _, word := range []string{"stream s", "shardId-000000000000", name, "nothing was read since", "keeps 24h", "GoneSkipsTo"} {
				if err == nil || !strings.Contains(err.Error(), word) {
					t.Errorf("error %v does not say %q", err, word)
				}
			}
			r.fn.PositionGone, r.got = GoneSkipsTo, nil
			r.all(begin)
			if got := strings.Join(r.got, " "); got != "2 3" {
				t.Errorf("with a gap got %q, want %q", got, "2 3")
			}
		})
	}
}

// A child is missed like the shard before it: what was read of that is as old as what is to be read.
func TestPositionGoneInAChild(t *testing.T) {
	srv := start(t, 1)
	cfg := readOf(srv)
	cfg.MaxAhead = -1
	r := newRun(t, cfg)
	srv.Put("s", "k", []byte("0"))
	rest := r.all(r.rests[0])
	srv.Split("s", "shardId-000000000000")
	next, err := r.step(rest)
	if err != nil || next == nil || len(next.Parts) != 2 {
		t.Fatalf("after the split %+v, %v are left, want both children", next, err)
	}
	srv.Advance(25 * time.Hour)
	r.restart()
	if _, err := r.step(*next); err == nil || !strings.Contains(err.Error(), "GoneSkipsTo") {
		t.Errorf("children that were not read for longer than retention = %v", err)
	}
}

// A read that began long after the time it was asked for misses nothing that was deleted before.
func TestNeeded(t *testing.T) {
	began := time.UnixMilli(1_800_000_000_000)
	for _, c := range []struct{ ago, want time.Duration }{
		{time.Hour, time.Hour}, {-time.Hour, -time.Hour}, {24*time.Hour - time.Millisecond, 24*time.Hour - time.Millisecond}, {24 * time.Hour, 0}, {99 * time.Hour, 0},
	} {
		if got := needed(began.Add(-c.ago).UnixMilli(), began, 24*time.Hour); got != began.Add(-c.want).UnixMilli() {
			t.Errorf("a read from %v ago needs all since %v, want %v ago", c.ago, time.UnixMilli(got).UTC(), c.want)
		}
	}
}

// A stream that has more than is read in one turn is read on later.
func TestTurn(t *testing.T) {
	srv := start(t, 1)
	for _, n := range numbers(2) {
		srv.Put("s", "k", []byte(n))
	}
	cfg := readOf(srv)
	cfg.FetchRecords, cfg.Turn = 1, time.Nanosecond
	r := newRun(t, cfg)
	next, err := r.step(r.rests[0])
	if err != nil || next == nil || len(r.got) != 1 {
		t.Fatalf("the first turn has read %v and leaves %v, %v; want one record and the rest", r.got, next, err)
	}
	if r.all(*next); len(r.got) != 2 {
		t.Errorf("all turns have read %v, want two records", r.got)
	}
}
