// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
)

func TestPanicIsExplained(t *testing.T) {
	var err error
	func() {
		defer func() {
			err = errors.New("DoFn x: panic: " + recover().(string) + " " + string(debug.Stack()))
		}()
		panicking()
	}()
	text := explain(err)
	if strings.Contains(text, "goroutine ") || !strings.Contains(text, "DoFn x: panic: not liked\n") || !strings.Contains(text, "launch.panicking") {
		t.Errorf("got %q", text)
	}
	_, name, _ := strings.Cut(text, "the stack is in ")
	defer os.Remove(name)
	if stack, err := os.ReadFile(name); err != nil || !strings.Contains(string(stack), "goroutine ") {
		t.Errorf("the file %q has no stack: %v", name, err)
	}
}

//go:noinline
func panicking() { panic("not liked") }

func TestOrdinaryErrorStaysAsItIs(t *testing.T) {
	if got := explain(errors.New("no such topic")); got != "no such topic" {
		t.Errorf("got %q", got)
	}
}

// A flag that does nothing on the runner is refused, unless the pipeline reads it.
func TestMisplaced(t *testing.T) {
	all := flag.CommandLine
	defer func() { flag.CommandLine = all }()
	flag.CommandLine = flag.NewFlagSet("", flag.ContinueOnError)
	for _, name := range []string{"state_dir", "on_failing_element", "async", "endpoint", "network", "experiments", "worker_path", "parallelism", "job_id"} {
		flag.String(name, "", "")
		if err := flag.Set(name, "x"); err != nil {
			t.Fatal(err)
		}
	}
	p := Program{Flags: []string{"network"}}
	for name, want := range map[string]string{
		"hornbeam": "--async, --endpoint, --job_id, --worker_path: not for --runner=hornbeam",
		"flink":    "--on_failing_element, --state_dir: not for --runner=flink",
		"dataflow": "--on_failing_element, --state_dir, --worker_path: not for --runner=dataflow",
		"prism":    "--on_failing_element, --state_dir, --worker_path: not for --runner=prism",
	} {
		if err := misplaced(name, p); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
}

func TestNames(t *testing.T) {
	name, id := *jobopts.JobName, *jobID
	defer func() { *jobopts.JobName, *jobID = name, id }()
	long := strings.Repeat("a", 100)
	for _, test := range []struct{ name, id, want string }{
		{"Fraud_2-b", "", ""},
		{long, long + "-20261101-101500", ""},
		{"Fraud detection", "", "--job_name=Fraud detection: use up to 100 letters"},
		{long + "a", "", "--job_name="},
		{"-a", "", "--job_name="},
		{"a", "a b", "--job_id=a b: give the ID"},
		{"a", long + long, "--job_id="},
	} {
		*jobopts.JobName, *jobID = test.name, test.id
		err := checkNames()
		if (err != nil) != (test.want != "") || err != nil && !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%.20q, %.20q: got %v, want %q", test.name, test.id, err, test.want)
		}
	}
}

// Progress is written over itself where it goes to a terminal, wherever the summary goes.
func TestProgressOfATerminal(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, w := range []io.Writer{file, io.Discard} {
		if newProgress(w).terminal {
			t.Errorf("%T is taken for a terminal", w)
		}
	}
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer terminal.Close()
	if !newProgress(terminal).terminal {
		t.Error("a terminal is not taken for one")
	}
}

func TestNumbersForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567"} {
		if got := group(n); got != want {
			t.Errorf("%d is written %s, want %s", n, got, want)
		}
	}
	for n, want := range map[uint64]string{5: "5 B", 1000: "1 kB", 156_500_000: "156.5 MB"} {
		if got := size(n); got != want {
			t.Errorf("%d bytes are written %s, want %s", n, got, want)
		}
	}
}
