// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// measured is what one run took, and what came of it.
type measured struct {
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_seconds"`
	RSS     float64 `json:"peak_rss_bytes"`
	Count   int64   `json:"count"`
	Output  string  `json:"output"`
}

func (c contest) measure(bin, runner string) (measured, error) {
	if c.pipeline {
		return c.measurePipeline(bin, runner)
	}
	out, _, err := execute(filepath.Join(bin, "workload"),
		"--workload="+c.name, "--runner="+runner, "--n="+c.size())
	if err != nil {
		return measured{}, err
	}
	var m measured
	if err := json.Unmarshal(out, &m); err != nil {
		return m, fmt.Errorf("output %q: %w", out, err)
	}
	return m, nil
}

// measurePipeline measures a program from outside. Its output are the lines of its files.
func (c contest) measurePipeline(bin, runner string) (measured, error) {
	dir, err := os.MkdirTemp("", "hornbeam-bench-")
	if err != nil {
		return measured{}, err
	}
	defer os.RemoveAll(dir)
	program, _, _ := strings.Cut(c.name, "-")
	output := filepath.Join(dir, "output")
	args := append(slices.Clone(c.args), c.size(), "--runner="+runner,
		"--state_dir="+filepath.Join(dir, "state"), "--output="+output)
	began := time.Now()
	_, state, err := execute(filepath.Join(bin, program), args...)
	if err != nil {
		return measured{}, err
	}
	m := measured{
		Seconds: time.Since(began).Seconds(),
		CPU:     (state.UserTime() + state.SystemTime()).Seconds(),
		RSS:     float64(state.SysUsage().(*syscall.Rusage).Maxrss << 10),
	}
	m.Count, m.Output, err = hashLines(output)
	return m, err
}

func execute(program string, args ...string) ([]byte, *os.ProcessState, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		tail := stderr.Bytes()
		return nil, nil, fmt.Errorf("%s: %w\n%s", cmd, err, tail[max(0, len(tail)-4000):])
	}
	return stdout.Bytes(), cmd.ProcessState, nil
}

// hashLines hashes the sorted lines of all files below dir, but for those that name the job.
func hashLines(dir string) (int64, string, error) {
	var lines []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || strings.HasPrefix(entry.Name(), "_") {
			return err
		}
		content, err := os.ReadFile(path)
		lines = slices.AppendSeq(lines, strings.Lines(string(content)))
		return err
	})
	slices.Sort(lines)
	sum := sha256.New()
	for _, line := range lines {
		sum.Write([]byte(line))
	}
	return int64(len(lines)), hex.EncodeToString(sum.Sum(nil)[:8]), err
}
