// SPDX-License-Identifier: Apache-2.0

package iotest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
)

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "hornbeam") }

// source is the adapter of the connector in memory.
func source(f fault) Source {
	open := func(tb testing.TB, parts int) *Feed {
		name, s := newShelf(tb, parts)
		read := func() *readFn {
			fn := &readFn{Fault: f}
			if f == secretInModel {
				fn.Secret = []byte(canary)
			}
			return fn
		}
		return &Feed{
			Fill: func(_ testing.TB, records ...Record) {
				s.mu.Lock()
				defer s.mu.Unlock()
				for _, r := range records {
					s.parts[r.Partition] = append(s.parts[r.Partition], r)
				}
			},
			Read: func(scope beam.Scope, until Extent) (records, dead beam.PCollection) {
				spans := beam.ParDo(scope, &listFn{Shelf: name, Until: until}, beam.Impulse(scope))
				return beam.ParDo2(scope, read(), spans)
			},
			Splittable: func(_ testing.TB, until Extent) Splittable {
				out := Splittable{
					New:    func() any { return read() },
					Record: func(r any) Record { return r.(Record) },
					Dead:   func(d any) DeadLetter { return d.(DeadLetter) },
				}
				for _, p := range (&listFn{Shelf: name, Until: until}).list() {
					out.Elements = append(out.Elements, p)
				}
				return out
			},
			Fail: func(n int) { s.fails = n },
		}
	}
	return Source{
		Open: open, Keys: true, Headers: true, LargeMax: 100_000,
		Secured:  func(tb testing.TB, _ string) *Feed { return open(tb, 1) },
		Refusals: []Refusal{refusalOf(f)},
	}
}

func refusalOf(f fault) Refusal {
	return Refusal{Name: "no shelf", Want: []string{"build it first"}, Try: func(secret string) error {
		switch f {
		case vague:
			return errors.New("no")
		case refusesNothing:
			return nil
		case secretInError:
			return fmt.Errorf("shelf of %s: build it first", secret)
		}
		panic("there is no shelf; build it first")
	}}
}

// sink is the adapter of the sink in memory.
func sink(f fault) Sink {
	open := func(tb testing.TB) *Place {
		name, s := newShelf(tb, 1)
		return &Place{
			Write: func(scope beam.Scope, col beam.PCollection) beam.PCollection {
				fn := &writeFn{Shelf: name, Fault: f}
				if f == secretInModel {
					fn.Secret = []byte(canary)
				}
				return beam.ParDo(scope, fn, col)
			},
			Contents: func(testing.TB) []Record { return slices.Clone(s.parts[0]) },
			Fail:     func(n int) { s.fails = n },
			Break:    func(testing.TB) { s.broken = true },
			Want:     []string{"the shelf is broken; repair it"},
		}
	}
	return Sink{
		Open: open, Keys: true, Headers: true, Once: true, LargeMax: 100_000,
		Refused:  []Record{{Key: []byte("k"), Value: []byte(poison)}},
		Secured:  func(tb testing.TB, _ string) *Place { return open(tb) },
		Refusals: []Refusal{refusalOf(f)},
	}
}

func TestSourceWithoutFault(t *testing.T) { RunSource(t, source(none)) }

// A source that has no read for ever passes, too, and is not asked for one.
func TestSourceThatEndsWithoutFault(t *testing.T) {
	c := source(none)
	open := c.Open
	c.Ends = true
	c.Open = func(tb testing.TB, parts int) *Feed {
		f := open(tb, parts)
		read, splittable := f.Read, f.Splittable
		f.Read = func(s beam.Scope, until Extent) (records, dead beam.PCollection) {
			onlyToNow(tb, until)
			return read(s, until)
		}
		f.Splittable = func(tb testing.TB, until Extent) Splittable {
			onlyToNow(tb, until)
			return splittable(tb, until)
		}
		return f
	}
	RunSource(t, c)
}

func onlyToNow(tb testing.TB, until Extent) {
	tb.Helper()
	if until != ToNow {
		tb.Errorf("a source that ends is read %s", until)
	}
}

func TestSinkWithoutFault(t *testing.T) { RunSink(t, sink(none)) }

// recorder is a test that writes down what it is told, and cannot fail.
type recorder struct {
	testing.TB
	mu   sync.Mutex // Guards said.
	said strings.Builder
}

func (r *recorder) say(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintln(&r.said, text)
}

func (r *recorder) Helper()                           {}
func (r *recorder) Error(args ...any)                 { r.say(fmt.Sprint(args...)) }
func (r *recorder) Errorf(format string, args ...any) { r.say(fmt.Sprintf(format, args...)) }

// stop is the panic of a recorder that cannot go on.
type stop struct{}

func (r *recorder) Fatal(args ...any) {
	r.Error(args...)
	panic(stop{})
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	panic(stop{})
}

// report is what a check says.
func report(t *testing.T, check func(testing.TB)) string {
	t.Helper()
	r := &recorder{TB: t}
	func() {
		defer func() {
			if p := recover(); p != nil && p != any(stop{}) {
				panic(p)
			}
		}()
		check(r)
	}()
	return r.said.String()
}

// Each check can fail: it finds what is wrong with a connector, and says it.
func TestSourceFaultsAreFound(t *testing.T) {
	for _, c := range []struct {
		fault fault
		check func(testing.TB, Source)
		want  string
	}{
		{loses, checkEverything, "-"},
		{changesKey, checkEverything, "records (-want +got)"},
		{samePosition, checkEverything, "want one of its own"},
		{cutsLarge, checkLarge, "large"},
		{dropsPoison, checkPoison, "dead letters"},
		{samePosition, checkPoison, "want one of its own"},
		{givesUp, checkTransientFailure, "busy"},
		{repeats, checkCheckpointAnywhere, "+"},
		{repeats, checkSplitAnywhere, "+"},
		{loses, checkSplitAnywhere, "-"},
		{wantsSoon, checkCheckpointAnywhere, "after 10ms"},
		{inProcess, checkFailedBundle, "again"},
		{inProcess, checkRestart, "resumed"},
		{dropsPoison, checkRestart, "dead letters"},
		{watermarkBack, checkCheckpointAnywhere, "goes back"},
		{watermarkBack, checkWatermark, "goes back"},
		{watermarkAhead, checkWatermark, "it is late"},
		{neverIdle, checkIdlePartition, "does not follow the clock"},
		{leaksGoroutine, checkGoroutinesEnd, "have left"},
		{secretInModel, checkSecrets, "in the model"},
		{secretInLog, checkSecrets, "in the log"},
		{secretInError, checkSecrets, "in the error"},
		{vague, checkSourceRefusals, "does not say"},
		{refusesNothing, checkSourceRefusals, "not refused"},
		{secretInError, checkSourceRefusals, "has the secret"},
	} {
		t.Run(string(c.fault), func(t *testing.T) {
			if got := report(t, func(tb testing.TB) { c.check(tb, source(c.fault)) }); !strings.Contains(got, c.want) {
				t.Errorf("the suite says %q, want %q", got, c.want)
			}
		})
	}
}

func TestSinkFaultsAreFound(t *testing.T) {
	for _, c := range []struct {
		fault fault
		check func(testing.TB, Sink)
		want  string
	}{
		{loses, checkWritesEverything, "-"},
		{doublesOnRetry, checkBundleAgain, "+"},
		{givesUp, checkWriteTransientFailure, "busy"},
		{swallows, checkErrorsSurface, "not refused"},
		{losesRefused, checkWriteRefuses, "dead letters"},
		{refusesInSilent, checkWriteRefuses, "has no reason"},
		{secretInModel, checkWriteSecrets, "in the model"},
		{secretInError, checkWriteSecrets, "in the error"},
	} {
		t.Run(string(c.fault), func(t *testing.T) {
			if got := report(t, func(tb testing.TB) { c.check(tb, sink(c.fault)) }); !strings.Contains(got, c.want) {
				t.Errorf("the suite says %q, want %q", got, c.want)
			}
		})
	}
}

// A secret is found as text, in base64, and in base64 twice, wherever it begins.
func TestReveals(t *testing.T) {
	for _, before := range []string{"", "a", "ab", "abc"} {
		text := before + canary + "after"
		for range 3 {
			if !reveals(text, canary) {
				t.Errorf("the secret is not found in %q", text)
			}
			text = base64.StdEncoding.EncodeToString([]byte(text))
		}
	}
	if reveals("canary", canary) {
		t.Error("a secret is found that is not there")
	}
}

// Goroutines that end while others are left do not hide those.
func TestLeftGoroutinesAreNotHidden(t *testing.T) {
	var old []chan struct{}
	for range allUses {
		stop := make(chan struct{})
		go func() { <-stop }()
		old = append(old, stop)
	}
	left := make(chan struct{})
	defer close(left)
	got := report(t, func(tb testing.TB) {
		ends(tb, func() {
			close(old[0])
			old = old[1:]
			go func() { <-left }()
		})
	})
	if !strings.Contains(got, "have left") {
		t.Errorf("the suite says %q", got)
	}
}
