// SPDX-License-Identifier: Apache-2.0

package sessions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/teststream"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/transforms/stats"

	"github.com/hornbeam-dev/hornbeam/fixtures/cards"
	"github.com/hornbeam-dev/hornbeam/transforms/sessions"
)

func init() {
	register.Function1x2(fromCard)
	register.Function1x1(text)
	register.Function1x2(byName)
	register.Function1x1(spent)
	register.Function1x1(one)
	register.DoFn1x0[sessions.Session](&printFn{})
}

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "hornbeam") }

func fromCard(t cards.Transaction) (string, sessions.Visit) {
	return strconv.FormatInt(t.Customer, 10), sessions.Visit{Cents: t.Cents}
}

func text(s sessions.Session) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// named is a visit and its customer in one value, for a test stream.
type named struct {
	Customer string
	Cents    int64
}

func byName(n named) (string, sessions.Visit) { return n.Customer, sessions.Visit{Cents: n.Cents} }

func spent(s sessions.Session) int64 { return s.Cents }

func one(sessions.Session) string { return "all" }

// TestWholeStream has the figures of the handbook's stream, counted by others with SQL.
func TestWholeStream(t *testing.T) {
	byCustomer := map[int64][]int64{}
	for tx := range cards.Generate().All() {
		byCustomer[tx.Customer] = append(byCustomer[tx.Customer], tx.UnixMilli())
	}
	for gap, want := range map[time.Duration]int{
		10 * time.Minute: 1_714_170,
		30 * time.Minute: 1_637_838,
		time.Hour:        1_531_497,
		4 * time.Hour:    1_071_593,
	} {
		got, visits := 0, 0
		for _, times := range byCustomer {
			for _, span := range sessions.Of(times, gap) {
				got++
				visits += span.Last - span.First
			}
		}
		if got != want || visits != 1_754_155 {
			t.Errorf("gap %v: got %d sessions of %d visits, want %d of 1754155", gap, got, visits, want)
		}
	}
}

func TestTheGapItselfBeginsASession(t *testing.T) {
	for _, c := range []struct {
		between int64
		want    int
	}{{9999, 1}, {10_000, 2}, {10_001, 2}} {
		if got := len(sessions.Of([]int64{0, c.between}, 10*time.Second)); got != c.want {
			t.Errorf("%d ms between, gap 10 s: got %d sessions, want %d", c.between, got, c.want)
		}
	}
	if got := sessions.Of(nil, time.Second); len(got) != 0 {
		t.Errorf("sessions of nothing: %v", got)
	}
}

// TestTwoDaysOfCards compares the transform with the plain definition. The gap has a millisecond
// more than a number of seconds, so that no two visits are exactly one gap apart: there runners
// differ.
func TestTwoDaysOfCards(t *testing.T) {
	const gap = 2*time.Hour + time.Millisecond
	byCustomer := map[int64][]cards.Transaction{}
	for tx := range cards.Generate().Days(2).All() {
		byCustomer[tx.Customer] = append(byCustomer[tx.Customer], tx)
	}
	var want []any
	for customer, txs := range byCustomer {
		var times []int64
		for _, tx := range txs {
			times = append(times, tx.UnixMilli())
		}
		for _, span := range sessions.Of(times, gap) {
			session := sessions.Session{Customer: strconv.FormatInt(customer, 10), Start: times[span.First], End: times[span.Last-1]}
			for _, tx := range txs[span.First:span.Last] {
				session.Transactions++
				session.Cents += tx.Cents
			}
			want = append(want, text(session))
		}
	}
	p, s := beam.NewPipelineWithRoot()
	visits := beam.ParDo(s, fromCard, cards.Read(s, cards.ReadConfig{Days: 2, Shuffle: time.Hour, Seed: 5}))
	r := sessions.Sessionize(s, visits, sessions.Config{Gap: gap})
	passert.Equals(s, beam.ParDo(s, text, r.Sessions), want...)
	passert.Empty(s, r.Dead)
	ptest.RunAndValidate(t, p)
}

// TestSecondGroupingDoesNotMerge: overlapping sessions of two customers, grouped by another key,
// stay two.
func TestSecondGroupingDoesNotMerge(t *testing.T) {
	c := teststream.NewConfig()
	c.AddElements(1000, named{"ann", 1_00}, named{"ben", 2_00})
	c.AddElements(6000, named{"ben", 4_00})
	c.AddElements(8000, named{"ann", 8_00}, named{"", 1})
	c.AdvanceWatermarkToInfinity()
	p, s := beam.NewPipelineWithRoot()
	r := sessions.Sessionize(s, beam.ParDo(s, byName, teststream.Create(s, c)), sessions.Config{Gap: 10 * time.Second})
	passert.Equals(s, beam.ParDo(s, text, r.Sessions),
		`{"customer":"ann","start":"1970-01-01T00:00:01Z","end":"1970-01-01T00:00:08Z","transactions":2,"amount":"9.00"}`,
		`{"customer":"ben","start":"1970-01-01T00:00:01Z","end":"1970-01-01T00:00:06Z","transactions":2,"amount":"6.00"}`)
	passert.Equals(s, beam.DropValue(s, stats.Count(s, beam.ParDo(s, one, r.Sessions))), "all")
	passert.Equals(s, stats.Sum(s, beam.ParDo(s, spent, r.Sessions)), int64(15_00))
	passert.Count(s, r.Dead, "dead letters", 1)
	ptest.RunAndValidate(t, p)
}

func TestConfigIsChecked(t *testing.T) {
	_, s := beam.NewPipelineWithRoot()
	visits := beam.ParDo(s, byName, beam.Create(s, named{"ann", 1}))
	for _, cfg := range []sessions.Config{{Gap: -1}, {Gap: time.Microsecond}, {Lateness: -1}} {
		if _, err := sessions.TrySessionize(s, visits, cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

func TestAmount(t *testing.T) {
	for cents, want := range map[int64]string{0: "0.00", 5: "0.05", 5716: "57.16", -5: "-0.05", -12345: "-123.45", 9_407_937_008: "94079370.08"} {
		if got := sessions.Amount(cents); got != want {
			t.Errorf("%d cents: got %s, want %s", cents, got, want)
		}
	}
}

// printed is what the example prints; the runner is in this process.
var printed struct {
	sync.Mutex
	lines []string
}

type printFn struct{}

func (printFn) ProcessElement(s sessions.Session) {
	printed.Lock()
	defer printed.Unlock()
	printed.lines = append(printed.lines, text(s))
}

func ExampleSessionize() {
	c := teststream.NewConfig()
	c.AddElements(0, named{"ann", 57_16})
	c.AddElements(20*60_000, named{"ann", 2_50})
	c.AddElements(90*60_000, named{"ann", 10_00})
	c.AdvanceWatermarkToInfinity()
	p, s := beam.NewPipelineWithRoot()
	visits := beam.ParDo(s, byName, teststream.Create(s, c))
	r := sessions.Sessionize(s, visits, sessions.Config{Gap: 30 * time.Minute})
	beam.ParDo0(s, &printFn{}, r.Sessions)
	if _, err := prism.Execute(context.Background(), p); err != nil {
		fmt.Println(err)
	}
	sort.Strings(printed.lines)
	for _, line := range printed.lines {
		fmt.Println(line)
	}
	// Output:
	// {"customer":"ann","start":"1970-01-01T00:00:00Z","end":"1970-01-01T00:20:00Z","transactions":2,"amount":"59.66"}
	// {"customer":"ann","start":"1970-01-01T01:30:00Z","end":"1970-01-01T01:30:00Z","transactions":1,"amount":"10.00"}
}
