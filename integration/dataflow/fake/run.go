// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/apache/beam/sdks/v2/go/container/tools"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/universal/runnerlib"
	df "google.golang.org/api/dataflow/v1b3"
	"google.golang.org/protobuf/proto"
)

// Options are what a job carries for the SDK.
type Options struct {
	Options struct {
		PipelineURL       string   `json:"pipelineUrl"`
		PipelineProtoHash string   `json:"pipelineProtoHash"`
		Region            string   `json:"region"`
		TempLocation      string   `json:"tempLocation"`
		Experiments       []string `json:"experiments"`
	} `json:"options"`
	Go runtime.RawOptions `json:"beam:option:go_options:v1"`
}

// ReadOptions decodes the SDK's options of a job.
func ReadOptions(j df.Job) (Options, error) {
	var o Options
	if j.Environment == nil {
		return o, errors.New("the job has no environment")
	}
	err := json.Unmarshal(j.Environment.SdkPipelineOptions, &o)
	return o, err
}

// run is the life of a job after its submission.
func (s *Server) run(j *job) {
	err := s.execute(j)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		j.errors = append(j.errors, err.Error())
		s.set(j, failed)
	case s.cfg.Runner != nil || j.Type == "JOB_TYPE_BATCH":
		s.set(j, done)
	}
}

func (s *Server) execute(j *job) error {
	options, err := ReadOptions(j.Job)
	if err != nil {
		return fmt.Errorf("decode the options: %w", err)
	}
	encoded, err := s.fetch(options.Options.PipelineURL, options.Options.PipelineProtoHash)
	if err != nil {
		return fmt.Errorf("the pipeline: %w", err)
	}
	model := &pipepb.Pipeline{}
	if err := proto.Unmarshal(encoded, model); err != nil {
		return fmt.Errorf("decode the pipeline: %w", err)
	}
	if len(j.Environment.WorkerPools) != 1 || len(j.Environment.WorkerPools[0].Packages) != 1 {
		return errors.New("the job has not one pool of workers with one package")
	}
	pack := j.Environment.WorkerPools[0].Packages[0]
	worker, err := s.fetch(pack.Location, pack.Sha256)
	if err != nil {
		return fmt.Errorf("the worker: %w", err)
	}
	if err := checkEnvironment(model, pack); err != nil {
		return err
	}
	s.mu.Lock()
	s.set(j, running)
	s.mu.Unlock()
	if s.cfg.Runner == nil {
		return nil
	}
	program := filepath.Join(s.cfg.Dir, "worker-"+j.Id)
	if err := os.WriteFile(program, worker, 0o755); err != nil {
		return err
	}
	if err := s.bootItself(model, program); err != nil {
		return err
	}
	return s.runInner(j, model, options, program)
}

// fetch reads an object that has to have the hash.
func (s *Server) fetch(url, hash string) ([]byte, error) {
	content, err := s.cfg.Read(s.ctx, url)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", url, err)
	}
	sum := sha256.Sum256(content)
	if got := hex.EncodeToString(sum[:]); got != hash {
		return nil, fmt.Errorf("%s has SHA-256 %s, and the job says %s", url, got, hash)
	}
	return content, nil
}

// checkEnvironment checks that the model's environments are containers with the same worker.
func checkEnvironment(model *pipepb.Pipeline, pack *df.Package) error {
	for id, environment := range model.GetComponents().GetEnvironments() {
		if environment.GetUrn() != "beam:env:docker:v1" {
			return fmt.Errorf("environment %s is %s and no container", id, environment.GetUrn())
		}
		if len(environment.GetDependencies()) != 1 {
			return fmt.Errorf("environment %s has %d dependencies, want the worker alone", id, len(environment.GetDependencies()))
		}
		dependency, payload := environment.GetDependencies()[0], &pipepb.ArtifactUrlPayload{}
		if err := proto.Unmarshal(dependency.GetTypePayload(), payload); err != nil {
			return err
		}
		if dependency.GetTypeUrn() != "beam:artifact:type:url:v1" || payload.GetUrl() != pack.Location || payload.GetSha256() != pack.Sha256 {
			return fmt.Errorf("environment %s depends on %s (%s) and not on the package %s", id, payload.GetUrl(), dependency.GetTypeUrn(), pack.Location)
		}
	}
	return nil
}

// bootItself makes the workers processes of a program that asks the runner for all it needs.
func (s *Server) bootItself(model *pipepb.Pipeline, program string) error {
	env := map[string]string{"HORNBEAM_WORKER": "1"}
	for key, value := range s.cfg.WorkerEnv {
		env[key] = value
	}
	payload, err := proto.Marshal(&pipepb.ProcessPayload{Command: program, Env: env})
	if err != nil {
		return err
	}
	for _, environment := range model.GetComponents().GetEnvironments() {
		environment.Urn, environment.Payload, environment.Dependencies = "beam:env:process:v1", payload, nil
	}
	return nil
}

// runInner runs the model on the runner, and returns when that has ended.
func (s *Server) runInner(j *job, model *pipepb.Pipeline, options Options, program string) error {
	all, err := tools.OptionsToProto(runtime.RawOptionsWrapper{Options: options.Go, AppName: j.Name, Experiments: []string{"beam_fn_api"}})
	if err != nil {
		return err
	}
	prepared, err := s.cfg.Runner.Prepare(s.ctx, &jobpb.PrepareJobRequest{Pipeline: model, PipelineOptions: all, JobName: j.Name})
	if err != nil {
		return err
	}
	id, token := prepared.GetPreparationId(), prepared.GetStagingSessionToken()
	if token, err = runnerlib.Stage(s.ctx, id, prepared.GetArtifactStagingEndpoint().GetUrl(), program, token); err != nil {
		return err
	}
	inner, err := runnerlib.Submit(s.ctx, s.cfg.Runner, id, token)
	if err != nil {
		return err
	}
	s.mu.Lock()
	j.inner = inner
	ended := terminal(j.CurrentState)
	s.mu.Unlock()
	if ended { // It was cancelled before the runner had it.
		s.cancel(j.Id)
	}
	err = runnerlib.WaitForCompletion(s.ctx, s.cfg.Runner, inner)
	if errors.Is(s.ctx.Err(), context.Canceled) {
		return nil
	}
	return err
}

// varint decodes the payload of a counter.
func varint(payload []byte) (int64, error) {
	value, n := binary.Uvarint(payload)
	if n != len(payload) {
		return 0, fmt.Errorf("%x is no varint", payload)
	}
	return int64(value), nil
}
