// SPDX-License-Identifier: Apache-2.0

package grouping

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/grouping/trigger/triggertest"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// TestSpecs runs the scripts of testdata. Commands:
//
//	strategy            begins a new job; one property per line: window global, window fixed 10s,
//	                    window sliding 10s 5s, window session 5s [merged], trigger …, lateness
//	                    10s, accumulating, output latest|earliest, closing always, on-time nonempty
//	add [each]          a bundle of elements, one "key value @time [windowStart windowEnd]" per
//	                    line; with each, a bundle for each element
//	watermark 10s|end [quiet]
//	                    the input watermark moves, and timers fire; with quiet, they wait for the
//	                    next bundle, and with add quiet, for the one after that
//	clock 5s            processing time passes, and timers fire
//	rows                what is in the table, by kind, and the timers
//
// It prints panes, elements dropped because their window had expired (late) or its trigger had
// finished (closed), and the output watermark where that is behind the input's.
func TestSpecs(t *testing.T) {
	for _, concept := range []string{"beam", "lateness", "merging", "panes"} {
		datadriven.Walk(t, "testdata/"+concept, func(t *testing.T, path string) {
			s := &spec{}
			datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
				t.Helper()
				return s.run(t, d)
			})
		})
	}
}

type spec struct {
	strategy plan.WindowingStrategy
	world    *world
	said     strings.Builder
}

func (s *spec) run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	s.said.Reset()
	if d.Cmd == "strategy" {
		s.begin(t, d)
		return "runs: " + strconv.FormatBool(s.world.grouper.runs)
	}
	w := s.world
	late, closed := w.late, w.closed
	switch d.Cmd {
	case "add":
		elements := s.elements(t, d)
		w.withhold = d.HasArg("quiet")
		if d.HasArg("each") {
			for i := range elements {
				w.run(encode(s.strategy.Global(), elements[i:i+1]))
			}
		} else {
			w.run(encode(s.strategy.Global(), elements))
		}
		w.withhold = false
	case "watermark":
		w.at.Watermark = event.MaxTimestamp
		if arg := d.CmdArgs[0].Key; arg != "end" {
			w.at.Watermark = event.Timestamp(0).Add(duration(t, d, arg))
		}
		if !d.HasArg("quiet") {
			w.settle()
		}
	case "clock":
		w.at.Now = w.at.Now.Add(duration(t, d, d.CmdArgs[0].Key))
		w.settle()
	case "rows":
		return s.rows()
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	if w.late > late {
		fmt.Fprintf(&s.said, "late %d\n", w.late-late)
	}
	if w.closed > closed {
		fmt.Fprintf(&s.said, "closed %d\n", w.closed-closed)
	}
	if out := w.output(); out < w.at.Watermark {
		fmt.Fprintf(&s.said, "output watermark %v\n", out)
	}
	return s.said.String()
}

func duration(t *testing.T, d *datadriven.TestData, text string) time.Duration {
	t.Helper()
	v, err := time.ParseDuration(text)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	return v
}

func (s *spec) begin(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	s.strategy = plan.WindowingStrategy{}
	for _, line := range strings.Split(d.Input, "\n") {
		word, rest, _ := strings.Cut(line, " ")
		switch args := strings.Fields(rest); word {
		case "window":
			fn := &s.strategy.Fn
			fn.Kind = map[string]plan.WindowKind{
				"global": plan.GlobalWindows, "fixed": plan.FixedWindows,
				"sliding": plan.SlidingWindows, "session": plan.SessionWindows,
			}[args[0]]
			if len(args) > 1 {
				fn.Size = duration(t, d, args[1])
			}
			if fn.Kind == plan.SlidingWindows {
				fn.Period = duration(t, d, args[2])
			}
			s.strategy.Merges = fn.Kind == plan.SessionWindows && len(args) == 2
		case "trigger":
			var err error
			if s.strategy.Trigger, err = triggertest.Parse(rest); err != nil {
				d.Fatalf(t, "%v", err)
			}
		case "lateness":
			s.strategy.AllowedLateness = duration(t, d, rest)
		case "accumulating":
			s.strategy.Accumulating = true
		case "output":
			s.strategy.Output = map[string]plan.OutputTime{"latest": plan.Latest, "earliest": plan.Earliest}[rest]
		case "closing":
			s.strategy.Closing = plan.EmitAlways
		case "on-time":
			s.strategy.OnTime = plan.FireIfNonempty
		default:
			d.Fatalf(t, "unknown property %q", line)
		}
	}
	s.world = newWorld(t, s.strategy)
	w := s.world
	s.world.panes = func(c bundle.Chunk) {
		for _, p := range w.decode(s.strategy.Global(), c) {
			fmt.Fprintf(&s.said, "%s %v %v @%v: %s\n", p.key, p.Windows[0], p.Pane, p.Timestamp, strings.Join(p.values, " "))
		}
	}
}

func (s *spec) elements(t *testing.T, d *datadriven.TestData) (elements []input) {
	t.Helper()
	for _, line := range strings.Split(d.Input, "\n") {
		fields := strings.Fields(line)
		if len(fields) != 3 && len(fields) != 5 {
			d.Fatalf(t, "an element is key value @time, not %q", line)
		}
		at := event.Timestamp(0).Add(duration(t, d, strings.TrimPrefix(fields[2], "@")))
		e := input{key: fields[0], value: fields[1], at: at, windows: assign(s.strategy.Fn, at)}
		if len(fields) == 5 {
			e.windows = []event.Window{{
				Start: event.Timestamp(0).Add(duration(t, d, fields[3])),
				End:   event.Timestamp(0).Add(duration(t, d, fields[4])),
			}}
		}
		elements = append(elements, e)
	}
	return elements
}

func (s *spec) rows() string {
	kinds := map[byte]int{}
	for k := range s.world.table.rows {
		kinds[k[0]]++
	}
	var parts []string
	for _, k := range []byte{tableRun, tableHold, tableKey, tableMerged, tableSpill} {
		if kinds[k] > 0 {
			parts = append(parts, fmt.Sprintf("%c %d", k, kinds[k]))
		}
	}
	if len(s.world.timers) > 0 {
		parts = append(parts, fmt.Sprintf("timers %d", len(s.world.timers)))
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}
