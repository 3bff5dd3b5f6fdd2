// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hornbeam-dev/hornbeam/io/kafkaio"
	"github.com/hornbeam-dev/hornbeam/runner/launch"
)

func init() {
	register.Function1x2(keyed)
	register.Function3x2(asResult)
	register.Combiner1[int64](&sumFn{})
}

// hornbeam runs the pipeline as users do: with launch, and with each commit synced to the state
// directory.
func hornbeam() error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokerList()...))
	if err != nil {
		return err
	}
	err = createTopic(context.Background(), client, *to)
	client.Close()
	if err != nil {
		return err
	}
	program := launch.Program{
		Name:  "kafka",
		Usage: "kafka counts the records of a topic by key and minute.",
		Flags: []string{"brokers", "topic", "to", "n", "cpuprofile"},
		Build: build,
	}
	var log bytes.Buffer
	code := launch.Run(program, io.Discard, &log)
	pprof.StopCPUProfile()
	if code != 0 {
		return fmt.Errorf("exit code %d:\n%s", code, log.Bytes())
	}
	return nil
}

func build(s beam.Scope, _ launch.Job) error {
	if *cpuProfile != "" {
		f, err := os.Create(*cpuProfile)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
	}
	records, _ := kafkaio.Read(s, kafkaio.ReadConfig{Brokers: brokerList(), Topic: *topic, To: kafkaio.Latest()})
	minutes := beam.WindowInto(s, window.NewFixedWindows(time.Minute), beam.ParDo(s, keyed, records))
	counts := beam.CombinePerKey(s, &sumFn{}, minutes)
	kafkaio.Write(s, kafkaio.WriteConfig{Brokers: brokerList(), Topic: *to, ID: *to}, beam.ParDo(s, asResult, counts))
	return nil
}

func keyed(r kafkaio.Record) (string, int64) { return string(r.Key), 1 }

func asResult(w beam.Window, key string, count int64) ([]byte, []byte) {
	end := w.(window.IntervalWindow).End.Milliseconds()
	return pane{minute: end - time.Minute.Milliseconds(), key: key}.result(count)
}

// sumFn adds ones up.
type sumFn struct{}

func (*sumFn) MergeAccumulators(a, b int64) int64 { return a + b }
