// SPDX-License-Identifier: Apache-2.0

package iotest

import (
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
)

// Source is the adapter of a source.
type Source struct {
	// Open makes an empty place with so many partitions, which lasts as long as the test.
	Open func(tb testing.TB, partitions int) *Feed

	Keys     bool // The source has keys.
	Headers  bool // The source has headers.
	LargeMax int  // The size of the largest value that the source takes, in bytes.
	Ends     bool // Every read ends, as that of files does: the suite never reads for ever.

	// Secured is Open of a place that asks for a secret. The read of the feed names the place where the secret is
	// kept, as the connector's users do; what is kept there is given. Nil: the source knows no secrets.
	Secured func(tb testing.TB, secret string) *Feed

	Refusals []Refusal // What is refused before a pipeline runs. At least: a place that is not there.
}

// Extent says where a read ends.
type Extent string

const (
	ToNow   Extent = "to now"   // At what is there when the read begins.
	ForEver Extent = "for ever" // Never. A caught-up partition has to be idle after some milliseconds. Not if the source Ends.
)

// Feed is a place that can be filled and read.
type Feed struct {
	// Fill puts records in, each in its partition, and returns when they can be read. Nothing is kept of Time and
	// Position.
	Fill func(tb testing.TB, records ...Record)

	// Read is the connector's read from the earliest record, with TimeOf as its function of event time and nothing
	// out of order. It returns PCollection<Record> and PCollection<DeadLetter>. The suite calls it several times.
	Read func(s beam.Scope, until Extent) (records, dead beam.PCollection)

	// Splittable is the DoFn in that read, and what it is given now.
	Splittable func(tb testing.TB, until Extent) Splittable

	// Fail makes the next n requests fail in a way that passes.
	Fail func(n int)
}

// RunSource checks a source.
func RunSource(t *testing.T, c Source) {
	for _, check := range sourceChecks {
		t.Run(check.name, func(t *testing.T) { check.run(t, c) })
	}
}

// sourceCheck is one thing that a source has to keep. It takes a testing.TB, so that a test of the suite can see
// it fail.
type sourceCheck struct {
	name string
	run  func(tb testing.TB, c Source)
}

var sourceChecks = []sourceCheck{
	{"Everything", checkEverything},
	{"Empty", checkEmpty},
	{"Large", checkLarge},
	{"Poison", checkPoison},
	{"TransientFailure", checkTransientFailure},
	{"Restart", checkRestart},
	{"WindowsClose", checkWindowsClose},
	{"CheckpointAnywhere", checkCheckpointAnywhere},
	{"SplitAnywhere", checkSplitAnywhere},
	{"FailedBundle", checkFailedBundle},
	{"Watermark", checkWatermark},
	{"IdlePartition", checkIdlePartition},
	{"GoroutinesEnd", checkGoroutinesEnd},
	{"Secrets", checkSecrets},
	{"Refusals", checkSourceRefusals},
}

// extents are the kinds of read that the source has.
func (c Source) extents() []Extent {
	if c.Ends {
		return []Extent{ToNow}
	}
	return []Extent{ToNow, ForEver}
}

// longest is the read that goes on for as long as the source can.
func (c Source) longest() Extent { return c.extents()[len(c.extents())-1] }

func (c Source) keeps() keeps { return keeps{keys: c.Keys, headers: c.Headers, partitions: true} }

// filled opens a place and fills it.
func (c Source) filled(tb testing.TB, partitions int, records ...Record) *Feed {
	tb.Helper()
	f := c.Open(tb, partitions)
	f.Fill(tb, records...)
	return f
}

// expect checks what a read has brought.
func (c Source) expect(tb testing.TB, what string, got results, want, dead []Record) {
	tb.Helper()
	c.keeps().compare(tb, what, want, got.records)
	comparePositions(tb, what, append(append([]Record{}, got.records...), deadRecords(got.dead)...))
	letters := c.keeps()
	letters.compare(tb, what+", dead letters", timeless(dead), timeless(deadRecords(got.dead)))
	for _, d := range got.dead {
		if d.Reason == "" {
			tb.Errorf("%s: the dead letter of %s has no reason", what, letters.text(d.Record))
		}
	}
}

func deadRecords(dead []DeadLetter) (records []Record) {
	for _, d := range dead {
		records = append(records, d.Record)
	}
	return records
}
