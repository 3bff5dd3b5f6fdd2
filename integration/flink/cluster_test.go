// SPDX-License-Identifier: Apache-2.0

package flink

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const script = "../../scripts/flink"

// noJobServer is the exit code of scripts/flink that says that only Beam's job server is missing.
const noJobServer = 3

// cluster is a real Flink cluster of scripts/flink.
type cluster struct {
	t   *testing.T
	dir string
}

// flinkScript runs scripts/flink for the cluster in dir.
func flinkScript(dir string, args ...string) ([]byte, error) {
	cmd := exec.Command(script, args...)
	cmd.Env = append(os.Environ(), "FLINK_DIR="+dir)
	cmd.WaitDelay = time.Second // What it has started holds its output.
	return cmd.CombinedOutput()
}

// startCluster starts a cluster, and ends it with the test.
func startCluster(t *testing.T, args ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: filepath.Join(t.TempDir(), "cluster")}
	out, err := flinkScript(c.dir, append([]string{"up"}, args...)...)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == noJobServer {
		if os.Getenv(requireJobServer) == "1" {
			t.Fatalf("%s", out)
		}
		t.Skipf("%s\nset %s=1 to make this a failure", out, requireJobServer)
	}
	if err != nil {
		message := fmt.Sprintf("no Flink cluster (needs java 17, pip3, and once the network for scripts/flink): %v\n%s", err, out)
		if os.Getenv(requireServices) == "1" {
			t.Fatal(message)
		}
		t.Skip(message + "\nset " + requireServices + "=1 to make this a failure")
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.showLogs()
		}
		c.script("down")
	})
	return c
}

func (c *cluster) showLogs() {
	logs, _ := filepath.Glob(filepath.Join(c.dir, "log", "*.log"))
	for _, name := range logs {
		content, _ := os.ReadFile(name)
		c.t.Logf("the end of %s:\n%s", filepath.Base(name), content[max(0, len(content)-4000):])
	}
}

func (c *cluster) script(args ...string) string {
	c.t.Helper()
	out, err := flinkScript(c.dir, args...)
	if err != nil {
		c.t.Fatalf("scripts/flink %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// hornbeam runs the command hornbeam flink in the cluster's network.
func (c *cluster) hornbeam(code int, args ...string) ran {
	c.t.Helper()
	c.t.Setenv("FLINK_DIR", c.dir)
	return run(c.t, code, script, append([]string{"exec", program("hornbeam"), "flink"}, args...)...)
}

// job is a job as hornbeam flink jobs --json lists it.
type job struct {
	ID          string `json:"jid"`
	Name        string
	State       string
	Checkpoints struct{ Completed, Restored int }
}

// jobs are the jobs of the cluster, by name; of those with the same name the youngest.
func (c *cluster) jobs() map[string]job {
	c.t.Helper()
	var reply struct{ Jobs []job }
	if text := c.hornbeam(0, "jobs", "--json").stdout; json.Unmarshal([]byte(text), &reply) != nil {
		c.t.Fatalf("jobs --json prints %s", text)
	}
	all := map[string]job{}
	for _, j := range reply.Jobs {
		if _, ok := all[j.Name]; !ok {
			all[j.Name] = j
		}
	}
	return all
}

// until waits until the job of that name is as wanted.
func (c *cluster) until(what, name string, wanted func(job) bool) job {
	c.t.Helper()
	var j job
	eventually(c.t, 2*time.Minute, name+" "+what, func() (bool, string) {
		j = c.jobs()[name]
		return wanted(j), fmt.Sprintf("%+v", j)
	})
	return j
}

var restLine = regexp.MustCompile(`(?m)^REST +(\S+)$`)

// java is a client of the cluster's REST API that submits jobs written in Java, without Beam.
type java struct {
	t    *testing.T
	rest string
	jar  string // Its name in the cluster.
}

// call sends a request and decodes the answer.
func (j *java) call(method, path, contentType string, body io.Reader, reply any) {
	j.t.Helper()
	req, err := http.NewRequest(method, j.rest+path, body)
	if err != nil {
		j.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		j.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(text, reply) != nil {
		j.t.Fatalf("%s %s: %s, %v\n%s", method, path, resp.Status, err, text)
	}
}

// upload compiles the job in testdata and sends it to the cluster.
func (j *java) upload(flinkLib string) {
	j.t.Helper()
	classes := j.t.TempDir()
	if out, err := exec.Command("javac", "-nowarn", "-cp", flinkLib+"/*", "-d", classes, "testdata/Counting.java").CombinedOutput(); err != nil {
		j.t.Fatalf("compile testdata/Counting.java (javac comes with a JDK, such as default-jdk-headless): %v\n%s", err, out)
	}
	var jar bytes.Buffer
	z := zip.NewWriter(&jar)
	if err := z.AddFS(os.DirFS(classes)); err != nil {
		j.t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		j.t.Fatal(err)
	}
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	part, err := parts.CreateFormFile("jarfile", "counting.jar")
	if err != nil {
		j.t.Fatal(err)
	}
	part.Write(jar.Bytes())
	parts.Close()
	var reply struct{ Filename string }
	j.call(http.MethodPost, "/v1/jars/upload", parts.FormDataContentType(), &form, &reply)
	j.jar = filepath.Base(reply.Filename)
}

// submit starts the job, from a savepoint if there is one.
func (j *java) submit(name, savepoint string) (id string) {
	j.t.Helper()
	body := map[string]any{"entryClass": "Counting", "programArgsList": []string{name}}
	if savepoint != "" {
		body["savepointPath"] = savepoint
	}
	text, err := json.Marshal(body)
	if err != nil {
		j.t.Fatal(err)
	}
	var reply struct{ JobID string }
	j.call(http.MethodPost, "/v1/jars/"+j.jar+"/run", "application/json", bytes.NewReader(text), &reply)
	return reply.JobID
}

// TestFlinkCluster starts a real cluster and looks after a real job on it, with every verb of hornbeam
// flink. The job is not Beam's: it needs no job server.
func TestFlinkCluster(t *testing.T) {
	t.Setenv("FLINK_NETNS", "no") // Flink alone listens on the loopback interface only.
	c := startCluster(t, "--no-job-server")
	status := c.script("status")
	if !strings.Contains(status, "task slots  2") || !strings.Contains(status, "Flink 1.19.3") {
		t.Errorf("status prints\n%s", status)
	}
	rest := restLine.FindStringSubmatch(status)
	if rest == nil {
		t.Fatalf("status names no REST address:\n%s", status)
	}

	t.Run("config", func(t *testing.T) {
		var config []struct{ Key, Value string }
		(&java{t: t, rest: rest[1]}).call(http.MethodGet, "/v1/jobmanager/config", "", nil, &config)
		got := map[string]string{}
		for _, o := range config {
			got[o.Key] = o.Value
		}
		for key, want := range map[string]string{
			"state.backend.type": "rocksdb", "restart-strategy.fixed-delay.attempts": "100000",
			"state.savepoints.dir": "file://" + c.dir + "/savepoints",
		} {
			if got[key] != want {
				t.Errorf("%s is %q, want %q", key, got[key], want)
			}
		}
	})

	t.Run("unknown job", func(t *testing.T) {
		if jobs := c.jobs(); len(jobs) != 0 {
			t.Errorf("a new cluster has jobs: %v", jobs)
		}
		if got := c.hornbeam(1, "cancel", strings.Repeat("ab", 16)).stderr; !strings.Contains(got, "has no job with the ID") {
			t.Errorf("cancel of an unknown ID says %q", got)
		}
		if got := c.hornbeam(1, "savepoint", "nothing").stderr; !strings.Contains(got, "has no job named nothing, and none runs there") {
			t.Errorf("savepoint of an unknown name says %q", got)
		}
	})

	libs, err := filepath.Glob("../../.cache/flink-1.19.3/lib")
	if err != nil || len(libs) != 1 {
		t.Fatalf("the jars of Flink are not where scripts/flink keeps them: %v, %v", libs, err)
	}
	j := &java{t: t, rest: rest[1]}
	j.upload(libs[0])
	first := j.submit("counting", "")
	checkpointed := func(j job) bool { return j.State == "RUNNING" && j.Checkpoints.Completed >= 2 }
	if got := c.until("has two checkpoints", "counting", checkpointed); got.ID != first {
		t.Fatalf("the job listed is %s, want %s", got.ID, first)
	}

	t.Run("TaskManager killed", func(t *testing.T) {
		before := c.jobs()["counting"].Checkpoints.Completed
		c.script("taskmanager", "kill")
		c.script("taskmanager", "start")
		c.until("has recovered", "counting", func(j job) bool {
			return j.ID == first && checkpointed(j) && j.Checkpoints.Restored >= 1 && j.Checkpoints.Completed >= before+2
		})
	})

	t.Run("savepoint and resume", func(t *testing.T) {
		if got := c.hornbeam(1, "savepoint", "counting", "--to=ftp://nowhere/").stderr; !strings.Contains(got, "ftp") {
			t.Errorf("a savepoint that fails says %q", got)
		}
		kept := strings.TrimSpace(c.hornbeam(0, "savepoint", "counting", "--keep-running").stdout)
		if state := c.jobs()["counting"].State; state != "RUNNING" {
			t.Errorf("after a savepoint with --keep-running the job is %s", state)
		}
		location := strings.TrimSpace(c.hornbeam(0, "savepoint", "counting", "--to="+filepath.Join(c.dir, "mine")).stdout)
		if !strings.Contains(location, "/mine/savepoint-") || kept == location {
			t.Errorf("savepoints are at %q and %q", kept, location)
		}
		if state := c.jobs()["counting"].State; state != "FINISHED" {
			t.Errorf("after a savepoint the job is %s, want FINISHED", state)
		}
		command := c.hornbeam(0, "resume", location, "--", "echo", "submit").stdout
		if want := "submit --runner_option=savepoint_path=" + location + "\n"; command != want {
			t.Errorf("resume ran %q, want %q", command, want)
		}
		_, from, _ := strings.Cut(strings.TrimSpace(command), "savepoint_path=")
		second := j.submit("counting", from)
		c.until("goes on from the savepoint", "counting", func(j job) bool { return j.ID == second && checkpointed(j) && j.Checkpoints.Restored == 1 })
		logs, _ := filepath.Glob(filepath.Join(c.dir, "log", "taskmanager*.log"))
		counts := map[string]bool{}
		for _, name := range logs {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range regexp.MustCompile(`counting from (\d+)`).FindAllStringSubmatch(string(content), -1) {
				counts[n[1]] = true
			}
		}
		if len(counts) != 3 || !counts["0"] {
			t.Errorf("the job has counted from %v, want 0 and two later counts: after the kill, and from the savepoint", counts)
		}
	})

	t.Run("cancel", func(t *testing.T) {
		id := c.jobs()["counting"].ID
		if got, want := c.hornbeam(0, "cancel", "counting").stdout, "counting ("+id+") is CANCELED\n"; got != want {
			t.Errorf("cancel prints %q, want %q", got, want)
		}
		if got := c.hornbeam(1, "cancel", id).stderr; !strings.Contains(got, "is over: it is CANCELED") {
			t.Errorf("a second cancel says %q", got)
		}
	})

	t.Run("down", func(t *testing.T) {
		c.script("down")
		if _, err := os.Stat(c.dir); !os.IsNotExist(err) {
			t.Errorf("the folder of the cluster is still there: %v", err)
		}
		if resp, err := http.Get(rest[1] + "/v1/overview"); err == nil {
			resp.Body.Close()
			t.Error("the REST API still answers")
		}
	})
}
