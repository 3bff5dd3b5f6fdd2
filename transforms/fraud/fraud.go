// SPDX-License-Identifier: Apache-2.0

// Package fraud marks suspicious card transactions by two rules that look at one card in event-time
// order: velocity and small-then-large. The rules are in this file and know nothing of Beam; the
// transform is Detect, in detect.go. Which transactions are marked does not depend on the order in
// which they arrive.
package fraud

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Transaction is one payment by a card. There is one card per customer.
type Transaction struct {
	ID       int64 `beam:"id" json:"id"` // Unique for a customer.
	Customer int64 `beam:"customer" json:"customer"`
	Millis   int64 `beam:"time" json:"time"` // Event time, ms since 1970.
	Cents    int64 `beam:"cents" json:"cents"`
}

// The names of the rules.
const (
	Velocity       = "velocity"
	SmallThenLarge = "small-then-large"
)

// Alert marks one transaction.
type Alert struct {
	Rule         string  `beam:"rule"`
	Customer     int64   `beam:"customer"`
	Millis       int64   `beam:"event_time"`   // Of the marked transaction, ms since 1970.
	Transactions []int64 `beam:"transactions"` // IDs of those that made the rule apply, in order; the marked one last.
}

// Marked is the ID of the marked transaction. Rule, customer and this ID identify an alert.
func (a Alert) Marked() int64 { return a.Transactions[len(a.Transactions)-1] }

// MarshalJSON writes the event time as RFC 3339.
func (a Alert) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Rule         string  `json:"rule"`
		Customer     int64   `json:"customer"`
		EventTime    string  `json:"event_time"`
		Transactions []int64 `json:"transactions"`
	}{a.Rule, a.Customer, time.UnixMilli(a.Millis).UTC().Format(time.RFC3339Nano), a.Transactions})
}

// Rules are the figures of both rules.
type Rules struct {
	// A transaction at t is marked for velocity if the card has at least Limit transactions
	// in (t-Window, t]. All those of instant t count, whichever is marked.
	Limit  int
	Window time.Duration

	// A transaction of more than Large cents is marked for small-then-large if the one before
	// it is of less than Small cents and at most Within earlier.
	Small  int64
	Large  int64
	Within time.Duration

	// Forget is how long, by event time, a card without transactions is remembered. It should
	// be longer than transactions are late or repeated. 0 means 7 days.
	Forget time.Duration
}

// DefaultRules are 5 transactions in an hour, and less than 5 followed within an hour by more
// than 100.
func DefaultRules() Rules {
	return Rules{Limit: 5, Window: time.Hour, Small: 5_00, Large: 100_00, Within: time.Hour}
}

// check says what is wrong with the rules, all at once.
func (r Rules) check() error {
	var errs []error
	if r.Limit < 1 {
		errs = append(errs, fmt.Errorf("velocity limit is %d; it has to be at least 1", r.Limit))
	}
	if r.Window < time.Millisecond {
		errs = append(errs, fmt.Errorf("velocity window is %v; it has to be at least 1ms", r.Window))
	}
	if r.Within < 0 {
		errs = append(errs, fmt.Errorf("within is %v; it cannot be negative", r.Within))
	}
	if r.Forget < 0 {
		errs = append(errs, fmt.Errorf("forget is %v; it cannot be negative", r.Forget))
	}
	return errors.Join(errs...)
}

// forget is the time after which an idle card is forgotten. It is never so short that a rule
// could still need what is forgotten.
func (r Rules) forget() time.Duration {
	if r.Forget == 0 {
		return max(7*24*time.Hour, r.Window, r.Within)
	}
	return max(r.Forget, r.Window, r.Within)
}

// compare is the order in which the transactions of a card are judged.
func compare(a, b Transaction) int {
	return cmp.Or(cmp.Compare(a.Millis, b.Millis), cmp.Compare(a.ID, b.ID))
}

// inWindow says whether a transaction counts for the velocity at instant t.
func (r Rules) inWindow(at, t int64) bool {
	return at > t-r.Window.Milliseconds() && at <= t
}

// follows says whether a large transaction comes soon enough after a small one.
func (r Rules) follows(small, large Transaction) bool {
	return small.Cents < r.Small && large.Cents > r.Large && large.Millis-small.Millis <= r.Within.Milliseconds()
}

// card is what the rules remember of one card: the transactions already judged that can still
// matter, in order. The last one is always kept.
type card []Transaction

// judge takes all transactions of one instant, in order of ID. They come after those judged before.
func (c card) judge(r Rules, instant []Transaction, emit func(Alert)) card {
	c = append(c, instant...)
	now := instant[0].Millis
	first := 0
	for !r.inWindow(c[first].Millis, now) {
		first++
	}
	for i := len(c) - len(instant); i < len(c); i++ {
		if len(c)-first >= r.Limit {
			emit(c[i].velocity(c[first:]))
		}
		if i > 0 && r.follows(c[i-1], c[i]) {
			emit(Alert{SmallThenLarge, c[i].Customer, now, []int64{c[i-1].ID, c[i].ID}})
		}
	}
	return c[first:]
}

func (t Transaction) velocity(counted []Transaction) Alert {
	ids := make([]int64, 0, len(counted))
	for _, other := range counted {
		if other.ID != t.ID {
			ids = append(ids, other.ID)
		}
	}
	return Alert{Velocity, t.Customer, t.Millis, append(ids, t.ID)}
}

// Judge applies the rules to all transactions of one card at once. It is what Detect does, for
// when everything is at hand. IDs are unique; the order of the argument does not matter.
func Judge(r Rules, transactions []Transaction) []Alert {
	sorted := slices.Clone(transactions)
	slices.SortFunc(sorted, compare)
	var alerts []Alert
	var c card
	for len(sorted) > 0 {
		n := sameInstant(sorted)
		c = c.judge(r, sorted[:n], func(a Alert) { alerts = append(alerts, a) })
		sorted = sorted[n:]
	}
	return alerts
}

// sameInstant is how many transactions have the time of the first.
func sameInstant(sorted []Transaction) int {
	n := 1
	for n < len(sorted) && sorted[n].Millis == sorted[0].Millis {
		n++
	}
	return n
}
