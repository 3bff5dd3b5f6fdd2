// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hornbeam-dev/hornbeam/integration/connectors/kafkatest"
)

// pipelines are the programs of the campaigns, with arguments that make them last for seconds.
var pipelines = []struct {
	name  string
	paced []string // With generated input.
	topic []string // What fills a topic for it.
}{
	{"job", []string{"--days=1", "--rate=4000"}, nil},
	{"frauddetection", []string{"--days=2", "--rate=6000"}, []string{"cards", "--days=6"}},
	{"sessionanalytics", []string{"--days=2", "--rate=6000", "--shuffle=10m"}, []string{"cards", "--days=6"}},
	{"unitconversion", []string{"--devices=300", "--rate=6000"}, []string{"devices", "--devices=300"}},
}

// TestCampaign kills each pipeline while it reads generated records.
func TestCampaign(t *testing.T) {
	if *inputKind != "generator" || *outputKind != "files" {
		t.Skip("-kind asks for another input")
	}
	for _, p := range pipelines {
		t.Run(p.name, func(t *testing.T) {
			if *only != "" && *only != p.name {
				t.Skip("-pipeline asks for another one")
			}
			campaign(t, p.name, p.paced)
		})
	}
}

// TestKafkaCampaign kills each pipeline while it reads from a real broker.
func TestKafkaCampaign(t *testing.T) {
	if (*inputKind != "kafka" || *outputKind != "files") && *kills != 0 {
		t.Skip("-kind asks for another input")
	}
	broker := kafkatest.Start(t)
	for _, p := range pipelines {
		if p.topic == nil {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			if *only != "" && *only != p.name {
				t.Skip("-pipeline asks for another one")
			}
			topic := "kafka://" + broker.Addr + "/" + p.name
			fill := exec.Command(filepath.Join(bin, "fixtures"), append(p.topic, "--to="+topic)...)
			if out, err := fill.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", fill, err, out)
			}
			campaign(t, p.name, []string{"--input=" + topic + "?from=earliest&to=latest", "--out_of_order=15m"})
		})
	}
}

// TestKafkaOutputCampaign kills each pipeline while it writes to a real broker, exactly once.
func TestKafkaOutputCampaign(t *testing.T) {
	if *outputKind != "kafka" && *kills != 0 {
		t.Skip("-to asks for another output")
	}
	broker := kafkatest.Start(t)
	for _, p := range pipelines {
		if p.topic == nil {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			if *only != "" && *only != p.name {
				t.Skip("-pipeline asks for another one")
			}
			campaignTo(t, p.name, p.paced, broker)
		})
	}
}

// TestKafkaOutputControl shows that the campaign would notice: without transactions records come twice.
func TestKafkaOutputControl(t *testing.T) {
	if *outputKind != "kafka" && *kills != 0 {
		t.Skip("-to asks for another output")
	}
	broker := kafkatest.Start(t)
	j := Job{Program: filepath.Join(bin, "unitconversion"), Args: []string{"--devices=300", "--rate=6000", "--at_least_once"}, Dir: work(t), Topics: broker}
	_, err := Campaign{Job: j, Kills: 40, Seed: *seed, Log: t.Logf}.Run()
	if err == nil || !strings.Contains(err.Error(), "the output differs") {
		t.Errorf("got %v, want an output that differs", err)
	}
}

func campaign(t *testing.T, program string, args []string) {
	t.Helper()
	campaignTo(t, program, args, nil)
}

func campaignTo(t *testing.T, program string, args []string, to Topics) {
	t.Helper()
	j := Job{Program: filepath.Join(bin, program), Args: append(args, strings.Fields(*further)...), Dir: work(t), Topics: to}
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
