// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"github.com/hornbeam-dev/hornbeam/fixtures/cards"
	"github.com/hornbeam-dev/hornbeam/pipelines/ends"
	"github.com/hornbeam-dev/hornbeam/pipelines/ends/endstest"
)

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "hornbeam") }

// sums are what the lines of a run add up to.
type sums struct{ sessions, transactions, cents int64 }

func add(t *testing.T, e ends.Ends) sums {
	t.Helper()
	var s sums
	for _, line := range endstest.Lines(t, e, "sessions") {
		var session struct {
			Transactions int64
			Amount       string
		}
		if err := json.Unmarshal([]byte(line), &session); err != nil {
			t.Fatal(err)
		}
		cents, err := strconv.ParseInt(strings.Replace(session.Amount, ".", "", 1), 10, 64)
		if err != nil {
			t.Fatalf("amount %q is not exact to the cent: %v", session.Amount, err)
		}
		s.sessions++
		s.transactions += session.Transactions
		s.cents += cents
	}
	return s
}

func TestVisitsOneGapApartAreTwoSessions(t *testing.T) {
	e := endstest.Input(t,
		"0,0,7,1,1.00,0,0",
		"1,1799,7,1,2.00,0,0",
		"2,3599,7,1,4.05,0,0", // Exactly 30 minutes after the one before.
		"3,3599,8,1,8.00,0,0")
	endstest.Run(t, "hornbeam", func(s beam.Scope) error {
		return Analyze(s, e, cards.ReadConfig{}, 30*time.Minute)
	})
	want := []string{
		`{"customer":7,"start":"2018-04-01T00:00:00Z","end":"2018-04-01T00:29:59Z","transactions":2,"amount":"3.00"}`,
		`{"customer":7,"start":"2018-04-01T00:59:59Z","end":"2018-04-01T00:59:59Z","transactions":1,"amount":"4.05"}`,
		`{"customer":8,"start":"2018-04-01T00:59:59Z","end":"2018-04-01T00:59:59Z","transactions":1,"amount":"8.00"}`,
	}
	got := endstest.Lines(t, e, "sessions")
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestArrivalOrderDoesNotMatter(t *testing.T) {
	var first []string
	for _, shuffle := range []time.Duration{0, time.Hour} {
		e := endstest.To(t)
		m := endstest.Run(t, "hornbeam", func(s beam.Scope) error {
			return Analyze(s, e, cards.ReadConfig{Days: 3, Shuffle: shuffle, Seed: 3}, 30*time.Minute)
		})
		if sum := totals(m); sum.In != int64(cards.Generate().Days(3).Len()) || sum.In != sum.Out {
			t.Errorf("totals %+v", sum)
		}
		lines := endstest.Lines(t, e, "sessions")
		if first == nil {
			first = lines
		} else if strings.Join(first, "\n") != strings.Join(lines, "\n") {
			t.Errorf("%d sessions in order, others (%d) when shuffled by %v", len(first), len(lines), shuffle)
		}
	}
}

func TestWholeStream(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: 1.75 million transactions, five times")
	}
	for _, c := range []struct {
		gap, shuffle time.Duration
		sessions     int64
	}{
		{10 * time.Minute, 0, 1_714_170},
		{30 * time.Minute, 0, 1_637_838},
		{30 * time.Minute, time.Hour, 1_637_838},
		{time.Hour, 0, 1_531_497},
		{4 * time.Hour, 0, 1_071_593},
	} {
		e := endstest.To(t)
		endstest.Run(t, "hornbeam", func(s beam.Scope) error {
			return Analyze(s, e, cards.ReadConfig{Shuffle: c.shuffle, Seed: 1}, c.gap)
		})
		if got, want := add(t, e), (sums{c.sessions, 1_754_155, 9_407_937_008}); got != want {
			t.Errorf("gap %v, shuffled by %v: %+v, want %+v", c.gap, c.shuffle, got, want)
		}
	}
}
