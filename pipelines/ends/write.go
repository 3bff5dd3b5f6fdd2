// SPDX-License-Identifier: Apache-2.0

package ends

import (
	"context"
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

func init() {
	register.DoFn1x2[[]byte, []byte, []byte](&keyFn{})
	register.Function1x1(refusedFn)
}

// Write writes lines, a PCollection<[]byte> with event times, as files NAME-*.jsonl in the folder
// of e, one for each FileWindow of event time, or as records with the key NAME to its topic.
func Write(s beam.Scope, e Ends, name string, lines beam.PCollection) error {
	s = s.Scope("ends.Write." + name)
	windowed := beam.WindowInto(s, window.NewFixedWindows(e.FileWindow), lines)
	return write(s, e, name, windowed)
}

// deadEvery is how often dead letters are written while a job runs.
const deadEvery = 10 * time.Second

// WriteDead counts and writes dead letters, PCollection<dlq.BadRecord>, as files dead-*.jsonl or as
// records with the key "dead". They may have no event time, so they are not divided by it: none
// can be late.
func WriteDead(s beam.Scope, e Ends, dead ...beam.PCollection) error {
	s = s.Scope("ends.WriteDead")
	windowed := make([]beam.PCollection, len(dead))
	for i, col := range dead {
		windowed[i] = beam.WindowInto(s, window.NewGlobalWindows(), col,
			beam.Trigger(trigger.Repeat(trigger.AfterProcessingTime().PlusDelay(deadEvery))), beam.PanesDiscard())
	}
	return write(s, e, "dead", dlq.Encode(s, dlq.Collect(s, windowed...)))
}

func write(s beam.Scope, e Ends, name string, lines beam.PCollection) error {
	if !strings.HasPrefix(e.Output, kafkaPrefix) {
		dir, err := filepath.Abs(e.Output)
		if err == nil {
			err = fileio.Claim(dir, e.JobID)
		}
		if err != nil {
			return fmt.Errorf("--output: %w", err)
		}
		fileio.Write(s, fileio.WriteConfig{Dir: dir, Prefix: name, JobID: e.JobID}, lines)
		return nil
	}
	cfg, err := kafkaio.ParseURL(e.Output)
	if err == nil {
		err = kafkaio.Check(context.Background(), cfg.Brokers, cfg.Access, cfg.Topic)
	}
	if err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	refused := kafkaio.Write(s, kafkaio.WriteConfig{
		Brokers:     cfg.Brokers,
		Topic:       cfg.Topic,
		Access:      cfg.Access,
		AtLeastOnce: e.AtLeastOnce,
		ID:          e.JobID + "/" + name,
	}, beam.ParDo(s, &keyFn{Key: []byte(name)}, lines))
	beam.ParDo0(s, refusedFn, refused)
	return nil
}

// refusedFn ends a job whose results the topic does not take: there is no other place for them.
func refusedFn(d kafkaio.DeadLetter) error {
	return fmt.Errorf("--output: a result of %d bytes is refused: %s", len(d.Record.Value), d.Error)
}

// keyFn gives every line the same key.
type keyFn struct {
	Key []byte // The key.
}

func (f *keyFn) ProcessElement(line []byte) (key, value []byte) { return f.Key, line }
