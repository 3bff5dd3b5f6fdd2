// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// printTables prints a table for each rival.
func printTables(w io.Writer, results []result) {
	gap := ""
	for _, rival := range rivals {
		var chosen []result
		for _, r := range results {
			if r.Against == rival.name {
				chosen = append(chosen, r)
			}
		}
		if len(chosen) == 0 {
			continue
		}
		fmt.Fprint(w, gap)
		gap = "\n"
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		rival.print(t, rival.title, chosen)
		t.Flush()
		fmt.Fprint(w, rival.note)
	}
}

// rivals are what Hornbeam is compared with, in the order of the tables.
var rivals = []struct {
	name, title string
	print       func(w io.Writer, title string, results []result)
	note        string
}{
	{name: prism, title: "Prism", print: printRuns},
	{name: plain, title: "plain", print: printRuns, note: plainNote + "\n"},
	{name: flink, title: "Flink", print: printCosts, note: flinkNote + "\n"},
}

const plainNote = `plain: kafka is a loop of franz-go, which keeps the counts in memory and commits once, at the end; s3 is the SDK's multipart upload.`

func printRuns(w io.Writer, title string, results []result) {
	fmt.Fprintf(w, "\tn\truns\ts\t%s\trate\tCPU s\t%[1]s\tless\tRSS MB\t%[1]s\tless\t\n", title)
	for _, r := range results {
		h := r.Hornbeam
		if r.Rival == nil {
			fmt.Fprintf(w, "%s\t%d\t%d\t%.2f\t\t\t%.2f\t\t\t%.0f\t\t\t  %s\n",
				r.Name, r.N, r.Runs, h.Seconds, h.CPU, h.RSS/1e6, r.verdict())
			continue
		}
		p := *r.Rival
		fmt.Fprintf(w, "%s\t%d\t%d\t%.2f\t%.2f\t%s\t%.2f\t%.2f\t%s\t%.0f\t%.0f\t%s\t  %s\n",
			r.Name, r.N, r.Runs, h.Seconds, p.Seconds, times(r.Rate), h.CPU, p.CPU, times(r.CPU),
			h.RSS/1e6, p.RSS/1e6, times(r.RSS), r.verdict())
	}
}

// times has two places where targets have one: 0.17× is not 0.2×.
func times(ratio float64) string {
	if ratio < 1 {
		return fmt.Sprintf("%.2f×", ratio)
	}
	return fmt.Sprintf("%.1f×", ratio)
}

func printCosts(w io.Writer, title string, results []result) {
	fmt.Fprintf(w, "\tn\truns\tµs CPU an element\t%s\tless\t\n", title)
	for _, r := range results {
		fmt.Fprintf(w, "%s\t%d\t%d\t%.2f\t%g–%g\t%.0f×\t  %s\n",
			r.Name, r.N, r.Runs, r.Micros, r.Flink.Least, r.Flink.Most, r.CPU, r.verdict())
	}
}

// verdict is the end of a row.
func (r result) verdict() string {
	text := "outputs equal"
	switch {
	case r.Against == flink && r.Equal:
		text = "output right"
	case r.Against == flink:
		return "OUTPUT WRONG"
	case !r.Equal:
		return "OUTPUTS DIFFER"
	case r.Speed > 0:
		text += fmt.Sprintf("; %.3g and %.3g %s", r.Speed, r.RivalSpeed, r.Unit)
	}
	if r.Missed != "" {
		text += "; missed: " + r.Missed
	}
	if r.PrismWrong > 0 {
		text += fmt.Sprintf("; %d more of Prism were wrong", r.PrismWrong)
	}
	return text
}
