// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fsouza/fake-gcs-server/fakestorage"
	"github.com/google/go-cmp/cmp"
	df "google.golang.org/api/dataflow/v1b3"

	"github.com/hornbeam-dev/hornbeam/integration/dataflow/fake"
)

const job = "job"

// written is where a job of these tests writes.
const written = "--output=gs://" + bucket + "/out/alerts.jsonl"

func TestDataflowArguments(t *testing.T) {
	c := startCloud(t, nil)
	for name, test := range map[string]struct {
		args []string
		env  []string
		want []string
	}{
		"nothing": {
			args: []string{"--runner=dataflow", written}, env: c.env,
			want: []string{"--runner=dataflow needs --project=ID and --region=REGION and --staging_location=gs://BUCKET/PATH"},
		},
		"environment": {
			args: c.flags(written, "--environment_type=LOOPBACK"), env: c.env,
			want: []string{"--environment_type=LOOPBACK: Dataflow runs workers in containers only"},
		},
		"all at once": {
			args: c.flags(written, "--temp_location=/tmp/x", "--job_name=With_Capitals", "--labels=team", "--transform_name_mapping={}",
				"--sdk_container_image=a", "--worker_harness_container_image=b"),
			env: c.env,
			want: []string{
				"--temp_location=/tmp/x: write gs://BUCKET/PATH", "--job_name=With_Capitals: on Dataflow use small letters", "--labels: write JSON",
				"--transform_name_mapping is for --update", "are two names for one thing",
			},
		},
		"password": {
			args: c.flags("--output=kafka://me:" + canary + "@host:9092/topic"), env: c.env,
			want: []string{"--output has a password in it"},
		},
		"bucket": {
			args: c.flags(written, "--temp_location=gs://not-there/tmp"), env: c.env,
			want: []string{"--temp_location: there is no bucket not-there; make it: gcloud storage buckets create gs://not-there --project=" + project},
		},
		"credentials": {
			args: c.flags(written), env: append(slices.Clone(c.env[:1]), "GOOGLE_APPLICATION_CREDENTIALS=/not/there.json"),
			want: []string{"no credentials for Google Cloud: run gcloud auth application-default login"},
		},
		"local output": {
			args: c.flags("--output=alerts.jsonl"), env: c.env,
			want: []string{"--output=alerts.jsonl: the workers are elsewhere"},
		},
		"no linux program": {
			args: c.flags(written, "--worker_binary=main_test.go"), env: c.env,
			want: []string{"--worker_binary=main_test.go: it is no program for linux"},
		},
		"other processor, and no Go": {
			args: c.flags(written, "--worker_machine_type=t2a-standard-1"), env: c.env,
			want: []string{"a linux/arm64 program", "no Go toolchain", "--worker_binary", "GOARCH=arm64 go build -trimpath -ldflags='-s -w' -o worker github.com/hornbeam-dev/hornbeam/integration/dataflow/job"},
		},
		"update of nothing": {
			args: c.flags(written, "--update"), env: c.env,
			want: []string{"--update: no job of project " + project, "is named dataflow-job and runs"},
		},
	} {
		t.Run(name, func(t *testing.T) { wantAll(t, run(t, 1, test.env, job, test.args...).stderr, test.want...) })
	}
	if n := c.Submissions(); n != 0 {
		t.Errorf("got %d submissions, want none", n)
	}
}

func TestDataflowHelp(t *testing.T) {
	r := run(t, 0, nil, job, "--help")
	wantAll(t, r.stdout+r.stderr, "Flags for --runner=dataflow:", "--project", "--staging_location", "--transform_name_mapping", "--no_use_public_ips")
}

func TestDataflowDryRun(t *testing.T) {
	c := startCloud(t, nil)
	r := run(t, 0, c.env, job, c.flags(written, "--dry_run")...)
	wantAll(t, r.stdout, "nothing was sent, for this is a dry run")
	wantAll(t, r.stderr, "JOB_TYPE_BATCH") // The job itself.
	listed, err := c.storage.ListObjectsWithOptionsPaginated(bucket, fakestorage.ListOptions{})
	if err != nil || len(listed.Objects) != 0 || c.Submissions() != 0 {
		t.Errorf("got %d objects and %d submissions (%v), want none", len(listed.Objects), c.Submissions(), err)
	}
}

func TestDataflowTemplate(t *testing.T) {
	c := startCloud(t, nil)
	const place = "gs://" + bucket + "/templates/alerts"
	r := run(t, 0, c.env, job, c.flags(written, "--template_location="+place)...)
	wantAll(t, r.stdout, "is the template "+place, "gcloud dataflow jobs run NAME --gcs-location="+place)
	content, err := object(c.storage, place)
	if err != nil {
		t.Fatal(err)
	}
	var template df.Job
	if err := json.Unmarshal(content, &template); err != nil || template.Name != "dataflow-job" {
		t.Errorf("the template is of job %q (%v)", template.Name, err)
	}
	if c.Submissions() != 0 {
		t.Errorf("got %d submissions, want none", c.Submissions())
	}
}

// TestDataflowBody looks at the job that is sent.
func TestDataflowBody(t *testing.T) {
	c := startCloud(t, nil)
	r := run(t, 0, c.env, job, c.flags(written, "--days=1", "--job_name=alerts", `--labels={"team":"payments"}`, "--worker_machine_type=n2-standard-2",
		"--num_workers=2", "--max_num_workers=7", "--service_account_email=a@b.iam", "--network=net", "--subnetwork=regions/r/subnetworks/s",
		"--no_use_public_ips", "--experiments=mine", "--parallelism=3", "--api_token="+canary, "--temp_location=gs://bucket/tmp")...)
	wantAll(t, r.stdout, "alerts-", "is DONE after")
	wantAll(t, r.stderr, "Sending worker and pipeline to gs://bucket/staging", "https://console.cloud.google.com/dataflow/jobs/"+region)
	jobs := c.Jobs()
	if len(jobs) != 1 {
		t.Fatalf("got %d jobs, want 1", len(jobs))
	}
	j := jobs[0]
	pool := j.Environment.WorkerPools[0]
	got := []any{
		j.Name, j.Type, j.ProjectId, j.Location, j.Labels["team"], j.Environment.ServiceAccountEmail, j.Environment.TempStoragePrefix,
		pool.MachineType, pool.NumWorkers, pool.AutoscalingSettings.MaxNumWorkers, pool.Network, pool.Subnetwork, pool.IpConfiguration,
		pool.WorkerHarnessContainerImage, pool.Packages[0].Name, pool.Packages[0].Sha256,
	}
	want := []any{
		"alerts", "JOB_TYPE_BATCH", project, region, "payments", "a@b.iam", "gs://bucket/tmp",
		"n2-standard-2", int64(2), int64(7), "net", "regions/r/subnetworks/s", "WORKER_IP_PRIVATE",
		"gcr.io/cloud-dataflow/v1beta3/beam_go_sdk:2.77.0", "worker", hashOf(t, filepath.Join(bin, job)),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("job (-want +got):\n%s", diff)
	}
	for _, experiment := range []string{"mine", "use_runner_v2", "use_portable_job_submission"} {
		if !slices.Contains(j.Environment.Experiments, experiment) {
			t.Errorf("experiments are %v, want %s among them", j.Environment.Experiments, experiment)
		}
	}
	if !regexp.MustCompile(`^alerts-\d{8}-\d{6}$`).MatchString(j.Labels["hornbeam_job"]) {
		t.Errorf("labels are %v, want the ID of the job among them", j.Labels)
	}
	options, err := fake.ReadOptions(j)
	if err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(options.Go.Options))
	if diff := cmp.Diff([]string{"days", "experiments", "hookOrder", "hooks", "output", "temp_location"}, names); diff != "" {
		t.Errorf("options that travel (-want +got):\n%s", diff)
	}
	body, err := j.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	model, err := object(c.storage, options.Options.PipelineURL)
	if err != nil {
		t.Fatal(err)
	}
	for _, leak := range []string{canary, bin, os.TempDir() + "/", "credentials.json"} {
		if strings.Contains(string(body), leak) || strings.Contains(string(model), leak) {
			t.Errorf("%q is in the job or in its pipeline", leak)
		}
	}
}

func hashOf(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// TestDataflowResults runs pipelines with an end on the fake and on Hornbeam.
func TestDataflowResults(t *testing.T) {
	for _, program := range []struct {
		name   string
		args   []string
		pkg    string // Where it is built; empty if TestMain has.
		folder bool   // The output is a folder with files of any names.
	}{
		{name: job, args: []string{"--days=1"}},
		{name: "frauddetection", args: []string{"--days=2"}, pkg: "../../pipelines/frauddetection", folder: true},
		{name: "sessionanalytics", args: []string{"--days=1"}, pkg: "../../pipelines/sessionanalytics", folder: true},
		{name: "unitconversion", args: []string{"--devices=50", "--duration=20m"}, pkg: "../../pipelines/unitconversion", folder: true},
	} {
		t.Run(program.name, func(t *testing.T) {
			if program.pkg != "" {
				if err := build(program.pkg); err != nil {
					t.Fatal(err)
				}
			}
			c := startCloud(t, prismJobs)
			remote := run(t, 0, c.env, program.name, append(c.flags("--json", "--output=gs://"+bucket+"/out"), program.args...)...)
			local := filepath.Join(t.TempDir(), "out")
			own := run(t, 0, nil, program.name, append([]string{"--json", "--output=" + local, "--state_dir=" + t.TempDir()}, program.args...)...)
			got, want := totals(t, remote), totals(t, own)
			if program.folder {
				// The fake runs pipelines on Prism, which may split a bundle inside of a key, so that state of that key
				// goes wrong now and then. What is written is compared in full all the same.
				got.Out = want.Out
			}
			if got != want || got.In == 0 {
				t.Errorf("totals: got %+v, want %+v", got, want)
			}
			there, here := remoteLines(t, c, program.folder), localLines(t, local, program.folder)
			if diff := cmp.Diff(here, there); diff != "" || len(here) < 2 {
				t.Errorf("%d lines (-hornbeam +dataflow):\n%s", len(here), diff)
			}
		})
	}
}

// summary is what --json prints, less what is never the same.
type summary struct{ In, Out, Dead int64 }

func totals(t *testing.T, r ran) summary {
	t.Helper()
	var s summary
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		t.Fatalf("%v in %q", err, r.stdout)
	}
	return s
}

func remoteLines(t *testing.T, c *cloud, folder bool) []string {
	t.Helper()
	prefix := "out"
	if folder {
		prefix = "out/"
	}
	listed, err := c.storage.ListObjectsWithOptionsPaginated(bucket, fakestorage.ListOptions{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, o := range listed.Objects {
		content, err := object(c.storage, "gs://"+bucket+"/"+o.Name)
		if err != nil {
			t.Fatal(err)
		}
		if !folder || strings.HasSuffix(o.Name, ".jsonl") {
			all = append(all, content...)
		}
	}
	return sortedLines(all)
}

func localLines(t *testing.T, name string, folder bool) []string {
	t.Helper()
	names := []string{name}
	if folder {
		var err error
		if names, err = filepath.Glob(filepath.Join(name, "*.jsonl")); err != nil {
			t.Fatal(err)
		}
	}
	var all []byte
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, content...)
	}
	return sortedLines(all)
}

// TestDataflowFailure: the reason is shown where the job was submitted.
func TestDataflowFailure(t *testing.T) {
	c := startCloud(t, prismJobs)
	r := run(t, 1, c.env, job, c.flags(written, "--broken")...)
	wantAll(t, r.stderr, " failed:", "the pipeline is broken on purpose")
	if state := c.Jobs()[0].CurrentState; state != "JOB_STATE_FAILED" {
		t.Errorf("the job is %s", state)
	}
}

// TestDataflowStreaming: a job without end is submitted, updated, left by Ctrl-C and cancelled.
func TestDataflowStreaming(t *testing.T) {
	c := startCloud(t, prismJobs)
	r := run(t, 0, c.env, job, c.flags("--ticks", "--async")...)
	first := c.Jobs()[0]
	wantAll(t, r.stdout, "is submitted as "+first.Id)
	wantAll(t, r.stderr, "gcloud dataflow jobs cancel "+first.Id+" --project="+project+" --region="+region, "gcloud dataflow jobs drain "+first.Id)
	if first.Type != "JOB_TYPE_STREAMING" || !slices.Contains(first.Environment.Experiments, "enable_streaming_engine") {
		t.Errorf("type %s, experiments %v", first.Type, first.Environment.Experiments)
	}
	counts(t, c, first.Id)

	r = run(t, 1, c.env, job, c.flags("--ticks", "--async")...)
	wantAll(t, r.stderr, "job dataflow-job runs already, as "+first.Id, "nothing was submitted", "--update")
	c.Blind(1) // The other job comes between the look and the submission.
	r = run(t, 1, c.env, job, c.flags("--ticks", "--async")...)
	wantAll(t, r.stderr, "job dataflow-job runs already, as "+first.Id)
	if len(c.Jobs()) != 1 || c.Submissions() != 2 {
		t.Fatalf("got %d jobs of %d submissions, want 1 of 2", len(c.Jobs()), c.Submissions())
	}

	second := update(t, c, first)
	counts(t, c, second.Id)
	cancel(t, c, second.Id)
	if state := stateOf(t, c, second.Id); state != "JOB_STATE_CANCELLED" {
		t.Errorf("after the cancel it is %s", state)
	}
	until(t, "no worker is left", func() bool { return len(workers(t, c.workers)) == 0 })
}

// update replaces a job, waits for the new one and leaves it by Ctrl-C.
func update(t *testing.T, c *cloud, first df.Job) df.Job {
	t.Helper()
	cmd := command(c.env, job, c.flags("--ticks", "--update", `--transform_name_mapping={"old":"new"}`)...)
	ended := make(chan ran, 1)
	go func() {
		r, err := wait(cmd)
		if err != nil {
			t.Error(err)
		}
		ended <- r
	}()
	until(t, "the update is submitted", func() bool { return len(c.Jobs()) == 2 })
	second := c.Jobs()[1]
	counts(t, c, second.Id)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	r := <-ended
	if r.code != 130 {
		t.Errorf("after Ctrl-C the code is %d, want 130\n%s", r.code, r.stderr)
	}
	wantAll(t, r.stderr, "Job "+second.Id+" goes on in Dataflow", "gcloud dataflow jobs cancel "+second.Id)
	if second.ReplaceJobId != first.Id || second.TransformNameMapping["old"] != "new" || second.Labels["hornbeam_job"] != first.Labels["hornbeam_job"] {
		t.Errorf("the update replaces %q with mapping %v as %v, want %q, the mapping, and the labels %v",
			second.ReplaceJobId, second.TransformNameMapping, second.Labels, first.Id, first.Labels)
	}
	if state := stateOf(t, c, first.Id); state != "JOB_STATE_UPDATED" {
		t.Errorf("the first job is %s", state)
	}
	if state := stateOf(t, c, second.Id); state != "JOB_STATE_RUNNING" {
		t.Errorf("after Ctrl-C the job is %s", state)
	}
	return second
}

// counts waits until a job has counted a few ticks.
func counts(t *testing.T, c *cloud, id string) {
	t.Helper()
	until(t, "it counts", func() bool {
		n, err := c.Counter(t.Context(), id, "job", "counted")
		if err != nil {
			t.Fatal(err)
		}
		return n >= 12
	})
}

func cancel(t *testing.T, c *cloud, id string) {
	t.Helper()
	url := c.url + "/v1b3/projects/" + project + "/locations/" + region + "/jobs/" + id
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, strings.NewReader(`{"requestedState":"JOB_STATE_CANCELLED"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer fake")
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		t.Fatalf("the cancel is answered by %s", reply.Status)
	}
}

func stateOf(t *testing.T, c *cloud, id string) string {
	t.Helper()
	for _, j := range c.Jobs() {
		if j.Id == id {
			return j.CurrentState
		}
	}
	t.Fatalf("no job %s", id)
	return ""
}

// workers are the processes whose program is in a folder.
func workers(t *testing.T, dir string) []string {
	t.Helper()
	programs, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, p := range programs {
		if name, err := os.Readlink(p); err == nil && strings.HasPrefix(name, dir+"/") {
			found = append(found, p)
		}
	}
	return found
}

// TestDataflowContainer starts the program as the container of Beam's Go SDK does: it calls the
// service that controls it, and submits nothing.
func TestDataflowContainer(t *testing.T) {
	control, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	options := filepath.Join(t.TempDir(), "options.json")
	if err := os.WriteFile(options, []byte(`{"beam:option:go_options:v1":{"options":{"days":"1"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := command([]string{"PIPELINE_OPTIONS_FILE=" + options}, job, "--worker=true", "--id=1", "--semi_persist_dir="+t.TempDir(),
		"--logging_endpoint="+control.Addr().String(), "--control_endpoint="+control.Addr().String())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() // It is killed below.
	defer cmd.Process.Kill()
	if err := control.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	call, err := control.Accept()
	if err != nil {
		t.Fatalf("the worker does not call: %v", err)
	}
	call.Close()
}
