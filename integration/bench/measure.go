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
	Answer  string  `json:"answer,omitempty"` // What Output should be, if that is known.
}

func (c contest) measure(bin, runner string) (measured, error) {
	if c.pipeline {
		return c.measurePipeline(bin, runner)
	}
	program, _, _ := strings.Cut(c.name, "-")
	_, out, err := execute(nil, filepath.Join(bin, "workload"),
		"--workload="+program, "--runner="+runner, "--n="+c.size())
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
	args := append(slices.Clone(c.args), c.size(), "--runner="+runner, "--output="+output)
	m, _, err := execute([]string{"XDG_STATE_HOME=" + dir}, filepath.Join(bin, program), args...)
	if err != nil {
		return measured{}, err
	}
	lines, err := readLines(output)
	m.Count, m.Output = hash(lines)
	return m, err
}

// execute runs a program, measures it from outside, and returns what it printed.
func execute(env []string, program string, args ...string) (measured, []byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	if err := cmd.Run(); err != nil {
		tail := stderr.Bytes()
		return measured{}, nil, fmt.Errorf("%s: %w\n%s", cmd, err, tail[max(0, len(tail)-4000):])
	}
	return measured{
		Seconds: time.Since(began).Seconds(),
		CPU:     (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(),
		RSS:     float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10),
	}, stdout.Bytes(), nil
}

// readLines returns the lines of all files below dir, but for those that name the job.
func readLines(dir string) ([]string, error) {
	var lines []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || strings.HasPrefix(entry.Name(), "_") {
			return err
		}
		content, err := os.ReadFile(path)
		lines = slices.AppendSeq(lines, strings.Lines(string(content)))
		return err
	})
	return lines, err
}

// hash counts lines and hashes them, in whichever order they are.
func hash(lines []string) (int64, string) {
	slices.Sort(lines)
	sum := sha256.New()
	for _, line := range lines {
		sum.Write([]byte(line))
	}
	return int64(len(lines)), hex.EncodeToString(sum.Sum(nil)[:8])
}
