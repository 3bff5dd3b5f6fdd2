// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/driver"
	"github.com/hornbeam-dev/hornbeam/runner/internal/engine"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/worker/embedded"
)

// Running is a job at work.
type Running struct {
	job    *Job
	plan   *plan.Plan
	driver *driver.Job
	worker *embedded.Worker
	cancel context.CancelCauseFunc
}

// Stop ends the work of the job; what it has done is durable, and it can be resumed.
func (r *Running) Stop() { r.driver.Stop() }

// Cancel ends the job for good.
func (r *Running) Cancel() { r.driver.Cancel("cancelled by the user") }

// Snapshot describes the job as it is now.
func (r *Running) Snapshot() engine.Snapshot { return r.driver.Snapshot() }

// Wait waits until the job has ended and tells how.
func (r *Running) Wait() (*Result, error) {
	ended := make(chan struct{})
	go func() {
		select {
		case err := <-r.job.failed:
			r.cancel(fmt.Errorf("the state directory failed: %w", err))
		case <-ended:
		}
	}()
	final, err := r.driver.Wait()
	close(ended)
	r.cancel(nil)
	if closed := r.worker.Close(); err == nil && closed != nil {
		err = fmt.Errorf("teardown: %w", closed)
	}
	if err != nil {
		if errors.Is(err, context.Canceled) {
			err = ErrStopped
		}
		return nil, err
	}
	r.job.ended = final.State == engine.Done || final.State == engine.CancelledState
	result := &Result{id: r.job.ID(), plan: r.plan, Final: final}
	switch final.State {
	case engine.Failed:
		return result, fmt.Errorf("job %s failed: %s", r.job.ID(), final.Reason)
	case engine.CancelledState:
		return result, fmt.Errorf("job %s was cancelled: %s", r.job.ID(), final.Reason)
	}
	return result, nil
}

// Result is the result of a job that has ended.
type Result struct {
	id    string
	plan  *plan.Plan
	Final engine.Snapshot
}

// JobID returns the job's ID.
func (r *Result) JobID() string { return r.id }

// Metrics returns the user metrics of the bundles that were committed, each bundle counted once,
// and the number of elements of each PCollection that left a stage.
func (r *Result) Metrics() metrics.Results {
	counters := map[metrics.StepKey]int64{}
	distributions := map[metrics.StepKey]metrics.DistributionValue{}
	gauges := map[metrics.StepKey]metrics.GaugeValue{}
	for _, m := range r.Final.Metrics {
		key := metrics.StepKey{Step: r.plan.Transforms[m.Transform], Name: m.Name, Namespace: m.Namespace}
		switch m.Kind {
		case bundle.Counter:
			counters[key] += m.Sum
		case bundle.Distribution:
			distributions[key] = metrics.DistributionValue{Count: m.Count, Sum: m.Sum, Min: m.Min, Max: m.Max}
		case bundle.Gauge:
			gauges[key] = metrics.GaugeValue{Value: m.Sum, Timestamp: m.At.Time()}
		}
	}
	pcols := map[metrics.StepKey]metrics.PColValue{}
	for _, s := range r.Final.Stages {
		for i, out := range r.plan.Stages[s.ID].Outputs {
			pcols[metrics.StepKey{Step: out.Collection}] = metrics.PColValue{ElementCount: s.Counts.Out[i]}
		}
	}
	return *metrics.NewResults(
		metrics.MergeCounters(counters, counters),
		metrics.MergeDistributions(distributions, distributions),
		metrics.MergeGauges(gauges, gauges),
		nil,
		metrics.MergePCols(pcols, pcols))
}

// Result describes the job as it is now, in the form in which its end will be described.
func (r *Running) Result() *Result {
	return &Result{id: r.job.ID(), plan: r.plan, Final: r.driver.Snapshot()}
}

// Watermarks tells how far a job has come in event time.
type Watermarks struct {
	Source time.Time     // The least watermark of the sources; zero at the beginning and the end.
	Lag    time.Duration // How far the slowest stage is behind that.
}

// Watermarks returns how far the job had come.
func (r *Result) Watermarks() Watermarks {
	source, slowest := event.MaxTimestamp, event.MaxTimestamp
	for _, s := range r.Final.Stages {
		if s.Kind == plan.Impulse {
			continue
		}
		if r.plan.Stages[s.ID].Splittable || s.Kind == plan.TestStream {
			source = min(source, s.Out)
		}
		slowest = min(slowest, s.Out)
	}
	var w Watermarks
	if source > event.MinTimestamp && source < event.EndOfGlobalWindow {
		w.Source = source.Time()
		if slowest > event.MinTimestamp {
			w.Lag = source.Time().Sub(slowest.Time())
		}
	}
	return w
}
