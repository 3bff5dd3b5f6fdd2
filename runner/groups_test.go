// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/transforms/filter"

	"github.com/hornbeam-dev/hornbeam/runner"
)

func init() {
	register.DoFn2x0[[]byte, func(string, string)](&groupsFn{})
	register.Emitter2[string, string]()
	register.Iter1[string]()
	register.Function2x1(readNone)
	register.Function2x2(readOne)
	register.Function2x1(readAll)
	register.Function2x2(failHalfWay)
	register.Function3x1(readSecond)
}

// groupsFn makes 5 keys of 1,000 values and one of Large values of 100 bytes.
type groupsFn struct {
	Large int
}

func (f *groupsFn) ProcessElement(_ []byte, emit func(string, string)) {
	for i := range 5000 {
		emit(fmt.Sprintf("small-%d", i%5), value(i))
	}
	for i := range f.Large {
		emit("large", value(i))
	}
}

func value(i int) string { return fmt.Sprintf("%0100d", i) }

func groups(s beam.Scope, large int) beam.PCollection {
	return beam.GroupByKey(s, beam.Reshuffle(s, beam.ParDo(s, &groupsFn{large}, beam.Impulse(s))))
}

func readNone(key string, _ func(*string) bool) string { return key }

func readOne(key string, next func(*string) bool) (string, error) {
	var v string
	if !next(&v) || len(v) != 100 {
		return "", fmt.Errorf("%s: the first value is %q", key, v)
	}
	return key, nil
}

// readAll checks that each value is there once.
func readAll(key string, next func(*string) bool) string {
	seen, sum := 0, 0
	for v := ""; next(&v); seen++ {
		n := 0
		if _, err := fmt.Sscan(strings.TrimLeft(v, "0")+" ", &n); err != nil {
			n = 0
		}
		sum += n
	}
	return fmt.Sprint(key, " ", seen, " ", sum)
}

// attempts counts down in failHalfWay.
var attempts atomic.Int32

func failHalfWay(key string, next func(*string) bool) (string, error) {
	v := ""
	for range 500 {
		next(&v)
	}
	if key == "large" && attempts.Add(-1) >= 0 {
		return "", errors.New("half-way")
	}
	return key, nil
}

func readSecond(key string, _, second func(*string) bool) string {
	return readAll(key, second)
}

// TestLargeGroups has a group that is kept by the runner, among small ones, and DoFns that read all
// of it, a part or nothing: each gets its own values, and nothing about the next key changes.
func TestLargeGroups(t *testing.T) {
	const n = 60_000
	sum := func(from, n, step int) (sum int) {
		for i := range n {
			sum += from + i*step
		}
		return sum
	}
	keys := []any{"large"}
	all := []any{fmt.Sprint("large ", n, " ", sum(0, n, 1))}
	for i := range 5 {
		keys = append(keys, fmt.Sprintf("small-%d", i))
		all = append(all, fmt.Sprintf("small-%d 1000 %d", i, sum(i, 1000, 5)))
	}
	for name, test := range map[string]struct {
		build func(s beam.Scope, g beam.PCollection) beam.PCollection
		want  []any
	}{
		"none":     {func(s beam.Scope, g beam.PCollection) beam.PCollection { return beam.ParDo(s, readNone, g) }, keys},
		"one":      {func(s beam.Scope, g beam.PCollection) beam.PCollection { return beam.ParDo(s, readOne, g) }, keys},
		"all":      {func(s beam.Scope, g beam.PCollection) beam.PCollection { return beam.ParDo(s, readAll, g) }, all},
		"half-way": {func(s beam.Scope, g beam.PCollection) beam.PCollection { return beam.ParDo(s, failHalfWay, g) }, keys},
		"siblings": {func(s beam.Scope, g beam.PCollection) beam.PCollection {
			return filter.Distinct(s, beam.Flatten(s, beam.ParDo(s, readAll, g), beam.ParDo(s, readAll, g)))
		}, all},
		"second of two": {func(s beam.Scope, _ beam.PCollection) beam.PCollection {
			kv := beam.Reshuffle(s, beam.ParDo(s, &groupsFn{n}, beam.Impulse(s)))
			return beam.ParDo(s, readSecond, beam.CoGroupByKey(s, kv, kv))
		}, all},
	} {
		t.Run(name, func(t *testing.T) {
			attempts.Store(1)
			p, s := beam.NewPipelineWithRoot()
			passert.Equals(s, test.build(s, groups(s, n)), test.want...)
			ptest.RunAndValidate(t, p)
		})
	}
}

// TestLargeGroupIsNotSetAside: the values of such a group are not with it, so setting it aside would
// lose them. The job fails, and continues when what was wrong is mended.
func TestLargeGroupIsNotSetAside(t *testing.T) {
	dir := t.TempDir() + "/state"
	const n = 60_000
	for _, failures := range []int32{1000, 0} {
		attempts.Store(failures)
		p, s := beam.NewPipelineWithRoot()
		g := groups(s, n)
		passert.Count(s, beam.ParDo(s, failHalfWay, g), "groups", 6)
		job := open(t, runner.Options{StateDir: dir, SetAside: true, Attempts: 2})
		_, err := job.Run(t.Context(), p)
		if failed := err != nil && strings.Contains(err.Error(), "half-way"); failed != (failures > 0) {
			t.Errorf("with %d failures the job ended with %v", failures, err)
		}
		if err := job.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
