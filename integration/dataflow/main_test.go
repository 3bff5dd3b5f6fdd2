// SPDX-License-Identifier: Apache-2.0

// Package dataflow tests pipelines on a fake of Google Cloud Dataflow, with a fake of Cloud Storage
// and a fake of the server that gives tokens. No test asks the real service.
package dataflow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/util/gcsx"
	"github.com/fsouza/fake-gcs-server/fakestorage"

	"github.com/hornbeam-dev/hornbeam/integration/dataflow/fake"
)

// bin is where the programs are: static and stripped, so that they are workers as
// well.
var bin string

// prismJobs is Prism's Job API, in this process.
var prismJobs jobpb.JobServiceClient

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "hornbeam-dataflow-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	bin = dir
	if err := build("./job"); err != nil {
		return 1, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if prismJobs, err = prism.CreateJobServer(ctx, prism.Options{}); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// build builds a program into bin. It is not trimmed, which would compile everything anew.
func build(pkg string) error {
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", bin+"/", pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}

const (
	project = "hornbeam-test"
	region  = "europe-west3"
	bucket  = "bucket"
)

// canary is a secret that may be nowhere but where it was put.
const canary = "canary-7f1c93"

// cloud is what a test has of Google's.
type cloud struct {
	*fake.Server
	url     string
	storage *fakestorage.Server
	env     []string // For programs that use it.
	workers string   // Folder of the workers' programs.
}

// startCloud starts a cloud with one bucket. A nil runner does not run what is submitted.
func startCloud(t *testing.T, runner jobpb.JobServiceClient) *cloud {
	t.Helper()
	host, port := freePort(t)
	storage, err := fakestorage.NewServerWithOptions(fakestorage.Options{
		Scheme: "http", Host: "127.0.0.1", Port: port, PublicHost: host, ExternalURL: "http://" + host,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(storage.Stop)
	storage.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: bucket})
	dir := t.TempDir()
	service := fake.New(fake.Config{
		Runner:    runner,
		Read:      func(_ context.Context, url string) ([]byte, error) { return object(storage, url) },
		WorkerEnv: map[string]string{"STORAGE_EMULATOR_HOST": host},
		Dir:       dir,
		Hold:      time.Minute,
		Log:       t.Logf,
	})
	listening := httptest.NewServer(service)
	t.Cleanup(func() {
		service.Close()
		listening.CloseClientConnections()
		listening.Close()
	})
	credentials := filepath.Join(t.TempDir(), "credentials.json")
	text := fmt.Sprintf(`{"type":"authorized_user","client_id":"x","client_secret":"y","refresh_token":"z","token_uri":"%s/token"}`, listening.URL)
	if err := os.WriteFile(credentials, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return &cloud{service, listening.URL, storage, []string{
		"STORAGE_EMULATOR_HOST=" + host, "GOOGLE_APPLICATION_CREDENTIALS=" + credentials, "AWS_SECRET_ACCESS_KEY=" + canary,
	}, dir}
}

func freePort(t *testing.T) (host string, port uint16) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String(), uint16(l.Addr().(*net.TCPAddr).Port)
}

func object(storage *fakestorage.Server, url string) ([]byte, error) {
	bucket, name, err := gcsx.ParseObject(url)
	if err != nil {
		return nil, err
	}
	o, err := storage.GetObject(bucket, name)
	return o.Content, err
}

// flags submit a job to the cloud.
func (c *cloud) flags(further ...string) []string {
	return append([]string{
		"--runner=dataflow", "--project=" + project, "--region=" + region, "--staging_location=gs://" + bucket + "/staging",
		"--dataflow_endpoint=" + c.url + "/",
	}, further...)
}

// ran is what a command has said, and how it ended.
type ran struct {
	stdout, stderr string
	code           int
}

// command returns a program's command with no environment but what it needs, so that nothing of
// this machine's tells it a project, a region or credentials.
func command(env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(bin, name), args...)
	cmd.Env = append([]string{"HOME=" + bin, "PATH=" + bin, "TMPDIR=" + os.TempDir(), "NO_GCE_CHECK=true"}, env...)
	return cmd
}

// run waits for a program, which has to end with a code.
func run(t *testing.T, code int, env []string, name string, args ...string) ran {
	t.Helper()
	r, err := wait(command(env, name, args...))
	if err != nil {
		t.Fatal(err)
	}
	if r.code != code {
		t.Fatalf("%s %s ended with %d, want %d\n%s%s", name, strings.Join(args, " "), r.code, code, r.stdout, r.stderr)
	}
	if strings.Contains(r.stdout+r.stderr, canary) || strings.Contains(r.stdout+r.stderr, "goroutine ") {
		t.Errorf("it shows a secret or a stack:\n%s%s", r.stdout, r.stderr)
	}
	return r
}

func wait(cmd *exec.Cmd) (ran, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		return ran{}, err
	}
	return ran{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}, nil
}

// until asks every 100 ms whether something is so.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after a minute it is not so: %s", what)
		}
	}
}

func wantAll(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("got\n%s\nwant %q in it", text, part)
		}
	}
}

// sortedLines are the lines of a text, in order.
func sortedLines(text []byte) []string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	slices.Sort(lines)
	return lines
}
