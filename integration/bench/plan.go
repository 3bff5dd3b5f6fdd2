// SPDX-License-Identifier: Apache-2.0

package main

import "strconv"

// contest is one comparison.
type contest struct {
	name     string
	n        int64    // Elements of a workload; of a pipeline what args ask for last: days or devices.
	pipeline bool     // A program of pipelines/, not a workload.
	service  *service // A real server, and the program that writes to it, not a workload.
	flink    cost     // What an element of the workload takes on Flink. It does not run here.
	args     []string
	alone    bool // Only on Hornbeam: Prism would take too long.
	racy     bool // Prism's output may be wrong, because it processes a key in two bundles at once.
	targets  targets
}

// targets are what Hornbeam should reach; 0 is no target.
type targets struct {
	rate    float64 // Times the rival's.
	cpu     float64 // Its CPU time over ours.
	rss     float64 // Its peak memory over ours.
	seconds float64 // At most.
	bytes   float64 // Of peak memory, at most.
}

// The sizes are such that Prism copes: its memory grows with the elements of a shuffle, and its
// time with the square of those of a session.
var plan = []contest{
	{name: "fused", n: 1_000_000, targets: targets{rate: 1}},
	{name: "reshuffle", n: 1_000_000, targets: targets{rate: 1}},
	{name: "gbk1k", n: 1_000_000, targets: targets{cpu: 3, rss: 4}},
	{name: "gbk100k", n: 1_000_000, targets: targets{cpu: 3, rss: 4}},
	{name: "sliding", n: 100_000},
	{name: "sessions", n: 200_000, targets: targets{rate: 5}},
	{name: "combine", n: 1_000_000},
	{name: "valuestate", n: 40_000, racy: true, targets: targets{rate: 8}},
	{name: "frauddetection", n: 3, pipeline: true, args: []string{"--days"}},
	// Visits are at whole seconds. At exactly one gap Prism joins two sessions, against the model.
	{name: "sessionanalytics", n: 3, pipeline: true, args: []string{"--gap=29m59.5s", "--days"}},
	{name: "unitconversion", n: 500, pipeline: true, args: []string{"--devices"}},
	{name: "frauddetection-all", n: 183, pipeline: true, alone: true, args: []string{"--days"},
		targets: targets{seconds: 60, bytes: 500e6}},
	{name: "kafka", n: 2_000_000, service: &kafka, targets: targets{rate: 0.2}},
	{name: "s3", n: 4, service: &s3, targets: targets{rate: 0.8}},
	{name: "gbk1k-flink", n: 1_000_000, flink: cost{59, 72}, targets: targets{cpu: 20}},
	{name: "valuestate-flink", n: 30_000, flink: cost{1050, 1580}, targets: targets{cpu: 20}},
	{name: "windowsum-flink", n: 200_000, flink: cost{89, 124}, targets: targets{cpu: 20}},
}

// What Hornbeam is compared with.
const (
	prism = "prism"
	plain = "plain" // A program without Beam.
	flink = "flink"
)

func (c contest) rival() string {
	switch {
	case c.service != nil:
		return plain
	case c.flink != cost{}:
		return flink
	}
	return prism
}

func planned() []string {
	var names []string
	for _, c := range plan {
		names = append(names, c.name)
	}
	return names
}

// size is n as an argument.
func (c contest) size() string { return strconv.FormatInt(c.n, 10) }
