// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"io"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
)

// Options of Beam's Flink runner.
const (
	optCheckpointing = "checkpointing_interval"
	optFinishBundle  = "finish_bundle_before_checkpointing"
	optMaxParallel   = "max_parallelism"
	optJobName       = "job_name"
	optStreaming     = "streaming"
	optShutdown      = "shutdown_sources_after_idle_ms"
)

// flinkPace: Flink's Beam runner cuts the delay of a resumption to whole seconds, and with none at
// all the watermark never moves; and it does not interrupt a source, so a source that never pauses
// would never let a checkpoint pass.
var flinkPace = Pace{Rest: time.Second, Turn: time.Second}

// flinkRemote is Apache Flink, through Beam's Flink job server.
var flinkRemote = newPortable(flinkPace, Limits{NoClock: true, Rewinds: true}, &portable{options: flinkOptions, check: checkFlink, goesOn: flinkGoesOn})

// flinkDefault is an option that is set unless the user sets it.
type flinkDefault struct {
	key, value string
	unbounded  bool // Only where some collection is unbounded.
}

// flinkDefaults keep data right: without finish_bundle_before_checkpointing, what a bundle has put
// out is lost when a TaskManager dies; without checkpoints everything is; and without
// max_parallelism a job that began with one worker could never have two.
var flinkDefaults = []flinkDefault{
	{optStreaming, "true", true},
	{optCheckpointing, "10000", true},
	{optFinishBundle, "true", false},
	{optMaxParallel, "128", false},
}

func flinkDefaultsHelp() []string {
	var words []string
	for _, d := range flinkDefaults {
		word := d.key + "=" + d.value
		if d.unbounded {
			word += " (unbounded input)"
		}
		words = append(words, word)
	}
	return append(words, optJobName+" (as --job_name)")
}

// flinkOptions completes what the user gave. A bounded pipeline gets no checkpoints: it is run again
// from its start when it fails. If the user wants them, its sources must not be kept alive for them.
func flinkOptions(given optionList, model *pipepb.Pipeline) optionList {
	options := given.or(optJobName, *jobopts.JobName)
	unbounded := isUnbounded(model)
	for _, d := range flinkDefaults {
		if unbounded || !d.unbounded {
			options = options.or(d.key, d.value)
		}
	}
	if _, checkpoints := options.get(optCheckpointing); checkpoints && !unbounded {
		options = options.or(optShutdown, "0")
	}
	return options
}

func isUnbounded(model *pipepb.Pipeline) bool {
	for _, c := range model.GetComponents().GetPcollections() {
		if c.GetIsBounded() == pipepb.IsBounded_UNBOUNDED {
			return true
		}
	}
	return false
}

// flinkGoesOn: Beam's job server would say CANCELLED and leave the job alone.
func flinkGoesOn(w io.Writer, id string) {
	name, ok := runnerOptions.get(optJobName)
	if !ok {
		name = *jobopts.JobName
	}
	fmt.Fprintf(w, `Whatever the job server says, Flink goes on with job %[1]s, under the name %[2]s.
  see it             hornbeam flink jobs
  cancel it          hornbeam flink cancel %[2]s
  stop it with state hornbeam flink savepoint %[2]s
Each takes --rest=http://HOST:PORT, Flink's REST API, if that is not http://localhost:8081.
`, id, name)
}
