// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
)

// cost is CPU time per element, in µs: the least and the most of some runs.
type cost struct {
	Least float64 `json:"least"`
	Most  float64 `json:"most"`
}

// flinkNote says where the costs on Flink come from that the plan has. Nothing here measures them.
const flinkNote = `Flink: such pipelines of Go SDK 2.77.0 on a cluster of Flink 1.19.3 with Beam's runner of 2.64/2.65, streaming, RocksDB, parallelism 1,
no checkpoints; TaskManager and worker, less an empty job. This was on another machine: two cores under load. The ratio is to the least.`

// runForFlink measures what an element costs on Hornbeam, less an empty job, as it was done on Flink.
func (c contest) runForFlink(o options) (result, error) {
	var whole, empty []measured
	for turn := range o.repetitions {
		fmt.Fprintf(os.Stderr, "%s on hornbeam, %d of %d\n", c.name, turn+1, o.repetitions)
		m, err := c.measure(o.bin, "hornbeam")
		if err != nil {
			return result{}, err
		}
		whole = append(whole, m)
		if m, err = (contest{name: "empty"}).measure(o.bin, "hornbeam"); err != nil {
			return result{}, err
		}
		empty = append(empty, m)
	}
	runs := map[string][]measured{"hornbeam": whole}
	net := median(whole).CPU - median(empty).CPU
	if net <= 0 {
		return result{}, fmt.Errorf("%d elements took no more CPU time than none: give more, with -n", c.n)
	}
	r := result{
		Name: c.name, N: c.n, Runs: o.repetitions, Equal: equal(runs), Against: c.rival(), Hornbeam: median(whole),
		Micros: net * 1e6 / float64(c.n), Flink: &c.flink,
	}
	r.CPU = c.flink.Least / r.Micros
	r.Missed = c.targets.missed(r)
	return r, nil
}
