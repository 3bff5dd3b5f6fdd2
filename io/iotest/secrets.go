// SPDX-License-Identifier: Apache-2.0

package iotest

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/log"

	"github.com/hornbeam-dev/hornbeam/runner"
)

// canary is the secret that must not be found anywhere. Whatever is cut from its ends by an encoding, what is left
// is long enough to be known.
const canary = "canary-4711-in-the-coal-mine-4711"

// forms are the texts as which a secret is found in text, base64, and base64 within base64, as the Go SDK encodes DoFns.
func forms(secret string) []string {
	all := []string{secret}
	for level, from := 0, 0; level < 2; level++ {
		to := len(all)
		for _, s := range all[from:to] {
			for shift := range 3 {
				// The edges depend on what is beside the secret.
				encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + s))
				all = append(all, encoded[4:len(encoded)-3])
			}
		}
		from = to
	}
	return all
}

// reveals tells whether a text has the secret.
func reveals(text, secret string) bool {
	for _, f := range forms(secret) {
		if strings.Contains(text, f) {
			return true
		}
	}
	return false
}

// overheard is everything that is logged while a check runs.
type overheard struct {
	mu   sync.Mutex // Guards text.
	text bytes.Buffer
}

// Write implements io.Writer.
func (o *overheard) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

// Log implements log.Logger of the Go SDK.
func (o *overheard) Log(_ context.Context, _ log.Severity, _ int, message string) {
	fmt.Fprintln(o, message)
}

func (o *overheard) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// listen overhears the logs of the runner, the SDK and the connector until the test ends.
func listen(tb testing.TB) *overheard {
	o := &overheard{}
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(o, &slog.HandlerOptions{Level: slog.LevelDebug})))
	log.SetLogger(o)
	tb.Cleanup(func() {
		slog.SetDefault(before)
		log.SetLogger(&log.Structural{})
	})
	return o
}

// model is the pipeline as it travels to a runner.
func model(tb testing.TB, p *beam.Pipeline) string {
	tb.Helper()
	edges, _, err := p.Build()
	if err != nil {
		tb.Fatal(err)
	}
	environment, err := graphx.CreateEnvironment(tb.Context(), "beam:env:external:v1", func(context.Context) string { return "" })
	if err != nil {
		tb.Fatal(err)
	}
	pipeline, err := graphx.Marshal(edges, &graphx.Options{Environment: environment})
	if err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprint(pipeline)
}

// keepsSecret runs a pipeline that needs the secret, and looks for it in all that others may see.
func keepsSecret(tb testing.TB, build func() *beam.Pipeline) error {
	tb.Helper()
	heard := listen(tb)
	p := build()
	if reveals(model(tb, p), canary) {
		tb.Error("the secret is in the model of the pipeline, which runners keep and show")
	}
	err := hornbeam(tb, runner.Options{Attempts: 1}, p)
	if err != nil && reveals(err.Error(), canary) {
		tb.Error("the secret is in the error of the job")
	}
	if reveals(heard.String(), canary) {
		tb.Error("the secret is in the log")
	}
	return err
}

// checkSecrets reads with a secret that is needed, which nobody else sees.
func checkSecrets(tb testing.TB, c Source) {
	if c.Secured == nil {
		return
	}
	want := []Record{sample(0, 0)}
	f := c.Secured(tb, canary)
	f.Fill(tb, want...)
	run, l := newRun(tb)
	if err := keepsSecret(tb, func() *beam.Pipeline { return reading(run, f) }); err != nil {
		tb.Errorf("with the secret the read failed: %v", err)
	}
	c.expect(tb, "with the secret", l.results, want, nil)
}

// Refusal is something that cannot work and is refused before a pipeline runs.
type Refusal struct {
	Name string
	Try  func(secret string) error // Uses a secret where users do, if any. It may panic instead, as Read does.
	Want []string                  // What the error says: what is wrong, and what to do.
}

// refusals checks that each is refused, in words that help and do not tell the secret.
func refusals(tb testing.TB, all []Refusal) {
	tb.Helper()
	if len(all) == 0 {
		tb.Error("the adapter has no Refusals: give at least a place that is not there")
	}
	for _, r := range all {
		err := r.attempt()
		if err == nil {
			tb.Errorf("%s: not refused", r.Name)
			continue
		}
		for _, words := range r.Want {
			if !strings.Contains(err.Error(), words) {
				tb.Errorf("%s: the error %q does not say %q", r.Name, err, words)
			}
		}
		if reveals(err.Error(), canary) {
			tb.Errorf("%s: the error has the secret", r.Name)
		}
	}
}

func (r Refusal) attempt() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	return r.Try(canary)
}

func checkSourceRefusals(tb testing.TB, c Source) { refusals(tb, c.Refusals) }
