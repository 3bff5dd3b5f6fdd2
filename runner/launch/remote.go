// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"

	"github.com/hornbeam-dev/hornbeam/runner"
)

// remote is what launch does for a runner that is not Hornbeam.
type remote struct {
	flags  []string // Names of the flags that it reads, in the order in which --help shows them.
	pace   Pace     // What its sources have to keep to.
	limits Limits
	// configure checks and completes the flags, before the pipeline is built. Its error is for the
	// user and names all that is wrong.
	configure func(p Program) error
	// run submits the pipeline and waits for the end of the job, unless the job is not to be waited
	// for. What the user should know while it runs goes to w.
	run func(ctx context.Context, pipeline *beam.Pipeline, w io.Writer) (outcome, error)
}

// outcome is what became of a job on a remote runner.
type outcome struct {
	job     string           // The job's ID at the runner; empty if it has told none.
	state   string           // As JobState of Beam's Job API says it: DONE, or RUNNING for a job that was not waited for.
	metrics *metrics.Results // Nil if they are not known.
	said    string           // What became of the job, in place of counts; empty if it has run.
}

// remotes are the runners that launch knows more of than how to call them.
var remotes = map[string]*remote{
	"flink":       flinkRemote,
	"FlinkRunner": flinkRemote,

	"universal":      universalRemote,
	"PortableRunner": universalRemote,
	"portable":       universalRemote,

	"dataflow":       dataflowRemote,
	"DataflowRunner": dataflowRemote,
}

// remoteOf is the runner of that name. Beam reports a name that nobody has registered.
func remoteOf(name string) *remote {
	if r, ok := remotes[name]; ok {
		return r
	}
	return &remote{
		configure: func(Program) error { return nil },
		run: func(ctx context.Context, pipeline *beam.Pipeline, _ io.Writer) (outcome, error) {
			result, err := beam.Run(ctx, name, pipeline)
			if err != nil || result == nil {
				return outcome{state: "DONE"}, err
			}
			m := result.Metrics()
			return outcome{job: result.JobID(), state: "DONE", metrics: &m}, nil
		},
	}
}

// errDetached says that this program no longer waits for a job that goes on.
var errDetached = errors.New("the job goes on")

func runRemote(ctx context.Context, name string, p Program, stdout, stderr io.Writer) error {
	r := remoteOf(name)
	if err := errors.Join(misplaced(name, p), checkNames(), r.configure(p)); err != nil {
		return err
	}
	began := time.Now()
	resumed := *jobID != ""
	if !resumed {
		*jobID = *jobopts.JobName + "-" + began.UTC().Format("20060102-150405")
	}
	job := Job{ID: *jobID, Resumed: resumed, Pace: r.pace, Limits: r.limits}
	pipeline, scope := beam.NewPipelineWithRoot()
	if err := p.Build(scope, job); err != nil {
		return err
	}
	end, err := r.run(ctx, pipeline, stderr)
	if err != nil {
		return err
	}
	s := summary{Job: job.ID, RunnerJob: end.job, State: end.state, Seconds: time.Since(began).Seconds()}
	if end.metrics != nil && p.Totals != nil {
		s.Totals = p.Totals(end.metrics.AllMetrics())
	}
	if end.said != "" && !*asJSON {
		fmt.Fprintf(stdout, "%s %s\n", s.Job, end.said)
		return nil
	}
	if end.state == running && !*asJSON {
		fmt.Fprintf(stdout, "%s is submitted as %s after %.1f s; it goes on without this program\n", s.Job, s.RunnerJob, s.Seconds)
		return nil
	}
	report(stdout, p, s)
	return nil
}

// launchFlags are the flags of this package that some runners do not read.
var launchFlags = []string{"job_id", "runner_option", "worker_path"}

// misplaced refuses flags that would do nothing on a runner: Hornbeam's on another one, and those of the remotes on
// Hornbeam. The pipeline may read any.
func misplaced(name string, p Program) error {
	others, known := slices.Concat(hornbeamFlags, launchFlags), slices.Concat(remoteOf(name).flags, []string{"job_id"})
	if name == runner.Name {
		others, known = allRemoteFlags(), []string{"experiments"}
	}
	var given []string
	flag.Visit(func(f *flag.Flag) {
		if slices.Contains(others, f.Name) && !slices.Contains(known, f.Name) && !slices.Contains(p.Flags, f.Name) {
			given = append(given, "--"+f.Name)
		}
	})
	if given == nil {
		return nil
	}
	return fmt.Errorf("%s: not for --runner=%s", strings.Join(given, ", "), name)
}

// Names and IDs of jobs become part of what connectors write. Hornbeam takes the same names, and its IDs are such.
var (
	jobNames = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$`)
	jobIDs   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,149}$`)
)

// checkNames checks the flags that name the job.
func checkNames() error {
	var errs []error
	if !jobNames.MatchString(*jobopts.JobName) {
		errs = append(errs, fmt.Errorf("--job_name=%s: use up to 100 letters, digits, '-' and '_', beginning with a letter or digit", *jobopts.JobName))
	}
	if *jobID != "" && !jobIDs.MatchString(*jobID) {
		errs = append(errs, fmt.Errorf("--job_id=%s: give the ID that the job printed when it began, such as fraud-20261101-101500", *jobID))
	}
	return errors.Join(errs...)
}

// running is the state of a job that is not waited for.
const running = "RUNNING"
