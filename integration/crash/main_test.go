// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The flags of scripts/crash.
var (
	kills      = flag.Int("kills", 0, "Kills in each campaign; 0 is a few.")
	seed       = flag.Uint64("seed", 1, "Seed of the campaigns.")
	only       = flag.String("pipeline", "", "Only this pipeline.")
	inputKind  = flag.String("kind", "generator", "Where a campaign's input is: generator or kafka.")
	outputKind = flag.String("to", "files", "Where a campaign's output goes: files, kafka, s3, gcs or kinesis.")
	replay     = flag.Bool("replay", false, "Run TestReplay with -kills, and no campaign.")
	further    = flag.String("further", "", "Further arguments for the pipeline, separated by spaces.")
)

// bin is where TestMain has built the programs.
var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "hornbeam-crash-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	bin = dir
	build := exec.Command("go", "build", "-o", dir+"/", "./job", "../../fixtures/cmd/fixtures",
		"../../pipelines/frauddetection", "../../pipelines/sessionanalytics", "../../pipelines/unitconversion")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	return m.Run(), nil
}

// work returns the directory of a test's jobs, which is kept when the test fails.
func work(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hornbeam-"+strings.ReplaceAll(t.Name(), "/", "-")+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			os.RemoveAll(dir)
		}
	})
	return dir
}

// job is the pipeline of this package.
func job(t *testing.T, args ...string) Job {
	t.Helper()
	return Job{Program: filepath.Join(bin, "job"), Args: args, Dir: work(t)}
}

// must returns what f does, or ends the test.
func must[V any](t *testing.T) func(v V, err error) V {
	return func(v V, err error) V {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// long is longer than any process here takes.
const long = 2 * time.Minute
