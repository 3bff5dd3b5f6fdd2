// SPDX-License-Identifier: Apache-2.0

// Package crash ends processes of pipelines by SIGKILL at random moments, starts them again, and
// compares what they have written with what an undisturbed process writes. How one process is run
// is in this file, the campaign in campaign.go; the tests are the campaigns, the controls that show
// that a campaign would notice, and how pipelines behave when something is wrong around them.
//
// A SIGKILL leaves what was written but not synced. The loss of power, and commits that are torn or
// split, are the business of runner/internal/sim, which loses unsynced bytes and has a mutant for
// each. Here the tail of the log is cut off by hand, in a control.
package crash

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
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

// Job is a pipeline's program with arguments and a directory, in which it keeps its state and to
// which it writes. The same Job can be run again and again.
type Job struct {
	Program string
	Args    []string
	Dir     string
	To      Destination // When set, it writes to a place there, which has the name of Dir, and not to a folder.

	// Content says what counts of what it has written; nil is each line of it.
	Content func(Job) (Written, error)
}

// Destination is a service with places to which jobs write.
type Destination interface {
	URL(place string) string
	Create(place string) error
	Lines(place string) ([]string, error) // What a reader finds there.
}

// State is the job's state directory.
func (j Job) State() string { return filepath.Join(j.Dir, "state") }

// Output is the folder of the job's output, or the URL of its place.
func (j Job) Output() string {
	if j.To != nil {
		return j.To.URL(j.place())
	}
	return filepath.Join(j.Dir, "output")
}

// place is a name of the last two parts of Dir.
func (j Job) place() string {
	return filepath.Base(filepath.Dir(j.Dir)) + "-" + filepath.Base(j.Dir)
}

// prepare creates what must be there before the job begins.
func (j Job) prepare() error {
	if _, err := os.Stat(j.State()); j.To == nil || err == nil {
		return nil
	}
	if err := os.MkdirAll(j.State(), 0o700); err != nil {
		return err
	}
	return j.To.Create(j.place())
}

// Ended is how a process has ended.
type Ended struct {
	Code   int // The exit code; -1 after a signal that it did not expect.
	Stdout string
	Stderr string
	After  time.Duration
}

// Process is a job at work.
type Process struct {
	cmd    *exec.Cmd
	began  time.Time
	stdout bytes.Buffer
	stderr bytes.Buffer
	ended  chan error
}

// Start starts a process of the job.
func (j Job) Start() (*Process, error) {
	if err := j.prepare(); err != nil {
		return nil, err
	}
	args := append([]string{"--state_dir=" + j.State(), "--output=" + j.Output(), "--json"}, j.Args...)
	p := &Process{cmd: exec.Command(j.Program, args...), began: time.Now(), ended: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.ended <- p.cmd.Wait() }() // Ends with the process.
	return p, nil
}

// Wait waits until the process has ended.
func (p *Process) Wait() (Ended, error) { return p.result(<-p.ended) }

func (p *Process) result(err error) (Ended, error) {
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return Ended{}, err
	}
	return Ended{
		Code:   p.cmd.ProcessState.ExitCode(),
		Stdout: p.stdout.String(),
		Stderr: p.stderr.String(),
		After:  time.Since(p.began),
	}, nil
}

// Signal sends sig after a delay, unless the process has ended by then, and waits for its end.
func (p *Process) Signal(after time.Duration, sig syscall.Signal) (Ended, error) {
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case err := <-p.ended:
		return p.result(err)
	case <-timer.C:
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return Ended{}, err
	}
	return p.Wait()
}

// Run runs a process of the job to its end.
func (j Job) Run() (Ended, error) {
	p, err := j.Start()
	if err != nil {
		return Ended{}, err
	}
	return p.Wait()
}

// Kill runs a process of the job and sends it a signal after a while. It may have ended before.
func (j Job) Kill(after time.Duration, sig syscall.Signal) (Ended, error) {
	p, err := j.Start()
	if err != nil {
		return Ended{}, err
	}
	return p.Signal(after, sig)
}

// Written is what a job has written: the lines of each file in order, under names that begin with
// the file's, or the records of its topic or stream, sorted; and its account.
type Written []string

// Written collects the output of a job whose last process has ended well.
func (j Job) Written(last Ended) (Written, error) {
	content := j.Content
	if content == nil {
		content = Job.lines
	}
	w, err := content(j)
	if err != nil {
		return nil, err
	}
	account, err := account(last.Stdout)
	if err != nil {
		return nil, err
	}
	slices.Sort(w)
	return append(w, account), nil
}

func (j Job) lines() (w Written, err error) {
	if j.To != nil {
		return j.To.Lines(j.place())
	}
	err = filepath.WalkDir(j.Output(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || foreign(entry.Name()) {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(j.Output(), path)
		for line := range strings.Lines(string(content)) {
			w = append(w, name+": "+strings.TrimSuffix(line, "\n"))
		}
		return err
	})
	return w, err
}

// foreign tells which files are not output: those that name the job that owns the folder.
func foreign(name string) bool { return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") }

// account is the part of the summary that has to be the same in each run.
func account(stdout string) (string, error) {
	totals := map[string]any{}
	if err := json.Unmarshal([]byte(stdout), &totals); err != nil {
		return "", fmt.Errorf("summary %q: %w", stdout, err)
	}
	delete(totals, "job")
	delete(totals, "seconds")
	text, err := json.Marshal(totals) // Sorted by key.
	return "summary: " + string(text), err
}

// Compare says how got differs from want, with an excerpt; "" if it does not.
func Compare(got, want Written) string {
	if slices.Equal(got, want) {
		return ""
	}
	var extra, missing []string
	i, k := 0, 0
	for i < len(got) || k < len(want) {
		order := 0
		switch {
		case i == len(got):
			order = 1
		case k == len(want):
			order = -1
		default:
			order = cmp.Compare(got[i], want[k])
		}
		switch {
		case order < 0:
			extra = append(extra, got[i])
			i++
		case order > 0:
			missing = append(missing, want[k])
			k++
		default:
			i, k = i+1, k+1
		}
	}
	return fmt.Sprintf("%d lines, want %d; %d too many or different:%s\n%d missing or different:%s",
		len(got), len(want), len(extra), excerpt(extra), len(missing), excerpt(missing))
}

func excerpt(lines []string) string {
	const most = 5
	text := ""
	for _, line := range lines[:min(most, len(lines))] {
		text += "\n  " + line[:min(200, len(line))]
	}
	if len(lines) > most {
		text += "\n  …"
	}
	return text
}
