// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// result is what a contest says: medians, and ratios that are above 1 if Hornbeam is better.
type result struct {
	Name  string `json:"name"`
	N     int64  `json:"n"`
	Runs  int    `json:"runs"` // Of each runner.
	Equal bool   `json:"equal"`
	// PrismWrong is how many of Prism's runs had another output. They do not count.
	PrismWrong int       `json:"prism_wrong,omitempty"`
	Against    string    `json:"against"`
	Hornbeam   measured  `json:"hornbeam"`
	Rival      *measured `json:"rival,omitempty"` // Nil if it does not run here.
	Rate       float64   `json:"rate,omitempty"`
	CPU        float64   `json:"cpu,omitempty"`
	RSS        float64   `json:"rss,omitempty"`
	Speed      float64   `json:"speed,omitempty"` // In Unit, as RivalSpeed.
	RivalSpeed float64   `json:"rival_speed,omitempty"`
	Unit       string    `json:"unit,omitempty"`
	Micros     float64   `json:"cpu_micros_per_element,omitempty"` // Less an empty job.
	Flink      *cost     `json:"flink_cpu_micros_per_element,omitempty"`
	Missed     string    `json:"missed,omitempty"` // Targets, in words.
}

func (c contest) judge(runs map[string][]measured) result {
	r := result{Name: c.name, N: c.n, Runs: len(runs["hornbeam"]), Equal: equal(runs), Against: c.rival(), Hornbeam: median(runs["hornbeam"])}
	if c.alone {
		r.Missed = c.targets.missed(r)
		return r
	}
	rival := median(runs[c.rival()])
	r.Rival = &rival
	if !r.Equal {
		return r // Times of different work say nothing.
	}
	r.Rate = rival.Seconds / r.Hornbeam.Seconds
	r.CPU = rival.CPU / r.Hornbeam.CPU
	r.RSS = rival.RSS / r.Hornbeam.RSS
	if c.service != nil {
		amount := float64(c.n) * c.service.each
		r.Speed, r.RivalSpeed, r.Unit = amount/r.Hornbeam.Seconds, amount/rival.Seconds, c.service.unit
	}
	r.Missed = c.targets.missed(r)
	return r
}

func (t targets) missed(r result) string {
	var missed []string
	atLeast := func(what string, got, want float64) {
		if got < want {
			missed = append(missed, fmt.Sprintf("%s ≥ %g×", what, want))
		}
	}
	atLeast("rate", r.Rate, t.rate)
	atLeast("CPU", r.CPU, t.cpu)
	atLeast("RSS", r.RSS, t.rss)
	if t.seconds > 0 && r.Hornbeam.Seconds > t.seconds {
		missed = append(missed, fmt.Sprintf("%g s", t.seconds))
	}
	if t.bytes > 0 && r.Hornbeam.RSS > t.bytes {
		missed = append(missed, fmt.Sprintf("%g MB", t.bytes/1e6))
	}
	return strings.Join(missed, ", ")
}

// median takes the median of each figure by itself.
func median(runs []measured) measured {
	m := runs[0]
	m.Seconds = middle(runs, func(m measured) float64 { return m.Seconds })
	m.CPU = middle(runs, func(m measured) float64 { return m.CPU })
	m.RSS = middle(runs, func(m measured) float64 { return m.RSS })
	return m
}

func middle(runs []measured, figure func(measured) float64) float64 {
	values := make([]float64, len(runs))
	for i, m := range runs {
		values[i] = figure(m)
	}
	slices.SortFunc(values, cmp.Compare[float64])
	half := len(values) / 2
	if len(values)%2 == 0 {
		return (values[half-1] + values[half]) / 2
	}
	return values[half]
}
