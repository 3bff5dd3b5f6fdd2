// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"encoding/binary"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
)

const paymentSchema = `{"type": "record", "name": "Payment", "namespace": "x", "fields": [
	{"name": "id", "type": "long"},
	{"name": "note", "type": ["null", "string"]},
	{"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
	{"name": "day", "type": {"type": "int", "logicalType": "date"}},
	{"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}},
	{"name": "tags", "type": {"type": "map", "values": "int"}},
	{"name": "raw", "type": "bytes"}]}`

// framed is a value as registry clients write it.
func framed(id uint32, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, id), body...)
}

func TestRegistry(t *testing.T) {
	reg := srfake.New()
	defer reg.Close()
	reg.SeedSchema("payment", 1, 1, sr.Schema{Type: sr.TypeAvro, Schema: paymentSchema})
	reg.SeedSchema("json", 1, 2, sr.Schema{Type: sr.TypeJSON, Schema: `{"type": "object"}`})
	reg.SeedSchema("proto", 1, 3, sr.Schema{Type: sr.TypeProtobuf, Schema: `syntax = "proto3"; message M {}`})
	reg.SeedSchema("outer", 1, 4, sr.Schema{Type: sr.TypeAvro,
		Schema:     `{"type": "record", "name": "Outer", "fields": [{"name": "p", "type": "x.Payment"}]}`,
		References: []sr.SchemaReference{{Name: "x.Payment", Subject: "payment", Version: 1}}})
	var away atomic.Int64
	away.Store(2) // The first answers are errors that pass.
	reg.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		if away.Add(-1) < 0 {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	payment, err := avro.MustParse(paymentSchema).Encode(map[string]any{
		"id": int64(1) << 60, "note": "<ü>", "at": time.UnixMilli(1_500_000_000_123), "day": int32(3), "amount": []byte{0x01, 0xf4},
		"tags": map[string]int32{"b": 2, "a": 1, "c": 3}, "raw": []byte{0, 0xff},
	})
	if err != nil {
		t.Fatal(err)
	}
	const decoded = `{"amount":"\u0001ô","at":1500000000123,"day":3,"id":1152921504606846976,"note":"<ü>","raw":"\u0000ÿ","tags":{"a":1,"b":2,"c":3}}`

	c := fake(t, 1, nil)
	var recs []*kgo.Record
	for _, value := range [][]byte{
		framed(1, payment), framed(2, []byte(`{"b": 1}`)), nil, framed(4, payment),
		[]byte("plain"), framed(99, payment), framed(3, nil), framed(1, payment[:5]), framed(1, append(payment, 7)), framed(2, []byte("{")),
	} {
		recs = append(recs, &kgo.Record{Key: []byte("k"), Value: value, Timestamp: time.UnixMilli(1_000_000)})
	}
	produce(t, c, "", recs...)
	cfg := config(c)
	r := newRun(t, cfg)
	if r.fn.registry, err = newRegistry(reg.URL(), ""); err != nil {
		t.Fatal(err)
	}
	r.all(Restriction(r.parts[0]))
	want := []string{"0:0=k/" + decoded, `0:1=k/{"b": 1}`, "0:2=k/", `0:3=k/{"p":` + decoded + "}"}
	if diff := cmp.Diff(want, r.got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	var dead []string
	for i, code := range []string{"NO_SCHEMA", "UNKNOWN_SCHEMA", "BAD_SCHEMA", "BAD_AVRO", "BAD_AVRO", "BAD_JSON"} {
		dead = append(dead, code+" "+string(recs[4+i].Value)) // The bytes as they are in the topic.
	}
	if diff := cmp.Diff(dead, r.dead); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
	if away.Load() >= 0 {
		t.Error("the registry was not asked again")
	}
}

// A registry that is away for long, or does not let us in, is an error of the read and no dead letter.
func TestRegistryAway(t *testing.T) {
	t.Setenv("KAFKAIO_TEST_REGISTRY", "ann:"+canary)
	for _, want := range []struct {
		status int
		text   string
	}{{http.StatusBadGateway, "no success for"}, {http.StatusUnauthorized, "set registry_auth"}} {
		reg := srfake.New()
		defer reg.Close()
		reg.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
			w.WriteHeader(want.status)
			return true
		})
		c := fake(t, 1, nil)
		produce(t, c, "", &kgo.Record{Value: framed(1, nil), Timestamp: time.UnixMilli(1_000_000)})
		cfg := config(c)
		cfg.Timeout = time.Second
		r := newRun(t, cfg)
		var err error
		if r.fn.registry, err = newRegistry(reg.URL(), "env:KAFKAIO_TEST_REGISTRY"); err != nil {
			t.Fatal(err)
		}
		_, err = r.step(Restriction(r.parts[0]))
		for _, word := range []string{reg.URL(), "topic t, partition 0, offset 0", want.text} {
			if err == nil || !strings.Contains(err.Error(), word) || strings.Contains(err.Error(), canary) {
				t.Errorf("got %v, want an error with %q", err, word)
			}
		}
		if len(r.dead) > 0 {
			t.Errorf("got dead letters %v", r.dead)
		}
	}
}
