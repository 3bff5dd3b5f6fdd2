// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/container/tools"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/metricsx"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/util/hooks"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/universal/extworker"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/universal/runnerlib"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/util/grpcx"
)

// Types of environment, in small letters.
const (
	envProcess  = "process"
	envLoopback = "loopback"
	envDocker   = "docker"
	envExternal = "external"
)

var (
	workerPath = flag.String("worker_path", "",
		"With --environment_type=PROCESS: the absolute path of this program on the machines of the workers.\n"+
			"Default: its path here. Example: --worker_path=/opt/hornbeam/frauddetection")
	runnerOptions = optionList{}
)

func init() {
	flag.Var(&runnerOptions, "runner_option",
		"An option for the runner, KEY=VALUE, in the runner's own words; may be repeated. VALUE is JSON or else text.\n"+
			"On flink these are set unless you set them:\n  "+strings.Join(flinkDefaultsHelp(), "\n  ")+"\n"+
			"Example: --runner_option=checkpointing_interval=2000 --runner_option=state_backend=rocksdb")
}

// portable submits a pipeline through Beam's Job API.
type portable struct {
	// options completes the runner options that the user gave, for this pipeline. Nil adds nothing.
	options func(given optionList, pipeline *pipepb.Pipeline) optionList
	// check refuses what the runner cannot do. Nil refuses nothing.
	check func(pipeline *pipepb.Pipeline, options optionList) error
	// goesOn says how to follow, stop and continue a job that this program leaves.
	goesOn func(w io.Writer, jobID string)
}

// portableFlags are the flags that every portable remote reads.
var portableFlags = []string{
	"endpoint", "environment_type", "environment_config", "worker_path", "runner_option", "async", "job_id",
}

// universalRemote is a runner behind Beam's Job API of which nothing more is known, so it may rewind.
var universalRemote = newPortable(Pace{}, Limits{Rewinds: true}, &portable{
	goesOn: func(w io.Writer, id string) {
		fmt.Fprintf(w, "What becomes of job %s now is the runner's business; cancel it there.\n", id)
	},
})

func newPortable(pace Pace, limits Limits, p *portable) *remote {
	return &remote{flags: portableFlags, pace: pace, limits: limits, configure: configurePortable, run: p.run}
}

// configurePortable checks the flags about endpoint and workers, and fills in what is not set.
func configurePortable(p Program) error {
	var errs []error
	if *jobopts.Endpoint == "" {
		errs = append(errs, fmt.Errorf("--endpoint is missing: give HOST:PORT of the job server, such as --endpoint=localhost:8099"))
	}
	if *jobopts.EnvironmentType == "" {
		*jobopts.EnvironmentType = envProcess
	}
	env := strings.ToLower(*jobopts.EnvironmentType)
	if env != envProcess && *workerPath != "" {
		errs = append(errs, fmt.Errorf("--worker_path is for --environment_type=PROCESS, not for %s", *jobopts.EnvironmentType))
	}
	switch env {
	case envProcess:
		if err := configureProcess(p.Name); err != nil {
			errs = append(errs, err)
		}
	case envLoopback:
		if *jobopts.Async {
			errs = append(errs, errors.New("--async with --environment_type=LOOPBACK: the worker is in this process and would end with it; use PROCESS"))
		}
	case envDocker, envExternal:
		if *jobopts.EnvironmentConfig == "" && env == envExternal {
			errs = append(errs, errors.New("--environment_type=EXTERNAL needs --environment_config=HOST:PORT of the worker pool"))
		}
		if *jobopts.WorkerBinary == "" {
			self, err := os.Executable()
			if err != nil {
				errs = append(errs, err)
			}
			*jobopts.WorkerBinary = self
		}
	default:
		errs = append(errs, fmt.Errorf("--environment_type=%s: use PROCESS, LOOPBACK, EXTERNAL or DOCKER", *jobopts.EnvironmentType))
	}
	return errors.Join(errs...)
}

// configureProcess makes this program the command of the workers.
func configureProcess(program string) error {
	if *jobopts.EnvironmentConfig != "" {
		if *workerPath != "" {
			return errors.New("--worker_path and --environment_config both say how a worker is started: give one of them")
		}
		return nil
	}
	command := *workerPath
	if command == "" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		if strings.Contains(self, string(filepath.Separator)+"go-build") {
			return fmt.Errorf("the workers need a program that stays, and the one of go run goes: build it first (go build -o %[1]s ./pipelines/%[1]s), "+
				"name one with --worker_path, or try --environment_type=LOOPBACK", program)
		}
		command = self
	}
	if !filepath.IsAbs(command) {
		return fmt.Errorf("--worker_path=%s: give an absolute path, the same on every machine that runs workers", command)
	}
	config, err := json.Marshal(map[string]any{"command": command, "env": map[string]string{workerVariable: "1"}})
	if err != nil {
		return err
	}
	*jobopts.EnvironmentConfig = string(config)
	return nil
}

func (r *portable) run(ctx context.Context, pipeline *beam.Pipeline, w io.Writer) (outcome, error) {
	model, stopWorker, err := marshal(ctx, pipeline)
	if err != nil {
		return outcome{}, err
	}
	defer stopWorker()
	stableNames(model)
	options := runnerOptions
	if r.options != nil {
		options = r.options(options, model)
	}
	if r.check != nil {
		if err := r.check(model, options); err != nil {
			return outcome{}, err
		}
	}
	artifact, remove, err := workerArtifact()
	if err != nil {
		return outcome{}, err
	}
	defer remove()
	if err := runnerlib.UpdateGoEnvironmentWorker(artifact, model); err != nil {
		return outcome{}, fmt.Errorf("worker binary %s: %w", artifact, err)
	}
	cc, err := grpcx.Dial(ctx, *jobopts.Endpoint, dialTimeout)
	if err != nil {
		return outcome{}, fmt.Errorf("no job server answers at --endpoint=%s within %v: is it running there? %w", *jobopts.Endpoint, dialTimeout, err)
	}
	defer cc.Close()
	client := jobpb.NewJobServiceClient(cc)
	id, err := submit(ctx, client, model, options, artifact)
	if err != nil {
		return outcome{}, err
	}
	fmt.Fprintf(w, "Job %s is submitted to %s\n", id, *jobopts.Endpoint)
	if *jobopts.Async {
		r.goesOn(w, id)
		return outcome{job: id, state: running}, nil
	}
	err = runnerlib.WaitForCompletion(ctx, client, id)
	if ctx.Err() != nil {
		r.leave(client, id, w)
		return outcome{}, errDetached
	}
	if err != nil {
		return outcome{}, err
	}
	end := ended(ctx, client, model, id)
	if end.state == cancelled {
		r.goesOn(w, id)
		return outcome{}, fmt.Errorf("job %s is %s, says the job server", id, cancelled)
	}
	return end, nil
}

const cancelled = "CANCELLED"

// dialTimeout is how long the job server may take to answer.
const dialTimeout = 20 * time.Second

// marshal encodes the pipeline with the environment of its workers. A worker in this process serves
// until stop is called.
func marshal(ctx context.Context, pipeline *beam.Pipeline) (model *pipepb.Pipeline, stop func(), err error) {
	edges, _, err := pipeline.Build()
	if err != nil {
		return nil, nil, err
	}
	stop = func() {}
	kind, config := graphx.URNEnvDocker, *jobopts.EnvironmentConfig
	switch strings.ToLower(*jobopts.EnvironmentType) {
	case envProcess:
		kind = graphx.URNEnvProcess
	case envExternal:
		kind = graphx.URNEnvExternal
	case envLoopback:
		kind = graphx.URNEnvExternal
		pool, err := extworker.StartLoopback(ctx, 0)
		if err != nil {
			return nil, nil, fmt.Errorf("start a worker in this process: %w", err)
		}
		stop = func() { pool.Stop(context.WithoutCancel(ctx)) }
		config = pool.EnvironmentConfig(ctx)
	default:
		if config == "" {
			config = core.DefaultDockerImage
		}
	}
	environment, err := graphx.CreateEnvironment(ctx, kind, func(context.Context) string { return config })
	if err == nil {
		model, err = graphx.Marshal(edges, &graphx.Options{
			Environment:           environment,
			PipelineResourceHints: jobopts.GetPipelineResourceHints(),
		})
	}
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("encode the pipeline: %w", err)
	}
	return model, stop, nil
}

// stableNames names each collection after the transform that makes it. Beam's Go SDK numbers
// them, so that a new step anywhere would rename all that come after it; and runners find the state
// in a savepoint by these names.
func stableNames(model *pipepb.Pipeline) {
	components := model.GetComponents()
	for _, transform := range components.GetTransforms() {
		if len(transform.GetSubtransforms()) > 0 {
			continue
		}
		for tag, id := range transform.GetOutputs() {
			if collection := components.GetPcollections()[id]; collection != nil {
				collection.UniqueName = transform.GetUniqueName() + "." + tag
			}
		}
	}
}

// workerArtifact is the file that is staged as the worker's binary. A worker that is started from
// its own path, or is in this process, reads none; so a few bytes stand for it and not a hundred
// megabytes, which job servers keep for every job.
func workerArtifact() (name string, remove func(), err error) {
	if *jobopts.WorkerBinary != "" {
		return *jobopts.WorkerBinary, func() {}, nil
	}
	file, err := os.CreateTemp("", "hornbeam-worker-*")
	if err != nil {
		return "", nil, err
	}
	remove = func() { os.Remove(file.Name()) }
	_, err = file.WriteString("The worker is not in this file: it is started from its own path.\n")
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		remove()
		return "", nil, err
	}
	return file.Name(), remove, nil
}

// submit prepares, stages and runs the job.
func submit(ctx context.Context, client jobpb.JobServiceClient, model *pipepb.Pipeline, options optionList, artifact string) (string, error) {
	hooks.SerializeHooksToOptions()
	beam.PipelineOptions.LoadOptionsFromFlags(nil)
	all, err := tools.OptionsToProto(runtime.RawOptionsWrapper{
		Options:      beam.PipelineOptions.Export(),
		AppName:      *jobopts.JobName,
		Experiments:  append(jobopts.GetExperiments(), "beam_fn_api"),
		RetainDocker: *jobopts.RetainDockerContainers,
		Parallelism:  *jobopts.Parallelism,
	})
	if err != nil {
		return "", fmt.Errorf("encode the options: %w", err)
	}
	if err := options.addTo(all); err != nil {
		return "", err
	}
	prepared, err := client.Prepare(ctx, &jobpb.PrepareJobRequest{Pipeline: model, PipelineOptions: all, JobName: *jobopts.JobName})
	if err != nil {
		return "", fmt.Errorf("the job server does not take the pipeline: %w", err)
	}
	token, err := runnerlib.Stage(ctx, prepared.GetPreparationId(), prepared.GetArtifactStagingEndpoint().GetUrl(), artifact, prepared.GetStagingSessionToken())
	if err != nil {
		return "", fmt.Errorf("send the worker's files to the job server: %w", err)
	}
	return runnerlib.Submit(ctx, client, prepared.GetPreparationId(), token)
}

// leave says what becomes of the job when the user ends this program. A job whose worker is in this
// process cannot go on, so it is cancelled.
func (r *portable) leave(client jobpb.JobServiceClient, id string, w io.Writer) {
	fmt.Fprintln(w)
	if strings.ToLower(*jobopts.EnvironmentType) == envLoopback {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		fmt.Fprintf(w, "Its worker is in this process, so job %s cannot go on: the job server is asked to cancel it.\n", id)
		if _, err := client.Cancel(ctx, &jobpb.CancelJobRequest{JobId: id}); err != nil {
			fmt.Fprintf(w, "It does not: %v\n", err)
		}
	}
	r.goesOn(w, id)
}

// ended reads how a job has ended, and its metrics if the runner has them.
func ended(ctx context.Context, client jobpb.JobServiceClient, model *pipepb.Pipeline, id string) outcome {
	end := outcome{job: id, state: "DONE"}
	if state, err := client.GetState(ctx, &jobpb.GetJobStateRequest{JobId: id}); err == nil {
		end.state = state.GetState().String()
	}
	if reply, err := client.GetJobMetrics(ctx, &jobpb.GetJobMetricsRequest{JobId: id}); err == nil {
		end.metrics = metricsx.FromMonitoringInfos(model, reply.GetMetrics().GetAttempted(), reply.GetMetrics().GetCommitted())
	}
	return end
}
