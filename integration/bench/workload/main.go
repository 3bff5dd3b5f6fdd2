// SPDX-License-Identifier: Apache-2.0

// Workload runs one workload of the benchmark on one runner, in a process of its own, and prints
// what it took as one line of JSON. scripts/bench runs it by turns.
//
//	workload --workload=gbk1k --runner=hornbeam --n=1000000
//
// Hornbeam runs as it does for users: launch sets it up, and its state is in a directory on disk,
// with each commit synced. The workloads are in workload.go, their DoFns in fn.go.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/hornbeam-dev/hornbeam/runner/launch"
)

var (
	workload   = flag.String("workload", "", "Which workload: "+strings.Join(names(), ", ")+".")
	elements   = flag.Int64("n", 100_000, "How many elements.")
	cpuProfile = flag.String("cpuprofile", "", "Write a CPU profile to this file.")
	memProfile = flag.String("memprofile", "", "Write a profile of allocations to this file.")
)

// measured is what a run took, and what came of it.
type measured struct {
	Workload string  `json:"workload"`
	Runner   string  `json:"runner"`
	N        int64   `json:"n"`
	Seconds  float64 `json:"seconds"`
	CPU      float64 `json:"cpu_seconds"`
	RSS      int64   `json:"peak_rss_bytes"`
	Count    int64   `json:"count"`            // Of the output.
	Output   string  `json:"output"`           // A hash of it that does not depend on its order.
	Answer   string  `json:"answer,omitempty"` // What it should be, of those workloads for which that is known.
}

func names() []string {
	var all []string
	for name := range workloads {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "workload:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	dir, err := os.MkdirTemp("", "hornbeam-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// Not --state_dir, which is for Hornbeam only.
	if err := os.Setenv("XDG_STATE_HOME", dir); err != nil {
		return err
	}
	program := launch.Program{
		Name:  "workload",
		Usage: "workload runs one workload of scripts/bench.",
		Flags: []string{"workload", "n", "cpuprofile", "memprofile"},
		Build: build,
	}
	began := time.Now()
	var log bytes.Buffer
	code := launch.Run(program, io.Discard, &log)
	seconds := time.Since(began).Seconds()
	pprof.StopCPUProfile()
	if code != 0 {
		return fmt.Errorf("exit code %d:\n%s", code, log.Bytes())
	}
	if err := writeAllocations(); err != nil {
		return err
	}
	rss, err := peakRSS()
	if err != nil {
		return err
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return err
	}
	var answer string
	if compute, ok := answers[*workload]; ok {
		answer = asText(compute(*elements))
	}
	return json.NewEncoder(os.Stdout).Encode(measured{
		Workload: *workload,
		Runner:   flag.Lookup("runner").Value.String(),
		N:        *elements,
		Seconds:  seconds,
		CPU:      time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds(),
		RSS:      rss,
		Count:    sunk.count.Load(),
		Output:   asText(sunk.hash.Load()),
		Answer:   answer,
	})
}

func asText(hash uint64) string { return fmt.Sprintf("%016x", hash) }

func build(s beam.Scope, _ launch.Job) error {
	compose, ok := workloads[*workload]
	if !ok {
		return fmt.Errorf("--workload=%s: choose one of %s", *workload, strings.Join(names(), ", "))
	}
	if *cpuProfile != "" {
		f, err := os.Create(*cpuProfile)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
	}
	compose(s, *elements)
	return nil
}

func writeAllocations() error {
	if *memProfile == "" {
		return nil
	}
	f, err := os.Create(*memProfile)
	if err != nil {
		return err
	}
	if err := pprof.Lookup("allocs").WriteTo(f, 0); err != nil {
		return err
	}
	return f.Close()
}

// peakRSS is the most memory that the process had at once, in bytes.
func peakRSS() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kB, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kB << 10, err
		}
	}
	return 0, fmt.Errorf("no VmHWM in /proc/self/status")
}
