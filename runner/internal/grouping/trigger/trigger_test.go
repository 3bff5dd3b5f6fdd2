// SPDX-License-Identifier: Apache-2.0

package trigger

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/grouping/trigger/triggertest"
)

// TestSpecs runs the scripts of testdata. Commands:
//
//	trigger [merging]   the trigger expression to run, see triggertest.Parse
//	run [window=name]   one line for each thing that happens to the window: +1 (an element),
//	                    clock 5s (processing time passes), end (the window ends), open (it does
//	                    not count as ended, as a grown session); it prints FIRE where the trigger
//	                    fired and finished where it is closed
//	merge from=(a,b) to=c
//	                    merges the states of windows
func TestSpecs(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := spec{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			return s.run(t, d)
		})
	})
}

type spec struct {
	trigger *Trigger
	states  map[string]State
	at      At
}

func (s *spec) run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	switch d.Cmd {
	case "trigger":
		expression, err := triggertest.Parse(d.Input)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		s.trigger, err = New(expression, d.HasArg("merging"))
		if err != nil {
			return err.Error()
		}
		s.states, s.at = map[string]State{}, At{}
		return fmt.Sprintf("early: %v, always at the end: %v", s.trigger.Early(), s.trigger.AtEnd())
	case "run":
		name := "w"
		d.MaybeScanArgs(t, "window", &name)
		if _, ok := s.states[name]; !ok {
			s.states[name] = s.trigger.Start()
		}
		var out strings.Builder
		for _, line := range strings.Split(d.Input, "\n") {
			fmt.Fprintln(&out, line+s.step(t, d, s.states[name], line))
		}
		return out.String()
	case "merge":
		var to string
		var from []State
		d.ScanArgs(t, "to", &to)
		into := s.trigger.Start()
		for _, arg := range d.CmdArgs {
			for _, name := range arg.Vals {
				if arg.Key == "from" {
					from = append(from, s.states[name])
					if name == to {
						into = s.states[name]
					}
				}
			}
		}
		s.trigger.Merge(into, from, s.at)
		s.states[to] = into
		return fmt.Sprintf("closed: %v, ready: %v", s.trigger.Closed(into), s.trigger.ShouldFire(into, s.at))
	}
	d.Fatalf(t, "unknown command %s", d.Cmd)
	return ""
}

func (s *spec) step(t *testing.T, d *datadriven.TestData, state State, line string) (said string) {
	t.Helper()
	word, arg, _ := strings.Cut(line, " ")
	if s.trigger.Closed(state) {
		return "  finished"
	}
	switch word {
	case "+1":
		s.trigger.Element(state, s.at)
	case "clock":
		d, err := time.ParseDuration(arg)
		if err != nil {
			t.Fatal(err)
		}
		s.at.Now = s.at.Now.Add(d)
	case "end", "open":
		s.at.Ended = word == "end"
	default:
		d.Fatalf(t, "unknown step %q", line)
	}
	if s.trigger.ShouldFire(state, s.at) {
		said = "  FIRE"
		s.trigger.Fire(state, s.at)
	}
	if s.trigger.Closed(state) {
		said += "  finished"
	}
	if wake, ok := s.trigger.Wake(state, s.at.Now); ok {
		said += fmt.Sprintf("  wake at %v", wake)
	}
	return said
}

func TestStateCoding(t *testing.T) {
	expression, err := triggertest.Parse("afterAny(repeat(count(3)), delay(5s), end(late=count(2)))")
	if err != nil {
		t.Fatal(err)
	}
	trigger, err := New(expression, false)
	if err != nil {
		t.Fatal(err)
	}
	s := trigger.Start()
	trigger.Element(s, At{Now: -7})
	s[2].Finished = true
	b := s.Append(nil)
	got, n, err := trigger.Read(append(b, 9))
	if err != nil || n != len(b) {
		t.Fatalf("Read: got %d bytes, %v, want %d", n, err, len(b))
	}
	if diff := cmp.Diff(s, got); diff != "" {
		t.Error(diff)
	}
	for i := range b {
		if _, _, err := trigger.Read(b[:i]); err == nil {
			t.Errorf("Read of %d bytes of %d: got no error", i, len(b))
		}
	}
}

func TestAlignedDelay(t *testing.T) {
	expression, _ := triggertest.Parse("align(20ms+45ms)")
	trigger, err := New(expression, false)
	if err != nil {
		t.Fatal(err)
	}
	// The table of Beam's Go SDK, trigger.AlignToTransform, and what it means before the epoch.
	for now, want := range map[event.Timestamp]event.Timestamp{0: 5, 4: 5, 5: 5, 6: 25, 25: 25, 26: 45, -14: 5, -15: -15, -16: -15} {
		if got := trigger.nodes[0].target(now); got != want {
			t.Errorf("target(%d): got %d, want %d", now, got, want)
		}
	}
}
