// SPDX-License-Identifier: Apache-2.0

// Package fake is a Dataflow service for tests: the part of its REST API that clients use, over a
// table of jobs. It checks what a job has staged in Cloud Storage against the hashes in the job,
// and runs it on a runner behind Beam's Job API, with the staged program as worker. It has nothing
// else of Dataflow: no scaling, no draining, no update of state.
package fake

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	df "google.golang.org/api/dataflow/v1b3"
)

// Config says how a service works.
type Config struct {
	// Runner runs the jobs. Without one a bounded job is done once it has been checked, and an
	// unbounded one runs until it is told to end.
	Runner jobpb.JobServiceClient
	// Read returns the content of an object in Cloud Storage, which a URL gs://BUCKET/OBJECT names.
	Read func(ctx context.Context, url string) ([]byte, error)
	// WorkerEnv is the environment that workers have beside that of this process.
	WorkerEnv map[string]string
	// Dir is a folder for the workers' programs.
	Dir string
	// Hold is how long the answer about a job may wait for the end of the job.
	Hold time.Duration
	// Log gets a line for each request.
	Log func(format string, args ...any)
}

// Server is a service. Close ends what it runs.
type Server struct {
	cfg   Config
	ctx   context.Context // Of the runs.
	stop  context.CancelFunc
	runs  sync.WaitGroup
	mu    sync.Mutex // Guards the fields below.
	jobs  []*job     // In the order in which they came.
	blind int        // How many lists to come are empty.
	posts int
}

// job is a row of the table.
type job struct {
	df.Job
	changed chan struct{} // Is closed, and another put in its place, when the state changes.
	inner   string        // ID at the runner; empty before it runs.
	errors  []string      // Messages of importance ERROR.
}

// New returns a service without jobs.
func New(cfg Config) *Server {
	ctx, stop := context.WithCancel(context.Background())
	return &Server{cfg: cfg, ctx: ctx, stop: stop}
}

// Close ends all runs and waits for them.
func (s *Server) Close() {
	for _, j := range s.Jobs() {
		s.cancel(j.Id)
	}
	s.stop()
	s.runs.Wait()
}

// Jobs returns all jobs as they were submitted, with their states.
func (s *Server) Jobs() []df.Job {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []df.Job
	for _, j := range s.jobs {
		all = append(all, j.Job)
	}
	return all
}

// Blind makes the next lists empty: so they are for a client that asks before another client's
// job is there.
func (s *Server) Blind(lists int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blind = lists
}

// Submissions returns how many jobs were sent, taken or not.
func (s *Server) Submissions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.posts
}

const (
	pending   = "JOB_STATE_PENDING"
	running   = "JOB_STATE_RUNNING"
	done      = "JOB_STATE_DONE"
	failed    = "JOB_STATE_FAILED"
	cancelled = "JOB_STATE_CANCELLED"
	drained   = "JOB_STATE_DRAINED"
	updated   = "JOB_STATE_UPDATED"
)

func terminal(state string) bool {
	return slices.Contains([]string{done, failed, cancelled, drained, updated}, state)
}

// ServeHTTP answers a request as Dataflow, or as the server of tokens.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Log != nil {
		s.cfg.Log("%s %s, %d bytes, for %s", r.Method, r.URL, r.ContentLength, r.UserAgent())
	}
	if r.Method == http.MethodPost && r.URL.Path == "/token" {
		reply(w, map[string]any{"access_token": "fake", "token_type": "Bearer", "expires_in": 3600})
		return
	}
	words := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(words) < 6 || words[0] != "v1b3" || words[1] != "projects" || words[3] != "locations" || words[5] != "jobs" {
		refuse(w, http.StatusNotFound, "NOT_FOUND", "no such path: "+r.URL.Path)
		return
	}
	if r.Header.Get("Authorization") != "Bearer fake" {
		refuse(w, http.StatusUnauthorized, "UNAUTHENTICATED", "the request has no token")
		return
	}
	rest := words[6:]
	switch {
	case len(rest) == 0 && r.Method == http.MethodPost:
		s.create(w, r, words[2], words[4])
	case len(rest) == 0 && r.Method == http.MethodGet:
		reply(w, df.ListJobsResponse{Jobs: s.list(r.URL.Query().Get("filter"))})
	case len(rest) == 1 && r.Method == http.MethodGet:
		s.get(w, r, rest[0])
	case len(rest) == 1 && r.Method == http.MethodPut:
		s.put(w, r, rest[0])
	case len(rest) == 2 && rest[1] == "metrics":
		s.metrics(w, r, rest[0])
	case len(rest) == 2 && rest[1] == "messages":
		s.messages(w, rest[0])
	default:
		refuse(w, http.StatusNotFound, "NOT_FOUND", "no such method: "+r.Method+" "+r.URL.Path)
	}
}

func reply(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(value) // An error is the client's, who has gone.
}

func refuse(w http.ResponseWriter, code int, status, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": code, "message": message, "status": status}})
}

func noJob(w http.ResponseWriter, id string) {
	refuse(w, http.StatusNotFound, "NOT_FOUND", "no job "+id)
}

// find needs mu.
func (s *Server) find(id string) *job {
	if i := slices.IndexFunc(s.jobs, func(j *job) bool { return j.Id == id }); i >= 0 {
		return s.jobs[i]
	}
	return nil
}

// set changes a state that is not terminal. It needs mu.
func (s *Server) set(j *job, state string) {
	if terminal(j.CurrentState) {
		return
	}
	j.CurrentState, j.CurrentStateTime = state, now()
	close(j.changed)
	j.changed = make(chan struct{})
}

func now() string { return time.Now().UTC().Format(time.RFC3339Nano) }

func (s *Server) create(w http.ResponseWriter, r *http.Request, project, location string) {
	j := &job{changed: make(chan struct{})}
	if err := json.NewDecoder(r.Body).Decode(&j.Job); err != nil {
		refuse(w, http.StatusBadRequest, "INVALID_ARGUMENT", err.Error())
		return
	}
	replaced, taken := s.add(j, project, location)
	if taken {
		refuse(w, http.StatusConflict, "ALREADY_EXISTS", "(x): The workflow could not be created. already exists")
		return
	}
	if replaced != "" {
		s.runs.Go(func() { s.cancel(replaced) })
	}
	s.runs.Go(func() { s.run(j) })
	reply(w, s.summary(j, true))
}

// add puts a job into the table, and ends the one that it replaces.
func (s *Server) add(j *job, project, location string) (replaced string, taken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.posts++
	for _, other := range s.jobs {
		if other.Name == j.Name && !terminal(other.CurrentState) && other.Id != j.ReplaceJobId {
			return "", true
		}
	}
	j.Id = fmt.Sprintf("2026-01-01_00_00_00-%d", 1000+len(s.jobs))
	j.ProjectId, j.Location = project, location
	j.CurrentState, j.CreateTime = pending, now()
	if old := s.find(j.ReplaceJobId); old != nil {
		s.set(old, updated)
		old.ReplacedByJobId = j.Id
		replaced = old.Id
	}
	s.jobs = append(s.jobs, j)
	return replaced, false
}

func (s *Server) list(filter string) []*df.Job {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blind > 0 {
		s.blind--
		return nil
	}
	var found []*df.Job
	for _, j := range s.jobs {
		if filter != "ACTIVE" || !terminal(j.CurrentState) {
			found = append(found, summaryOf(j, false))
		}
	}
	return found
}

func (s *Server) summary(j *job, described bool) *df.Job {
	s.mu.Lock()
	defer s.mu.Unlock()
	return summaryOf(j, described)
}

// summaryOf is what a view of the job shows: labels are in a description and not in a summary.
func summaryOf(j *job, described bool) *df.Job {
	shown := &df.Job{
		Id: j.Id, Name: j.Name, Type: j.Type, ProjectId: j.ProjectId, Location: j.Location, CreateTime: j.CreateTime,
		CurrentState: j.CurrentState, CurrentStateTime: j.CurrentStateTime, ReplaceJobId: j.ReplaceJobId, ReplacedByJobId: j.ReplacedByJobId,
	}
	if described {
		shown.Labels = j.Labels
	}
	return shown
}

// get holds the answer until the job has ended, for clients that would ask again much later. Who
// asks for a view wants to know now.
func (s *Server) get(w http.ResponseWriter, r *http.Request, id string) {
	view := r.URL.Query().Get("view")
	limit := time.NewTimer(s.cfg.Hold)
	defer limit.Stop()
	for {
		s.mu.Lock()
		j := s.find(id)
		if j == nil {
			s.mu.Unlock()
			noJob(w, id)
			return
		}
		shown, changed := summaryOf(j, view != "" && view != "JOB_VIEW_SUMMARY"), j.changed
		s.mu.Unlock()
		if view != "" || terminal(shown.CurrentState) {
			reply(w, shown)
			return
		}
		select {
		case <-changed:
		case <-limit.C:
			reply(w, shown)
			return
		case <-r.Context().Done():
			return
		}
	}
}

// put ends a job: a drain is no different from a cancel here.
func (s *Server) put(w http.ResponseWriter, r *http.Request, id string) {
	var wanted df.Job
	if err := json.NewDecoder(r.Body).Decode(&wanted); err != nil {
		refuse(w, http.StatusBadRequest, "INVALID_ARGUMENT", err.Error())
		return
	}
	if wanted.RequestedState != cancelled && wanted.RequestedState != drained {
		refuse(w, http.StatusBadRequest, "INVALID_ARGUMENT", "requestedState is "+wanted.RequestedState)
		return
	}
	s.mu.Lock()
	j := s.find(id)
	if j != nil {
		s.set(j, wanted.RequestedState)
	}
	s.mu.Unlock()
	if j == nil {
		noJob(w, id)
		return
	}
	s.runs.Go(func() { s.cancel(id) })
	reply(w, s.summary(j, false))
}

// cancel ends what the runner does for a job. An error would say that this has ended by itself.
func (s *Server) cancel(id string) {
	s.mu.Lock()
	inner := s.find(id).inner
	s.mu.Unlock()
	if inner != "" {
		s.cfg.Runner.Cancel(s.ctx, &jobpb.CancelJobRequest{JobId: inner})
	}
}

func (s *Server) messages(w http.ResponseWriter, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.find(id)
	if j == nil {
		noJob(w, id)
		return
	}
	var list df.ListJobMessagesResponse
	for _, text := range j.errors {
		list.JobMessages = append(list.JobMessages, &df.JobMessage{MessageImportance: "JOB_MESSAGE_ERROR", MessageText: text})
	}
	reply(w, list)
}

func (s *Server) metrics(w http.ResponseWriter, r *http.Request, id string) {
	s.mu.Lock()
	j := s.find(id)
	s.mu.Unlock()
	if j == nil {
		noJob(w, id)
		return
	}
	counters, err := s.counters(r.Context(), id)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "INTERNAL", err.Error())
		return
	}
	reply(w, df.JobMetrics{MetricTime: now(), Metrics: counters})
}

// counters are the counters of users, as the runner has them.
func (s *Server) counters(ctx context.Context, id string) ([]*df.MetricUpdate, error) {
	s.mu.Lock()
	inner := s.find(id).inner
	s.mu.Unlock()
	if inner == "" {
		return nil, nil
	}
	found, err := s.cfg.Runner.GetJobMetrics(ctx, &jobpb.GetJobMetricsRequest{JobId: inner})
	if err != nil {
		return nil, err
	}
	committed, err := updates(found.GetMetrics().GetCommitted(), nil)
	if err != nil {
		return nil, err
	}
	attempted, err := updates(found.GetMetrics().GetAttempted(), map[string]string{"tentative": "true"})
	if err != nil {
		return nil, err
	}
	all := append(committed, attempted...)
	slices.SortFunc(all, func(a, b *df.MetricUpdate) int {
		return cmp.Or(strings.Compare(a.Name.Context["step"], b.Name.Context["step"]), strings.Compare(a.Name.Name, b.Name.Name))
	})
	return all, nil
}

// updates are user counters as Dataflow tells them, with something further in their context.
func updates(infos []*pipepb.MonitoringInfo, further map[string]string) ([]*df.MetricUpdate, error) {
	var all []*df.MetricUpdate
	for _, info := range infos {
		if info.GetUrn() != "beam:metric:user:sum_int64:v1" {
			continue
		}
		value, err := varint(info.GetPayload())
		if err != nil {
			return nil, fmt.Errorf("counter %v: %w", info.GetLabels(), err)
		}
		labels := info.GetLabels()
		place := map[string]string{"namespace": labels["NAMESPACE"], "step": labels["PTRANSFORM"]}
		maps.Copy(place, further)
		all = append(all, &df.MetricUpdate{Scalar: value, Name: &df.MetricStructuredName{Name: labels["NAME"], Origin: "user", Context: place}})
	}
	return all, nil
}

// Counter sums a counter of a job over its steps, of all that the job has done for good.
func (s *Server) Counter(ctx context.Context, id, namespace, name string) (int64, error) {
	all, err := s.counters(ctx, id)
	var n int64
	for _, m := range all {
		if m.Name.Context["namespace"] == namespace && m.Name.Name == name && m.Name.Context["tentative"] == "" {
			n += m.Scalar.(int64)
		}
	}
	return n, err
}
