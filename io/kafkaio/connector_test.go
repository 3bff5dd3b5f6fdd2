// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/hornbeam-dev/hornbeam/io/iotest"
)

func init() {
	register.Function1x1(toSuite)
	register.Function1x1(deadToSuite)
	register.Function1x1(fromSuite)
	beam.RegisterFunction(suiteTime)
}

func suiteTime(r Record) (time.Time, error) { return iotest.TimeOf(r.Value) }

// toSuite and fromSuite translate records between this package and the suite.
func toSuite(r Record) iotest.Record {
	out := iotest.Record{Partition: int(r.Partition), Key: r.Key, Value: r.Value, Position: fmt.Sprint(r.Offset)}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, iotest.Header{Name: h.Key, Value: h.Value})
	}
	return out
}

func fromSuite(r iotest.Record) Record {
	out := Record{Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, Header{Key: h.Name, Value: h.Value})
	}
	return out
}

func deadToSuite(d DeadLetter) iotest.DeadLetter {
	return iotest.DeadLetter{Record: toSuite(d.Record), Reason: d.Code + ": " + d.Error}
}

// failing makes the broker hang up on the next n requests of a kind.
func failing(c *kfake.Cluster, n int, key int16) {
	c.ControlKey(key, func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if n--; n == 0 {
			c.DropControl()
		}
		return nil, errors.New("a fault of the test"), true // The broker hangs up.
	})
}

// feedOf is the topic "t" of a cluster, which is read with cfg and filled by a client with opts.
func feedOf(c *kfake.Cluster, cfg ReadConfig, opts ...kgo.Opt) *iotest.Feed {
	cfg.EventTime = suiteTime
	until := func(e iotest.Extent) ReadConfig {
		cfg := cfg
		if e == iotest.ToNow {
			cfg.To = Latest()
		} else {
			cfg.IdleAfter = time.Millisecond
		}
		return cfg
	}
	return &iotest.Feed{
		Fill: func(tb testing.TB, records ...iotest.Record) {
			var recs []*kgo.Record
			for _, r := range records {
				k := fromSuite(r).toKafka()
				k.Partition, k.Timestamp = int32(r.Partition), time.UnixMilli(r.Time)
				recs = append(recs, k)
			}
			produceAs(tb, c, "", opts, recs)
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
				New: func() any {
					if e == iotest.ToNow {
						return &readBoundedFn{reader: newReader(cfg)}
					}
					return &readFn{reader: newReader(cfg)}
				},
			}
			for _, p := range partitionsOf(tb, cfg) {
				s.Elements = append(s.Elements, p)
			}
			return s
		},
		Fail: func(n int) { failing(c, n, (&kmsg.FetchRequest{}).Key()) },
	}
}

func TestConnectorSource(t *testing.T) {
	iotest.RunSource(t, iotest.Source{
		Open: func(tb testing.TB, partitions int) *iotest.Feed {
			c := fake(tb, int32(partitions), map[string]string{"retention.ms": "-1"})
			return feedOf(c, config(c))
		},
		Keys: true, Headers: true, LargeMax: 900_000,
		Secured: func(tb testing.TB, secret string) *iotest.Feed {
			c, access := lockedCluster(tb, secret)
			cfg := config(c)
			cfg.Access = access
			opts, err := access.options()
			if err != nil {
				tb.Fatal(err)
			}
			return feedOf(c, cfg, opts...)
		},
		Refusals: refusals(t),
	})
}

// refusals are what is refused before a pipeline runs, with and without secrets in the wrong place.
func refusals(t *testing.T) []iotest.Refusal {
	c := fake(t, 1, nil)
	ofURL := func(format string) func(string) error {
		return func(secret string) error {
			_, err := ParseURL(strings.ReplaceAll(format, "SECRET", secret))
			return err
		}
	}
	return []iotest.Refusal{
		{Name: "no topic", Try: func(string) error {
			return Check(context.Background(), c.ListenAddrs(), Access{}, "missing")
		}, Want: []string{"topic missing does not exist", "create it first"}},
		{Name: "read of nothing", Try: func(string) error {
			_, s := beam.NewPipelineWithRoot()
			Read(s, ReadConfig{})
			return nil
		}, Want: []string{"kafkaio.Read", "HOST:PORT", "topic"}},
		{Name: "write of nothing", Try: func(string) error {
			_, s := beam.NewPipelineWithRoot()
			Write(s, WriteConfig{}, beam.Create(s, 1))
			return nil
		}, Want: []string{"kafkaio.Write", "HOST:PORT", "topic", "name the sink"}},
		{Name: "password in the address", Try: ofURL("kafka://h:1/t?sasl=plain&user=ann&password=SECRET"), Want: []string{"password=env:NAME"}},
		{Name: "user and password in the address", Try: ofURL("kafka://ann:SECRET@h:1/t"), Want: []string{"password=env:"}},
		{Name: "password with a slash", Try: ofURL("kafka://ann:SECRET/x@h:1/t"), Want: []string{"password=env:"}},
		{Name: "password with a question mark", Try: ofURL("kafka://ann:SECRET?it@h:1/t"), Want: []string{"password=env:"}},
		{Name: "password behind a question mark", Try: ofURL("kafka://ann:pa?SECRET@h:1/t"), Want: []string{"password=env:"}},
		{Name: "parameter mistyped", Try: ofURL("kafka://h:1/t?passwort=SECRET"), Want: []string{"not one of", "password"}},
		{Name: "password with an ampersand", Try: ofURL("kafka://h:1/t?password=env:X&SECRET"), Want: []string{"not one of"}},
		{Name: "parameter badly escaped", Try: ofURL("kafka://h:1/t?password=%zzSECRET"), Want: []string{"NAME=VALUE"}},
		{Name: "key in the address", Try: ofURL("kafka://h:1/t?tls=true&key=SECRET"), Want: []string{"key=env:NAME"}},
		{Name: "password in the registry's address", Try: ofURL("kafka://h:1/t?registry=http://ann:SECRET@registry.example.com"), Want: []string{"registry_auth=env:NAME"}},
		{Name: "mechanism", Try: ofURL("kafka://h:1/t?sasl=kerberos&user=u&password=env:X"), Want: []string{"want plain"}},
		{Name: "user without a mechanism", Try: ofURL("kafka://h:1/t?user=u"), Want: []string{"without sasl"}},
		{Name: "certificates without TLS", Try: ofURL("kafka://h:1/t?ca=file:x"), Want: []string{"tls=true"}},
		{Name: "password of the registry", Try: ofURL("kafka://h:1/t?registry=http://registry.example.com&registry_auth=ann:SECRET"), Want: []string{"registry_auth=env:NAME"}},
	}
}

// lockedCluster lets in one user, whose password is in the environment.
func lockedCluster(tb testing.TB, password string) (*kfake.Cluster, Access) {
	tb.Helper()
	cert, text := certificate(tb)
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.EnableSASL(),
		kfake.Superuser("SCRAM-SHA-256", "ann", password), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}}))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	ca := filepath.Join(tb.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		tb.Fatal(err)
	}
	tb.Setenv("KAFKAIO_TEST_PASSWORD", password)
	return c, Access{SASL: "scram-sha-256", User: "ann", Password: "env:KAFKAIO_TEST_PASSWORD", TLS: true, CA: "file:" + ca}
}

// placeOf is the topic "t" of a cluster, which is written with cfg.
func placeOf(c *kfake.Cluster, cfg WriteConfig) *iotest.Place {
	cfg.Brokers, cfg.Topic, cfg.Timeout = c.ListenAddrs(), "t", 5*time.Second
	return &iotest.Place{
		Write: func(s beam.Scope, col beam.PCollection) beam.PCollection {
			return beam.ParDo(s, deadToSuite, Write(s, cfg, beam.ParDo(s, fromSuite, col)))
		},
		Contents: func(tb testing.TB) (all []iotest.Record) {
			r := newRun(tb, ReadConfig{Brokers: cfg.Brokers, Topic: "t", Access: cfg.Access, Timeout: 5 * time.Second})
			for _, part := range r.parts {
				r.all(Restriction(part))
			}
			for _, rec := range r.recs {
				all = append(all, toSuite(rec))
			}
			return all
		},
		Fail: func(n int) { failing(c, n, (&kmsg.ProduceRequest{}).Key()) },
		Break: func(tb testing.TB) {
			if err := c.DeleteTopic("t"); err != nil {
				tb.Fatal(err)
			}
		},
		Want: []string{"kafkaio.Write", "topic t", "does not exist; create it first"},
	}
}

func TestConnectorSink(t *testing.T) {
	for name, cfg := range map[string]WriteConfig{
		"exactly once":  {ID: "job/sink"},
		"at least once": {AtLeastOnce: true},
	} {
		t.Run(name, func(t *testing.T) {
			noise := make([]byte, 1_200_000)
			for i := range noise {
				noise[i] = byte(rand.Uint32())
			}
			iotest.RunSink(t, iotest.Sink{
				Open:     func(tb testing.TB) *iotest.Place { return placeOf(fake(tb, 2, nil), cfg) },
				Keys:     true,
				Headers:  true,
				Once:     !cfg.AtLeastOnce,
				LargeMax: 900_000,
				Refused:  []iotest.Record{{Key: []byte("large"), Value: noise}},
				Secured: func(tb testing.TB, secret string) *iotest.Place {
					c, access := lockedCluster(tb, secret)
					cfg := cfg
					cfg.Access = access
					return placeOf(c, cfg)
				},
				Refusals: refusals(t),
			})
		})
	}
}
