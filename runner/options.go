// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"

	"github.com/hornbeam-dev/hornbeam/runner/internal/engine"
)

// Options say how a job runs. What the zero value of a field means stands beside it.
type Options struct {
	// Name is the job's name: letters, digits, '-' and '_'. Empty is "job".
	Name string
	// StateDir is the directory that holds the job. Empty keeps the job in memory: it leaves
	// nothing behind and does not survive its process.
	StateDir string
	// Parallelism is the number of bundles that are processed at once; 0 is two for each core.
	Parallelism int
	// KeyGroups is the number of parts into which keys are divided; 0 is 128. A job that exists
	// keeps the number with which it began.
	KeyGroups int
	// CommitInterval is the time after which a source is asked to let its work be committed;
	// 0 is 250 ms. It bounds how much is done again after a crash, and how late results appear.
	CommitInterval time.Duration
	// MemoryBudget is the memory in bytes that the job plans with; 0 is 400 MiB. The Go heap
	// of a pipeline's own code comes on top.
	MemoryBudget int64
	// Attempts is how often an element is tried whose processing fails; 0 is 4. What fails together
	// with others is divided until the element at fault is alone.
	Attempts int
	// SetAside keeps an element that has failed so often in the state directory, where Inspect shows
	// it, and lets the job go on; otherwise the job fails. A restriction of a source is never set
	// aside, nor is a timer, nor a group that is too large to be one piece.
	SetAside bool
	// Log receives what the runner reports; nil is slog's default.
	Log *slog.Logger

	// NoFusion puts a durable boundary between all transforms, NoLifting combines only after
	// grouping, and BundleElements bounds the elements of a bundle if it is not 0. The result of a
	// pipeline must not depend on any of them: they are for tests that say so.
	NoFusion, NoLifting bool
	BundleElements      int
	// unsafeNoSync is for the control of crash tests: it loses data.
	unsafeNoSync bool
}

var (
	stateDir = flag.String("state_dir", "",
		"Directory that holds the job, so that the same command continues after a crash or a stop.\n"+
			"Default: a directory per user and job name, which is printed at the start.\n"+
			"Example: --state_dir=/var/lib/hornbeam/fraud")
	memoryBudget = flag.String("memory_budget", "400MiB",
		"Memory that the job plans with: mailboxes, caches, bundles. Example: --memory_budget=1GiB")
	keyGroups = flag.Int("key_groups", 0,
		"Number of parts into which keys are divided, from 1 to 32768, fixed when the job begins (default 128).")
	commitInterval = flag.Duration("commit_interval", 0,
		"Time after which the work of a source is committed (default 250ms). It bounds what is done\n"+
			"again after a crash and how late results appear. Example: --commit_interval=50ms")
	attempts = flag.Int("attempts", 0,
		"Number of times an element is tried whose processing fails (default 4).")
	onFailingElement = flag.String("on_failing_element", failJob,
		"What to do with an element that has failed as often: fail_job, which loses nothing, so that the\n"+
			"same command tries again, or set_aside: it is kept in the state directory, where hornbeam inspect\n"+
			"shows it, and the job goes on.")
)

// The values of --on_failing_element.
const (
	failJob  = "fail_job"
	setAside = "set_aside"
)

// experiment names, for --experiments.
const (
	experimentNoFusion  = "hornbeam_no_fusion"
	experimentNoLifting = "hornbeam_no_lifting"
	experimentBundle    = "hornbeam_bundle_elements="
	experimentNoSync    = "hornbeam_unsafe_no_sync"
)

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$`)

// FlagOptions returns the options of the command line. Without --state_dir the job has the
// directory DefaultStateDir, but in a test binary it is kept in memory.
func FlagOptions() (Options, error) {
	o := Options{
		Name:           *jobopts.JobName,
		StateDir:       *stateDir,
		KeyGroups:      *keyGroups,
		CommitInterval: *commitInterval,
		Attempts:       *attempts,
		SetAside:       *onFailingElement == setAside,
	}
	if *onFailingElement != failJob && *onFailingElement != setAside {
		return o, fmt.Errorf("--on_failing_element=%s: give %s or %s", *onFailingElement, failJob, setAside)
	}
	if *jobopts.Parallelism > 0 {
		o.Parallelism = *jobopts.Parallelism
	}
	budget, err := ParseBytes(*memoryBudget)
	if err != nil {
		return o, fmt.Errorf("--memory_budget: %w", err)
	}
	o.MemoryBudget = budget
	if err := o.experiments(strings.Split(*jobopts.Experiments, ",")); err != nil {
		return o, err
	}
	if o.StateDir == "" && !testing.Testing() {
		if o.StateDir, err = DefaultStateDir(o.jobName()); err != nil {
			return o, err
		}
	}
	return o, o.check()
}

func (o *Options) experiments(names []string) error {
	o.NoFusion = slices.Contains(names, experimentNoFusion)
	o.NoLifting = slices.Contains(names, experimentNoLifting)
	o.unsafeNoSync = slices.Contains(names, experimentNoSync)
	for _, name := range names {
		if n, ok := strings.CutPrefix(name, experimentBundle); ok {
			count, err := strconv.Atoi(n)
			if err != nil || count < 1 {
				return fmt.Errorf("--experiments: %s wants a number of elements, such as %s1", name, experimentBundle)
			}
			o.BundleElements = count
		}
	}
	return nil
}

func (o *Options) jobName() string {
	if o.Name == "" {
		return "job"
	}
	return o.Name
}

func (o *Options) check() error {
	var errs []error
	if !namePattern.MatchString(o.jobName()) {
		errs = append(errs, fmt.Errorf("job name %q: use up to 100 letters, digits, '-' and '_', beginning with a letter or digit", o.Name))
	}
	if o.KeyGroups < 0 || o.KeyGroups > 1<<15 {
		errs = append(errs, fmt.Errorf("%d key groups: give a number from 1 to %d", o.KeyGroups, 1<<15))
	}
	if o.CommitInterval < 0 {
		errs = append(errs, fmt.Errorf("commit interval %v: give a positive duration", o.CommitInterval))
	}
	if o.Parallelism < 0 || o.Attempts < 0 {
		errs = append(errs, errors.New("parallelism and attempts have to be positive"))
	}
	if o.MemoryBudget != 0 && o.MemoryBudget < minBudget {
		errs = append(errs, fmt.Errorf("a memory budget of %d bytes is too small: give at least %d MiB", o.MemoryBudget, minBudget>>20))
	}
	return errors.Join(errs...)
}

const (
	minBudget     = 64 << 20
	defaultBudget = 400 << 20
)

func (o *Options) budget() int64 {
	if o.MemoryBudget == 0 {
		return defaultBudget
	}
	return o.MemoryBudget
}

// engine returns the engine's bounds, each a share of the memory budget.
func (o *Options) engine(epoch uint64, groups int) engine.Options {
	e := engine.Defaults()
	e.Epoch, e.KeyGroups = epoch, groups
	e.Parallelism = 2 * runtime.GOMAXPROCS(0)
	if o.Parallelism > 0 {
		e.Parallelism = o.Parallelism
	}
	if o.CommitInterval > 0 {
		e.CommitInterval = o.CommitInterval
	}
	if o.Attempts > 0 {
		e.Attempts = o.Attempts
	}
	e.SetAside = o.SetAside
	if o.BundleElements > 0 {
		e.BundleElements = o.BundleElements
	}
	e.BundleBytes = min(e.BundleBytes, int(o.budget()/32))
	e.MailboxBytes = min(e.MailboxBytes, int(o.budget()/8))
	return e
}

func (o *Options) log() *slog.Logger {
	if o.Log == nil {
		return slog.Default()
	}
	return o.Log
}

// DefaultStateDir returns the directory of a job for which no other was given: one per user and
// job name, below $XDG_STATE_HOME or ~/.local/state.
func DefaultStateDir(name string) (string, error) {
	base := os.Getenv("XDG_STATE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("no place for the job's state: %w; give one with --state_dir", err)
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "hornbeam", name), nil
}

var byteUnits = map[string]int64{
	"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
}

// ParseBytes reads a size such as 400MiB, 2GB or 1000000.
func ParseBytes(s string) (int64, error) {
	i := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if i < 0 {
		i = len(s)
	}
	n, err := strconv.ParseInt(s[:i], 10, 64)
	unit, ok := byteUnits[strings.TrimSpace(s[i:])]
	if err != nil || !ok || n > (1<<62)/unit {
		return 0, fmt.Errorf("size %q: give a number with a unit, such as 400MiB or 2GB", s)
	}
	return n * unit, nil
}
