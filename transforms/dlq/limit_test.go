// SPDX-License-Identifier: Apache-2.0

package dlq_test

import (
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"github.com/hornbeam-dev/hornbeam/runner"
	"github.com/hornbeam-dev/hornbeam/transforms/dlq"
)

func setRatio(t *testing.T, ratio float64) {
	t.Helper()
	if err := dlq.SetMaxRatio(ratio); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dlq.SetMaxRatio(1); err != nil {
			t.Error(err)
		}
	})
}

// limited has 100 records, 10 of which are dead letters.
func limited(atLeast int64) *beam.Pipeline {
	p, s := beam.NewPipelineWithRoot()
	var all, dead []any
	for i := range 100 {
		all = append(all, i)
	}
	for range 10 {
		dead = append(dead, dlq.New("A", "x", "", nil))
	}
	dlq.Limit(s, atLeast, beam.CreateList(s, all), beam.CreateList(s, dead))
	return p
}

func TestLimit(t *testing.T) {
	for _, test := range []struct {
		ratio   float64
		atLeast int64
		fails   bool
	}{{0.1, 100, false}, {0.099, 100, true}, {0.099, 101, false}, {0, 1, true}, {0, 101, true}, {1, 1, false}} {
		setRatio(t, test.ratio)
		err := ptest.Run(limited(test.atLeast))
		if failed := err != nil && strings.Contains(err.Error(), "records are dead letters"); failed != test.fails {
			t.Errorf("ratio %v, at least %d: got %v, want failure %v", test.ratio, test.atLeast, err, test.fails)
		}
	}
	for _, ratio := range []float64{-0.1, 1.1} {
		if err := dlq.SetMaxRatio(ratio); err == nil {
			t.Errorf("a ratio of %v is accepted", ratio)
		}
	}
}

// TestLimitContinues stops a job, in which failing elements are set aside, by the limit, and continues
// it with a higher one.
func TestLimitContinues(t *testing.T) {
	dir := t.TempDir() + "/state"
	for _, step := range []struct {
		ratio float64
		fails bool
	}{{0.05, true}, {0.05, true}, {0.2, false}} {
		setRatio(t, step.ratio)
		job, err := runner.Open(runner.Options{StateDir: dir, SetAside: true})
		if err != nil {
			t.Fatal(err)
		}
		_, err = job.Run(t.Context(), limited(1))
		if (err != nil) != step.fails || err != nil && !strings.Contains(err.Error(), "10 of 100 records") {
			t.Errorf("limit %v: got %v, want failure %v", step.ratio, err, step.fails)
		}
		if err := job.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
