// SPDX-License-Identifier: Apache-2.0

// Package sessions groups what a customer does into sessions: visits belong together while less
// than a gap lies between one and the next. A gap of exactly the given length begins a new session,
// as Beam's session windows define it. The definition as a plain function is Of, in this file; the
// transform is Sessionize, in sessionize.go.
package sessions

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// Visit is one thing a customer does; when it happened is the event time of the element.
type Visit struct {
	Cents int64 `beam:"cents"` // What was spent; may be 0.
}

// Session is a maximal run of visits of one customer.
type Session struct {
	Customer     string `beam:"customer"`     // Any bytes.
	Start        int64  `beam:"start"`        // Event time of the first visit, ms since 1970.
	End          int64  `beam:"end"`          // Event time of the last visit, ms since 1970; the gap after it is not included.
	Transactions int64  `beam:"transactions"` // How many visits.
	Cents        int64  `beam:"cents"`        // The sum of what was spent.
	Revision     int64  `beam:"revision"`     // Above 0 if the session was written before, with the same end, and late visits changed it.
}

// MarshalJSON writes times as RFC 3339 and the amount as a decimal number in a string. A revision
// of 0 is left out. JSON holds text only: a customer that is not UTF-8 is there twice, readable in
// "customer" and as base64 of the bytes in "customer_bytes", so that no two become one.
func (s Session) MarshalJSON() ([]byte, error) {
	var raw []byte
	if !utf8.ValidString(s.Customer) {
		raw = []byte(s.Customer)
	}
	return json.Marshal(struct {
		Customer     string `json:"customer"`
		Bytes        []byte `json:"customer_bytes,omitempty"`
		Start        string `json:"start"`
		End          string `json:"end"`
		Transactions int64  `json:"transactions"`
		Amount       string `json:"amount"`
		Revision     int64  `json:"revision,omitempty"`
	}{s.Customer, raw, instant(s.Start), instant(s.End), s.Transactions, Amount(s.Cents), s.Revision})
}

func instant(millis int64) string { return time.UnixMilli(millis).UTC().Format(time.RFC3339Nano) }

// Amount is cents as a decimal number with two places.
func Amount(cents int64) string {
	sign := ""
	if cents < 0 {
		sign = "-"
	}
	whole, part := cents/100, cents%100
	return fmt.Sprintf("%s%d.%02d", sign, max(whole, -whole), max(part, -part))
}

// Span is a session without a name: the visits with index First up to, but without, Last.
type Span struct{ First, Last int }

// Of divides sorted times, in ms, into sessions.
func Of(times []int64, gap time.Duration) []Span {
	var spans []Span
	for i, t := range times {
		if i == 0 || begins(times[i-1], t, gap) {
			spans = append(spans, Span{First: i})
		}
		spans[len(spans)-1].Last = i + 1
	}
	return spans
}

// begins says whether a visit is so long after the one before it that it begins a session.
func begins(before, t int64, gap time.Duration) bool { return t-before >= gap.Milliseconds() }
