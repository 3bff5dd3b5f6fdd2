// SPDX-License-Identifier: Apache-2.0

// Package beam asks whether Hornbeam is a Beam runner: it runs Beam's own tests, as they are in
// Beam's module, and pipelines on which another runner is known to give wrong answers.
package beam

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// refused are the tests of Beam that Hornbeam does not pass, with the reason. A test that begins
// to pass has to leave the list.
var refused = map[string]string{
	"TestDrain": "needs a runner that drains the job by itself: its source ends only when it is truncated",
	"TestOomParDo": "wants the machine to kill the worker for its use of memory, and then a heap dump in --temp_location, " +
		"as Dataflow's worker containers do; an embedded worker shares the runner's process",
}

// testTimeout is what one test of Beam may take; those that hang end by it.
const testTimeout = time.Minute

// refusedTimeout is the same for tests that are known not to end.
const refusedTimeout = 10 * time.Second

// atOnce is the number of Beam's tests that run side by side.
const atOnce = 3

// TestPrimitives runs each test of Beam's test/integration/primitives in a process of its own, so
// that one that hangs or crashes is one failure.
func TestPrimitives(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: this builds and runs Beam's integration tests")
	}
	binary := buildPrimitives(t)
	names := listTests(t, binary)
	for name := range refused {
		if !strings.Contains("\n"+strings.Join(names, "\n")+"\n", "\n"+name+"\n") {
			t.Errorf("%s is in the list of refused tests, but Beam has no such test", name)
		}
	}
	slots := make(chan struct{}, atOnce)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			reason, isRefused := refused[name]
			output, err := runTest(t, binary, name, isRefused)
			switch {
			case isRefused && err == nil:
				t.Errorf("this test passes now: remove it from the list of refused tests (%s)", reason)
			case isRefused:
				t.Logf("refused: %s", reason)
			case err != nil:
				t.Errorf("%v\n%s", err, output)
			}
		})
	}
}

// runTest returns what the test printed; the error tells that it did not pass.
func runTest(t *testing.T, binary, name string, isRefused bool) (string, error) {
	t.Helper()
	timeout := testTimeout
	if isRefused {
		timeout = refusedTimeout
	}
	// A worker in the test's own process is what Beam calls loopback; a test that looks at the
	// process's variables for what its DoFns did asks for it.
	cmd := exec.CommandContext(t.Context(), binary, "-test.run", "^"+name+"$", "-test.v",
		"-test.timeout", timeout.String(), "--runner=hornbeam", "--environment_type=LOOPBACK")
	cmd.Dir = t.TempDir()
	output, err := cmd.CombinedOutput()
	if err == nil && !bytes.Contains(output, []byte("--- PASS: "+name+" ")) {
		err = errors.New("the test was skipped")
	}
	return string(output), err
}

func listTests(t *testing.T, binary string) []string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), binary, "-test.list", "^Test").Output()
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(string(output))
	if len(names) < 60 {
		t.Fatalf("Beam has %d tests: %v", len(names), names)
	}
	return names
}

// buildPrimitives builds Beam's tests, unmodified, with one file added that imports the runner. Go
// overlays no file in the module cache; so the build reads Beam through a link at another place.
func buildPrimitives(t *testing.T) (binary string) {
	t.Helper()
	const (
		beam = "github.com/apache/beam/sdks/v2"
		pkg  = beam + "/go/test/integration/primitives"
	)
	root := strings.TrimSpace(goTool(t, ".", "list", "-m", "-f", "{{.Dir}}"))
	cache := filepath.Join(root, ".cache")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(cache, "beam")
	os.Remove(link)
	if err := os.Symlink(strings.TrimSpace(goTool(t, root, "list", "-m", "-f", "{{.Dir}}", beam)), link); err != nil {
		t.Fatal(err)
	}
	mod := readFile(t, filepath.Join(root, "go.mod"))
	writeFile(t, filepath.Join(cache, "beam.mod"), append(mod, "\nreplace "+beam+" => ./.cache/beam\n"...))
	writeFile(t, filepath.Join(cache, "beam.sum"), readFile(t, filepath.Join(root, "go.sum")))
	added := filepath.Join(t.TempDir(), "hornbeam_test.go")
	writeFile(t, added, []byte("package primitives\n\nimport _ \"github.com/hornbeam-dev/hornbeam/runner\"\n"))
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(link, "go/test/integration/primitives/hornbeam_test.go"): added,
	}})
	if err != nil {
		t.Fatal(err)
	}
	overlayFile := filepath.Join(t.TempDir(), "overlay.json")
	writeFile(t, overlayFile, overlay)
	binary = filepath.Join(t.TempDir(), "primitives.test")
	goTool(t, root, "test", "-modfile=.cache/beam.mod", "-overlay="+overlayFile, "-vet=off", "-c", "-o", binary, pkg)
	return binary
}

func goTool(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatal(fmt.Errorf("go %s: %w\n%s%s", strings.Join(args, " "), err, &stdout, &stderr))
	}
	return stdout.String()
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func writeFile(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Fatal(err)
	}
}
