// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
	"github.com/google/go-cmp/cmp"
	df "google.golang.org/api/dataflow/v1b3"
	apioption "google.golang.org/api/option"
)

func TestWorkerArch(t *testing.T) {
	for machine, want := range map[string]string{
		"": "amd64", "n2-standard-4": "amd64", "t2d-standard-1": "amd64", "t2a-standard-1": "arm64", "c4a-highcpu-8": "arm64", "n4a-standard-2": "arm64",
	} {
		if got := workerArch(machine); got != want {
			t.Errorf("%q: got %s, want %s", machine, got, want)
		}
	}
}

// small is a program that is quick to build.
func small(t *testing.T) sourcePackage {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module small\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return sourcePackage{path: "small", dir: dir}
}

func TestBuildWorker(t *testing.T) {
	source, name := small(t), filepath.Join(t.TempDir(), "worker")
	if err := source.build(t.Context(), "amd64", name); err != nil {
		t.Fatal(err)
	}
	got, err := readProgram(name)
	if want := (linuxProgram{arch: "amd64", static: true, stripped: true}); err != nil || got != want {
		t.Errorf("got %+v (%v), want %+v", got, err, want)
	}
	var said bytes.Buffer
	if err := checkBinary(name, "arm64", &said); err == nil || !strings.Contains(err.Error(), "is for amd64, and the workers' machines are arm64") {
		t.Errorf("got %v, want a refusal", err)
	}
	if err := checkBinary(name, "amd64", &said); err != nil || !strings.Contains(said.String(), "is of package small") {
		t.Errorf("got %v and %q, want a warning about the package", err, said.String())
	}
	source.path = "not/there"
	if err := source.build(t.Context(), "amd64", name); err == nil || !strings.Contains(err.Error(), "--worker_binary:\n  CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go build") {
		t.Errorf("got %v, want how to build by hand", err)
	}
}

func TestBuildWithoutToolchain(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := small(t).build(t.Context(), "arm64", "worker")
	if err == nil || !strings.Contains(err.Error(), "no Go toolchain") || !strings.Contains(err.Error(), "GOARCH=arm64 go build -trimpath -ldflags='-s -w' -o worker small") {
		t.Errorf("got %v", err)
	}
}

func TestNoProgram(t *testing.T) {
	name := filepath.Join(t.TempDir(), "text")
	for _, content := range []string{"", "MZ, and something else", "#!/bin/sh\n"} {
		if err := os.WriteFile(name, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := readProgram(name); err == nil || err.Error() != "it is no program for linux" {
			t.Errorf("%q: got %v", content, err)
		}
	}
}

func TestLabels(t *testing.T) {
	reset(t, "labels")
	if err := flag.Set("labels", `{"team":"payments"}`); err != nil {
		t.Fatal(err)
	}
	err := addLabels(map[string]string{"a": "x-1", "capital": "X", "long": strings.Repeat("x", longestLabel+1)})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal([]byte(flagText("labels")), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"team": "payments", "a": "x-1"}, got); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}

// reset puts a flag back after the test.
func reset(t *testing.T, name string) {
	t.Helper()
	before := flagText(name)
	t.Cleanup(func() {
		if err := flag.Set(name, before); err != nil {
			t.Error(err)
		}
	})
}

func TestPasswordsInFlags(t *testing.T) {
	reset(t, "temp_location")
	for value, want := range map[string]bool{
		"kafka://me:secret@host/topic": true, "https://me:s%20t@host": true, "gs://bucket/a:b@c": false, "kafka://host:9092/topic": false, "me:you@host": false,
	} {
		if err := flag.Set("temp_location", value); err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(flagsWithPassword(), "temp_location"); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}

// A job that somebody cancels has not done its work.
func TestCancelledIsAnError(t *testing.T) {
	for state, want := range map[string]string{"DONE": "", "DRAINED": "", "UPDATED": "", "CANCELLED": "job id is CANCELLED", "FAILED": "job id failed"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, `{"id": "id", "currentState": %q}`, statePrefix+state)
		}))
		defer server.Close()
		service, err := df.NewService(t.Context(), apioption.WithEndpoint(server.URL), apioption.WithoutAuthentication())
		if err != nil {
			t.Fatal(err)
		}
		j := &dataflowJob{service: service, project: "p", region: "r", id: "id"}
		got, err := j.wait(t.Context(), io.Discard)
		if got != state || (err != nil) != (want != "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %s, %v, want %q", state, got, err, want)
		}
	}
}

func TestJobNames(t *testing.T) {
	before := *jobopts.JobName
	defer func() { *jobopts.JobName = before }()
	for name, want := range map[string]bool{
		"a": true, "fraud-2": true, "Fraud": false, "fraud_2": false, "2fraud": false, "fraud-": false,
		"Fraud detection": true, // What no runner takes is not told twice.
	} {
		*jobopts.JobName = name
		refused := slices.ContainsFunc(wrongOnDataflow(), func(err error) bool { return strings.Contains(err.Error(), "--job_name") })
		if refused == want {
			t.Errorf("%.20q: got refused=%v, want %v", name, refused, !want)
		}
	}
}
