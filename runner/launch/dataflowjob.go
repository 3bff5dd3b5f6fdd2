// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/dataflow/dataflowlib"
	df "google.golang.org/api/dataflow/v1b3"
)

// dataflowJob is a job of the service, or one that is to be submitted.
type dataflowJob struct {
	service               *df.Service
	project, region, name string
	id                    string // What the service calls it; empty before it is submitted.
	streaming             bool
}

// Labels of a job.
const (
	submissionLabel = "hornbeam_submission" // Marks it with the submission it came from.
	jobLabel        = "hornbeam_job"        // Job.ID, if that fits.
	longestLabel    = 63
)

// submit sends the pipeline. Beam's client does it without waiting, so that the ID is known at
// once; but then it returns a job of the same name that runs already as if it were the new one.
// So the label of what it returns is looked at.
func (j *dataflowJob) submit(ctx context.Context, pipeline *beam.Pipeline, w io.Writer) error {
	mark := strings.ToLower(rand.Text())
	if err := addLabels(map[string]string{submissionLabel: mark, jobLabel: *jobID}); err != nil {
		return err
	}
	*jobopts.Async = true
	fmt.Fprintf(w, "Sending worker and pipeline to %s\n", flagText("staging_location"))
	result, err := beam.Run(ctx, dataflowName, pipeline)
	if err != nil {
		return err
	}
	job, err := j.describe(ctx, result.JobID())
	if err != nil {
		return fmt.Errorf("job %s is submitted, and the service does not tell of it: %w", result.JobID(), err)
	}
	if label := job.Labels[submissionLabel]; label != "" && label != mark {
		return j.taken(job.Id)
	}
	j.id, j.streaming = job.Id, job.Type == "JOB_TYPE_STREAMING"
	fmt.Fprintf(w, "Job %s is submitted\n  %s\n", j.id, j.console())
	return nil
}

// describe returns a job with its labels.
func (j *dataflowJob) describe(ctx context.Context, id string) (*df.Job, error) {
	return j.service.Projects.Locations.Jobs.Get(j.project, j.region, id).View("JOB_VIEW_DESCRIPTION").Context(ctx).Do()
}

// active returns the ID of a job with the name that runs or is about to, or nothing.
func (j *dataflowJob) active(ctx context.Context) (id string, err error) {
	err = j.service.Projects.Locations.Jobs.List(j.project, j.region).Filter("ACTIVE").Pages(ctx, func(page *df.ListJobsResponse) error {
		for _, job := range page.Jobs {
			if job.Name == j.name {
				id = job.Id
			}
		}
		return nil
	})
	return id, err
}

func (j *dataflowJob) taken(other string) error {
	return fmt.Errorf("job %s runs already, as %s; nothing was submitted. Give this one another --job_name, replace that one with --update, or end it:\n"+
		"  gcloud dataflow jobs cancel %[2]s --project=%[3]s --region=%[4]s", j.name, other, j.project, j.region)
}

// addLabels adds labels to those of --labels, as far as their values are labels.
func addLabels(further map[string]string) error {
	all := map[string]string{}
	if err := json.Unmarshal([]byte(cmp.Or(flagText("labels"), "{}")), &all); err != nil {
		return err
	}
	for key, value := range further {
		if len(value) <= longestLabel && dataflowLabel.MatchString(value) {
			all[key] = value
		}
	}
	encoded, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return flag.Set("labels", string(encoded))
}

// dataflowLabel is what the service takes as the value of a label.
var dataflowLabel = regexp.MustCompile(`^[a-z0-9_-]*$`)

const (
	// dataflowPoll is how often the service is asked how the job goes.
	dataflowPoll = 10 * time.Second
	// dataflowAttempts is how often in a row it may leave the question unanswered.
	dataflowAttempts = 6
)

// statePrefix begins the states of jobs.
const statePrefix = "JOB_STATE_"

// wait returns the state in which the job ends. A job that failed or was cancelled is an error.
func (j *dataflowJob) wait(ctx context.Context, w io.Writer) (string, error) {
	tick := time.NewTicker(dataflowPoll)
	defer tick.Stop()
	last, failures := "", 0
	for {
		job, err := j.service.Projects.Locations.Jobs.Get(j.project, j.region, j.id).Context(ctx).Do()
		switch {
		case err == nil:
			failures = 0
			state := strings.TrimPrefix(job.CurrentState, statePrefix)
			if state != last {
				fmt.Fprintf(w, "Job %s is %s\n", j.id, state)
				last = state
			}
			switch state {
			case "DONE", "DRAINED", "UPDATED":
				return state, nil
			case cancelled:
				return state, fmt.Errorf("job %s is %s, says Dataflow\n  %s", j.id, cancelled, j.console())
			case "FAILED":
				return state, fmt.Errorf("job %s failed%s\n  %s", j.id, j.reasons(ctx), j.console())
			}
		case failures == dataflowAttempts:
			return "", fmt.Errorf("job %s goes on, and the service does not tell how: %w", j.id, err)
		default:
			failures++
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-tick.C:
		}
	}
}

// mostReasons is how many messages of a failed job are shown.
const mostReasons = 3

// reasons are the last errors that the service reports of the job, as the end of a sentence.
func (j *dataflowJob) reasons(ctx context.Context) string {
	var lines []string
	err := j.service.Projects.Locations.Jobs.Messages.List(j.project, j.region, j.id).MinimumImportance("JOB_MESSAGE_ERROR").
		Pages(ctx, func(page *df.ListJobMessagesResponse) error {
			for _, m := range page.JobMessages {
				lines = append(lines, "  "+strings.TrimSpace(m.MessageText))
			}
			return nil
		})
	if err != nil || lines == nil {
		return "; its log says why"
	}
	return ":\n" + strings.Join(lines[max(0, len(lines)-mostReasons):], "\n")
}

// metrics returns nil if the service does not tell them, which does not make the job less done.
func (j *dataflowJob) metrics(ctx context.Context, pipeline *beam.Pipeline, w io.Writer) *metrics.Results {
	found, err := dataflowlib.GetMetrics(ctx, j.service, j.project, j.region, j.id)
	if err != nil {
		fmt.Fprintf(w, "The counts are not known: %v\n", err)
		return nil
	}
	edges, _, err := pipeline.Build()
	if err != nil {
		return nil
	}
	model, err := graphx.Marshal(edges, &graphx.Options{}) // For the names of transforms.
	if err != nil {
		fmt.Fprintf(w, "The counts are not known: %v\n", err)
		return nil
	}
	return dataflowlib.FromMetricUpdates(found.Metrics, model)
}

func (j *dataflowJob) console() string {
	return fmt.Sprintf("https://console.cloud.google.com/dataflow/jobs/%s/%s?project=%s", j.region, j.id, j.project)
}

// goesOn says how to follow and how to end a job that this program leaves.
func (j *dataflowJob) goesOn(w io.Writer) {
	fmt.Fprintf(w, `Job %[1]s goes on in Dataflow, under the name %[2]s.
  see it     gcloud dataflow jobs describe %[1]s --project=%[3]s --region=%[4]s
  cancel it  gcloud dataflow jobs cancel %[1]s --project=%[3]s --region=%[4]s
`, j.id, j.name, j.project, j.region)
	if j.streaming { // Draining takes no more input, and finishes what is in flight.
		fmt.Fprintf(w, "  drain it   gcloud dataflow jobs drain %s --project=%s --region=%s\n", j.id, j.project, j.region)
	}
}
