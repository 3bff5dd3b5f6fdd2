// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hornbeam-dev/hornbeam/io/fileio"
)

// TestReplay runs each pipeline from its earliest record to the end, then again under kills, then with its records in
// another order, and compares what the manifests of the windows say: the number of rows and their hash.
func TestReplay(t *testing.T) {
	if *kills != 0 && !*replay {
		t.Skip("-replay is not set")
	}
	for _, p := range []struct {
		name  string
		paced []string
		other []string // Another order; nil if there is none.
	}{
		{"frauddetection", []string{"--days=4", "--rate=12000"}, []string{"--days=4", "--shuffle=1h"}},
		{"sessionanalytics", []string{"--days=4", "--rate=12000"}, []string{"--days=4", "--shuffle=1h"}},
		{"unitconversion", []string{"--devices=300", "--rate=6000", "--file_window=10m"}, nil},
	} {
		t.Run(p.name, func(t *testing.T) {
			if *only != "" && *only != p.name {
				t.Skip("-pipeline asks for another one")
			}
			args := p.paced
			if given := strings.Fields(*further); len(given) > 0 {
				args = given
				if strings.Contains(*further, "--input") {
					p.other = nil
				} else if p.other != nil {
					p.other = append(given, "--shuffle=1h")
				}
			}
			j := Job{Program: filepath.Join(bin, p.name), Args: args, Dir: work(t), Content: manifests}
			c := Campaign{Job: j, Kills: *kills, Seed: *seed, Log: t.Logf}
			if c.Kills == 0 {
				c.Kills = 3
			}
			report, err := c.Run()
			if err != nil {
				t.Fatal(err)
			}
			undisturbed := j
			undisturbed.Dir = filepath.Join(j.Dir, "undisturbed")
			first := must[Written](t)(manifests(undisturbed))
			t.Logf("%d windows are the same after %d kills of %d jobs:\n%s", len(first), report.Kills, report.Jobs, strings.Join(first, "\n"))
			if p.other == nil {
				return
			}
			j.Dir, j.Args = filepath.Join(j.Dir, "shuffled"), p.other
			if ended := must[Ended](t)(j.Run()); ended.Code != 0 {
				t.Fatalf("the job ended with code %d:\n%s", ended.Code, ended.Stderr)
			}
			if diff := Compare(must[Written](t)(manifests(j)), first); diff != "" {
				t.Errorf("with records in another order the output differs: %s", diff)
			}
		})
	}
}

// TestReplayControl changes one record of the input: a comparison of manifests has to notice.
func TestReplayControl(t *testing.T) {
	if *kills != 0 && !*replay {
		t.Skip("-replay is not set")
	}
	var written []Written
	for _, cents := range []string{"57.16", "57.17"} {
		dir := work(t)
		input := filepath.Join(dir, "cards.csv")
		if err := os.WriteFile(input, []byte("0,31,596,3156,"+cents+",0,0\n1,62,596,3156,9.99,0,0\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		j := Job{Program: filepath.Join(bin, "sessionanalytics"), Args: []string{"--input=file:" + input}, Dir: dir}
		if ended := must[Ended](t)(j.Run()); ended.Code != 0 {
			t.Fatalf("the job ended with code %d:\n%s", ended.Code, ended.Stderr)
		}
		written = append(written, must[Written](t)(manifests(j)))
	}
	if len(written[0]) != 1 || Compare(written[0], written[1]) == "" {
		t.Errorf("got %q and %q, want one window with different hashes", written[0], written[1])
	}
}

// manifests returns a line for each window of a job's output: the last manifest of it, which has the sums of all panes.
func manifests(j Job) (Written, error) {
	files, err := filepath.Glob(filepath.Join(j.Output(), "_complete-*.json"))
	if err != nil {
		return nil, err
	}
	last := map[string]fileio.Manifest{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var m fileio.Manifest
		if err := json.Unmarshal(content, &m); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(file), "_complete-"), "-")
		window := fmt.Sprintf("%-8s %s to %s", name, m.WindowStart.Format(time.RFC3339), m.WindowEnd.Format(time.RFC3339))
		if known, ok := last[window]; !ok || known.Pane < m.Pane {
			last[window] = m
		}
	}
	var lines Written
	for window, m := range last {
		lines = append(lines, fmt.Sprintf("%s  %8d rows  %s", window, m.Rows, m.Hash))
	}
	slices.Sort(lines)
	return lines, nil
}
