// SPDX-License-Identifier: Apache-2.0

// Package endstest runs pipelines in tests and reads what they have written.
package endstest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"

	"github.com/hornbeam-dev/hornbeam/pipelines/ends"
	"github.com/hornbeam-dev/hornbeam/runner/launch"
)

// To returns ends that read the generator and write to a folder of the test.
func To(t *testing.T) ends.Ends {
	t.Helper()
	return ends.Ends{
		Input:        "generator",
		Output:       filepath.Join(t.TempDir(), "out"),
		Job:          launch.Job{ID: "test"},
		MaxDeadRatio: 1,
		Files:        ends.Files{Window: 24 * time.Hour},
	}
}

// Run builds a pipeline, runs it on a runner, and returns its metrics.
func Run(t *testing.T, runner string, build func(s beam.Scope) error) metrics.QueryResults {
	t.Helper()
	p, s := beam.NewPipelineWithRoot()
	if err := build(s); err != nil {
		t.Fatal(err)
	}
	result, err := beam.Run(context.Background(), runner, p)
	if err != nil {
		t.Fatal(err)
	}
	return result.Metrics().AllMetrics()
}

// Lines returns the lines of all files of one name, sorted.
func Lines(t *testing.T, e ends.Ends, name string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(e.Output, name+"-*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")...)
	}
	slices.Sort(lines)
	return lines
}

// Input writes lines to a file and returns ends that read it.
func Input(t *testing.T, lines ...string) ends.Ends {
	t.Helper()
	e := To(t)
	name := filepath.Join(t.TempDir(), "input")
	if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.Input = fmt.Sprint("file:", name)
	return e
}
