// SPDX-License-Identifier: Apache-2.0

package flink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The tests of this file run pipelines on a real cluster through Beam's job server. It comes from
// BEAM_FLINK_JOB_SERVER or from mvn; without it they are skipped, and say what is missing.

// submission is a pipeline's command line that runs where the cluster can be reached. The job server's
// address is known there only.
func (c *cluster) submission(pipeline string, args ...string) []string {
	c.t.Helper()
	c.t.Setenv("FLINK_DIR", c.dir)
	shell := []string{"exec", "bash", "-c", `exec "$@" --endpoint="$FLINK_JOB_SERVER"`, "submit"}
	return append(append(shell, program(pipeline), "--runner=flink"), args...)
}

// summary is the summary that a pipeline prints with --json.
type summary struct {
	Job       string // The ID that owns the output.
	RunnerJob string `json:"runner_job"`
	State     string
}

// submit runs a pipeline and returns its summary.
func (c *cluster) submit(pipeline string, args ...string) summary {
	c.t.Helper()
	r := run(c.t, 0, script, c.submission(pipeline, append(args, "--json")...)...)
	c.t.Logf("%s %v prints\n%s%s", pipeline, args, r.stdout, r.stderr)
	var s summary
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		c.t.Fatalf("the summary is %s: %v", r.stdout, err)
	}
	return s
}

// onHornbeam runs a pipeline on Hornbeam and returns the folder of its results.
func onHornbeam(t *testing.T, pipeline string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	run(t, 0, program(pipeline), append(args, "--output="+out, "--state_dir="+filepath.Join(dir, "state"))...)
	return out
}

// needTime ends a test that would take longer than go test gives it.
func needTime(t *testing.T, d time.Duration) {
	t.Helper()
	if deadline, ok := t.Deadline(); ok && time.Until(deadline) < d {
		t.Fatalf("this takes up to %v: run it with -timeout %v or more, after the others", d, 2*d)
	}
}

// TestFlinkJobServer is the quick look: a small bounded pipeline with both kinds of workers, and the
// cancel that cancels.
func TestFlinkJobServer(t *testing.T) {
	c := startCluster(t)
	want := lines(t, onHornbeam(t, detection, "--days=3"), "alerts")
	if len(want) == 0 {
		t.Fatal("three days have no alerts")
	}
	for _, environment := range []string{"PROCESS", "LOOPBACK"} {
		t.Run(environment, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			s := c.submit(detection, "--days=3", "--output="+out, "--environment_type="+environment, "--job_name="+strings.ToLower(environment))
			if diff := cmp.Diff(want, lines(t, out, "alerts")); diff != "" {
				t.Errorf("alerts (-hornbeam +flink):\n%s", diff)
			}
			if s.State != "DONE" || !strings.HasPrefix(s.RunnerJob, strings.ToLower(environment)+"_") {
				t.Errorf("the summary is %+v", s)
			}
			if got := c.jobs()[strings.ToLower(environment)].State; got != "FINISHED" {
				t.Errorf("Flink says that the job is %q, want FINISHED", got)
			}
		})
	}
	t.Run("cancel", func(t *testing.T) {
		s := c.submit(detection, "--days=3", "--rate=10", "--output="+filepath.Join(t.TempDir(), "out"), "--job_name=endless", "--async")
		if s.State != "RUNNING" {
			t.Errorf("the summary is %+v", s)
		}
		c.until("runs and has a checkpoint", "endless", func(j job) bool { return j.State == "RUNNING" && j.Checkpoints.Completed > 0 })
		if got := c.hornbeam(0, "cancel", "endless").stdout; !strings.Contains(got, "is CANCELED") {
			t.Errorf("cancel prints %q", got)
		}
		eventually(t, 20*time.Second, "its workers have ended", func() (bool, string) {
			left := workers(t, program(detection))
			return len(left) == 0, fmt.Sprint(left)
		})
	})
}

// TestFlinkJobServerScript runs scripts/flink run, which does all of it, and leaves nothing.
func TestFlinkJobServerScript(t *testing.T) {
	out, temporary := filepath.Join(t.TempDir(), "out"), t.TempDir()
	cmd := exec.Command(script, "run", detection, "--days=3", "--output="+out)
	cmd.Env = append(os.Environ(), "FLINK_DIR=", "TMPDIR="+temporary)
	cmd.WaitDelay = time.Second
	text, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == noJobServer && os.Getenv(requireJobServer) != "1" {
		t.Skipf("%s\nset %s=1 to make this a failure", text, requireJobServer)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if diff := cmp.Diff(lines(t, onHornbeam(t, detection, "--days=3"), "alerts"), lines(t, out, "alerts")); diff != "" {
		t.Errorf("alerts (-hornbeam +flink):\n%s", diff)
	}
	left, err := os.ReadDir(temporary)
	if err != nil || len(left) > 0 {
		t.Errorf("it leaves %v (%v)", left, err)
	}
}

// TestFlinkJobServerBounded runs the three pipelines whole: 1,754,155 transactions twice, and a day of
// thermometers. Value state costs Flink about a millisecond an element.
func TestFlinkJobServerBounded(t *testing.T) {
	t.Setenv("FLINK_TASK_HEAP", "3072") // In batch Flink holds the groups of a key in memory.
	c := startCluster(t)
	t.Run("frauddetection", func(t *testing.T) {
		needTime(t, 3*time.Hour)
		out := filepath.Join(t.TempDir(), "out")
		c.submitLong(t, detection, "--output="+out)
		counts := map[string]int{}
		for _, line := range lines(t, out, "alerts") {
			var alert struct{ Rule string }
			if err := json.Unmarshal([]byte(line), &alert); err != nil {
				t.Fatal(err)
			}
			counts[alert.Rule]++
		}
		if want := map[string]int{"velocity": 85, "small-then-large": 246}; !cmp.Equal(want, counts) {
			t.Errorf("alerts: %v, want %v", counts, want)
		}
	})
	t.Run("sessionanalytics", func(t *testing.T) {
		needTime(t, time.Hour)
		out := filepath.Join(t.TempDir(), "out")
		c.submitLong(t, "sessionanalytics", "--output="+out)
		if got := len(lines(t, out, "sessions")); got != 1_637_838 {
			t.Errorf("%d sessions, want 1637838", got)
		}
	})
	t.Run("unitconversion", func(t *testing.T) {
		needTime(t, time.Hour)
		out := filepath.Join(t.TempDir(), "out")
		c.submitLong(t, "unitconversion", "--output="+out)
		want := onHornbeam(t, "unitconversion")
		for _, name := range []string{"celsius", "hourly"} {
			a, b := lines(t, want, name), lines(t, out, name)
			if len(a) == 0 || !cmp.Equal(a, b) {
				t.Errorf("%s: %d lines, on Hornbeam %d, want the same", name, len(b), len(a))
			}
		}
	})
}

// submitLong runs a pipeline for as long as it takes.
func (c *cluster) submitLong(t *testing.T, pipeline string, args ...string) {
	t.Helper()
	began := time.Now()
	cmd := exec.Command(script, c.submission(pipeline, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%s", pipeline, args, err, out.String())
	}
	t.Logf("%s took %v on Flink:\n%s", pipeline, time.Since(began).Round(time.Second), out.String())
}

// streaming are the arguments of a pipeline that takes a minute and a half: with a rate its source is
// unbounded, and Flink has checkpoints to take.
var streaming = []string{"--days=3", "--rate=320", "--runner_option=checkpointing_interval=2000"}

// sameAlerts waits until a streaming job has written what Hornbeam writes. The job itself does not end:
// with checkpoints on, Flink keeps its source alive.
func sameAlerts(t *testing.T, want []string, out string) {
	t.Helper()
	eventually(t, 6*time.Minute, "the alerts are those of Hornbeam", func() (bool, string) {
		diff := cmp.Diff(want, lines(t, out, "alerts"))
		return diff == "", "(-hornbeam +flink):\n" + diff
	})
}

// TestFlinkJobServerKill kills the TaskManager of a streaming pipeline, and its worker with it.
func TestFlinkJobServerKill(t *testing.T) {
	c := startCluster(t)
	needTime(t, 15*time.Minute)
	want := lines(t, onHornbeam(t, detection, "--days=3"), "alerts")
	out := filepath.Join(t.TempDir(), "out")
	c.submit(detection, append(streaming, "--output="+out, "--job_name=killed", "--async")...)
	before := c.until("has five checkpoints", "killed", func(j job) bool { return j.Checkpoints.Completed >= 5 })
	c.script("taskmanager", "kill")
	eventually(t, 20*time.Second, "no worker survives its TaskManager", func() (bool, string) {
		left := workers(t, program(detection))
		return len(left) == 0, fmt.Sprint(left)
	})
	c.script("taskmanager", "start")
	c.until("has recovered", "killed", func(j job) bool {
		return j.ID == before.ID && j.State == "RUNNING" && j.Checkpoints.Restored >= 1 && j.Checkpoints.Completed > before.Checkpoints.Completed
	})
	sameAlerts(t, want, out)
	c.hornbeam(0, "cancel", "killed")
}

// TestFlinkJobServerSavepoint stops a streaming pipeline with a savepoint and goes on from it with
// another submission.
func TestFlinkJobServerSavepoint(t *testing.T) {
	c := startCluster(t)
	needTime(t, 15*time.Minute)
	want := lines(t, onHornbeam(t, detection, "--days=3"), "alerts")
	out := filepath.Join(t.TempDir(), "out")
	args := append(streaming, "--output="+out, "--job_name=saved", "--async")
	first := c.submit(detection, args...)
	stopped := c.until("has five checkpoints", "saved", func(j job) bool { return j.Checkpoints.Completed >= 5 })
	location := strings.TrimSpace(c.hornbeam(0, "savepoint", "saved").stdout)
	if state := c.jobs()["saved"].State; state != "FINISHED" {
		t.Errorf("after the savepoint the job is %s, want FINISHED", state)
	}
	if got := lines(t, out, "alerts"); cmp.Equal(want, got) {
		t.Fatal("the first job has written everything: it was stopped too late to test anything")
	}
	// The command of the submission is run by hornbeam flink resume, inside of the cluster's network.
	submission := c.submission(detection, append(args, "--job_id="+first.Job)...)
	resume := append([]string{"exec", program("hornbeam"), "flink", "resume", location, "--", "bash", "-c", `exec "$@" --endpoint="$FLINK_JOB_SERVER"`, "submit"},
		submission[5:]...)
	r := run(t, 0, script, resume...)
	t.Logf("resume prints\n%s%s", r.stdout, r.stderr)
	c.until("goes on from the savepoint", "saved", func(j job) bool {
		return j.ID != stopped.ID && j.State == "RUNNING" && j.Checkpoints.Restored == 1
	})
	sameAlerts(t, want, out)
	c.hornbeam(0, "cancel", "saved")
}
