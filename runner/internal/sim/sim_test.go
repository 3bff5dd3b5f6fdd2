// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"flag"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/hornbeam-dev/hornbeam/runner/internal/sim"
)

var (
	seed  = flag.Int64("seed", -1, "simulate this seed only and print its trace")
	seeds = flag.Int("seeds", 1000, "how many seeds to simulate")
)

// onStore says which seeds run on a real store.
func onStore(seed uint64) bool { return seed%10 == 9 }

// tail keeps the last lines of a trace.
type tail struct{ lines []string }

func (t *tail) add(line string) {
	if t.lines = append(t.lines, line); len(t.lines) > 80 {
		t.lines = t.lines[40:]
	}
}

func TestSeeds(t *testing.T) {
	if *seed >= 0 {
		r, err := sim.Run(sim.Config{Seed: uint64(*seed), Store: onStore(uint64(*seed)), Trace: func(line string) { fmt.Println(line) }})
		t.Logf("%+v", r)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	n := *seeds
	if testing.Short() {
		n = min(n, 100)
	}
	var sum sim.Report
	for s := range uint64(n) {
		var end tail
		r, err := sim.Run(sim.Config{Seed: s, Store: onStore(s), Trace: end.add})
		if err != nil {
			for _, line := range end.lines {
				t.Log(line)
			}
			t.Fatalf("seed %d, %s: %v\nreplay with: go test ./runner/internal/sim -run Seeds -seed %d", s, r.Pipeline, err, s)
		}
		sum.Steps += r.Steps
		sum.Commits += r.Commits
		sum.Crashes += r.Crashes
		sum.Lost += r.Lost
		sum.Bundles += r.Bundles
		sum.Failures += r.Failures
	}
	t.Logf("%d seeds: %d steps, %d commits, %d of them lost in %d crashes, %d bundles, %d failed jobs resumed",
		n, sum.Steps, sum.Commits, sum.Lost, sum.Crashes, sum.Bundles, sum.Failures)
}

// The same seed gives the same messages, actions and rows.
func TestDeterminism(t *testing.T) {
	for s := range uint64(50) {
		first, err := sim.Run(sim.Config{Seed: s})
		if err != nil {
			t.Fatalf("seed %d: %v", s, err)
		}
		again, err := sim.Run(sim.Config{Seed: s})
		if err != nil || first.Hash != again.Hash || !maps.Equal(first.Results, again.Results) {
			t.Fatalf("seed %d: got hashes %x and %x, %v, want equal ones", s, first.Hash, again.Hash, err)
		}
	}
}

// A small job without any other misfortune, ended right before and right after each of its commits,
// gives the results of the undisturbed job.
func TestEveryCommit(t *testing.T) {
	for _, s := range []uint64{3, 8, 21} {
		calm, err := sim.Run(sim.Config{Seed: s, Calm: true})
		if err != nil {
			t.Fatalf("seed %d: %v", s, err)
		}
		for i := 1; i <= calm.Commits; i++ {
			for _, when := range []sim.When{sim.BeforeSync, sim.BeforePerform, sim.AfterPerform} {
				r, err := sim.Run(sim.Config{Seed: s, Calm: true, Crash: sim.Crash{Commit: i, When: when}})
				if err != nil {
					t.Fatalf("seed %d, crash at commit %d, moment %d: %v", s, i, when, err)
				}
				if r.Crashes == 0 && i < calm.Commits {
					t.Errorf("seed %d: no crash at commit %d, moment %d", s, i, when)
				}
				if !maps.Equal(r.Results, calm.Results) {
					t.Errorf("seed %d, crash at commit %d, moment %d: got results\n%v, want\n%v", s, i, when, r.Results, calm.Results)
				}
			}
		}
		t.Logf("seed %d, %s: %d commits", s, calm.Pipeline, calm.Commits)
	}
}

// Every deliberate bug is found.
func TestMutants(t *testing.T) {
	const enough = 100
	for _, m := range sim.Mutants() {
		t.Run(m.Name, func(t *testing.T) {
			for s := range uint64(enough) {
				if _, err := sim.Run(sim.Config{Seed: s, Store: m.NeedsStore, Mutant: m}); err != nil {
					t.Logf("found by seed %d: %.200s", s, strings.ReplaceAll(err.Error(), "\n", " "))
					return
				}
			}
			t.Errorf("not found by %d seeds", enough)
		})
	}
}
