// SPDX-License-Identifier: Apache-2.0

package fraud_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/teststream"

	"github.com/hornbeam-dev/hornbeam/fixtures/cards"
	"github.com/hornbeam-dev/hornbeam/transforms/fraud"
)

func init() {
	register.Function1x1(fromCard)
	register.Function1x1(alertText)
	register.Function2x1(outOfPlace)
	register.DoFn1x0[fraud.Alert](&printFn{})
}

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "prism") }

func fromCard(t cards.Transaction) fraud.Transaction {
	return fraud.Transaction{ID: t.ID, Customer: t.Customer, Millis: t.UnixMilli(), Cents: t.Cents}
}

func alertText(a fraud.Alert) string {
	text, err := json.Marshal(a)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// outOfPlace is true for an alert that does not have the time of its transaction.
func outOfPlace(at beam.EventTime, a fraud.Alert) bool { return at.Milliseconds() != a.Millis }

var ten = time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)

func at(id int64, minute, second int, cents int64) fraud.Transaction {
	return fraud.Transaction{ID: id, Customer: 7, Millis: ten.Add(time.Duration(minute)*time.Minute + time.Duration(second)*time.Second).UnixMilli(), Cents: cents}
}

// arrival is one step of a test stream: transactions come together, or the watermark advances.
type arrival struct {
	transactions []fraud.Transaction
	watermark    int64
}

func stream(s beam.Scope, steps ...arrival) beam.PCollection {
	c := teststream.NewConfig()
	for _, step := range steps {
		for _, t := range step.transactions {
			c.AddElements(t.Millis, t)
		}
		if step.watermark != 0 {
			c.AdvanceWatermark(step.watermark)
		}
	}
	c.AdvanceWatermarkToInfinity()
	return teststream.Create(s, c)
}

func comes(ts ...fraud.Transaction) arrival { return arrival{transactions: ts} }

func watermark(minute, second int) arrival {
	return arrival{watermark: at(0, minute, second, 0).Millis}
}

// TestArrivalDoesNotMatter has five payments within two minutes. Whatever happens on their way,
// there is one alert, and its bytes are the same.
func TestArrivalDoesNotMatter(t *testing.T) {
	tx := []fraud.Transaction{at(1, 58, 0, 900), at(2, 59, 0, 900), at(3, 59, 30, 900), at(4, 59, 50, 900), at(5, 59, 59, 900)}
	want := alertText(fraud.Alert{Rule: fraud.Velocity, Customer: 7, Millis: tx[4].Millis, Transactions: []int64{1, 2, 3, 4, 5}})
	backwards := slices.Clone(tx)
	slices.Reverse(backwards)
	for name, steps := range map[string][]arrival{
		"in order":                  {comes(tx...)},
		"backwards":                 {comes(backwards...)},
		"watermark between":         {comes(tx[0]), watermark(58, 0), comes(tx[1]), watermark(59, 10), comes(tx[3]), comes(tx[2]), watermark(59, 59), comes(tx[4]), watermark(62, 0)},
		"repeated at once":          {comes(tx...), comes(tx...)},
		"repeated across the hour":  {comes(tx[:4]...), watermark(59, 55), comes(tx[4]), watermark(60, 30), comes(tx[4])},
		"repeated before and after": {comes(tx[4]), comes(tx[:4]...), watermark(59, 59), comes(tx[4]), watermark(61, 0), comes(tx[4])},
	} {
		t.Run(name, func(t *testing.T) {
			p, s := beam.NewPipelineWithRoot()
			r := fraud.Detect(s, stream(s, steps...), fraud.DefaultRules())
			passert.Equals(s, beam.ParDo(s, alertText, r.Alerts), want)
			passert.Empty(s, r.Late)
			passert.Empty(s, r.Dead)
			ptest.RunAndValidate(t, p)
		})
	}
}

func TestPeersOfAnInstantWaitForTheWatermark(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	rules := fraud.DefaultRules()
	rules.Limit = 2
	r := fraud.Detect(s, stream(s, comes(at(1, 0, 5, 900)), watermark(0, 5), comes(at(2, 0, 5, 900)), watermark(0, 6), comes(at(3, 0, 5, 900))), rules)
	passert.Equals(s, beam.ParDo(s, alertText, r.Alerts),
		alertText(fraud.Alert{Rule: fraud.Velocity, Customer: 7, Millis: at(1, 0, 5, 0).Millis, Transactions: []int64{2, 1}}),
		alertText(fraud.Alert{Rule: fraud.Velocity, Customer: 7, Millis: at(1, 0, 5, 0).Millis, Transactions: []int64{1, 2}}))
	passert.Equals(s, r.Late, at(3, 0, 5, 900))
	ptest.RunAndValidate(t, p)
}

func TestEachInputIsAccountedFor(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	conflict, negative := at(1, 0, 0, 901), at(9, 1, 0, -1)
	r := fraud.Detect(s, stream(s,
		comes(at(1, 0, 0, 900), at(1, 0, 0, 900), conflict, negative, at(2, 30, 0, 900)), watermark(31, 0),
		comes(at(3, 20, 0, 900), at(2, 30, 0, 900))), fraud.DefaultRules())
	passert.Count(s, r.Dead, "dead", 2)
	passert.Equals(s, r.Late, at(3, 20, 0, 900))
	passert.Empty(s, r.Alerts)
	counts := counters(ptest.RunAndValidate(t, p))
	want := map[string]int64{"transactions": 7, "judged": 2, "duplicates": 2, "late": 1, "dead": 2}
	for name, n := range want {
		if counts[name] != n {
			t.Errorf("%s: got %d, want %d (all: %v)", name, counts[name], n, counts)
		}
	}
}

func counters(r beam.PipelineResult) map[string]int64 {
	counts := map[string]int64{}
	for _, c := range r.Metrics().AllMetrics().Counters() {
		if c.Namespace() == "fraud.Detect" {
			counts[c.Name()] += c.Result()
		}
	}
	return counts
}

// TestDayOfCards compares the transform with the plain rules, in order and shuffled.
func TestDayOfCards(t *testing.T) {
	rules := fraud.Rules{Limit: 3, Window: 2 * time.Hour, Small: 10_00, Large: 80_00, Within: 4 * time.Hour}
	byCustomer := map[int64][]fraud.Transaction{}
	for tx := range cards.Generate().Days(1).All() {
		byCustomer[tx.Customer] = append(byCustomer[tx.Customer], fromCard(tx))
	}
	var want []any
	for _, txs := range byCustomer {
		for _, a := range fraud.Judge(rules, txs) {
			want = append(want, alertText(a))
		}
	}
	if len(want) < 50 {
		t.Fatalf("only %d alerts are expected; the test would say little", len(want))
	}
	for name, cfg := range map[string]cards.ReadConfig{
		"in order": {Days: 1},
		"shuffled": {Days: 1, Shuffle: time.Hour, Seed: 1},
	} {
		t.Run(name, func(t *testing.T) {
			p, s := beam.NewPipelineWithRoot()
			r := fraud.Detect(s, beam.ParDo(s, fromCard, cards.Read(s, cfg)), rules)
			passert.Equals(s, beam.ParDo(s, alertText, r.Alerts), want...)
			passert.Empty(s, r.Late)
			passert.Empty(s, r.Dead)
			passert.False(s, beam.ParDo(s, outOfPlace, r.Alerts), isTrue)
			ptest.RunAndValidate(t, p)
		})
	}
}

func isTrue(b bool) bool { return b }

func init() { register.Function1x1(isTrue) }

// printed is what the example prints; the runner is in this process.
var printed struct {
	sync.Mutex
	lines []string
}

type printFn struct{}

func (printFn) ProcessElement(a fraud.Alert) {
	printed.Lock()
	defer printed.Unlock()
	printed.lines = append(printed.lines, alertText(a))
}

func ExampleDetect() {
	p, s := beam.NewPipelineWithRoot()
	transactions := stream(s, comes(at(2, 3, 0, 120_00), at(1, 0, 0, 2_50))) // The large one comes first.
	alerts := fraud.Detect(s, transactions, fraud.DefaultRules()).Alerts
	beam.ParDo0(s, &printFn{}, alerts)
	if _, err := prism.Execute(context.Background(), p); err != nil {
		fmt.Println(err)
	}
	sort.Strings(printed.lines)
	for _, line := range printed.lines {
		fmt.Println(line)
	}
	// Output:
	// {"rule":"small-then-large","customer":7,"event_time":"2026-05-01T10:03:00Z","transactions":[1,2]}
}
