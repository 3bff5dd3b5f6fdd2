// SPDX-License-Identifier: Apache-2.0

// Command hornbeam looks at the jobs of the Hornbeam runner, and after pipelines that run on Apache
// Flink. Pipelines are programs of their own; see package runner/launch.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hornbeam-dev/hornbeam/runner"
)

const usage = `hornbeam looks at the jobs of the Hornbeam runner.

Usage:
  hornbeam inspect DIR [--json]
  hornbeam flink jobs|cancel|savepoint|resume …    (see hornbeam flink --help)

inspect prints what the state directory DIR tells of its job: for each stage its watermarks, what
is in its mailbox, its timers, how many elements went in, came out, were late or set aside, and what
it waits for; then the metrics of the pipeline, and elements that were set aside because they failed
whenever they were tried. No process may be running the job. Nothing is changed.

  --json   print one JSON object instead of tables

Examples:
  hornbeam inspect ~/.local/state/hornbeam/frauddetection
  hornbeam inspect /var/lib/hornbeam/fraud --json | jq '.stages[] | select(.late > 0)'
`

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "flink" {
		return runFlink(args[1:], stdout, stderr)
	}
	dir, asJSON, err := parse(args)
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "hornbeam: %v\nRun hornbeam --help to see its use.\n", err)
		return exitUsage
	case dir == "":
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	job, err := runner.Inspect(dir)
	if err == nil && asJSON {
		err = writeJSON(stdout, job)
	} else if err == nil {
		err = writeTables(stdout, job)
	}
	if err != nil {
		fmt.Fprintf(stderr, "hornbeam: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// parse returns an empty dir if help is wanted. Flags may stand anywhere.
func parse(args []string) (dir string, asJSON bool, err error) {
	var words []string
	for _, arg := range args {
		switch {
		case arg == "-h" || arg == "-help" || arg == "--help" || arg == "help":
			return "", false, nil
		case arg == "-json" || arg == "--json":
			asJSON = true
		case strings.HasPrefix(arg, "-"):
			return "", false, fmt.Errorf("unknown flag %s", arg)
		default:
			words = append(words, arg)
		}
	}
	switch {
	case len(words) == 0:
		return "", false, fmt.Errorf("a command is missing: inspect or flink")
	case words[0] != "inspect":
		return "", false, fmt.Errorf("unknown command %q; there are inspect and flink", words[0])
	case len(words) != 2 || words[1] == "":
		return "", false, fmt.Errorf("inspect wants one state directory, got %d", len(words)-1)
	}
	return words[1], asJSON, nil
}

func writeJSON(w io.Writer, job *runner.Inspection) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(job)
}

func writeTables(w io.Writer, job *runner.Inspection) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	state := job.State
	if state == "UNFINISHED" {
		state += " (the command that began it continues it)"
	}
	row(t, "job", job.ID)
	row(t, "state", state)
	if job.Reason != "" {
		row(t, "reason", strings.ReplaceAll(strings.TrimSpace(job.Reason), "\n", "\n\t"))
	}
	row(t, "created", job.Created.Format(time.RFC3339))
	row(t, "latest commit", job.Clock)
	row(t, "starts", fmt.Sprint(job.Epoch))
	row(t, "key groups", fmt.Sprint(job.KeyGroups))
	row(t, "on disk", fmt.Sprintf("%d bytes", job.Bytes))
	row(t)
	row(t, "STAGE", "KIND", "INPUT WATERMARK", "OUTPUT WATERMARK", "MAILBOX", "BYTES", "TIMERS", "STATE", "IN", "OUT", "LATE", "DEAD", "RETRIES", "WAITS FOR", "TRANSFORMS")
	for _, s := range job.Stages {
		row(t, fmt.Sprint(s.ID), s.Kind, s.InputWatermark, s.OutputWatermark,
			fmt.Sprint(s.MailboxElements), fmt.Sprint(s.MailboxBytes), fmt.Sprint(s.Timers), fmt.Sprint(s.StateRows),
			fmt.Sprint(s.In), join(s.Out), fmt.Sprint(s.Late), fmt.Sprint(s.Dead), fmt.Sprint(s.Retries), orDash(s.WaitsFor), s.Name)
	}
	if len(job.Metrics) > 0 {
		row(t)
		row(t, "METRIC", "KIND", "VALUE", "TRANSFORM")
	}
	for _, m := range job.Metrics {
		value := fmt.Sprint(m.Sum)
		if m.Kind == "distribution" {
			value = fmt.Sprintf("sum %d, count %d, min %d, max %d", m.Sum, m.Count, m.Min, m.Max)
		}
		row(t, m.Namespace+"."+m.Name, m.Kind, value, m.Transform)
	}
	if len(job.Aside) > 0 {
		row(t)
		row(t, "SET ASIDE", "SIZE", "REASON")
	}
	for i, a := range job.Aside {
		if i == maxAside {
			row(t, fmt.Sprintf("and %d more: see --json", len(job.Aside)-maxAside))
			break
		}
		reason, _, _ := strings.Cut(strings.TrimSpace(a.Reason), "\n")
		row(t, fmt.Sprintf("stage %d", a.Stage), fmt.Sprintf("%d bytes", len(a.Element)), reason)
	}
	return t.Flush()
}

// maxAside is the number of elements set aside that the tables show.
const maxAside = 10

func row(t io.Writer, cells ...string) { fmt.Fprintln(t, strings.Join(cells, "\t")) }

func join(numbers []int64) string {
	var words []string
	for _, n := range numbers {
		words = append(words, strconv.FormatInt(n, 10))
	}
	return orDash(strings.Join(words, "+"))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
