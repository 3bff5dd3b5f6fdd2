// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

const flinkUsage = `hornbeam flink looks after pipelines that run on Apache Flink, over Flink's REST API. Beam's own job
server cannot: it says CANCELLED, and the job goes on.

Usage:
  hornbeam flink jobs [--json]
  hornbeam flink cancel JOB
  hornbeam flink savepoint JOB [--to=FOLDER] [--keep-running]
  hornbeam flink resume LOCATION -- COMMAND…

JOB is the name of a job that runs, or an ID of Flink's.

  jobs        lists the jobs of the cluster: state, age, checkpoints
  cancel      cancels a job, without a savepoint, and waits until it is over
  savepoint   stops a job with a savepoint and prints where that is; with --keep-running it goes on
  resume      runs COMMAND, which submits the pipeline, so that it begins with the savepoint at LOCATION

  --rest=URL       Flink's REST API (default $FLINK_REST, or http://localhost:8081)
  --to=FOLDER      where the savepoint goes, such as s3://bucket/savepoints (default: as the cluster is configured)
  --timeout=TIME   how long to wait (default 10m)
  --json           print JSON

Examples:
  hornbeam flink savepoint frauddetection
  hornbeam flink resume file:/savepoints/savepoint-3a2b-90 -- \
      ./frauddetection --runner=flink --endpoint=localhost:8099 --output=s3://alerts --job_id=frauddetection-20261101-101500
`

// flinkCommand is a command line after "hornbeam flink".
type flinkCommand struct {
	verb    string // Empty if help is wanted.
	subject string // The job, or the location.
	command []string
	rest    string
	to      string
	timeout time.Duration
	keep    bool
	asJSON  bool
}

func parseFlink(args []string, defaultRest string) (flinkCommand, error) {
	c := flinkCommand{rest: defaultRest, timeout: 10 * time.Minute}
	if at := slices.Index(args, "--"); at >= 0 {
		args, c.command = args[:at], args[at+1:]
	}
	var words []string
	for i := 0; i < len(args); i++ {
		if !strings.HasPrefix(args[i], "-") {
			words = append(words, args[i])
			continue
		}
		name, value, hasValue := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		if wants := slices.Contains([]string{"rest", "to", "timeout"}, name); wants && !hasValue {
			if i++; i == len(args) {
				return c, fmt.Errorf("--%s wants a value", name)
			}
			value = args[i]
		} else if !wants && hasValue {
			return c, fmt.Errorf("--%s takes no value", name)
		}
		if err := c.set(name, value); err != nil {
			return c, err
		}
		if name == "help" || name == "h" {
			return flinkCommand{}, nil
		}
	}
	if len(words) == 0 {
		return c, errors.New("a command is missing: flink jobs, cancel, savepoint or resume")
	}
	c.verb = words[0]
	return c, c.check(words[1:])
}

func (c *flinkCommand) set(name, value string) (err error) {
	switch name {
	case "rest":
		c.rest = value
	case "to":
		c.to = value
	case "timeout":
		if c.timeout, err = time.ParseDuration(value); err != nil || c.timeout <= 0 {
			return fmt.Errorf("--timeout=%s: give a time such as 90s", value)
		}
	case "keep-running":
		c.keep = true
	case "json":
		c.asJSON = true
	case "help", "h":
	default:
		return fmt.Errorf("unknown flag --%s", name)
	}
	return nil
}

// check takes the subject from the words after the verb.
func (c *flinkCommand) check(words []string) error {
	wants := map[string]string{"jobs": "", "cancel": "a job", "savepoint": "a job", "resume": "the location of a savepoint"}
	what, ok := wants[c.verb]
	switch {
	case !ok:
		return fmt.Errorf("unknown command flink %q; there are jobs, cancel, savepoint and resume", c.verb)
	case what == "" && len(words) > 0:
		return fmt.Errorf("flink %s wants nothing after it, got %q", c.verb, words[0])
	case what != "" && (len(words) != 1 || words[0] == ""):
		return fmt.Errorf("flink %s wants %s, got %d words", c.verb, what, len(words))
	case c.verb == "resume" && len(c.command) == 0:
		return errors.New("flink resume wants the command that submits the pipeline, after --: flink resume LOCATION -- COMMAND…")
	case c.verb != "resume" && c.command != nil:
		return fmt.Errorf("flink %s takes no command after --", c.verb)
	case c.verb != "savepoint" && (c.to != "" || c.keep):
		return errors.New("--to and --keep-running are for flink savepoint")
	}
	if u, err := url.Parse(c.rest); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("--rest=%s: give an address such as http://localhost:8081", c.rest)
	}
	if what != "" {
		c.subject = words[0]
	}
	return nil
}

// runFlink runs a command after "hornbeam flink".
func runFlink(args []string, stdout, stderr io.Writer) int {
	rest := os.Getenv("FLINK_REST")
	if rest == "" {
		rest = "http://localhost:8081"
	}
	c, err := parseFlink(args, rest)
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "hornbeam: %v\nRun hornbeam flink --help to see its use.\n", err)
		return exitUsage
	case c.verb == "":
		fmt.Fprint(stdout, flinkUsage)
		return exitOK
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := c.run(ctx, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "hornbeam: %v\n", err)
		return exitFailed
	}
	return exitOK
}

func (c flinkCommand) run(ctx context.Context, stdout, stderr io.Writer) error {
	f := &flinkREST{base: strings.TrimRight(c.rest, "/"), http: http.DefaultClient, poll: 300 * time.Millisecond}
	switch c.verb {
	case "jobs":
		return c.jobs(ctx, f, stdout)
	case "resume":
		return c.resume()
	}
	job, err := f.find(ctx, c.subject)
	if err != nil {
		return err
	}
	if job.over() {
		return fmt.Errorf("job %s (%s) is over: it is %s", job.Name, job.ID, job.State)
	}
	if c.verb == "cancel" {
		if job.State, err = f.cancel(ctx, job.ID); err != nil {
			return fmt.Errorf("cancel job %s (%s): %w", job.Name, job.ID, err)
		}
		if job.State != "CANCELED" {
			return fmt.Errorf("job %s (%s) was to be cancelled and is %s", job.Name, job.ID, job.State)
		}
		return c.tell(stdout, map[string]string{"jid": job.ID, "name": job.Name, "state": job.State},
			"%s (%s) is %s\n", job.Name, job.ID, job.State)
	}
	location, err := f.savepoint(ctx, job.ID, c.to, !c.keep)
	if err != nil {
		return fmt.Errorf("savepoint of job %s (%s): %w", job.Name, job.ID, err)
	}
	fmt.Fprintf(stderr, "To continue from it: hornbeam flink resume %s -- COMMAND…\n", location)
	return c.tell(stdout, map[string]string{"jid": job.ID, "name": job.Name, "location": location}, "%s\n", location)
}

// tell prints values as JSON if that is wanted, else the text.
func (c flinkCommand) tell(w io.Writer, values map[string]string, format string, args ...any) error {
	if c.asJSON {
		return json.NewEncoder(w).Encode(values)
	}
	_, err := fmt.Fprintf(w, format, args...)
	return err
}

func (c flinkCommand) jobs(ctx context.Context, f *flinkREST, w io.Writer) error {
	all, err := f.jobs(ctx)
	if err != nil {
		return err
	}
	for i, j := range all {
		// A job that cannot tell has none yet.
		if counts, err := f.checkpoints(ctx, j.ID); err == nil {
			all[i].Checkpoints = counts
		}
	}
	if c.asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(map[string]any{"jobs": all})
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "ID", "NAME", "STATE", "STARTED", "FOR", "CHECKPOINTS")
	for _, j := range all {
		counts := "-"
		if k := j.Checkpoints; k != nil {
			counts = fmt.Sprintf("%d completed, %d failed, %d restored", k.Completed, k.Failed, k.Restored)
		}
		row(t, j.ID, j.Name, j.State, time.UnixMilli(j.Start).UTC().Format(time.RFC3339),
			(time.Duration(j.Duration) * time.Millisecond).Round(time.Second).String(), counts)
	}
	return t.Flush()
}

// resumed is the command that submits a pipeline so that it begins with a savepoint.
func (c flinkCommand) resumed() []string {
	return append(slices.Clone(c.command), "--runner_option=savepoint_path="+c.subject)
}

// resume becomes the command, so that signals and the exit code are its own.
func (c flinkCommand) resume() error {
	argv := c.resumed()
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return fmt.Errorf("flink resume: %w", err)
	}
	return fmt.Errorf("flink resume: %s: %w", path, syscall.Exec(path, argv, os.Environ()))
}
