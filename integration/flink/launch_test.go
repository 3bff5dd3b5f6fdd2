// SPDX-License-Identifier: Apache-2.0

package flink

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
)

const detection = "frauddetection"

// toFlink is the command line that submits a pipeline to a job server.
func toFlink(t *testing.T, s *jobServer, further ...string) []string {
	t.Helper()
	return append([]string{"--runner=flink", "--endpoint=" + s.addr, "--output=" + filepath.Join(t.TempDir(), "out")}, further...)
}

// submit runs a pipeline against a job server that ends the job as DONE.
func submit(t *testing.T, further ...string) (*jobServer, ran) {
	t.Helper()
	s := startJobServer(t)
	s.ending <- ending{state: jobpb.JobState_DONE}
	return s, run(t, 0, program(detection), toFlink(t, s, further...)...)
}

func checkOptions(t *testing.T, s *jobServer, want map[string]any) {
	t.Helper()
	got := map[string]any{}
	for key := range want {
		got[key] = s.option(key)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}

func TestBoundedSubmission(t *testing.T) {
	s, r := submit(t, "--days=1")
	if want := "Job frauddetection_0dd7a5f4-6f3e-4c9e-9d54-000000000001 is submitted to " + s.addr; !strings.Contains(r.stderr, want) {
		t.Errorf("it prints\n%s\nwant a line %q", r.stderr, want)
	}
	if !regexp.MustCompile(`^frauddetection-\d{8}-\d{6} is DONE after `).MatchString(r.stdout) {
		t.Errorf("the summary is %q", r.stdout)
	}
	checkOptions(t, s, map[string]any{
		"job_name": detection, "finish_bundle_before_checkpointing": true, "max_parallelism": 128.0,
		"streaming": nil, "checkpointing_interval": nil, "shutdown_sources_after_idle_ms": nil,
	})
	if n := s.stagedBytes(); n == 0 || n > 1000 {
		t.Errorf("%d bytes are staged, want a few that stand for the worker", n)
	}
	t.Run("environment", func(t *testing.T) {
		for _, e := range s.pipeline().GetComponents().GetEnvironments() {
			process := &pipepb.ProcessPayload{}
			if err := proto.Unmarshal(e.GetPayload(), process); err != nil || e.GetUrn() != "beam:env:process:v1" {
				t.Fatalf("environment %s (%v)", e.GetUrn(), err)
			}
			if want := map[string]string{"HORNBEAM_WORKER": "1"}; process.GetCommand() != program(detection) || !cmp.Equal(process.GetEnv(), want) {
				t.Errorf("workers run %s with %v, want %s with %v", process.GetCommand(), process.GetEnv(), program(detection), want)
			}
		}
	})
	t.Run("stable names", func(t *testing.T) {
		names := map[string]bool{}
		for id, c := range s.pipeline().GetComponents().GetPcollections() {
			if names[c.GetUniqueName()] || !strings.Contains(c.GetUniqueName(), ".") {
				t.Errorf("collection %s is named %q, want its transform and output, once", id, c.GetUniqueName())
			}
			names[c.GetUniqueName()] = true
		}
		other, _ := submit(t, "--days=2", "--rate=1000") // Another source does not rename what follows.
		kept := 0
		for _, c := range other.pipeline().GetComponents().GetPcollections() {
			if strings.Contains(c.GetUniqueName(), "fraud.Detect") && names[c.GetUniqueName()] {
				kept++
			}
		}
		if kept == 0 {
			t.Error("no collection of fraud.Detect has the name that it has in the other pipeline")
		}
	})
}

func TestUnboundedSubmission(t *testing.T) {
	s, _ := submit(t, "--days=1", "--rate=100", "--job_name=fraud-1")
	checkOptions(t, s, map[string]any{
		"job_name": "fraud-1", "finish_bundle_before_checkpointing": true, "max_parallelism": 128.0,
		"streaming": true, "checkpointing_interval": 10000.0,
	})
	found := false
	for _, transform := range s.pipeline().GetComponents().GetTransforms() {
		found = found || strings.Contains(encodedDoFn(transform), `"Rest":1000000000`)
	}
	if !found {
		t.Error("the source is not told to rest for a second")
	}
}

func TestOptionsOfTheUserStand(t *testing.T) {
	s, _ := submit(t, "--days=1",
		"--runner_option=checkpointing_interval=2000", "--runner_option=max_parallelism=4", "--runner_option=max_parallelism=8",
		"--runner_option=finish_bundle_before_checkpointing=false", "--runner_option=job_name=mine", "--runner_option=files_to_stage=[\"a\",\"b\"]",
		"--runner_option=environment_expiration_millis=9223372036854775807", "--runner_option=savepoint_path=file:/sp/savepoint-1=x",
		"--parallelism=3")
	checkOptions(t, s, map[string]any{
		"checkpointing_interval": 2000.0, "max_parallelism": 8.0, "finish_bundle_before_checkpointing": false, "job_name": "mine",
		"files_to_stage": []any{"a", "b"}, "environment_expiration_millis": "9223372036854775807",
		"savepoint_path": "file:/sp/savepoint-1=x", "parallelism": 3.0,
		"shutdown_sources_after_idle_ms": 0.0, // Checkpoints must not keep the sources of a bounded pipeline alive.
	})
}

func TestAsyncLeavesTheJob(t *testing.T) {
	s := startJobServer(t)
	r := run(t, 0, program(detection), toFlink(t, s, "--days=1", "--async")...)
	if !strings.Contains(r.stdout, "it goes on without this program") || !strings.Contains(r.stderr, "hornbeam flink cancel frauddetection") {
		t.Errorf("it prints %q and\n%s", r.stdout, r.stderr)
	}
	r = run(t, 0, program(detection), toFlink(t, startJobServer(t), "--days=1", "--async", "--json")...)
	var s1 struct {
		State     string
		RunnerJob string `json:"runner_job"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &s1); err != nil || s1.State != "RUNNING" || !strings.HasPrefix(s1.RunnerJob, "frauddetection_") {
		t.Errorf("the summary is %s (%v)", r.stdout, err)
	}
}

func TestInterruptSaysWhatBecomesOfTheJob(t *testing.T) {
	for _, c := range []struct {
		environment string
		cancels     int
	}{{"PROCESS", 0}, {"LOOPBACK", 1}} {
		t.Run(c.environment, func(t *testing.T) {
			s := startJobServer(t)
			cmd, wait := start(t, program(detection), toFlink(t, s, "--days=1", "--environment_type="+c.environment)...)
			<-s.running
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			r := wait()
			if r.code != 130 || s.cancelCount() != c.cancels {
				t.Errorf("exit code %d after %d calls of Cancel, want 130 after %d", r.code, s.cancelCount(), c.cancels)
			}
			if !strings.Contains(r.stderr, "Flink goes on with job frauddetection_") || !strings.Contains(r.stderr, "hornbeam flink cancel frauddetection\n") {
				t.Errorf("it prints\n%s", r.stderr)
			}
		})
	}
}

func TestOtherEnds(t *testing.T) {
	s := startJobServer(t)
	s.ending <- ending{jobpb.JobState_FAILED, "java.lang.IllegalStateException: no slots"}
	if r := run(t, 1, program(detection), toFlink(t, s, "--days=1")...); !strings.Contains(r.stderr, "no slots") {
		t.Errorf("a failed job: it prints\n%s", r.stderr)
	}
	s = startJobServer(t)
	s.ending <- ending{state: jobpb.JobState_CANCELLED}
	if r := run(t, 1, program(detection), toFlink(t, s, "--days=1")...); !strings.Contains(r.stderr, "is CANCELLED, says the job server") || !strings.Contains(r.stderr, "hornbeam flink cancel") {
		t.Errorf("a job cancelled by others: it prints\n%s", r.stderr)
	}
}

func TestMistakesAreExplainedBeforeSubmission(t *testing.T) {
	s := startJobServer(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--endpoint="}, "--endpoint is missing"},
		{[]string{"--environment_type=LOOPBACK", "--async"}, "the worker is in this process"},
		{[]string{"--environment_type=KUBERNETES"}, "use PROCESS, LOOPBACK, EXTERNAL or DOCKER"},
		{[]string{"--environment_type=EXTERNAL"}, "needs --environment_config=HOST:PORT"},
		{[]string{"--worker_path=bin/fraud"}, "give an absolute path"},
		{[]string{"--worker_path=/opt/fraud", "--environment_config={}"}, "give one of them"},
		{[]string{"--worker_path=/opt/fraud", "--environment_type=LOOPBACK"}, "is for --environment_type=PROCESS"},
		{[]string{"--runner_option=checkpointingInterval"}, "write KEY=VALUE"},
		{[]string{"--runner=hornbeam", "--job_id=x", "--runner_option=a=1"}, "--endpoint, --job_id, --runner_option: not for --runner=hornbeam"},
		{[]string{"--state_dir=state", "--job_name=Fraud detection"}, "--state_dir: not for --runner=flink\n--job_name=Fraud detection: use up to 100 letters"},
		{[]string{"--runner=prism", "--worker_path=/opt/fraud"}, "--worker_path: not for --runner=prism"},
	} {
		args := toFlink(t, s, append([]string{"--days=1"}, c.args...)...)
		_, wait := start(t, program(detection), args...)
		if r := wait(); r.code == 0 || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%v: exit code %d, it prints\n%s\nwant %q", c.args, r.code, r.stderr, c.want)
		}
	}
	if s.pipeline() != nil {
		t.Error("something was submitted")
	}
}

func TestAnotherPathOfTheWorker(t *testing.T) {
	s, _ := submit(t, "--days=1", "--worker_path=/opt/hornbeam/fraud")
	for _, e := range s.pipeline().GetComponents().GetEnvironments() {
		if !strings.Contains(string(e.GetPayload()), "/opt/hornbeam/fraud") {
			t.Errorf("the environment is %q", e.GetPayload())
		}
	}
}

// prismServer starts Prism's job server in this process.
func prismServer(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	if _, err := prism.CreateJobServer(context.Background(), prism.Options{Port: port}); err != nil {
		t.Fatal(err)
	}
	return "localhost:" + strconv.Itoa(port)
}

// TestWorkerOnPrism runs the program that submits as the worker process of another runner, and compares
// what comes out with Hornbeam's own run.
func TestWorkerOnPrism(t *testing.T) {
	dir := t.TempDir()
	here, there := filepath.Join(dir, "hornbeam"), filepath.Join(dir, "prism")
	run(t, 0, program(detection), "--days=3", "--output="+here, "--state_dir="+filepath.Join(dir, "state"))
	r := run(t, 0, program(detection), "--days=3", "--output="+there, "--runner=universal", "--endpoint="+prismServer(t), "--json")
	want := lines(t, here, "alerts")
	if len(want) == 0 {
		t.Fatal("three days have no alerts")
	}
	if diff := cmp.Diff(want, lines(t, there, "alerts")); diff != "" {
		t.Errorf("alerts (-hornbeam +prism):\n%s", diff)
	}
	var s struct {
		Out       int64
		State     string
		RunnerJob string `json:"runner_job"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil || s.State != "DONE" || s.RunnerJob == "" || s.Out == 0 {
		t.Errorf("the summary is %s (%v)", r.stdout, err)
	}
	eventually(t, 10*time.Second, "the workers have ended", func() (bool, string) {
		left := workers(t, program(detection))
		return len(left) == 0, fmt.Sprint(left)
	})
}

// workers are the processes that run a program.
func workers(t *testing.T, program string) (pids []string) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && to == program {
			pids = append(pids, filepath.Base(filepath.Dir(link)))
		}
	}
	return pids
}

func TestWorkerWithoutARunner(t *testing.T) {
	t.Setenv("HORNBEAM_WORKER", "1")
	_, wait := start(t, program(detection))
	if r := wait(); r.code != 1 || !strings.Contains(r.stderr, "unset HORNBEAM_WORKER") {
		t.Errorf("exit code %d, it prints %q", r.code, r.stderr)
	}
}

// encodedDoFn is the DoFn of a transform as it travels to workers, with its fields as JSON; or empty.
func encodedDoFn(transform *pipepb.PTransform) string {
	p := &pipepb.ParDoPayload{}
	if transform.GetSpec().GetUrn() != "beam:transform:pardo:v1" || proto.Unmarshal(transform.GetSpec().GetPayload(), p) != nil {
		return ""
	}
	data, err := base64.StdEncoding.DecodeString(string(p.GetDoFn().GetPayload()))
	if err != nil {
		return ""
	}
	return string(data)
}
