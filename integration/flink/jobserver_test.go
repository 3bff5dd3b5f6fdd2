// SPDX-License-Identifier: Apache-2.0

package flink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/grpc"
)

// jobServer behaves to a submitter as Beam's job server for Flink was seen to. It runs nothing: a
// test says how a job ends.
type jobServer struct {
	jobpb.UnimplementedJobServiceServer
	jobpb.UnimplementedArtifactStagingServiceServer

	addr    string
	running chan struct{} // Closed when the submitter has been told that the job runs.
	ending  chan ending   // How the job ends.

	mu        sync.Mutex // Guards what follows.
	prepared  *jobpb.PrepareJobRequest
	jobID     string
	staged    [][]byte
	state     jobpb.JobState_Enum
	cancelled chan struct{} // Closed by the first Cancel.
	cancels   int
}

// ending is the last state of a job, and the error that is reported after it.
type ending struct {
	state jobpb.JobState_Enum
	text  string
}

func startJobServer(t *testing.T) *jobServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &jobServer{
		addr: listener.Addr().String(), running: make(chan struct{}), ending: make(chan ending, 1),
		cancelled: make(chan struct{}), state: jobpb.JobState_STOPPED,
	}
	server := grpc.NewServer()
	jobpb.RegisterJobServiceServer(server, s)
	jobpb.RegisterArtifactStagingServiceServer(server, s)
	go server.Serve(listener) // Ends with Stop.
	t.Cleanup(server.Stop)
	return s
}

// option is a runner option as the job server got it, or nil.
func (s *jobServer) option(key string) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.prepared.GetPipelineOptions().GetFields()["beam:option:"+key+":v1"]
	if !ok {
		return nil
	}
	return v.AsInterface()
}

func (s *jobServer) pipeline() *pipepb.Pipeline {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.prepared.GetPipeline()
}

// Prepare mangles the job's name unless the option job_name has one, as Java does.
func (s *jobServer) Prepare(_ context.Context, req *jobpb.PrepareJobRequest) (*jobpb.PrepareJobResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prepared = req
	name := strings.NewReplacer("-", "0", "_", "0").Replace(strings.ToLower(req.GetJobName())) + "-root-1126103203-78a374a3"
	if v, ok := req.GetPipelineOptions().GetFields()["beam:option:job_name:v1"]; ok {
		name = v.GetStringValue()
	}
	s.jobID = name + "_0dd7a5f4-6f3e-4c9e-9d54-000000000001"
	return &jobpb.PrepareJobResponse{
		PreparationId:           s.jobID,
		ArtifactStagingEndpoint: &pipepb.ApiServiceDescriptor{Url: s.addr},
		StagingSessionToken:     "staging token",
	}, nil
}

// ReverseArtifactRetrievalService asks for the artifacts of all environments.
func (s *jobServer) ReverseArtifactRetrievalService(stream jobpb.ArtifactStagingService_ReverseArtifactRetrievalServiceServer) error {
	hello, err := stream.Recv()
	if err != nil {
		return err
	}
	if hello.GetStagingToken() != "staging token" {
		return fmt.Errorf("unknown staging token %q", hello.GetStagingToken())
	}
	for _, environment := range s.pipeline().GetComponents().GetEnvironments() {
		err := stream.Send(&jobpb.ArtifactRequestWrapper{Request: &jobpb.ArtifactRequestWrapper_ResolveArtifact{
			ResolveArtifact: &jobpb.ResolveArtifactsRequest{Artifacts: environment.GetDependencies()},
		}})
		if err != nil {
			return err
		}
		resolved, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, artifact := range resolved.GetResolveArtifactResponse().GetReplacements() {
			if artifact.GetTypeUrn() != graphx.URNArtifactFileType {
				return fmt.Errorf("artifact of type %q", artifact.GetTypeUrn())
			}
			if err := s.stage(stream, artifact); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *jobServer) stage(stream jobpb.ArtifactStagingService_ReverseArtifactRetrievalServiceServer, artifact *pipepb.ArtifactInformation) error {
	err := stream.Send(&jobpb.ArtifactRequestWrapper{Request: &jobpb.ArtifactRequestWrapper_GetArtifact{
		GetArtifact: &jobpb.GetArtifactRequest{Artifact: artifact},
	}})
	if err != nil {
		return err
	}
	var content []byte
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return errors.New("the artifact ends without its last chunk")
		}
		if err != nil {
			return err
		}
		content = append(content, chunk.GetGetArtifactResponse().GetData()...)
		if chunk.GetIsLast() {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.staged = append(s.staged, content)
	return nil
}

// Run starts the job that was prepared.
func (s *jobServer) Run(_ context.Context, req *jobpb.RunJobRequest) (*jobpb.RunJobResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if req.GetPreparationId() != s.jobID || req.GetRetrievalToken() != "staging token" {
		return nil, fmt.Errorf("run of %v", req)
	}
	s.state = jobpb.JobState_RUNNING
	return &jobpb.RunJobResponse{JobId: s.jobID}, nil
}

// GetMessageStream tells what becomes of the job, and closes after its end.
func (s *jobServer) GetMessageStream(_ *jobpb.JobMessagesRequest, stream jobpb.JobService_GetMessageStreamServer) error {
	tell := func(state jobpb.JobState_Enum) error {
		return stream.Send(&jobpb.JobMessagesResponse{Response: &jobpb.JobMessagesResponse_StateResponse{
			StateResponse: &jobpb.JobStateEvent{State: state},
		}})
	}
	for _, state := range []jobpb.JobState_Enum{jobpb.JobState_STOPPED, jobpb.JobState_STARTING, jobpb.JobState_RUNNING} {
		if err := tell(state); err != nil {
			return err
		}
	}
	close(s.running)
	end := ending{state: jobpb.JobState_CANCELLED}
	select {
	case end = <-s.ending:
	case <-s.cancelled:
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
	s.mu.Lock()
	s.state = end.state
	s.mu.Unlock()
	if err := tell(end.state); err != nil || end.text == "" {
		return err
	}
	return stream.Send(&jobpb.JobMessagesResponse{Response: &jobpb.JobMessagesResponse_MessageResponse{
		MessageResponse: &jobpb.JobMessage{Importance: jobpb.JobMessage_JOB_MESSAGE_ERROR, MessageText: end.text},
	}})
}

// Cancel says CANCELLED; the job in Flink goes on.
func (s *jobServer) Cancel(context.Context, *jobpb.CancelJobRequest) (*jobpb.CancelJobResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancels++; s.cancels == 1 {
		close(s.cancelled)
	}
	s.state = jobpb.JobState_CANCELLED
	return &jobpb.CancelJobResponse{State: jobpb.JobState_CANCELLED}, nil
}

// GetState tells the state of the job.
func (s *jobServer) GetState(context.Context, *jobpb.GetJobStateRequest) (*jobpb.JobStateEvent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &jobpb.JobStateEvent{State: s.state}, nil
}

// GetJobMetrics has none.
func (s *jobServer) GetJobMetrics(context.Context, *jobpb.GetJobMetricsRequest) (*jobpb.GetJobMetricsResponse, error) {
	return &jobpb.GetJobMetricsResponse{Metrics: &jobpb.MetricResults{}}, nil
}

func (s *jobServer) cancelCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cancels
}

func (s *jobServer) stagedBytes() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, content := range s.staged {
		n += len(content)
	}
	return n
}
