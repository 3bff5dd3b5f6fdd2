// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window/trigger"
)

// inWindows puts rows into the windows of cfg, if it has any. They are of 1970 or later.
func inWindows(s beam.Scope, cfg WriteConfig, col beam.PCollection) (beam.PCollection, error) {
	if cfg.Window == 0 {
		return col, nil
	}
	when := trigger.AfterEndOfWindow().EarlyFiring(trigger.Never())
	if cfg.Early > 0 {
		when.EarlyFiring(trigger.AfterProcessingTime().PlusDelay(cfg.Early))
	}
	if cfg.Late > 0 {
		when.LateFiring(trigger.AfterProcessingTime().PlusDelay(cfg.Late))
	} else if cfg.Lateness > 0 {
		when.LateFiring(trigger.AfterCount(1))
	}
	return beam.TryWindowInto(s, window.NewFixedWindows(cfg.Window), col,
		beam.Trigger(when), beam.AllowedLateness(cfg.Lateness), beam.PanesDiscard())
}

// untilComplete puts files, which have the timestamp of the end of their window, into that window again, so that they
// are grouped when no file of it can come any more before its end; and again, with the earlier ones, whenever a late
// one does. Early panes are not told: their files wait.
func untilComplete(s beam.Scope, files beam.PCollection) (beam.PCollection, error) {
	strategy := files.WindowingStrategy()
	when := trigger.AfterEndOfWindow().EarlyFiring(trigger.Never()).LateFiring(trigger.AfterCount(1))
	return beam.TryWindowInto(s, strategy.Fn, files, beam.Trigger(when),
		beam.AllowedLateness(time.Duration(strategy.AllowedLateness)*time.Millisecond), beam.PanesAccumulate())
}
