// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/twmb/franz-go/pkg/kfake"
)

const canary = "canary-4711-secret"

// certificate returns a certificate for 127.0.0.1 that vouches for itself, and its PEM.
func certificate(t testing.TB) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// secured is a cluster with TLS and one user, and the CA in a file.
func secured(t *testing.T, mechanism string) (c *kfake.Cluster, ca string) {
	t.Helper()
	cert, text := certificate(t)
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.EnableSASL(),
		kfake.Superuser(mechanism, "ann", canary), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return c, ca
}

// Each mechanism over TLS, written and read in a pipeline whose logs do not have the password.
func TestSecuredRoundTrip(t *testing.T) {
	var logged bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&logged, nil)))
	defer slog.SetDefault(before)
	t.Setenv("KAFKAIO_TEST_PASSWORD", canary)
	inFile := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(inFile, []byte(canary+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		password := "env:KAFKAIO_TEST_PASSWORD"
		if i == 1 {
			password = "file:" + inFile
		}
		c, ca := secured(t, strings.ToUpper(mechanism))
		cfg, err := ParseURL(fmt.Sprintf("kafka://%s/t?to=latest&sasl=%s&user=ann&password=%s&tls=true&ca=file:%s", c.ListenAddrs()[0], mechanism, password, ca))
		if err != nil {
			t.Fatal(err)
		}
		if err := Check(context.Background(), cfg.Brokers, cfg.Access, "t"); err != nil {
			t.Fatal(err)
		}
		p, s := beam.NewPipelineWithRoot()
		Write(s, WriteConfig{Brokers: cfg.Brokers, Topic: "t", Access: cfg.Access, ID: "x"}, beam.ParDo(s, pair, beam.Create(s, "a", "b")))
		ptest.RunAndValidate(t, p)
		p, s = beam.NewPipelineWithRoot()
		records, _ := Read(s, cfg)
		passert.Count(s, records, "records", 2)
		ptest.RunAndValidate(t, p)

		wrong := cfg.Access
		wrong.Password = "env:KAFKAIO_TEST_WRONG"
		t.Setenv("KAFKAIO_TEST_WRONG", canary+"-wrong")
		w := &exactWriter{Brokers: cfg.Brokers, Topic: "t", Access: wrong, ID: "x", Timeout: time.Second}
		w.Setup()
		w.start()
		_, writeErr := w.write(context.Background(), 9, progress{}, batchOf("w", 1, 1), nil)
		errs := []error{writeErr}
		if i == 0 { // This broker hangs up; the error of others comes sooner.
			errs = append(errs, Check(context.Background(), cfg.Brokers, wrong, "t"))
		}
		for _, err := range errs {
			if err == nil || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "user and password") {
				t.Errorf("%s: with a wrong password got %v", mechanism, err)
			}
		}
	}
	if strings.Contains(logged.String(), canary) {
		t.Error("the password is in the log")
	}
}

func TestMissingSecret(t *testing.T) {
	for _, c := range []struct{ password, want string }{
		{"env:KAFKAIO_TEST_UNSET", "environment variable KAFKAIO_TEST_UNSET is not set"},
		{"file:/does/not/exist", "/does/not/exist"},
	} {
		_, _, err := acquire([]string{"127.0.0.1:1"}, Access{SASL: "plain", User: "ann", Password: c.password})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}
