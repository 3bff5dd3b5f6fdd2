// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// flinkREST is Flink's REST API, which versions 1.19 to 2.2 have alike.
type flinkREST struct {
	base string // http://HOST:PORT
	http *http.Client
	poll time.Duration // Between two looks at something that is not done.
}

// flinkJob is a job as Flink lists it.
type flinkJob struct {
	ID          string            `json:"jid"`
	Name        string            `json:"name"`
	State       string            `json:"state"` // RUNNING, FINISHED, CANCELED, FAILED, RESTARTING, …
	Start       int64             `json:"start-time"`
	Duration    int64             `json:"duration"` // In ms.
	Checkpoints *flinkCheckpoints `json:"checkpoints,omitempty"`
}

// flinkCheckpoints counts the checkpoints of a job.
type flinkCheckpoints struct {
	Completed int64 `json:"completed"`
	Failed    int64 `json:"failed"`
	Restored  int64 `json:"restored"`
}

// over tells whether a job has come to its end.
func (j flinkJob) over() bool {
	return slices.Contains([]string{"FINISHED", "CANCELED", "FAILED"}, j.State)
}

// flinkError is an answer of Flink's that is not the one wanted.
type flinkError struct {
	status  int
	message string
}

func (e *flinkError) Error() string { return fmt.Sprintf("Flink answers %d: %s", e.status, e.message) }

// do sends a request and decodes the answer into reply, if that is not nil.
func (f *flinkREST) do(ctx context.Context, method, path string, body, reply any) error {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, f.base+path, content)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := f.http.Do(req)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // Without the method and address, which are said here.
		}
		return fmt.Errorf("no answer from Flink's REST API at %s: %w; give its address with --rest=http://HOST:PORT", f.base, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", f.base, err)
	}
	if resp.StatusCode >= 300 {
		return &flinkError{resp.StatusCode, problem(answer)}
	}
	if reply == nil {
		return nil
	}
	if err := json.Unmarshal(answer, reply); err != nil {
		return fmt.Errorf("%s does not answer as Flink's REST API does (%w); is it the right address?", f.base, err)
	}
	return nil
}

// problem is the reason in an answer.
func problem(answer []byte) string {
	var reply struct {
		Errors []string `json:"errors"`
	}
	if err := json.Unmarshal(answer, &reply); err != nil || len(reply.Errors) == 0 {
		return firstLine(string(answer))
	}
	return cause(strings.Join(reply.Errors, "\n"))
}

var causedBy = regexp.MustCompile(`(?m)^\s*Caused by: (.+)$`)

// cause is the end of the chain of causes in a Java stack trace, which says most, or its first line.
func cause(trace string) string {
	if all := causedBy.FindAllStringSubmatch(trace, -1); all != nil {
		var ends []string
		for _, c := range all[max(0, len(all)-2):] {
			if len(ends) == 0 || !strings.Contains(ends[0], c[1]) {
				ends = append(ends, c[1])
			}
		}
		return strings.Join(ends, "; because of ")
	}
	// Flink wraps its own message: "Internal server error.", then the trace.
	for line := range strings.Lines(trace) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "Internal server error") && !strings.HasPrefix(line, "<") {
			return line
		}
	}
	return firstLine(trace)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if len(line) > 300 {
		line = line[:300] + "…"
	}
	return line
}

// jobs lists all jobs that the cluster knows, the youngest first.
func (f *flinkREST) jobs(ctx context.Context) ([]flinkJob, error) {
	var reply struct {
		Jobs []flinkJob `json:"jobs"`
	}
	if err := f.do(ctx, http.MethodGet, "/v1/jobs/overview", nil, &reply); err != nil {
		return nil, err
	}
	slices.SortFunc(reply.Jobs, func(a, b flinkJob) int {
		if a.Start != b.Start {
			return int(min(max(b.Start-a.Start, -1), 1))
		}
		return strings.Compare(a.ID, b.ID)
	})
	return reply.Jobs, nil
}

// checkpoints counts the checkpoints of a job. A job without any is not asked for more.
func (f *flinkREST) checkpoints(ctx context.Context, id string) (*flinkCheckpoints, error) {
	var reply struct {
		Counts flinkCheckpoints `json:"counts"`
	}
	if err := f.do(ctx, http.MethodGet, "/v1/jobs/"+id+"/checkpoints", nil, &reply); err != nil {
		return nil, err
	}
	return &reply.Counts, nil
}

var flinkID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// find returns the job with an ID, or the one that runs under a name.
func (f *flinkREST) find(ctx context.Context, which string) (flinkJob, error) {
	all, err := f.jobs(ctx)
	if err != nil {
		return flinkJob{}, err
	}
	var running, over []flinkJob
	for _, j := range all {
		switch {
		case j.ID == which:
			return j, nil
		case j.Name == which && j.over():
			over = append(over, j)
		case j.Name == which:
			running = append(running, j)
		}
	}
	switch {
	case len(running) == 1:
		return running[0], nil
	case len(running) > 1:
		var ids []string
		for _, j := range running {
			ids = append(ids, j.ID)
		}
		return flinkJob{}, fmt.Errorf("%d jobs run under the name %s; say which by its ID: %s", len(running), which, strings.Join(ids, ", "))
	case len(over) > 0:
		return over[0], nil
	case flinkID.MatchString(which):
		return flinkJob{}, fmt.Errorf("Flink at %s has no job with the ID %s; hornbeam flink jobs lists those that it has", f.base, which)
	}
	var names []string
	for _, j := range all {
		if !j.over() && !slices.Contains(names, j.Name) {
			names = append(names, j.Name)
		}
	}
	if len(names) == 0 {
		return flinkJob{}, fmt.Errorf("Flink at %s has no job named %s, and none runs there", f.base, which)
	}
	return flinkJob{}, fmt.Errorf("Flink at %s has no job named %s; these run: %s", f.base, which, strings.Join(names, ", "))
}

// state asks for the state of a job.
func (f *flinkREST) state(ctx context.Context, id string) (string, error) {
	var j flinkJob
	err := f.do(ctx, http.MethodGet, "/v1/jobs/"+id, nil, &j)
	return j.State, err
}

// cancel cancels a job and waits until it is over.
func (f *flinkREST) cancel(ctx context.Context, id string) (state string, err error) {
	if err := f.do(ctx, http.MethodPatch, "/v1/jobs/"+id+"?mode=cancel", nil, nil); err != nil {
		return "", err
	}
	err = f.wait(ctx, func() (bool, error) {
		state, err = f.state(ctx, id)
		return flinkJob{State: state}.over(), err
	})
	return state, err
}

// savepoint makes a savepoint in folder to, or where the cluster keeps them if that is empty, and
// returns where it is. With stop the job is stopped by it.
func (f *flinkREST) savepoint(ctx context.Context, id, to string, stop bool) (location string, err error) {
	path, body := "/savepoints", map[string]any{"cancel-job": false}
	folder := "target-directory"
	if stop {
		path, body, folder = "/stop", map[string]any{"drain": false}, "targetDirectory"
	}
	if to != "" {
		body[folder] = to
	}
	var trigger struct {
		ID string `json:"request-id"`
	}
	if err := f.do(ctx, http.MethodPost, "/v1/jobs/"+id+path, body, &trigger); err != nil {
		return "", err
	}
	err = f.wait(ctx, func() (bool, error) {
		var reply struct {
			Status struct {
				ID string `json:"id"`
			} `json:"status"`
			Operation struct {
				Location string `json:"location"`
				Failure  *struct {
					Trace string `json:"stack-trace"`
				} `json:"failure-cause"`
			} `json:"operation"`
		}
		if err := f.do(ctx, http.MethodGet, "/v1/jobs/"+id+"/savepoints/"+trigger.ID, nil, &reply); err != nil {
			return false, err
		}
		if reply.Operation.Failure != nil {
			return false, fmt.Errorf("Flink made no savepoint: %s", cause(reply.Operation.Failure.Trace))
		}
		location = reply.Operation.Location
		return reply.Status.ID == "COMPLETED", nil
	})
	return location, err
}

// wait looks until done says so, or the context ends.
func (f *flinkREST) wait(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(f.poll)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("it was asked for, and is not done yet: %w", ctx.Err())
		}
	}
}
