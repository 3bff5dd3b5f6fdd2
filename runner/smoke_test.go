// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	_ "github.com/hornbeam-dev/hornbeam/runner"
)

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "hornbeam") }

func init() {
	register.Function1x2(pair)
	register.Function2x1(total)
	register.Iter1[int]()
}

func pair(x int) (int, int) { return x % 3, x }

func total(_ int, next func(*int) bool) int {
	sum, x := 0, 0
	for next(&x) {
		sum += x
	}
	return sum
}

func TestParDo(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	passert.Equals(s, beam.Create(s, 1, 2, 3), 1, 2, 3)
	ptest.RunAndValidate(t, p)
}

func TestGroupByKey(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	keyed := beam.ParDo(s, pair, beam.Create(s, 1, 2, 3, 4, 5, 6, 7))
	passert.Equals(s, beam.ParDo(s, total, beam.GroupByKey(s, keyed)), 9, 12, 7)
	ptest.RunAndValidate(t, p)
}
