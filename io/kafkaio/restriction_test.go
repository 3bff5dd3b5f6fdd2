// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Whatever is claimed and split, primary and residual tile the restriction, and nothing is claimed twice.
func FuzzTracker(f *testing.F) {
	f.Add(int64(5), int64(20), []byte{0, 1, 2, 0, 3, 9})
	f.Add(int64(0), int64(math.MaxInt64), []byte{1, 2, 1, 0x82, 2})
	f.Fuzz(func(t *testing.T, start, length int64, ops []byte) {
		if start < 0 || length < 0 || start > 1<<40 {
			return
		}
		end := start + min(length, 1<<40)
		if length == math.MaxInt64 {
			end = math.MaxInt64
		}
		work := []Restriction{{Topic: "t", Start: start, End: end}}
		var claimed []int64
		var done []Restriction
		for len(work) > 0 && len(done) < 100 {
			rt := newTracker(work[0])
			work = work[1:]
			rt.high = start + int64(len(ops))
			pos := rt.rest.Start
			for !rt.IsDone() {
				op := byte(255)
				if len(ops) > 0 {
					op, ops = ops[0], ops[1:]
				}
				switch step := int64(op / 4); op % 4 {
				case 0, 1:
					if rt.TryClaim(record(pos + step)) {
						claimed = append(claimed, pos+step)
						pos += step + 1
					}
				case 2:
					fraction := float64(step) / 63
					before := rt.rest
					primary, residual, err := rt.TrySplit(fraction)
					if err != nil {
						t.Fatal(err)
					}
					if residual == nil {
						break
					}
					p, q := primary.(Restriction), residual.(Restriction)
					if p.Start != before.Start || p.End != q.Start || q.End != before.End || q.Start < pos || q.Start >= q.End || fraction > 0 && q.Start >= rt.high {
						t.Fatalf("%v split at %v into %v and %v, position %d", before, fraction, p, q, pos)
					}
					if fraction == 0 && !rt.IsDone() {
						t.Fatalf("%v is not done after a checkpoint", p)
					}
					work = append(work, q)
				default:
					pos += step
					if op == 255 {
						pos = rt.rest.End
					}
					rt.TryClaim(reach(pos))
				}
				if err := rt.GetError(); err != nil {
					t.Fatal(err)
				}
				if done, remaining := rt.GetProgress(); done < 0 || remaining < 0 {
					t.Fatalf("progress %v, %v", done, remaining)
				}
			}
			done = append(done, rt.rest)
		}
		slices.SortFunc(done, func(a, b Restriction) int { return int(min(max(a.Start-b.Start, -1), 1)) })
		for i := 1; i < len(done); i++ {
			if done[i-1].End != done[i].Start {
				t.Fatalf("%v do not tile", done)
			}
		}
		slices.Sort(claimed)
		if len(slices.Compact(slices.Clone(claimed))) != len(claimed) {
			t.Fatalf("claimed twice: %v", claimed)
		}
	})
}

func TestTrackerRefuses(t *testing.T) {
	for name, claims := range map[string][]any{
		"back":      {record(7), record(7)},
		"reach":     {record(7), reach(7)},
		"before":    {record(4)},
		"after end": {record(10), record(11)},
		"no claim":  {int64(5)},
	} {
		rt := newTracker(Restriction{Start: 5, End: 10})
		for _, c := range claims {
			rt.TryClaim(c)
		}
		if rt.GetError() == nil || rt.IsDone() {
			t.Errorf("%s: no error, done %v", name, rt.IsDone())
		}
	}
}

func TestParseURL(t *testing.T) {
	noon := AtTime(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC))
	for text, want := range map[string]ReadConfig{
		"kafka://h:1/t": {Brokers: []string{"h:1"}, Topic: "t"},
		"kafka://h:1,[::1]:9092/a.b-c_D?from=latest":                                     {Brokers: []string{"h:1", "[::1]:9092"}, Topic: "a.b-c_D", From: Latest()},
		"kafka://h:1/t?from=offset:0&to=offset:9":                                        {Brokers: []string{"h:1"}, Topic: "t", From: AtOffset(0), To: AtOffset(9)},
		"kafka://h:1/t?from=earliest&to=latest":                                          {Brokers: []string{"h:1"}, Topic: "t", From: Earliest(), To: Latest()},
		"kafka://h:1/t?from=time:2026-05-01T12:00:00Z&to=time:2026-05-01T14:00:00+02:00": {Brokers: []string{"h:1"}, Topic: "t", From: noon, To: noon},
	} {
		got, err := ParseURL(text)
		if err != nil {
			t.Errorf("ParseURL(%q): %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got, cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "EventTime" }, cmp.Ignore())); diff != "" {
			t.Errorf("ParseURL(%q) (-want +got):\n%s", text, diff)
		}
	}
	for text, want := range map[string]string{
		"":                             "kafka://",
		"http://h:1/t":                 "does not start with",
		"kafka://h:1":                  "names no topic",
		"kafka://h:1/":                 "names no topic",
		"kafka://h/t":                  "not HOST:PORT",
		"kafka://:1/t":                 "not HOST:PORT",
		"kafka://h:0/t":                "port is not",
		"kafka://h:x/t":                "port is not",
		"kafka://h:1,/t":               "not HOST:PORT",
		"kafka://u:p@h:1/t":            "user or password",
		"kafka://h:1/a/b":              "topic",
		"kafka://h:1/..":               "topic",
		"kafka://h:1/t?from=soon":      "not a position",
		"kafka://h:1/t?from=offset:-1": "not a number from 0",
		"kafka://h:1/t?from=time:noon": "not RFC3339",
		"kafka://h:1/t?from=latest&from=offset:1": "given 2 times",
		"kafka://h:1/t?start=latest":              "not one of",
		"kafka://h:1/t?to=earliest":               "nothing to end with",
		"kafka://h:1/t?from=offset:9&to=offset:8": "is before",
	} {
		if _, err := ParseURL(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseURL(%q) = %v, want %q", text, err, want)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("kafka://h:1,h:2/t?from=time:2026-05-01T12:00:00Z&to=offset:7")
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := ParseURL(text)
		if err != nil {
			return
		}
		if _, err := cfg.withDefaults(); err != nil || len(cfg.Brokers) == 0 || cfg.Topic == "" {
			t.Errorf("ParseURL(%q) = %+v, which is refused: %v", text, cfg, err)
		}
	})
}
