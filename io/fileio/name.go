// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
)

// fileName is the same for the same arguments and different for different ones: prefix, shards and extension are
// fixed for one Write, the other parts have one form each.
func fileName(cfg WriteConfig, w beam.Window, pane beam.PaneInfo, shard int64, part int, extension string) string {
	name := cfg.Prefix + windowName(w)
	if !pane.IsFirst || !pane.IsLast {
		name += fmt.Sprintf("-pane%d", pane.Index)
	}
	name += fmt.Sprintf("-%05d-of-%05d", shard, cfg.Shards)
	if cfg.TargetSize > 0 {
		name += fmt.Sprintf("-part%04d", part)
	}
	return name + extension
}

// manifestName begins with an underscore, as names do that readers of tables are to pass over. No file has it, since
// a prefix does not begin so.
func manifestName(prefix string, w beam.Window, pane beam.PaneInfo) string {
	name := "_complete-" + prefix + windowName(w)
	if pane.Index > 0 {
		name += fmt.Sprintf("-pane%d", pane.Index)
	}
	return name + ".json"
}

// nameRoom is more than fileName adds to prefix and extension: two times of 24 bytes, the numbers of pane, shard,
// shards and part, and what is between them.
const nameRoom = 160

func windowName(w beam.Window) string {
	switch w := w.(type) {
	case window.GlobalWindow:
		return ""
	case window.IntervalWindow:
		return "-" + compact(w.Start) + "-" + compact(w.End)
	default:
		return "-" + compact(w.MaxTimestamp())
	}
}

func compact(t mtime.Time) string {
	layout := "20060102T150405Z"
	if t.Milliseconds()%1000 != 0 {
		layout = "20060102T150405.000Z"
	}
	return time.UnixMilli(t.Milliseconds()).UTC().Format(layout)
}

// commitID names the commit that makes an object. The key holds everything that tells the commits of one Write apart:
// prefix, window, pane, folder, shard and part.
func commitID(jobID, key string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s %s", len(jobID), jobID, key))
	return hex.EncodeToString(sum[:])
}
