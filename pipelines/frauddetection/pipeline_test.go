// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/fixtures/cards"
	"github.com/hornbeam-dev/hornbeam/pipelines/ends/endstest"
	"github.com/hornbeam-dev/hornbeam/transforms/fraud"
)

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "hornbeam") }

// judged returns the alerts of the first days, as lines, by the rules in plain Go.
func judged(t *testing.T, days int) []string {
	t.Helper()
	byCard := map[int64][]fraud.Transaction{}
	for tx := range cards.Generate().Days(days).All() {
		byCard[tx.Customer] = append(byCard[tx.Customer], transaction(tx))
	}
	var lines []string
	for _, txs := range byCard {
		for _, a := range fraud.Judge(fraud.DefaultRules(), txs) {
			line, err := json.Marshal(alertRow(a))
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, string(line))
		}
	}
	slices.Sort(lines)
	return lines
}

func TestAlertsDoNotDependOnArrivalOrRunner(t *testing.T) {
	for _, c := range []struct {
		runner  string
		days    int // Prism's value state goes wrong now and then, the more often the more there is of it.
		shuffle time.Duration
	}{{"hornbeam", 4, 0}, {"hornbeam", 4, time.Hour}, {"prism", 1, 0}} {
		t.Run(c.runner+" "+c.shuffle.String(), func(t *testing.T) {
			e := endstest.To(t)
			m := endstest.Run(t, c.runner, func(s beam.Scope) error {
				return Detect(s, e, cards.ReadConfig{Days: c.days, Shuffle: c.shuffle, Seed: 7}, fraud.DefaultRules())
			})
			if diff := cmp.Diff(judged(t, c.days), endstest.Lines(t, e, "alerts")); diff != "" {
				t.Errorf("alerts (-want +got):\n%s", diff)
			}
			if sum := totals(m); c.runner == "hornbeam" && (sum.In != int64(cards.Generate().Days(c.days).Len()) || sum.In != sum.Out) {
				t.Errorf("totals %+v", sum)
			}
		})
	}
}

func TestWholeStream(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: 1.75 million transactions, twice")
	}
	for _, shuffle := range []time.Duration{0, time.Hour} {
		e := endstest.To(t)
		m := endstest.Run(t, "hornbeam", func(s beam.Scope) error {
			return Detect(s, e, cards.ReadConfig{Shuffle: shuffle, Seed: 1}, fraud.DefaultRules())
		})
		counts := map[string]int{}
		for _, line := range endstest.Lines(t, e, "alerts") {
			var alert struct{ Rule string }
			if err := json.Unmarshal([]byte(line), &alert); err != nil {
				t.Fatal(err)
			}
			counts[alert.Rule]++
		}
		if want := map[string]int{"velocity": 85, "small-then-large": 246}; !cmp.Equal(want, counts) {
			t.Errorf("shuffled by %v: %v, want %v", shuffle, counts, want)
		}
		if sum := totals(m); sum.In != 1_754_155 || sum.Out != sum.In {
			t.Errorf("shuffled by %v: totals %+v", shuffle, sum)
		}
	}
}

func TestBadLinesAreDeadLetters(t *testing.T) {
	e := endstest.Input(t,
		"0,31,596,3156,57.16,0,0",
		"1,62,596,3156,none,0,0",
		"this is no transaction",
		"2,93,4961,3412,81.51,0,0")
	m := endstest.Run(t, "hornbeam", func(s beam.Scope) error {
		return Detect(s, e, cards.ReadConfig{}, fraud.DefaultRules())
	})
	dead := endstest.Lines(t, e, "dead")
	if len(dead) != 2 || !strings.Contains(strings.Join(dead, ""), "no transaction") || strings.Contains(strings.Join(dead, ""), "BAD_TIME") {
		t.Errorf("dead letters %q, want the two bad lines", dead)
	}
	if sum := totals(m); sum.In != 4 || sum.Out != 2 || sum.Dead != 2 {
		t.Errorf("totals %+v, want 4 in, 2 out, 2 dead", sum)
	}
}

func TestFolderOfAnotherJobIsRefused(t *testing.T) {
	e := endstest.To(t)
	build := func(s beam.Scope) error {
		return Detect(s, e, cards.ReadConfig{Days: 1}, fraud.DefaultRules())
	}
	_, s := beam.NewPipelineWithRoot()
	if err := build(s); err != nil {
		t.Fatal(err)
	}
	e.Job.ID = "other"
	_, s = beam.NewPipelineWithRoot()
	if err := build(s); err == nil || !strings.Contains(err.Error(), "name another place") {
		t.Errorf("the folder of another job: %v, want an error that says what to do", err)
	}
}
