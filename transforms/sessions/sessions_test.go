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
	register.Function1x1(visits)
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

// TestMidnightDoesNotCut has a visitor in Athens around midnight, out of order (FC-17). The gap is
// counted from the last visit, wherever the day ends.
func TestMidnightDoesNotCut(t *testing.T) {
	midnight := time.Date(2026, 1, 15, 0, 0, 0, 0, time.FixedZone("Europe/Athens", 2*3600))
	after := func(d time.Duration) int64 { return midnight.Add(d).UnixMilli() }
	four := []time.Duration{5 * time.Minute, -2 * time.Minute, 0, -10 * time.Minute}
	for _, c := range []struct {
		next time.Duration
		want []any
	}{
		{35*time.Minute - time.Millisecond, []any{
			`{"customer":"v","start":"2026-01-14T21:50:00Z","end":"2026-01-14T22:34:59.999Z","transactions":5,"amount":"0.05"}`}},
		{35 * time.Minute, []any{
			`{"customer":"v","start":"2026-01-14T21:50:00Z","end":"2026-01-14T22:05:00Z","transactions":4,"amount":"0.04"}`,
			`{"customer":"v","start":"2026-01-14T22:35:00Z","end":"2026-01-14T22:35:00Z","transactions":1,"amount":"0.01"}`}},
	} {
		stream := teststream.NewConfig()
		for _, d := range append(four[:4:4], c.next) {
			stream.AddElements(after(d), named{"v", 1})
		}
		stream.AdvanceWatermarkToInfinity()
		p, s := beam.NewPipelineWithRoot()
		r := sessions.Sessionize(s, beam.ParDo(s, byName, teststream.Create(s, stream)), sessions.Config{Gap: 30 * time.Minute})
		passert.Equals(s, beam.ParDo(s, text, r.Sessions), c.want...)
		ptest.RunAndValidate(t, p)
	}
}

// TestLateVisits has a visit that comes when its session was written already (FC-5).
func TestLateVisits(t *testing.T) {
	const (
		first  = `{"customer":"ann","start":"1970-01-01T00:00:00Z","end":"1970-01-01T00:00:00Z","transactions":1,"amount":"0.01"}`
		second = `{"customer":"ann","start":"1970-01-01T00:00:03Z","end":"1970-01-01T00:00:03Z","transactions":1,"amount":"0.01"}`
		both   = `{"customer":"ann","start":"1970-01-01T00:00:00Z","end":"1970-01-01T00:00:03Z","transactions":2,"amount":"0.02"}`
		again  = `{"customer":"ann","start":"1970-01-01T00:00:00Z","end":"1970-01-01T00:00:00Z","transactions":2,"amount":"0.02","revision":1}`
	)
	for _, c := range []struct {
		name     string
		lateness time.Duration
		late     int64 // Event time of the second visit, in ms.
		want     []any
	}{
		{"without lateness it is a session of its own", 0, 3000, []any{first, second}},
		{"with lateness the session covers it", 10 * time.Second, 3000, []any{first, both}},
		{"with lateness and the same end it is a revision", 10 * time.Second, 0, []any{first, again}},
	} {
		t.Run(c.name, func(t *testing.T) {
			stream := teststream.NewConfig()
			stream.AddElements(0, named{"ann", 1})
			stream.AdvanceWatermark(6000)
			stream.AddElements(c.late, named{"ann", 1})
			stream.AdvanceWatermark(8000)
			stream.AdvanceWatermarkToInfinity()
			p, s := beam.NewPipelineWithRoot()
			r := sessions.Sessionize(s, beam.ParDo(s, byName, teststream.Create(s, stream)), sessions.Config{Gap: 5 * time.Second, Lateness: c.lateness})
			passert.Equals(s, beam.ParDo(s, text, r.Sessions), c.want...)
			ptest.RunAndValidate(t, p)
		})
	}
}

// TestCustomersKeepTheirBytes: no two become one, in state or as JSON (FC-2, FC-16).
func TestCustomersKeepTheirBytes(t *testing.T) {
	customers := []string{"4|11", "4", "4\x00", "411", "caf\xe9", "caf\xe8", "caf\ufffd", `caf\xe9`}
	stream := teststream.NewConfig()
	for _, c := range customers {
		stream.AddElements(0, named{c, 1}, named{c, 1})
	}
	stream.AdvanceWatermarkToInfinity()
	p, s := beam.NewPipelineWithRoot()
	r := sessions.Sessionize(s, beam.ParDo(s, byName, teststream.Create(s, stream)), sessions.Config{})
	lines := beam.ParDo(s, text, r.Sessions)
	passert.Count(s, lines, "sessions", len(customers))
	passert.Count(s, beam.DropValue(s, stats.Count(s, lines)), "different lines", len(customers))
	passert.Equals(s, beam.ParDo(s, visits, r.Sessions), []any{int64(2), int64(2), int64(2), int64(2), int64(2), int64(2), int64(2), int64(2)}...)
	ptest.RunAndValidate(t, p)

	b := text(sessions.Session{Customer: "caf\xe9"})
	var back struct {
		Bytes []byte `json:"customer_bytes"`
	}
	if err := json.Unmarshal([]byte(b), &back); err != nil || string(back.Bytes) != "caf\xe9" {
		t.Errorf("got %q, %v from %s, want the bytes of the customer", back.Bytes, err, b)
	}
}

func visits(s sessions.Session) int64 { return s.Transactions }

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
