// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
)

// userMetrics returns what user code counted in the bundle of ctx, in an order that stays the same.
func userMetrics(ctx context.Context) []bundle.Metric {
	var all []bundle.Metric
	name := func(l metrics.Labels, kind bundle.MetricKind) bundle.MetricName {
		return bundle.MetricName{
			Transform: escape(l.Transform()), Namespace: escape(l.Namespace()), Name: escape(l.Name()), Kind: kind,
		}
	}
	e := metrics.Extractor{
		SumInt64: func(l metrics.Labels, v int64) {
			all = append(all, bundle.Metric{MetricName: name(l, bundle.Counter), Sum: v})
		},
		DistributionInt64: func(l metrics.Labels, count, sum, low, high int64) {
			all = append(all, bundle.Metric{
				MetricName: name(l, bundle.Distribution), Count: count, Sum: sum, Min: low, Max: high,
			})
		},
		GaugeInt64: func(l metrics.Labels, v int64, t time.Time) {
			all = append(all, bundle.Metric{MetricName: name(l, bundle.Gauge), Sum: v, At: event.FromTime(t)})
		},
	}
	// The only error is that none of the functions above is there.
	_ = e.ExtractFrom(metrics.GetStore(ctx))
	slices.SortFunc(all, func(a, b bundle.Metric) int {
		return cmp.Or(cmp.Compare(a.Transform, b.Transform), cmp.Compare(a.Namespace, b.Namespace),
			cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return all
}
