// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The controls break durability by hand; a campaign that did not notice would be worth nothing. The
// third control of this kind, a commit that is written in two parts, needs a hand inside the engine:
// it is a mutant of runner/internal/sim.

const rolledBack = "the state was rolled back or the log has lost its end"

// TestRolledBackTableIsRefused puts an older copy of the table back, but not what the guard knows.
func TestRolledBackTableIsRefused(t *testing.T) {
	j := job(t, "--days=1", "--rate=2000")
	older := olderCopy(t, j)
	guard := must[[]byte](t)(os.ReadFile(filepath.Join(j.State(), "db", "GUARD")))
	replace(t, j.State(), older)
	if err := os.WriteFile(filepath.Join(j.State(), "db", "GUARD"), guard, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := must[Ended](t)(j.Run())
	// A younger manifest than the copy's says the same.
	if ended.Code != 1 || !strings.Contains(ended.Stderr, "state is damaged") {
		t.Errorf("got code %d and %q", ended.Code, ended.Stderr)
	}
}

// TestRolledBackDirectoryShowsInEffects puts an older copy of the whole directory back, of which
// nothing inside can tell. What was done since is done again: a sink that only appends shows it,
// and files of fileio, which have names and content that follow from the data, do not.
func TestRolledBackDirectoryShowsInEffects(t *testing.T) {
	for _, sink := range []struct {
		args []string
		same bool
	}{
		{[]string{"--naive"}, false},
		{nil, true},
	} {
		j := job(t, append(sink.args, "--days=1", "--rate=2000")...)
		undisturbed := j
		undisturbed.Dir = filepath.Join(j.Dir, "undisturbed")
		want := must[Written](t)(undisturbed.Written(must[Ended](t)(undisturbed.Run())))
		replace(t, j.State(), olderCopy(t, j))
		last := must[Ended](t)(j.Run())
		if last.Code != 0 {
			t.Fatalf("got code %d:\n%s", last.Code, last.Stderr)
		}
		diff := Compare(must[Written](t)(j.Written(last)), want)
		t.Logf("%v: %q", sink.args, diff)
		if (diff == "") != sink.same {
			t.Errorf("%v: same output %v, want %v", sink.args, diff == "", sink.same)
		}
	}
}

// olderCopy runs a job and kills it, copies its directory, and does more of the job.
func olderCopy(t *testing.T, j Job) string {
	t.Helper()
	older := filepath.Join(j.Dir, "older")
	interrupt(t, j, 2500*time.Millisecond)
	if err := os.CopyFS(older, os.DirFS(j.State())); err != nil {
		t.Fatal(err)
	}
	interrupt(t, j, 1200*time.Millisecond)
	return older
}

func interrupt(t *testing.T, j Job, after time.Duration) {
	t.Helper()
	if ended := must[Ended](t)(j.Kill(after, syscall.SIGKILL)); ended.Code != -1 {
		t.Fatalf("the job was over before it could be killed, with code %d:\n%s", ended.Code, ended.Stderr)
	}
}

func replace(t *testing.T, dir, with string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(with, dir); err != nil {
		t.Fatal(err)
	}
}

// TestPowerLossWithoutSyncIsNoticed acknowledges commits that are not on disk and then loses the
// end of the log, as a loss of power would.
func TestPowerLossWithoutSyncIsNoticed(t *testing.T) {
	j := job(t, "--days=1", "--rate=2000", "--experiments=hornbeam_unsafe_no_sync")
	interrupt(t, j, 2*time.Second)
	logs := must[[]string](t)(filepath.Glob(filepath.Join(j.State(), "db", "*.log")))
	if len(logs) == 0 {
		t.Fatal("no log")
	}
	slices.Sort(logs)
	last := logs[len(logs)-1]
	size := must[os.FileInfo](t)(os.Stat(last)).Size()
	kept := rand.New(rand.NewPCG(*seed, 0)).Int64N(size*3/4 + 1)
	if err := os.Truncate(last, kept); err != nil {
		t.Fatal(err)
	}
	ended := must[Ended](t)(j.Run())
	if ended.Code != 1 || !strings.Contains(ended.Stderr, rolledBack) {
		t.Errorf("seed %d, %d of %d bytes kept: got code %d and %q", *seed, kept, size, ended.Code, ended.Stderr)
	}
}

// TestNaiveSinkIsCaught shows that a campaign finds what is done twice.
func TestNaiveSinkIsCaught(t *testing.T) {
	j := job(t, "--days=1", "--rate=4000", "--naive")
	_, err := Campaign{Job: j, Kills: 40, Seed: *seed, Log: t.Logf}.Run()
	if err == nil || !strings.Contains(err.Error(), "the output differs") {
		t.Errorf("got %v, want an output that differs", err)
	}
}
