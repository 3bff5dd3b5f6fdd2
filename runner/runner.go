// SPDX-License-Identifier: Apache-2.0

// Package runner is Hornbeam: a Beam runner that keeps a job's elements, state, timers, watermarks
// and source positions on disk and commits each bundle as one atomic change. Importing it registers
// the runner under the name "hornbeam".
//
// A pipeline's main calls launch.Main, which chooses the runner by flag and shows progress. Open
// and Job.Run are for programs that want more control. What a job does is decided in
// internal/engine; this package only puts the parts together.
package runner

import (
	"context"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
)

// Name is the name under which the runner is registered with Beam.
const Name = "hornbeam"

func init() { beam.RegisterRunner(Name, Execute) }

// Execute runs p with the options of the command line, and waits until it has ended. The error
// tells why the job failed, or that it cannot be run.
func Execute(ctx context.Context, p *beam.Pipeline) (beam.PipelineResult, error) {
	opt, err := FlagOptions()
	if err != nil {
		return nil, err
	}
	job, err := Open(opt)
	if err != nil {
		return nil, err
	}
	result, err := job.Run(ctx, p)
	if closed := job.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, err
	}
	return result, nil
}
