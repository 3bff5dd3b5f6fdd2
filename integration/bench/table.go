// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// result is what a contest says: medians, and ratios that are above 1 if Hornbeam is better.
type result struct {
	Name  string `json:"name"`
	N     int64  `json:"n"`
	Runs  int    `json:"runs"` // Of each runner.
	Equal bool   `json:"equal"`
	// PrismWrong is how many of Prism's runs had another output. They do not count.
	PrismWrong int       `json:"prism_wrong,omitempty"`
	Hornbeam   measured  `json:"hornbeam"`
	Prism      *measured `json:"prism,omitempty"`
	Rate       float64   `json:"rate,omitempty"`
	CPU        float64   `json:"cpu,omitempty"`
	RSS        float64   `json:"rss,omitempty"`
	Missed     string    `json:"missed,omitempty"` // Targets, in words.
}

func (c contest) judge(runs map[string][]measured) result {
	r := result{Name: c.name, N: c.n, Runs: len(runs["hornbeam"]), Equal: equal(runs), Hornbeam: median(runs["hornbeam"])}
	if c.alone {
		r.Missed = c.targets.missed(r)
		return r
	}
	prism := median(runs["prism"])
	r.Prism = &prism
	if !r.Equal {
		return r // Times of different work say nothing.
	}
	r.Rate = prism.Seconds / r.Hornbeam.Seconds
	r.CPU = prism.CPU / r.Hornbeam.CPU
	r.RSS = prism.RSS / r.Hornbeam.RSS
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

func printTable(w io.Writer, results []result) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tn\truns\ts\tPrism\trate\tCPU s\tPrism\tless\tRSS MB\tPrism\tless\t")
	for _, r := range results {
		h, verdict := r.Hornbeam, "outputs equal"
		if !r.Equal {
			verdict = "OUTPUTS DIFFER"
		} else if r.Missed != "" {
			verdict += "; missed: " + r.Missed
		}
		if r.PrismWrong > 0 {
			verdict += fmt.Sprintf("; %d more of Prism were wrong", r.PrismWrong)
		}
		if r.Prism == nil {
			fmt.Fprintf(t, "%s\t%d\t%d\t%.2f\t\t\t%.2f\t\t\t%.0f\t\t\t  %s\n",
				r.Name, r.N, r.Runs, h.Seconds, h.CPU, h.RSS/1e6, verdict)
			continue
		}
		p := *r.Prism
		fmt.Fprintf(t, "%s\t%d\t%d\t%.2f\t%.2f\t%.1f×\t%.2f\t%.2f\t%.1f×\t%.0f\t%.0f\t%.1f×\t  %s\n",
			r.Name, r.N, r.Runs, h.Seconds, p.Seconds, r.Rate, h.CPU, p.CPU, r.CPU,
			h.RSS/1e6, p.RSS/1e6, r.RSS, verdict)
	}
	t.Flush()
}
