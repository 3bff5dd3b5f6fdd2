// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"path/filepath"
	"strings"
	"testing"
)

// pipelines are the programs of the campaigns with arguments that make them last for seconds.
var pipelines = []struct {
	name  string
	paced []string // With generated input.
	fill  []string // How a topic is filled for it.
	topic []string // With a topic.
}{
	{
		name:  "job",
		paced: []string{"--days=1", "--rate=4000"},
		fill:  []string{"cards", "--days=4", "--shuffle=10m"},
	},
}

// TestCampaign kills each pipeline while it reads generated records.
func TestCampaign(t *testing.T) {
	if *inputKind != "generator" {
		t.Skip("the input is not generated")
	}
	for _, p := range pipelines {
		t.Run(p.name, func(t *testing.T) {
			if *only != "" && *only != p.name {
				t.Skip("another pipeline was asked for")
			}
			campaign(t, Job{Program: filepath.Join(bin, p.name), Args: append(p.paced, strings.Fields(*further)...)})
		})
	}
}

func campaign(t *testing.T, j Job) {
	t.Helper()
	j.Dir = work(t)
	c := Campaign{Job: j, Kills: *kills, Seed: *seed, Log: t.Logf}
	if c.Kills == 0 {
		c.Kills = 4
	}
	report, err := c.Run()
	t.Logf("%d kills of %d jobs of %d lines and %v", report.Kills, report.Jobs, report.Lines, report.Whole)
	if err != nil {
		t.Error(err)
	}
}
