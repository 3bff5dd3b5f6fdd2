// SPDX-License-Identifier: Apache-2.0

package fraud

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/fixtures/cards"
)

// model is the two rules word by word, in quadratic time.
func model(r Rules, transactions []Transaction) []Alert {
	sorted := slices.Clone(transactions)
	slices.SortFunc(sorted, compare)
	var alerts []Alert
	for i, t := range sorted {
		var others []int64
		for _, o := range sorted {
			if o.Millis > t.Millis-r.Window.Milliseconds() && o.Millis <= t.Millis && o.ID != t.ID {
				others = append(others, o.ID)
			}
		}
		if len(others)+1 >= r.Limit {
			alerts = append(alerts, Alert{Velocity, t.Customer, t.Millis, append(others, t.ID)})
		}
		if i == 0 {
			continue
		}
		before := sorted[i-1]
		if before.Cents < r.Small && t.Cents > r.Large && t.Millis-before.Millis <= r.Within.Milliseconds() {
			alerts = append(alerts, Alert{SmallThenLarge, t.Customer, t.Millis, []int64{before.ID, t.ID}})
		}
	}
	return alerts
}

// byState is the same through the stored state, in some order of arrival within the watermark.
func byState(r Rules, arrivals []Transaction) (alerts []Alert, duplicates, conflicts, late int) {
	s := newState()
	for _, t := range arrivals {
		place, same, conflict := s.find(t)
		switch {
		case same:
			duplicates++
		case conflict:
			conflicts++
		case t.Millis <= s.judged():
			late++
		default:
			s = s.insert(place, encode(nil, t))
		}
	}
	for s.waiting() > 0 {
		s = s.judgeUntil(s.earliest(), t0.Customer, r, func(a Alert) { alerts = append(alerts, a) })
	}
	return alerts, duplicates, conflicts, late
}

var t0 = Transaction{Customer: 7}

func FuzzJudgeAgainstModel(f *testing.F) {
	f.Add(uint64(1), uint8(20), uint8(3))
	f.Add(uint64(2), uint8(60), uint8(5))
	f.Fuzz(func(t *testing.T, seed uint64, count, limit uint8) {
		random := rand.New(rand.NewPCG(seed, 0))
		r := DefaultRules()
		r.Limit = int(limit%8) + 1
		r.Window = time.Duration(random.IntN(7)+1) * time.Second
		r.Within = time.Duration(random.IntN(4)) * time.Second
		var in []Transaction
		for id := range int64(count) {
			in = append(in, Transaction{ID: id * 7 % 257, Customer: 7, Millis: random.Int64N(int64(count)/2+1) * 1000, Cents: []int64{499, 500, 5000, 10000, 10001}[random.IntN(5)]})
		}
		want := model(r, in)
		if diff := cmp.Diff(want, Judge(r, in)); diff != "" {
			t.Errorf("Judge (-want +got):\n%s", diff)
		}
		twice := append(slices.Clone(in), in...)
		random.Shuffle(len(twice), func(i, j int) { twice[i], twice[j] = twice[j], twice[i] })
		got, duplicates, conflicts, late := byState(r, twice)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("by state (-want +got):\n%s", diff)
		}
		if duplicates != len(in) || conflicts != 0 || late != 0 {
			t.Errorf("duplicates %d, conflicts %d, late %d; want %d, 0, 0", duplicates, conflicts, late, len(in))
		}
	})
}

func FuzzCheckState(f *testing.F) {
	f.Add([]byte(newState()))
	f.Add([]byte(newState().insert(0, encode(nil, t0))))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := checkState(b)
		if err == nil && s.waiting() > 0 {
			s.earliest()
			s.transaction(7, s.records()-1)
		}
	})
}

func TestEdges(t *testing.T) {
	r := DefaultRules()
	at := func(id, millis, cents int64) Transaction {
		return Transaction{ID: id, Customer: 7, Millis: millis, Cents: cents}
	}
	hour := time.Hour.Milliseconds()
	for _, c := range []struct {
		name string
		in   []Transaction
		want []string
	}{
		{"five in an hour", []Transaction{at(1, 0, 900), at(2, 1, 900), at(3, 2, 900), at(4, 3, 900), at(5, hour-1, 900)}, []string{"velocity [1 2 3 4 5]"}},
		{"the first is just out", []Transaction{at(1, 0, 900), at(2, 1, 900), at(3, 2, 900), at(4, 3, 900), at(5, hour, 900)}, nil},
		{"peers count for each other", []Transaction{at(1, 0, 900), at(2, 0, 900), at(3, 0, 900), at(5, 9, 900), at(4, 9, 900)}, []string{"velocity [1 2 3 5 4]", "velocity [1 2 3 4 5]"}},
		{"within an hour, both included", []Transaction{at(1, 0, 499), at(2, hour, 10001)}, []string{"small-then-large [1 2]"}},
		{"one millisecond more", []Transaction{at(1, 0, 499), at(2, hour+1, 10001)}, nil},
		{"5 is not under 5", []Transaction{at(1, 0, 500), at(2, 1, 10001)}, nil},
		{"100 is not over 100", []Transaction{at(1, 0, 499), at(2, 1, 10000)}, nil},
		{"only the next", []Transaction{at(1, 0, 499), at(2, 1, 900), at(3, 2, 10001)}, nil},
		{"ties by ID", []Transaction{at(2, 0, 10001), at(1, 0, 499)}, []string{"small-then-large [1 2]"}},
	} {
		var got []string
		for _, a := range Judge(r, c.in) {
			got = append(got, fmt.Sprint(a.Rule, " ", a.Transactions))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestConflictsAndLate(t *testing.T) {
	a := Transaction{ID: 1, Customer: 7, Millis: 10, Cents: 1}
	b := a
	b.Cents = 2
	_, duplicates, conflicts, _ := byState(DefaultRules(), []Transaction{a, b, a})
	if duplicates != 1 || conflicts != 1 {
		t.Errorf("duplicates %d, conflicts %d; want 1, 1", duplicates, conflicts)
	}
	s := newState().insert(0, encode(nil, a))
	s = s.judgeUntil(10, 7, DefaultRules(), func(Alert) {})
	if got := s.judged(); got != 10 {
		t.Errorf("judged: got %d, want 10", got)
	}
	if _, same, _ := s.find(a); !same {
		t.Error("a repeated transaction is not recognised after it was judged")
	}
	if _, err := checkState(s[:len(s)-1]); err == nil {
		t.Error("a truncated state was accepted")
	}
}

// TestWholeStream has the figures of the handbook's stream, counted by others with SQL.
func TestWholeStream(t *testing.T) {
	byCustomer := map[int64][]Transaction{}
	for tx := range cards.Generate().All() {
		byCustomer[tx.Customer] = append(byCustomer[tx.Customer], Transaction{ID: tx.ID, Customer: tx.Customer, Millis: tx.UnixMilli(), Cents: tx.Cents})
	}
	counts := map[string]int{}
	for _, txs := range byCustomer {
		for _, a := range Judge(DefaultRules(), txs) {
			counts[a.Rule]++
		}
	}
	if counts[Velocity] != 85 || counts[SmallThenLarge] != 246 {
		t.Errorf("alerts: got %v, want velocity 85 and small-then-large 246", counts)
	}
}

func TestAlertJSON(t *testing.T) {
	text, err := json.Marshal(Alert{Velocity, 7, time.Date(2018, 4, 1, 10, 59, 59, 0, time.UTC).UnixMilli(), []int64{1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(text), `{"rule":"velocity","customer":7,"event_time":"2018-04-01T10:59:59Z","transactions":[1,2]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRulesAreChecked(t *testing.T) {
	bad := Rules{Within: -1, Forget: -1}
	if err := bad.check(); err == nil {
		t.Error("rules without limit and window were accepted")
	}
	if err := DefaultRules().check(); err != nil {
		t.Error(err)
	}
}
