// SPDX-License-Identifier: Apache-2.0

// Package flink tests pipelines on Apache Flink: the launcher against a job server that behaves as
// Beam's does, the same program as a worker behind Prism's Job API, a real Flink cluster, and, where
// Beam's job server for Flink can be had, pipelines on that cluster.
package flink

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// requireServices, set to 1, makes a missing cluster a failure; else the test is skipped. Beam's job
// server is not in all registries, so tests that need it ask for requireJobServer.
const (
	requireServices  = "HORNBEAM_REQUIRE_SERVICES"
	requireJobServer = "HORNBEAM_REQUIRE_FLINK_JOB_SERVER"
)

// bin is where TestMain has built the pipelines and the command hornbeam.
var bin string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "hornbeam-flink-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	bin = dir
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", dir+"/", "../../runner/cmd/hornbeam",
		"../../pipelines/frauddetection", "../../pipelines/sessionanalytics", "../../pipelines/unitconversion")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	return m.Run(), nil
}

// program is the path of a program that TestMain has built.
func program(name string) string { return filepath.Join(bin, name) }

// ran is what a command has said, and how it ended.
type ran struct {
	stdout, stderr string
	code           int
}

// start starts a command; wait waits for its end. It is killed when the test ends.
func start(t *testing.T, name string, args ...string) (cmd *exec.Cmd, wait func() ran) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd = exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir()) // Default state directories are below it.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(long, func() { cmd.Process.Kill() })
	t.Cleanup(func() {
		timer.Stop()
		cmd.Process.Kill()
	})
	return cmd, func() ran {
		t.Helper()
		err := cmd.Wait()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatalf("%s: %v", cmd, err)
		}
		return ran{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
	}
}

// long is longer than any command here takes.
const long = 10 * time.Minute

// run runs a command to its end, which must have the exit code.
func run(t *testing.T, code int, name string, args ...string) ran {
	t.Helper()
	_, wait := start(t, name, args...)
	r := wait()
	if r.code != code {
		t.Fatalf("%s %s: exit code %d, want %d\n%s%s", filepath.Base(name), strings.Join(args, " "), r.code, code, r.stdout, r.stderr)
	}
	return r
}

// lines returns the lines of all files NAME-*.jsonl of a folder, sorted.
func lines(t *testing.T, dir, name string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, name+"-*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")...)
	}
	slices.Sort(all)
	return all
}

// eventually looks until done says so, and says what it saw last if that is not within the time.
func eventually(t *testing.T, within time.Duration, what string, done func() (ok bool, saw string)) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		ok, saw := done()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v; last seen: %s", what, within, saw)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
