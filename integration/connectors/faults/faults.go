// SPDX-License-Identifier: Apache-2.0

// Package faults stands between a client and a service that speaks HTTP, and does what networks and busy services do.
package faults

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"
)

// Kind is what can happen to a request.
type Kind string

// The kinds.
const (
	Lost      Kind = "lost"      // The service does it; the connection is closed without an answer.
	Late      Kind = "late"      // The service does it; the answer comes after Delay.
	Failed    Kind = "failed"    // Status 500; the service has done it half of the times.
	Refused   Kind = "refused"   // Busy answers; the service has done nothing.
	Reset     Kind = "reset"     // The connection is reset before the service has it.
	Severed   Kind = "severed"   // Half of the body of the request reaches the service.
	Torn      Kind = "torn"      // Half of the body of the answer reaches the client.
	Untouched Kind = "untouched" // None of them.
)

// kinds in the order in which their rates are added up.
var kinds = []Kind{Lost, Late, Failed, Refused, Reset, Severed, Torn}

// Plan says how often what happens.
type Plan struct {
	Seed  uint64
	Rates map[Kind]float64 // Of all requests, from 0 to 1; their sum is at most 1.
	Delay time.Duration    // Of Late: longer than the client waits.
	Busy  http.HandlerFunc // The answer of Refused.
}

// Proxy passes requests to a service, or not.
type Proxy struct {
	URL string // http://HOST:PORT, without a slash at the end.

	plan      Plan
	target    *url.URL
	transport *http.Transport

	mu     sync.Mutex // Guards what follows.
	random *rand.Rand
	counts map[Kind]int
	calm   bool
}

// Start starts a proxy in front of a service, and stops it when the test ends.
func Start(t testing.TB, service string, plan Plan) *Proxy {
	t.Helper()
	target, err := url.Parse(service)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{
		plan: plan, target: target, random: rand.New(rand.NewPCG(plan.Seed, 0)), counts: map[Kind]int{},
		transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
	}
	srv := httptest.NewServer(p)
	p.URL = srv.URL
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		p.transport.CloseIdleConnections()
	})
	return p
}

// Counts returns how often what has happened.
func (p *Proxy) Counts() map[Kind]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := map[Kind]int{}
	for k, n := range p.counts {
		counts[k] = n
	}
	return counts
}

// Calm ends all faults.
func (p *Proxy) Calm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calm = true
}

// draw decides what happens to a request; first is a fair coin.
func (p *Proxy) draw() (kind Kind, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kind = Untouched
	at, coin := p.random.Float64(), p.random.IntN(2) == 0
	for _, k := range kinds {
		if at -= p.plan.Rates[k]; at < 0 {
			kind = k
			break
		}
	}
	if p.calm {
		kind = Untouched
	}
	p.counts[kind]++
	return kind, coin
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind, coin := p.draw()
	switch kind {
	case Refused:
		io.Copy(io.Discard, r.Body)
		p.plan.Busy(w, r)
		return
	case Reset:
		reset(w)
		return
	case Severed:
		r.Body = &half{ReadCloser: r.Body, left: r.ContentLength / 2}
	}
	if kind == Failed && coin {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	response, err := p.pass(r, kind)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer response.Body.Close()
	switch kind {
	case Failed:
		io.Copy(io.Discard, response.Body)
		w.WriteHeader(http.StatusInternalServerError)
		return
	case Lost, Severed:
		io.Copy(io.Discard, response.Body)
		panic(http.ErrAbortHandler)
	case Late:
		timer := time.NewTimer(p.plan.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	for name, values := range response.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(response.StatusCode)
	if kind == Torn {
		io.CopyN(w, response.Body, response.ContentLength/2)
		panic(http.ErrAbortHandler)
	}
	if _, err := io.Copy(w, response.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// pass asks the service. What it has begun to do it does to the end, though the client has gone.
func (p *Proxy) pass(r *http.Request, kind Kind) (*http.Response, error) {
	out := r.Clone(context.WithoutCancel(r.Context()))
	out.URL.Scheme, out.URL.Host = p.target.Scheme, p.target.Host
	out.RequestURI = ""
	// Host stays: signatures and addresses in answers are of it.
	if r.ContentLength == 0 {
		out.Body = nil
	}
	out.Header.Del("Expect") // The body is here already, or will be.
	return p.transport.RoundTrip(out)
}

// reset closes the connection of a request so that the client sees it reset.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// half is a body that breaks off.
type half struct {
	io.ReadCloser
	left int64
}

func (h *half) Read(p []byte) (int, error) {
	if h.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := h.ReadCloser.Read(p[:min(int64(len(p)), h.left)])
	h.left -= int64(n)
	return n, err
}
