// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
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

// selected skips a test that the flags of scripts/crash do not ask for; without -kills there is a little of all.
func selected(t *testing.T, from, to string) {
	t.Helper()
	if *kills != 0 && (*replay || *inputKind != from || *outputKind != to) {
		t.Skipf("-kind=%s and -to=%s ask for another campaign", *inputKind, *outputKind)
	}
}

// each runs a campaign for each pipeline.
func each(t *testing.T, run func(t *testing.T, name string, paced, topic []string)) {
	t.Helper()
	for _, p := range pipelines {
		t.Run(p.name, func(t *testing.T) {
			if *only != "" && *only != p.name {
				t.Skip("-pipeline asks for another one")
			}
			run(t, p.name, p.paced, p.topic)
		})
	}
}

// TestCampaign kills each pipeline while it reads generated records.
func TestCampaign(t *testing.T) {
	selected(t, "generator", "files")
	each(t, func(t *testing.T, name string, paced, _ []string) { campaign(t, name, paced, nil) })
}

// TestKafkaCampaign kills each pipeline while it reads from a real broker.
func TestKafkaCampaign(t *testing.T) {
	selected(t, "kafka", "files")
	broker := kafkatest.Start(t)
	each(t, func(t *testing.T, name string, _, fill []string) {
		if fill == nil {
			t.Skip("it reads no topic")
		}
		topic := "kafka://" + broker.Addr + "/" + name
		cmd := exec.Command(filepath.Join(bin, "fixtures"), append(fill, "--to="+topic)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		campaign(t, name, []string{"--input=" + topic + "?from=earliest&to=latest", "--out_of_order=15m"}, nil)
	})
}

// TestKafkaOutputCampaign kills pipelines while they write to a real broker, exactly once.
func TestKafkaOutputCampaign(t *testing.T) {
	selected(t, "generator", "kafka")
	to(t, kafkatest.Start(t))
}

// TestS3Campaign kills pipelines while they write to a real S3 server, of which they do not hear everything.
func TestS3Campaign(t *testing.T) {
	selected(t, "generator", "s3")
	srv := s3(t)
	to(t, srv)
	t.Run("one large object", func(t *testing.T) {
		// It goes up in parts.
		campaign(t, "sessionanalytics", []string{"--days=20", "--file_window=8784h"}, srv)
	})
}

// TestGCSCampaign is TestS3Campaign with a GCS server.
func TestGCSCampaign(t *testing.T) {
	selected(t, "generator", "gcs")
	to(t, gcs(t))
}

// fewer records, slower: a shard takes a thousand a second.
var fewer = []string{"--devices=60", "--rate=1200"}

// TestKinesisOutputCampaign kills unitconversion, whose output is the longest, while it writes to a Kinesis server;
// kinesisio reads it.
func TestKinesisOutputCampaign(t *testing.T) {
	selected(t, "generator", "kinesis")
	campaign(t, "unitconversion", fewer, kinesis(t))
}

// to kills each pipeline that has a connector for its output; without -kills only one of them.
func to(t *testing.T, there Destination) {
	t.Helper()
	each(t, func(t *testing.T, name string, paced, topic []string) {
		if topic == nil {
			t.Skip("it writes files only")
		}
		if *kills == 0 && name != "unitconversion" {
			t.Skip("it is killed when -kills says how often")
		}
		campaign(t, name, paced, there)
	})
}

// The controls show that these campaigns would notice.

// TestKafkaOutputControl writes without transactions: records come twice.
func TestKafkaOutputControl(t *testing.T) {
	selected(t, "generator", "kafka")
	doubles(t, "unitconversion", []string{"--devices=300", "--rate=6000", "--at_least_once"}, kafkatest.Start(t))
}

// TestS3Control gives objects names of random numbers.
func TestS3Control(t *testing.T) {
	selected(t, "generator", "s3")
	doubles(t, "job", []string{"--days=1", "--rate=4000", "--naive"}, s3(t))
}

// TestGCSControl is TestS3Control with a GCS server.
func TestGCSControl(t *testing.T) {
	selected(t, "generator", "gcs")
	doubles(t, "job", []string{"--days=1", "--rate=4000", "--naive"}, gcs(t))
}

// TestKinesisOutputControl reads without dropping repeats by their marks, of which lost answers alone make some.
func TestKinesisOutputControl(t *testing.T) {
	selected(t, "generator", "kinesis")
	there := kinesis(t)
	j := Job{Program: filepath.Join(bin, "unitconversion"), Args: fewer, Dir: work(t), To: there}
	ended := must[Ended](t)(j.Run())
	once := must[Written](t)(j.Written(ended))
	there.raw = true
	if all := must[Written](t)(j.Written(ended)); len(all) <= len(once) {
		t.Errorf("got %d lines, want more than the %d without repeats", len(all), len(once))
	}
}

// count finds in what Compare says how many lines there are, and should be.
var count = regexp.MustCompile(`(\d+) lines, want (\d+);`)

// doubles kills a program until its output has too many lines.
func doubles(t *testing.T, program string, args []string, there Destination) {
	t.Helper()
	j := Job{Program: filepath.Join(bin, program), Args: args, Dir: work(t), To: there}
	j.Content = func(j Job) (Written, error) { return unnamed(j.lines()) }
	_, err := Campaign{Job: j, Kills: 40, Seed: *seed, Log: t.Logf}.Run()
	if err == nil {
		t.Fatal("got the same output, want some of it twice")
	}
	lines := count.FindStringSubmatch(err.Error())
	if lines == nil {
		t.Fatalf("got %v, want an output that differs", err)
	}
	got, _ := strconv.Atoi(lines[1])
	want, _ := strconv.Atoi(lines[2])
	if got <= want {
		t.Errorf("got %d lines, want more than %d", got, want)
	}
}

// unnamed leaves the names of objects away, which are random in a control.
func unnamed(w Written, err error) (Written, error) {
	for i, line := range w {
		if name, content, ok := strings.Cut(line, ": "); ok && strings.HasPrefix(name, "random-") {
			w[i] = content
		}
	}
	return w, err
}

func campaign(t *testing.T, program string, args []string, there Destination) {
	t.Helper()
	j := Job{Program: filepath.Join(bin, program), Args: append(args, strings.Fields(*further)...), Dir: work(t), To: there}
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
