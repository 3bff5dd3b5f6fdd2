// SPDX-License-Identifier: Apache-2.0

package kafkatest

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

// Secured starts a broker in this process with TLS, a user ann with a password, a topic cards with one record, and an
// empty topic alerts. params are what a URL has to say to be let in, but for the reference to the password at its end.
func Secured(t *testing.T, password, record string) (addr, params string) {
	t.Helper()
	srv := httptest.NewTLSServer(nil) // For its certificate, which is of 127.0.0.1.
	defer srv.Close()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "cards", "alerts"), kfake.EnableSASL(),
		kfake.Superuser("PLAIN", "ann", password), kfake.TLS(&tls.Config{Certificates: srv.TLS.Certificates}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.SASL(plain.Auth{User: "ann", Pass: password}.AsMechanism()),
		kgo.DialTLSConfig(srv.Client().Transport.(*http.Transport).TLSClientConfig))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(context.Background(), &kgo.Record{Topic: "cards", Value: []byte(record)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return c.ListenAddrs()[0], "tls=true&ca=file:" + ca + "&sasl=plain&user=ann&password="
}
