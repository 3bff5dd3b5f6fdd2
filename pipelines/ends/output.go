// SPDX-License-Identifier: Apache-2.0

package ends

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window/trigger"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/io/fileio"
	"github.com/hornbeam-dev/hornbeam/io/kafkaio"
	"github.com/hornbeam-dev/hornbeam/transforms/dlq"
)

func init() { register.Function1x2(keyless) }

// Output says where lines go.
type Output struct {
	URL    string        // A folder, kafka://HOST:PORT/TOPIC, or empty for out/<pipeline>/<job id>.
	Window time.Duration // The event time that one file covers.
}

// OutputFlags are the names of the flags that Register adds.
var OutputFlags = []string{"output", "file_window"}

// Register adds the flags of an output.
func (out *Output) Register(flags *flag.FlagSet) {
	flags.StringVar(&out.URL, "output", "",
		"Where results go: a folder, which must not hold the results of another job, or kafka://HOST:PORT/TOPIC.\n"+
			"A topic gets at least once what a folder gets once; dead letters go to TOPIC-dead. Topics must exist.\n"+
			"Default: out/<pipeline>/<job id>.")
	flags.DurationVar(&out.Window, "file_window", 24*time.Hour, "Event time that one file of results covers. Example: --file_window=1h")
}

// Sink is an output that was found to be usable.
type Sink struct {
	pipeline string
	dir      string // Empty for a topic.
	job      string
	topic    kafkaio.ReadConfig
	window   time.Duration
	endless  bool
}

// Open claims the folder for the job, or looks for the topics; others names the kinds of lines
// that are not the pipeline's main result.
func (out Output) Open(pipeline, job string, in Input, others ...string) (Sink, error) {
	sink := Sink{pipeline: pipeline, dir: out.URL, job: job, window: out.Window, endless: in.Endless()}
	if sink.window < time.Second {
		return sink, fmt.Errorf("--file_window is %v; it has to be at least 1s", out.Window)
	}
	if strings.HasPrefix(out.URL, "kafka://") {
		cfg, err := kafkaio.ParseURL(out.URL)
		if err != nil {
			return sink, fmt.Errorf("--output: %w", err)
		}
		sink.topic, sink.dir = cfg, ""
		for _, topic := range append([]string{cfg.Topic}, suffixed(cfg.Topic, others)...) {
			if err := kafkaio.Check(context.Background(), cfg.Brokers, topic); err != nil {
				return sink, fmt.Errorf("--output: %w", err)
			}
		}
		return sink, nil
	}
	if sink.dir == "" {
		sink.dir = filepath.Join("out", pipeline, job)
	}
	var err error
	if sink.dir, err = filepath.Abs(sink.dir); err == nil {
		err = fileio.Claim(sink.dir, job)
	}
	if err != nil {
		return sink, fmt.Errorf("--output: %w", err)
	}
	return sink, nil
}

func suffixed(topic string, kinds []string) []string {
	var topics []string
	for _, kind := range kinds {
		topics = append(topics, topic+"-"+kind)
	}
	return topics
}

// Write writes lines of the pipeline's main result: to files named <kind>-*.jsonl, each for one
// window of event time, or to the topic. Lines later than lateness are dropped and counted.
//
// Input: PCollection<[]byte>.
func (sink Sink) Write(s beam.Scope, kind string, lines beam.PCollection, lateness time.Duration) {
	sink.write(s, kind, "", lines, lateness)
}

// WriteOther is Write for another result, whose topic is TOPIC-<kind>.
func (sink Sink) WriteOther(s beam.Scope, kind string, lines beam.PCollection, lateness time.Duration) {
	sink.write(s, kind, "-"+kind, lines, lateness)
}

func (sink Sink) write(s beam.Scope, kind, suffix string, lines beam.PCollection, lateness time.Duration) {
	s = s.Scope("ends.Write " + kind)
	if sink.dir == "" {
		sink.produce(s, suffix, lines)
		return
	}
	windowed := beam.WindowInto(s, window.NewFixedWindows(sink.window), lines,
		beam.Trigger(trigger.Default()), beam.AllowedLateness(lateness), beam.PanesDiscard())
	fileio.Write(s, fileio.WriteConfig{Dir: sink.dir, Prefix: kind, JobID: sink.job}, windowed)
}

// deadEvery is how often the dead letters of an endless input are written.
const deadEvery = 10 * time.Second

// WriteDead counts dead letters and writes them to files named dead-*.jsonl, or to TOPIC-dead. They
// are in the global window, because what has no readable event time would always be late.
//
// Inputs: PCollections<dlq.BadRecord>.
func (sink Sink) WriteDead(s beam.Scope, dead ...beam.PCollection) {
	s = s.Scope("ends.WriteDead")
	global := make([]beam.PCollection, len(dead))
	for i, col := range dead {
		global[i] = beam.WindowInto(s, window.NewGlobalWindows(), col)
	}
	lines := dlq.Encode(s, dlq.Collect(s, global...))
	if sink.dir == "" {
		sink.produce(s, "-dead", lines)
		return
	}
	if sink.endless {
		lines = beam.WindowInto(s, window.NewGlobalWindows(), lines,
			beam.Trigger(trigger.Repeat(trigger.AfterProcessingTime().PlusDelay(deadEvery))), beam.PanesDiscard())
	}
	fileio.Write(s, fileio.WriteConfig{Dir: sink.dir, Prefix: "dead", JobID: sink.job}, lines)
}

func (sink Sink) produce(s beam.Scope, suffix string, lines beam.PCollection) {
	kafkaio.Write(s, kafkaio.WriteConfig{Brokers: sink.topic.Brokers, Topic: sink.topic.Topic + suffix}, beam.ParDo(s, keyless, lines))
}

func keyless(line []byte) ([]byte, []byte) { return nil, line }
