// SPDX-License-Identifier: Apache-2.0

package bundle

import "github.com/hornbeam-dev/hornbeam/runner/internal/event"

// MetricKind is the shape of a user metric.
type MetricKind uint8

// The kinds of user metrics.
const (
	Counter MetricKind = iota
	Distribution
	Gauge
)

// MetricName identifies a user metric.
type MetricName struct {
	Transform string // The transform's ID in the pipeline.
	Namespace string
	Name      string
	Kind      MetricKind
}

// Metric is a user metric, of one bundle or summed over many.
type Metric struct {
	MetricName
	Sum             int64           // Of a counter and a distribution; the value of a gauge.
	Count, Min, Max int64           // Of a distribution.
	At              event.Timestamp // Of a gauge: when it was set.
}

// Add combines two observations of the same metric. The later gauge wins.
func (m Metric) Add(n Metric) Metric {
	switch m.Kind {
	case Gauge:
		if n.At < m.At {
			return m
		}
		return n
	case Distribution:
		if m.Count == 0 {
			return n
		}
		if n.Count == 0 {
			return m
		}
		m.Count += n.Count
		m.Min = min(m.Min, n.Min)
		m.Max = max(m.Max, n.Max)
	}
	m.Sum += n.Sum
	return m
}
