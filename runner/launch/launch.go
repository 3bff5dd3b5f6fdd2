// SPDX-License-Identifier: Apache-2.0

// Package launch is the main function of a pipeline: it reads the flags, builds the pipeline, runs
// it on the runner that --runner names, shows how it goes, and says at the end what went in and
// what came of it. Hornbeam is the default; prism, direct, flink, dataflow, universal and Beam's
// other runners are there as well, so that the same program moves by changing flags. Runners that
// start processes start the program itself, as a worker.
package launch

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/x/beamx" // Registers Beam's own runners.

	"github.com/hornbeam-dev/hornbeam/runner"
)

// Program is a pipeline that can be launched.
type Program struct {
	// Name is the default name of its jobs, and part of their default state directory.
	Name string
	// Usage is what --help says first: what the pipeline does, then examples.
	Usage string
	// Flags names the flags that belong to the pipeline, in the order in which --help shows them.
	Flags []string
	// Build composes the pipeline. Errors are for the user: they say what to do.
	Build func(s beam.Scope, job Job) error
	// Totals reads from a job's metrics what went in and what came of it.
	Totals func(metrics.QueryResults) Totals
}

// Job is what a pipeline may know of the job it is built for.
type Job struct {
	// ID stays the same when a job is continued after a crash, so that it may name what the job
	// writes.
	ID string
	// Resumed tells that the job began before.
	Resumed bool
	// Pace is what the sources of the job have to keep to.
	Pace Pace
	// Limits is what the runner of the job cannot do.
	Limits Limits
}

// Limits is what a runner cannot do that pipelines may do without. The zero value is no limit.
type Limits struct {
	// NoFiles: the workers do not see the files of this machine.
	NoFiles bool
	// NoClock: it has no timers in processing time.
	NoClock bool
	// Rewinds: after a failure it goes back to its last checkpoint, and what it has passed on since, also
	// through a Reshuffle, it makes again, maybe in another order.
	Rewinds bool
}

// Pace says how sources work on a runner. The zero value leaves it to them, which is right for
// runners that interrupt a source themselves, such as Hornbeam. Sources take it as part of their
// configuration, so it travels with the pipeline.
type Pace struct {
	// Rest is the shortest time after which a source may ask to be resumed.
	Rest time.Duration
	// Turn is the longest time that a source reads on before it asks to be resumed; 0 is any.
	Turn time.Duration
}

// Totals accounts for every element: In = Out + Late + Doubled + Dead, as far as an element that
// goes in comes out as one.
type Totals struct {
	In      int64 `json:"in"`
	Out     int64 `json:"out"`
	Late    int64 `json:"late"`
	Doubled int64 `json:"doubled"`
	Dead    int64 `json:"dead"`
}

// Counter sums a counter over all transforms.
func Counter(m metrics.QueryResults, namespace, name string) int64 {
	return sum(m, func(c metrics.CounterResult) bool { return c.Namespace() == namespace && c.Name() == name })
}

// Counters sums all counters of a namespace.
func Counters(m metrics.QueryResults, namespace string) int64 {
	return sum(m, func(c metrics.CounterResult) bool { return c.Namespace() == namespace })
}

func sum(m metrics.QueryResults, of func(metrics.CounterResult) bool) int64 {
	var n int64
	for _, c := range m.Counters() {
		if of(c) {
			n += c.Result()
		}
	}
	return n
}

// Exit codes of Main.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2
	exitStopped = 130 // As a shell reports a program that SIGINT has ended.
)

var (
	asJSON = flag.Bool("json", false, "Print the summary as one line of JSON on standard output.")
	jobID  = flag.String("job_id", "",
		"On a runner other than hornbeam: the ID of the job whose results this one continues, from a savepoint.\n"+
			"Default: a new one, of job name and time.")
)

// Main launches p with the flags of the command line, and exits.
func Main(p Program) { os.Exit(Run(p, os.Stdout, os.Stderr)) }

// Run is Main without the exit; it returns the exit code.
//
// With HORNBEAM_WORKER=1 in its environment the program is a worker: it runs what a runner asks
// for, and builds nothing.
func Run(p Program, stdout, stderr io.Writer) int {
	flag.Usage = func() { usage(stderr, p) }
	flag.Parse()
	if os.Getenv(workerVariable) != "" {
		return work(stderr)
	}
	if args := flag.Args(); len(args) > 0 {
		fmt.Fprintf(stderr, "%s: unexpected argument %q: flags are written --name=value\n", p.Name, args[0])
		return exitUsage
	}
	if *jobopts.JobName == "" {
		*jobopts.JobName = p.Name
	}
	beam.Init()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // A second Ctrl-C ends the process at once, which costs nothing.
	name := *runners.Runner
	if name == "" {
		name = runner.Name
	}
	var err error
	if name == runner.Name {
		err = runHornbeam(ctx, p, stdout, stderr)
	} else {
		err = runRemote(ctx, name, p, stdout, stderr)
	}
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errDetached): // The runner has said how the job goes on.
		return exitStopped
	case errors.Is(err, runner.ErrStopped):
		fmt.Fprintf(stderr, "\nStopped. Everything done so far is kept: the same command continues.\n  %s\n", command())
		return exitStopped
	}
	fmt.Fprintf(stderr, "%s: %s\n", p.Name, explain(err))
	return exitFailed
}

// command is the command line as it would be typed again.
func command() string {
	words := make([]string, len(os.Args))
	for i, arg := range os.Args {
		if strings.ContainsAny(arg, " \t\"'$&?*;|<>()\\") {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		words[i] = arg
	}
	if strings.Contains(words[0], "go-build") { // go run gives its binary a name that is gone later.
		words[0] = "go run ./pipelines/" + words[0][strings.LastIndexByte(words[0], '/')+1:]
	}
	return strings.Join(words, " ")
}

func runHornbeam(ctx context.Context, p Program, stdout, stderr io.Writer) error {
	if err := misplaced(runner.Name, p); err != nil {
		return err
	}
	opt, err := runner.FlagOptions()
	if err != nil {
		return err
	}
	tuneMemory(opt.MemoryBudget)
	opt.Log = slog.New(slog.NewTextHandler(stderr, nil))
	job, err := runner.Open(opt)
	if err != nil {
		return err
	}
	defer job.Close()
	pipeline, scope := beam.NewPipelineWithRoot()
	if err := p.Build(scope, Job{ID: job.ID(), Resumed: job.Resumed()}); err != nil {
		return err
	}
	began := time.Now()
	running, err := job.Start(ctx, pipeline)
	if err != nil {
		return err
	}
	verb := "begins"
	if job.Resumed() {
		verb = "continues"
	}
	fmt.Fprintf(stderr, "Job %s %s; its state is in %s\n", job.ID(), verb, job.StateDir())
	result, err := watch(ctx, running, p, job, stderr)
	if err != nil {
		return err
	}
	report(stdout, p, summary{
		Job:     job.ID(),
		State:   result.Final.State.String(),
		Seconds: time.Since(began).Seconds(),
		Totals:  totals(p, result),
	})
	return job.Close()
}

// tuneMemory trades memory that the job may use anyway for less garbage collection. What is not
// for the Go heap is for the store's tables and cache, and for the program itself.
func tuneMemory(budget int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(budget / 8 * 5)
	}
}

// watch shows progress until the job has ended.
func watch(ctx context.Context, running *runner.Running, p Program, job *runner.Job, stderr io.Writer) (*runner.Result, error) {
	type ending struct {
		result *runner.Result
		err    error
	}
	ended := make(chan ending, 1)
	go func() {
		result, err := running.Wait()
		ended <- ending{result, err}
	}()
	show := newProgress(stderr)
	tick := time.NewTicker(show.every)
	defer tick.Stop()
	interrupted := ctx.Done()
	for {
		select {
		case end := <-ended:
			show.clear()
			return end.result, end.err
		case <-interrupted:
			interrupted = nil
			running.Stop()
		case <-tick.C:
			show.line(p, running.Result(), job.Size())
		}
	}
}

func totals(p Program, r *runner.Result) Totals {
	var t Totals
	if p.Totals != nil {
		t = p.Totals(r.Metrics().AllMetrics())
	}
	for _, s := range r.Final.Stages {
		t.Late += s.Counts.Late
		t.Dead += s.Counts.Dead
	}
	return t
}

// summary is what is known at the end of a job.
type summary struct {
	Job       string  `json:"job"`
	RunnerJob string  `json:"runner_job,omitempty"` // Its ID at a remote runner.
	State     string  `json:"state"`
	Seconds   float64 `json:"seconds"`
	Totals
}

func report(w io.Writer, p Program, s summary) {
	if *asJSON {
		line, _ := json.Marshal(s) // Numbers and strings always encode.
		fmt.Fprintf(w, "%s\n", line)
		return
	}
	fmt.Fprintf(w, "%s is %s after %.1f s\n", s.Job, s.State, s.Seconds)
	fmt.Fprintf(w, "  in %s   out %s   late %s   doubled %s   dead %s\n",
		group(s.In), group(s.Out), group(s.Late), group(s.Doubled), group(s.Dead))
}
