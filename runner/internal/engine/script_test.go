// SPDX-License-Identifier: Apache-2.0

package engine_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/engine"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
	"github.com/hornbeam-dev/hornbeam/runner/internal/urn"
)

// The scripts in testdata drive an engine over a table in memory. An element is a word and a chunk
// is words with spaces between them; the engine looks into neither. Times are in seconds of event
// time, and clocks in milliseconds. The commands are
//
//	plan           one stage a line, upstream first:
//	               NAME KIND [from=NAME[.OUTPUT],…] [keyed] [sdf] [sides=NAME,…] [outputs=N]
//	               [window=SECONDS] [lateness=SECONDS] [early]; events of a teststream follow it as
//	               "+ add WORD@TIME …", "+ watermark TIME" and "+ clock MILLIS"
//	options        name=number …
//	submit         a new job
//	restart        the process ends, and another one goes on with the table
//	done BUNDLE    a bundle's result, one item a line; BUNDLE is an ID, or the name of a stage for the
//	               oldest bundle of that stage that runs:
//	               out OUTPUT[/GROUP] WORD@TIME … [until=TIME]     a chunk; until is its MaxWindow
//	               rest WORD@WATERMARK [after MILLIS]              a residual
//	               set|clear [/GROUP] KEY TAG DOMAIN DUE [HOLD]    a timer; DOMAIN is event, processing,
//	                                                               expiry or group
//	               row[/GROUP] KEY=VALUE [TIME]                    a row of state; of a side input its
//	                                                               key begins with the end of its window
//	               unprocessed N, late N, finalize
//	fail BUNDLE …  a bundle that left no result
//	clock MILLIS   the time of the machine, at first 0
//	cancel TEXT
//	watermarks     of the stages, input and output
//	waits          what the stages wait for
//	rows           the keys of the table by their first letter, with how many there are
//
// Each message prints the actions of its Step. After each the engine is checked against the table.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &script{table: kv.NewMem(), opt: engine.Defaults()}
		s.opt.KeyGroups = 4
		datadriven.RunTest(t, path, s.run)
	})
}

type script struct {
	plan   *plan.Plan
	opt    engine.Options
	table  *kv.Mem
	engine *engine.Engine
	loaded map[string]bundle.Work
	now    event.Timestamp

	running []string // IDs.
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "plan":
		s.plan = parsePlan(t, d.Input)
		s.table = kv.NewMem()
		return ""
	case "options":
		s.setOptions(t, d.CmdArgs)
		return ""
	case "submit":
		return s.boot(t, engine.Submitted{})
	case "restart":
		s.opt.Epoch++
		return s.boot(t, engine.Restarted{})
	case "done":
		return s.step(t, s.done(t, s.bundle(t, d.CmdArgs[0].Key), d.Input))
	case "fail":
		return s.step(t, engine.BundleFailed{ID: parseID(t, s.bundle(t, d.CmdArgs[0].Key)), Err: rest(d.CmdArgs[1:])})
	case "clock":
		s.now = event.Timestamp(number(t, d.CmdArgs[0].Key))
		if s.engine == nil {
			return ""
		}
		return s.step(t)
	case "cancel":
		return s.step(t, engine.Cancelled{Reason: rest(d.CmdArgs)})
	case "watermarks":
		return s.stages(func(st engine.StageSnapshot) string { return fmt.Sprintf("%v %v", st.In, st.Out) })
	case "waits":
		return s.stages(func(st engine.StageSnapshot) string { return st.WaitsFor })
	case "rows":
		return s.rows()
	case "aside":
		return s.aside(t)
	}
	t.Fatalf("unknown command %s", d.Cmd)
	return ""
}

// bundle returns the ID of a bundle that is named by its ID or stage, and takes it for ended.
func (s *script) bundle(t *testing.T, name string) string {
	t.Helper()
	for i, id := range s.running {
		if name == id || name == s.plan.Stages[s.loaded[id].Stage].Name {
			s.running = slices.Delete(s.running, i, i+1)
			return id
		}
	}
	if !strings.Contains(name, ".") {
		t.Fatalf("no bundle of %s is running", name)
	}
	return name
}

func (s *script) stages(f func(engine.StageSnapshot) string) string {
	var b strings.Builder
	for _, st := range s.engine.Snapshot().Stages {
		if text := f(st); text != "" {
			fmt.Fprintf(&b, "%s: %s\n", st.Name, text)
		}
	}
	return b.String()
}

func (s *script) rows() string {
	counts := map[string]int{}
	s.table.View().Scan(nil, nil, func(key, _ []byte) bool {
		counts[string(key[:1])]++
		return true
	})
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&b, "%s %d\n", k, counts[k])
	}
	return b.String()
}

// aside prints the elements that were set aside.
func (s *script) aside(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	if err := engine.ReadDead(s.table.View(), func(d engine.Dead) bool {
		element := words(t, bundle.Chunk{Count: 1, Bytes: d.Element})
		fmt.Fprintf(&b, "%s %s: %s\n", s.plan.Stages[d.Stage].Name, element[0], d.Reason)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return b.String() + s.stages(func(st engine.StageSnapshot) string {
		return fmt.Sprintf("in %d, dead %d", st.Counts.In, st.Counts.Dead)
	})
}

func (s *script) setOptions(t *testing.T, args []datadriven.CmdArg) {
	t.Helper()
	for _, a := range args {
		n := number(t, a.Vals[0])
		switch a.Key {
		case "parallelism":
			s.opt.Parallelism = n
		case "sources":
			s.opt.Sources = n
		case "elements":
			s.opt.BundleElements = n
		case "mailbox":
			s.opt.MailboxBytes = n
		case "groups":
			s.opt.KeyGroups = n
		case "attempts":
			s.opt.Attempts = n
		case "aside":
			s.opt.SetAside = n != 0
		case "interval":
			s.opt.CommitInterval = time.Duration(n) * time.Millisecond
		default:
			t.Fatalf("unknown option %s", a.Key)
		}
	}
}

func (s *script) boot(t *testing.T, first engine.Message) string {
	t.Helper()
	e, err := engine.New(s.plan, s.opt, s.table.View())
	if err != nil {
		return fmt.Sprintf("error: %v\n", err)
	}
	s.engine, s.loaded, s.running = e, map[string]bundle.Work{}, nil
	return s.step(t, first)
}

// step is what the driver does with messages.
func (s *script) step(t *testing.T, messages ...engine.Message) string {
	t.Helper()
	tx := s.table.Begin()
	actions, err := s.engine.Step(tx, append([]engine.Message{engine.ClockAdvanced{Now: s.now}}, messages...)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.engine.Check(tx); err != nil {
		t.Errorf("after %T: %v", messages, err)
	}
	if _, err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, a := range actions {
		switch a := a.(type) {
		case engine.RunBundle:
			b.WriteString(s.load(t, a.Bundle))
		case engine.SplitBundle:
			fmt.Fprintf(&b, "split %v\n", a.ID)
		case engine.FinalizeBundle:
			fmt.Fprintf(&b, "finalize %v\n", a.ID)
		case engine.WakeAt:
			fmt.Fprintf(&b, "wake at %dms\n", int64(a.At))
		case engine.EndJob:
			fmt.Fprintln(&b, strings.TrimSpace(fmt.Sprintf("end %v %s", a.State, a.Err)))
		}
	}
	return b.String()
}

func (s *script) load(t *testing.T, o engine.Order) string {
	t.Helper()
	work, err := engine.Load(s.plan, o, s.table.View())
	if err != nil {
		t.Fatal(err)
	}
	s.loaded[o.ID.String()] = work
	s.running = append(s.running, o.ID.String())
	text := fmt.Sprintf("run %v %s at %v", o.ID, s.plan.Stages[o.Stage].Name, o.Watermark)
	for _, in := range work.Inputs {
		if s.plan.Stages[o.Stage].Keyed() {
			text += fmt.Sprintf(" /%d", in.Group)
		}
		for _, c := range in.Chunks {
			text += fmt.Sprintf(" [%s]", strings.Join(words(t, c), " "))
		}
		for _, timer := range in.Timers {
			text += fmt.Sprintf(" %s.%s@%s", timer.Key, timer.Tag, timerTime(timer))
		}
	}
	return text + "\n"
}

func timerTime(t bundle.Timer) string {
	if t.Domain == plan.ProcessingTime {
		return fmt.Sprintf("%dms", int64(t.Due))
	}
	return t.Due.String()
}

func (s *script) done(t *testing.T, id, input string) engine.BundleDone {
	t.Helper()
	work, known := s.loaded[id]
	m := engine.BundleDone{Work: work, Result: bundle.Result{ID: parseID(t, id)}}
	if !known {
		return m
	}
	stage := &s.plan.Stages[work.Stage]
	r := &m.Result
	r.Counts.Out = make([]int64, len(stage.Outputs))
	for _, in := range work.Inputs {
		for _, c := range in.Chunks {
			r.Counts.In += int64(c.Count)
		}
	}
	groups := map[bundle.KeyGroup]*bundle.GroupState{}
	for line := range strings.Lines(input) {
		f := strings.Fields(line)
		verb, g := cutGroup(t, f[0])
		if groups[g] == nil {
			groups[g] = &bundle.GroupState{Group: g}
		}
		switch verb {
		case "out":
			s.output(t, stage, r, f[1:])
		case "rest":
			residual := bundle.Residual{}
			residual.Element, residual.Watermark = word(t, f[1])
			if len(f) > 3 {
				residual.Delay = int64(number(t, f[3]))
			}
			r.Residuals = append(r.Residuals, residual)
		case "set", "clear":
			groups[g].Timers = append(groups[g].Timers, parseTimer(t, f))
		case "row":
			k, v, _ := strings.Cut(f[1], "=")
			var key []byte
			if len(f) > 2 {
				key = event.AppendTimestamp(nil, timestamp(t, f[2]))
			}
			groups[g].Writes = append(groups[g].Writes, bundle.Write{Key: append(key, k...), Value: []byte(v)})
		case "unprocessed":
			r.Unprocessed = number(t, f[1])
			r.Counts.In -= int64(r.Unprocessed)
		case "late":
			r.Counts.Late = int64(number(t, f[1]))
		case "finalize":
			r.Finalize = true
		default:
			t.Fatalf("unknown result %q", line)
		}
	}
	for _, g := range slices.Sorted(maps.Keys(groups)) {
		r.State = append(r.State, *groups[g])
	}
	return m
}

func (s *script) output(t *testing.T, stage *plan.Stage, r *bundle.Result, f []string) {
	t.Helper()
	name, g := cutGroup(t, f[0])
	out := number(t, name)
	chunk := bundle.Chunk{MinTimestamp: event.MaxTimestamp, MaxWindow: event.EndOfGlobalWindow}
	for _, w := range f[1:] {
		if until, ok := strings.CutPrefix(w, "until="); ok {
			chunk.MaxWindow = timestamp(t, until)
			continue
		}
		b, at := word(t, w)
		chunk.Bytes = append(chunk.Bytes, b...)
		chunk.Count++
		chunk.MinTimestamp = min(chunk.MinTimestamp, at)
	}
	r.Counts.Out[out] += int64(chunk.Count)
	for c := range stage.Outputs[out].Consumers {
		r.Outputs = append(r.Outputs, bundle.Output{Output: out, Consumer: c, Group: g, Chunk: chunk})
	}
}

func parseTimer(t *testing.T, f []string) bundle.TimerChange {
	t.Helper()
	timer := bundle.Timer{Key: []byte(f[1]), Tag: f[2], Hold: event.MaxTimestamp}
	switch f[3] {
	case "processing":
		timer.Domain = plan.ProcessingTime
	case "expiry":
		timer.Kind = bundle.ExpiryTimer
	case "group":
		timer.Kind = bundle.GroupTimer
	}
	if f[0][0] == 'c' {
		return bundle.TimerChange{Timer: timer, Clear: true}
	}
	timer.Due = timestamp(t, f[4])
	if timer.Domain == plan.ProcessingTime {
		timer.Due = event.Timestamp(number(t, f[4]))
	}
	if len(f) > 5 {
		timer.Hold = timestamp(t, f[5])
	}
	return bundle.TimerChange{Timer: timer}
}

func parsePlan(t *testing.T, text string) *plan.Plan {
	t.Helper()
	p := &plan.Plan{}
	names := map[string]plan.StageID{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if f[0] == "+" {
			s := &p.Stages[len(p.Stages)-1]
			s.Events = append(s.Events, parseEvent(t, f[1:]))
			continue
		}
		s := plan.Stage{ID: plan.StageID(len(p.Stages)), Name: f[0], Element: coder.Coder{URN: urn.CoderBytes}}
		names[s.Name] = s.ID
		outputs := 1
		for _, attr := range f[1:] {
			key, value, _ := strings.Cut(attr, "=")
			switch key {
			case "impulse", "teststream", "user", "group", "view":
				for s.Kind.String() != key {
					s.Kind++
				}
			case "from":
				for _, from := range strings.Split(value, ",") {
					from, out, _ := strings.Cut(from, ".")
					o, _ := strconv.Atoi(out)
					s.Inputs = append(s.Inputs, plan.Input{From: names[from], Output: o})
					output := &p.Stages[names[from]].Outputs[o]
					output.Consumers = append(output.Consumers, s.ID)
				}
			case "keyed":
				s.Key = &coder.Coder{URN: urn.CoderBytes}
			case "sdf":
				s.Splittable = true
			case "sides":
				for _, side := range strings.Split(value, ",") {
					s.Sides = append(s.Sides, plan.SideInput{View: names[side]})
				}
			case "outputs":
				outputs = number(t, value)
			case "window":
				s.Windowing.Fn = plan.WindowFn{Kind: plan.FixedWindows, Size: time.Duration(number(t, value)) * time.Second}
			case "lateness":
				s.Windowing.AllowedLateness = time.Duration(number(t, value)) * time.Second
			case "early":
				s.Windowing.Trigger = plan.Trigger{Kind: plan.Repeat}
			default:
				t.Fatalf("unknown attribute %q", attr)
			}
		}
		s.Outputs = make([]plan.Output, outputs)
		p.Stages = append(p.Stages, s)
	}
	return p
}

func parseEvent(t *testing.T, f []string) plan.TestStreamEvent {
	t.Helper()
	switch f[0] {
	case "watermark":
		return plan.TestStreamEvent{Advance: &plan.AdvanceWatermark{To: timestamp(t, f[1])}}
	case "clock":
		return plan.TestStreamEvent{Clock: int64(number(t, f[1]))}
	}
	add := &plan.AddElements{}
	for _, w := range f[1:] {
		b, at := word(t, w)
		header, err := globally.ReadHeader(b, &coder.Header{})
		if err != nil {
			t.Fatal(err)
		}
		add.Elements = append(add.Elements, plan.TestElement{Timestamp: at, Encoded: b[header:]})
	}
	return plan.TestStreamEvent{Add: add}
}

func parseID(t *testing.T, s string) (id bundle.ID) {
	t.Helper()
	if _, err := fmt.Sscanf(s, "%d.%d", &id.Epoch, &id.N); err != nil {
		t.Fatal(err)
	}
	return id
}

func cutGroup(t *testing.T, s string) (string, bundle.KeyGroup) {
	t.Helper()
	if before, g, ok := strings.Cut(s, "/"); ok {
		return before, bundle.KeyGroup(number(t, g))
	}
	return s, 0
}

func word(t *testing.T, s string) ([]byte, event.Timestamp) {
	t.Helper()
	before, text, _ := strings.Cut(s, "@")
	at := timestamp(t, text)
	header := coder.Header{Timestamp: at, Windows: []event.Window{event.Global}, Pane: event.NoFiring}
	b := globally.AppendHeader(nil, header)
	return append(binary.AppendUvarint(b, uint64(len(before))), before...), at
}

// globally is how all elements of a script are windowed.
var globally = coder.Windowed{Global: true}

// words is the reverse of word; the element of an impulse, which has none, is "bytes".
func words(t *testing.T, c bundle.Chunk) (all []string) {
	t.Helper()
	for b := c.Bytes; len(b) > 0; {
		var h coder.Header
		n, err := globally.ReadHeader(b, &h)
		if err != nil {
			t.Fatal(err)
		}
		b = b[n:]
		size, n := binary.Uvarint(b)
		word := string(b[n : n+int(size)])
		if word == "" {
			word = "bytes"
		}
		all, b = append(all, word), b[n+int(size):]
	}
	if len(all) != c.Count {
		t.Fatalf("a chunk of %d elements has %q", c.Count, all)
	}
	return all
}

func timestamp(t *testing.T, s string) event.Timestamp {
	t.Helper()
	switch s {
	case "-inf":
		return event.MinTimestamp
	case "+inf":
		return event.MaxTimestamp
	case "end":
		return event.EndOfGlobalWindow
	}
	seconds, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return event.Timestamp(seconds * 1000)
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func rest(args []datadriven.CmdArg) string {
	var words []string
	for _, a := range args {
		words = append(words, a.String())
	}
	return strings.Join(words, " ")
}
