// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	idA = "0123456789abcdef0123456789abcdef"
	idB = "fedcba9876543210fedcba9876543210"
	idC = "00000000000000000000000000000001"
)

// fakeFlink is Flink's REST API as a real cluster of 1.19 answers it, with jobs that can be
// cancelled and stopped. What is asked for is done at the second look.
type fakeFlink struct {
	jobs     []flinkJob
	looks    map[string]int
	asked    []string // Method, path and body of what changes something.
	fails    bool     // Savepoints do.
	unwanted string   // The state that a cancelled job comes to, if not CANCELED.
}

func (f *fakeFlink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	reply := func(status int, v any) {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(v)
	}
	if r.Method != http.MethodGet {
		var body any
		json.NewDecoder(r.Body).Decode(&body)
		text, _ := json.Marshal(body)
		f.asked = append(f.asked, fmt.Sprintf("%s %s %s", r.Method, r.URL, text))
	}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/v1/jobs/"), "/")
	if parts[0] == "overview" {
		reply(200, map[string]any{"jobs": f.jobs})
		return
	}
	at := slices.IndexFunc(f.jobs, func(j flinkJob) bool { return j.ID == parts[0] })
	if at < 0 {
		reply(404, map[string]any{"errors": []string{"org.apache.flink.runtime.rest.NotFoundException: Job " + parts[0] + " not found\n\tat x"}})
		return
	}
	job := &f.jobs[at]
	f.looks[r.URL.Path]++
	what := r.Method + " " + strings.Join(parts[1:], "/")
	switch what {
	case "PATCH ":
		reply(202, map[string]any{})
		job.State = "CANCELLING"
	case "GET ":
		if job.State == "CANCELLING" && f.looks[r.URL.Path] > 1 {
			job.State = "CANCELED"
			if f.unwanted != "" {
				job.State = f.unwanted
			}
		}
		reply(200, job)
	case "GET checkpoints":
		reply(200, map[string]any{"counts": map[string]int{"completed": 7, "failed": 2, "restored": 1}})
	case "POST stop", "POST savepoints":
		reply(202, map[string]string{"request-id": "t1"})
	case "GET savepoints/t1":
		switch {
		case f.looks[r.URL.Path] == 1:
			reply(200, map[string]any{"status": map[string]string{"id": "IN_PROGRESS"}})
		case f.fails:
			reply(200, map[string]any{"status": map[string]string{"id": "COMPLETED"}, "operation": map[string]any{"failure-cause": map[string]string{
				"stack-trace": "java.util.concurrent.CompletionException: no\n\tat x\nCaused by: java.io.IOException: disk is full\n\tat y"}}})
		default:
			reply(200, map[string]any{"status": map[string]string{"id": "COMPLETED"}, "operation": map[string]string{"location": "file:/sp/savepoint-1"}})
		}
	default:
		reply(500, map[string]any{"errors": []string{"Internal server error.", "unexpected " + what}})
	}
}

// flink runs a command against a fake with three jobs, two of them of the same name.
func flink(t *testing.T, f *fakeFlink, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	f.looks = map[string]int{}
	f.jobs = []flinkJob{
		{ID: idB, Name: "fraud", State: "FINISHED", Start: 1_000},
		{ID: idA, Name: "fraud", State: "RUNNING", Start: 1_800_000_000_000, Duration: 90_400},
		{ID: idC, Name: "sessions", State: "FAILED", Start: 2_000},
	}
	server := httptest.NewServer(f)
	defer server.Close()
	t.Setenv("FLINK_REST", server.URL)
	var out, errs strings.Builder
	if got := run(append([]string{"flink"}, args...), &out, &errs); got != want {
		t.Fatalf("flink %v: exit code %d, want %d; %s%s", args, got, want, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

func TestFlinkJobsAreListed(t *testing.T) {
	out, _ := flink(t, &fakeFlink{}, exitOK, "jobs")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 4 || strings.Join(strings.Fields(lines[1]), " ") !=
		idA+" fraud RUNNING 2027-01-15T08:00:00Z 1m30s 7 completed, 2 failed, 1 restored" {
		t.Errorf("got\n%s", out)
	}
	out, _ = flink(t, &fakeFlink{}, exitOK, "jobs", "--json")
	var reply struct{ Jobs []flinkJob }
	if err := json.Unmarshal([]byte(out), &reply); err != nil || len(reply.Jobs) != 3 || reply.Jobs[0].Checkpoints.Completed != 7 {
		t.Errorf("got %s (%v)", out, err)
	}
}

func TestFlinkCancelWaitsUntilTheJobIsOver(t *testing.T) {
	for _, which := range []string{"fraud", idA} { // Of the two of this name, one runs.
		f := &fakeFlink{}
		out, _ := flink(t, f, exitOK, "cancel", which)
		if want := "fraud (" + idA + ") is CANCELED\n"; out != want {
			t.Errorf("got %q, want %q", out, want)
		}
		if diff := cmp.Diff([]string{"PATCH /v1/jobs/" + idA + "?mode=cancel null"}, f.asked); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
	}
	_, stderr := flink(t, &fakeFlink{unwanted: "FINISHED"}, exitFailed, "cancel", "fraud")
	if !strings.Contains(stderr, "is FINISHED") {
		t.Errorf("a job that finished first: got %q", stderr)
	}
}

func TestFlinkSavepoint(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, `POST /v1/jobs/` + idA + `/stop {"drain":false}`},
		{[]string{"--to", "s3://b/sp"}, `POST /v1/jobs/` + idA + `/stop {"drain":false,"targetDirectory":"s3://b/sp"}`},
		{[]string{"--keep-running", "--to=/sp"}, `POST /v1/jobs/` + idA + `/savepoints {"cancel-job":false,"target-directory":"/sp"}`},
	} {
		f := &fakeFlink{}
		out, stderr := flink(t, f, exitOK, append([]string{"savepoint", "fraud"}, c.args...)...)
		if out != "file:/sp/savepoint-1\n" || !strings.Contains(stderr, "resume file:/sp/savepoint-1 --") {
			t.Errorf("%v: got %q and %q", c.args, out, stderr)
		}
		if diff := cmp.Diff([]string{c.want}, f.asked); diff != "" {
			t.Errorf("%v: asked (-want +got):\n%s", c.args, diff)
		}
	}
	_, stderr := flink(t, &fakeFlink{fails: true}, exitFailed, "savepoint", "fraud")
	if !strings.Contains(stderr, "java.io.IOException: disk is full") {
		t.Errorf("a failed savepoint: got %q", stderr)
	}
}

func TestFlinkMistakesAreExplained(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{}, exitUsage, "a command is missing"},
		{[]string{"drain"}, exitUsage, "there are jobs, cancel, savepoint and resume"},
		{[]string{"cancel"}, exitUsage, "wants a job"},
		{[]string{"jobs", "fraud"}, exitUsage, "wants nothing"},
		{[]string{"jobs", "--to=x"}, exitUsage, "for flink savepoint"},
		{[]string{"jobs", "--rest=localhost:8081"}, exitUsage, "give an address such as http://"},
		{[]string{"jobs", "--timeout=soon"}, exitUsage, "give a time"},
		{[]string{"jobs", "--rest"}, exitUsage, "wants a value"},
		{[]string{"resume", "file:/x"}, exitUsage, "after --"},
		{[]string{"resume", "file:/x", "--", "/no/such/program"}, exitFailed, "/no/such/program"},
		{[]string{"cancel", "other"}, exitFailed, "no job named other; these run: fraud"},
		{[]string{"cancel", strings.Repeat("a", 32)}, exitFailed, "no job with the ID"},
		{[]string{"cancel", idB}, exitFailed, "is over: it is FINISHED"},
		{[]string{"savepoint", "sessions"}, exitFailed, "is over: it is FAILED"},
		{[]string{"jobs", "--rest=http://127.0.0.1:1"}, exitFailed, "give its address with --rest"},
	} {
		if _, stderr := flink(t, &fakeFlink{}, c.code, c.args...); !strings.Contains(stderr, c.want) {
			t.Errorf("flink %v: got %q, want it to say %q", c.args, stderr, c.want)
		}
	}
	if out, _ := flink(t, &fakeFlink{}, exitOK, "savepoint", "--help"); out != flinkUsage {
		t.Errorf("--help prints %q", out)
	}
}

func TestFlinkResumeAddsTheSavepoint(t *testing.T) {
	c, err := parseFlink([]string{"resume", "file:/sp/1", "--", "./fraud", "--runner=flink", "--async"}, "http://x")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"./fraud", "--runner=flink", "--async", "--runner_option=savepoint_path=file:/sp/1"}
	if diff := cmp.Diff(want, c.resumed()); diff != "" {
		t.Errorf("command (-want +got):\n%s", diff)
	}
}

func TestCauseOfJavaTrace(t *testing.T) {
	for trace, want := range map[string]string{
		"a\nCaused by: b\n\tat x\n  Caused by: c\n\tat y":                          "b; because of c",
		"a\nCaused by: b: c\n\tat x\nCaused by: c":                                 "b: c",
		"Internal server error.\n<Exception on server side:\norg.x.E: bad\n\tat x": "org.x.E: bad",
		"plain": "plain",
	} {
		if got := cause(trace); got != want {
			t.Errorf("cause of %q: got %q, want %q", trace, got, want)
		}
	}
}
