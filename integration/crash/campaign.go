// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Campaign kills jobs. When one has ended in spite of it, its output is compared and the next one
// begins, until there were Kills kills.
type Campaign struct {
	Job   Job // Its Dir gets a directory for each job.
	Kills int
	Seed  uint64
	Log   func(format string, args ...any)
}

// Report says what a campaign did.
type Report struct {
	Kills int
	Jobs  int
	Lines int           // Of the output of each job.
	Whole time.Duration // Of the undisturbed job.
}

// Run returns an error for an output that differs, or a process that did not end well.
func (c Campaign) Run() (Report, error) {
	want, whole, err := c.undisturbed()
	if err != nil {
		return Report{}, err
	}
	report := Report{Lines: len(want), Whole: whole}
	random := rand.New(rand.NewPCG(c.Seed, 0))
	for report.Kills < c.Kills {
		job := c.Job
		job.Dir = filepath.Join(c.Job.Dir, fmt.Sprintf("job-%d", report.Jobs))
		kills, got, err := c.disturbed(job, random, whole, c.Kills-report.Kills)
		report.Kills += kills
		report.Jobs++
		if err != nil {
			return report, fmt.Errorf("seed %d, job %d, after %d kills, directory %s: %w", c.Seed, report.Jobs, report.Kills, job.Dir, err)
		}
		if diff := Compare(got, want); diff != "" {
			return report, fmt.Errorf("seed %d, job %d, %d kills, directory %s: the output differs: %s", c.Seed, report.Jobs, kills, job.Dir, diff)
		}
		if err := os.RemoveAll(job.Dir); err != nil {
			return report, err
		}
		c.Log("job %d: %d kills, same output; %d kills so far", report.Jobs, kills, report.Kills)
	}
	return report, nil
}

func (c Campaign) undisturbed() (Written, time.Duration, error) {
	job := c.Job
	job.Dir = filepath.Join(c.Job.Dir, "undisturbed")
	ended, err := job.Run()
	if err != nil {
		return nil, 0, err
	}
	if ended.Code != 0 {
		return nil, 0, fmt.Errorf("the undisturbed job ended with code %d:\n%s", ended.Code, ended.Stderr)
	}
	want, err := job.Written(ended)
	if err == nil && len(want) < 2 {
		err = fmt.Errorf("the undisturbed job has no output: %v", want)
	}
	return want, ended.After, err
}

// disturbed kills a job at most so many times, and then lets it end. Some jobs are killed now and
// then, some all the time. If a job comes no further, the next kill comes later.
func (c Campaign) disturbed(job Job, random *rand.Rand, whole time.Duration, most int) (int, Written, error) {
	within := whole / time.Duration(1<<random.IntN(4))
	for kills := 0; ; kills++ {
		after := time.Duration(random.Int64N(int64(within)))
		if kills == most {
			after = time.Hour // Nothing else stops it now.
		}
		ended, err := job.Kill(after, syscall.SIGKILL)
		if err != nil {
			return kills, nil, err
		}
		switch {
		case ended.Code == 0:
			got, err := job.Written(ended)
			return kills, got, err
		case ended.Code != -1:
			return kills, nil, fmt.Errorf("a process ended by itself with code %d:\n%s", ended.Code, ended.Stderr)
		}
		if kills%8 == 7 {
			within += whole / 8
		}
	}
}
