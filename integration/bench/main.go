// SPDX-License-Identifier: Apache-2.0

// Bench compares Hornbeam with Prism, with programs that use a service's client and no Beam, and with what was
// measured on Flink. The same is done on both sides by turns, each run in a process of its own. Outputs
// are compared before times are. scripts/bench builds and runs it.
//
// What is run and what it should reach is in plan.go, how a run is measured in measure.go, service.go and
// flink.go, what comes of it in judge.go, the tables in print.go. The workloads are pipelines of
// ../bench/workload, the programs of pipelines/, and ../bench/kafka and ../bench/s3. This program itself uses no Beam,
// so that it stays small: on Linux the peak memory of a child is never less than its parent's.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
)

type options struct {
	bin         string
	repetitions int
	n           int64
	only        string
	json        bool
	tolerant    bool
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "", "directory of the programs; scripts/bench fills it")
	flag.IntVar(&o.repetitions, "r", 3, "repetitions")
	flag.Int64Var(&o.n, "n", 0, "elements of the workloads, days of the pipelines, objects; 0 is what the plan says")
	flag.StringVar(&o.only, "only", "", "run only these, separated by commas: "+strings.Join(planned(), ", "))
	flag.BoolVar(&o.json, "json", false, "print the medians as JSON instead of a table")
	flag.BoolVar(&o.tolerant, "tolerant", false, "do not fail if a target is missed")
	flag.Parse()
	code, err := bench(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	os.Exit(code)
}

// bench returns the exit code: 1 if outputs differ, or a target is missed.
func bench(o options) (int, error) {
	if flag.NArg() > 0 || o.repetitions < 1 || o.n < 0 {
		return 0, fmt.Errorf("wrong arguments; see scripts/bench --help")
	}
	chosen := plan
	if o.only != "" {
		names := strings.Split(o.only, ",")
		chosen = nil
		for _, name := range names {
			i := slices.IndexFunc(plan, func(c contest) bool { return c.name == name })
			if i < 0 {
				return 0, fmt.Errorf("--only %s: choose from %s", name, strings.Join(planned(), ", "))
			}
			chosen = append(chosen, plan[i])
		}
	}
	for _, c := range chosen {
		if c.service == nil {
			continue
		}
		if err := c.service.fetch(); err != nil { // Before anything takes its time.
			return 0, err
		}
	}
	var results []result
	for _, c := range chosen {
		if o.n > 0 {
			c.n = o.n
		}
		r, err := c.run(o)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", c.name, err)
		}
		results = append(results, r)
	}
	if o.json {
		if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
			return 0, err
		}
	} else {
		printTables(os.Stdout, results)
	}
	for _, r := range results {
		if !r.Equal || r.Missed != "" && !o.tolerant {
			return 1, nil
		}
	}
	return 0, nil
}

// run runs a contest by turns. If the outputs of the first turns differ, it says so and stops.
func (c contest) run(o options) (result, error) {
	if c.rival() == flink {
		return c.runForFlink(o)
	}
	measure := func(runner string) (measured, error) { return c.measure(o.bin, runner) }
	if c.service != nil {
		s, err := c.service.start(o.bin, c.size())
		if err != nil {
			return result{}, err
		}
		defer s.stop()
		measure = s.measure
	}
	runners := []string{"hornbeam", c.rival()}
	if c.alone {
		runners = runners[:1]
	}
	runs := map[string][]measured{}
	for turn := range o.repetitions {
		for _, runner := range runners {
			fmt.Fprintf(os.Stderr, "%s on %s, %d of %d\n", c.name, runner, turn+1, o.repetitions)
			m, err := measure(runner)
			if err != nil {
				return result{}, fmt.Errorf("on %s: %w", runner, err)
			}
			runs[runner] = append(runs[runner], m)
		}
		if !equal(runs) && !c.racy {
			break
		}
	}
	wrong := 0
	if c.racy {
		all := len(runs[prism])
		runs[prism] = slices.DeleteFunc(runs[prism], func(m measured) bool { return m.Output != runs["hornbeam"][0].Output })
		if wrong = all - len(runs[prism]); wrong == all {
			return result{}, fmt.Errorf("no output of Prism equals Hornbeam's")
		}
	}
	r := c.judge(runs)
	r.PrismWrong = wrong
	return r, nil
}

// equal says whether all outputs are the same.
func equal(runs map[string][]measured) bool {
	want := runs["hornbeam"][0].Output
	for _, all := range runs {
		for _, m := range all {
			if m.Output != want || m.Answer != "" && m.Answer != want {
				return false
			}
		}
	}
	return true
}
