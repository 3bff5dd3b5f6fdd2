// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/runner"
)

func init() {
	register.Function2x2(fold)
	register.Function2x1(hold)
	register.Function2x1(sum)
	register.Iter1[int]()
}

func fold(ctx context.Context, x int) (int, int) {
	beam.NewCounter("test", "seen").Inc(ctx, 1)
	return x % 2, x
}

// begun is closed when a held job has begun; let ends the wait of its only element.
var begun, let chan struct{}

func hold(ctx context.Context, x int) int {
	if begun != nil && x == 1 {
		close(begun)
		<-let
	}
	return x
}

func sum(_ int, next func(*int) bool) int {
	total, x := 0, 0
	for next(&x) {
		total += x
	}
	return total
}

// pipeline has a stage that holds and, behind a grouping, one that sums.
func pipeline() *beam.Pipeline {
	p, s := beam.NewPipelineWithRoot()
	held := beam.ParDo(s, hold, beam.Create(s, 1, 2, 3, 4, 5))
	beam.ParDo(s, sum, beam.GroupByKey(s, beam.ParDo(s, fold, held)))
	return p
}

func start(t *testing.T, dir string) (*runner.Job, *runner.Running) {
	t.Helper()
	if err := beamInit(); err != nil {
		t.Fatal(err)
	}
	job, err := runner.Open(runner.Options{Name: "sums", StateDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	running, err := job.Start(t.Context(), pipeline())
	if err != nil {
		t.Fatal(err)
	}
	return job, running
}

func beamInit() error {
	if !beam.Initialized() {
		beam.Init()
	}
	return nil
}

// ended returns the state directory of a job that has ended.
func ended(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	job, running := start(t, dir)
	if _, err := running.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := job.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func inspect(t *testing.T, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if got := run(append([]string{"inspect"}, args...), &out, &errs); got != want {
		t.Fatalf("exit code %d, want %d\n%s%s", got, want, &out, &errs)
	}
	return out.String(), errs.String()
}

func TestInspectEndedJob(t *testing.T) {
	dir := ended(t)
	text, _ := inspect(t, exitOK, dir)
	for _, want := range []string{"DONE", "STAGE  KIND", "impulse", "group", "test.seen"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	encoded, _ := inspect(t, exitOK, dir, "--json")
	var job runner.Inspection
	if err := json.Unmarshal([]byte(encoded), &job); err != nil {
		t.Fatal(err)
	}
	for _, s := range job.Stages {
		if s.OutputWatermark != "end" || s.MailboxElements != 0 || s.Timers != 0 || s.WaitsFor != "" {
			t.Errorf("a stage of an ended job: %+v", s)
		}
		if s.Kind == "group" && (s.In != 5 || len(s.Out) != 1 || s.Out[0] != 2 || s.Late != 0) {
			t.Errorf("the grouping of 5 elements with 2 keys: %+v", s)
		}
	}
	if len(job.Metrics) != 1 || job.Metrics[0].Sum != 5 {
		t.Errorf("metrics %+v, want 5 elements seen", job.Metrics)
	}
}

func TestInspectStoppedJob(t *testing.T) {
	begun, let = make(chan struct{}), make(chan struct{})
	defer func() { begun, let = nil, nil }()
	dir := filepath.Join(t.TempDir(), "state")
	job, running := start(t, dir)
	<-begun
	_, refusal := inspect(t, exitFailed, dir)
	if !strings.Contains(refusal, "in use") {
		t.Errorf("of a running job: %s", refusal)
	}
	running.Stop()
	close(let)
	if _, err := running.Wait(); !errors.Is(err, runner.ErrStopped) {
		t.Fatalf("got %v, want ErrStopped", err)
	}
	if err := job.Close(); err != nil {
		t.Fatal(err)
	}
	text, _ := inspect(t, exitOK, dir)
	for _, want := range []string{"UNFINISHED", "a worker", "the watermark of stage"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestInspectRefuses(t *testing.T) {
	newer := ended(t)
	format := filepath.Join(newer, "FORMAT")
	if err := os.WriteFile(format, []byte("hornbeam state directory, format 99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		t.TempDir():                          "not a state directory",
		filepath.Join(t.TempDir(), "absent"): "not a state directory",
		newer:                                "format 99",
	} {
		if _, got := inspect(t, exitFailed, dir); !strings.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"inspect"}, {"inspect", "a", "b"}, {"look", "a"}, {"inspect", "a", "--xml"}} {
		var out, errs bytes.Buffer
		if got := run(args, &out, &errs); got != exitUsage || errs.Len() == 0 {
			t.Errorf("%q: exit code %d, %q", args, got, &errs)
		}
	}
	var out bytes.Buffer
	if got := run([]string{"inspect", "--help"}, &out, &out); got != exitOK || !strings.Contains(out.String(), "Examples:") {
		t.Errorf("exit code %d, %q", got, &out)
	}
}
