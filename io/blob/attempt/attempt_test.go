// SPDX-License-Identifier: Apache-2.0

package attempt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/log"
	"github.com/google/go-cmp/cmp"
)

var (
	errTransient = errors.New("transient")
	errUnknown   = errors.New("unknown")
	errPermanent = errors.New("permanent")
)

func classify(err error) Outcome {
	switch err {
	case errTransient:
		return Transient
	case errUnknown:
		return Unknown
	}
	return Permanent
}

// What each answer leads to: t repeats, u looks and then repeats, p ends.
func TestDo(t *testing.T) {
	tests := []struct {
		name    string
		answers []error
		found   []any // What looking says: a bool or an error.
		want    bool
		wantErr error
		tries   int
		looks   int
	}{
		{"done", []error{nil}, nil, false, nil, 1, 0},
		{"transient is repeated without looking", []error{errTransient, errTransient, nil}, nil, false, nil, 3, 0},
		{"permanent ends", []error{errTransient, errPermanent}, nil, false, errPermanent, 2, 0},
		{"unknown and there", []error{errUnknown}, []any{true}, true, nil, 1, 1},
		{"unknown and not there", []error{errUnknown, errUnknown, nil}, []any{false, false}, false, nil, 3, 2},
		{"looking fails", []error{errUnknown}, []any{errPermanent}, false, errPermanent, 1, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tries, looks := 0, 0
			l := Loop{Classify: classify, First: 1, Most: 1}
			got, err := l.Do(t.Context(), "test", time.Minute, func(context.Context) error {
				tries++
				return test.answers[tries-1]
			}, func(context.Context) (bool, error) {
				looks++
				switch answer := test.found[looks-1].(type) {
				case error:
					return false, answer
				case bool:
					return answer, nil
				}
				panic("neither")
			})
			if !errors.Is(err, test.wantErr) {
				t.Errorf("got error %v, want %v", err, test.wantErr)
			}
			if diff := cmp.Diff([]any{test.want, test.tries, test.looks}, []any{got, tries, looks}); diff != "" {
				t.Errorf("found, tries, looks (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDoEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	l := Loop{Classify: classify, First: time.Hour, Most: time.Hour}
	_, err := l.Do(ctx, "test", 0, func(context.Context) error {
		cancel(stop)
		return errTransient
	}, nil)
	if !errors.Is(err, stop) || !errors.Is(err, errTransient) {
		t.Errorf("got error %v, want both %v and the last answer", err, stop)
	}
}

func TestDoTakesALateAnswerAsUnknown(t *testing.T) {
	l := Loop{Classify: classify, First: 1, Most: 1}
	got, err := l.Do(t.Context(), "test", time.Millisecond, func(ctx context.Context) error {
		<-ctx.Done()
		return errPermanent
	}, func(context.Context) (bool, error) { return true, nil })
	if err != nil || !got {
		t.Errorf("got %v, %v, want true", got, err)
	}
}

// body gives its text, and then an error, or nothing until ctx ends.
type body struct {
	ctx  context.Context
	shut bool // Its connection is not answered.
	late bool // The text comes when ctx has ended.
	text string
	end  error
}

func (b *body) Read(p []byte) (int, error) {
	if b.late {
		<-b.ctx.Done()
	}
	if n := copy(p, b.text); n > 0 {
		b.text = b.text[n:]
		return n, nil
	}
	if b.end != nil {
		return 0, b.end
	}
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

func (b *body) Close() error { return nil }

func TestReaderGoesOn(t *testing.T) {
	tests := []struct {
		name    string
		bodies  []body // Of the connections, in order.
		want    string
		offsets []int64
		err     error
	}{
		{"at once", []body{{text: "abc", end: io.EOF}}, "abc", []int64{1}, nil},
		{"after it broke", []body{{text: "ab", end: errUnknown}, {end: errTransient}, {text: "c", end: io.EOF}}, "abc", []int64{1, 3, 3}, nil},
		{"after no answer came", []body{{shut: true}, {text: "ab", end: errUnknown}, {shut: true}, {text: "c", end: io.EOF}}, "abc", []int64{1, 1, 3, 3}, nil},
		{"after bytes came too late", []body{{text: "a", late: true}, {text: "bc", end: io.EOF}}, "abc", []int64{1, 2}, nil},
		{"after nothing came", []body{{text: "a"}, {text: "bc", end: io.EOF}}, "abc", []int64{1, 2}, nil},
		{"not when the bytes are wrong", []body{{text: "abc", end: errPermanent}}, "abc", []int64{1}, errPermanent},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, offsets, err := read(t, test.bodies)
				if got != test.want || !errors.Is(err, test.err) {
					t.Errorf("got %q, %v, want %q, %v", got, err, test.want, test.err)
				}
				if diff := cmp.Diff(test.offsets, offsets); diff != "" {
					t.Errorf("offsets (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// read reads from offset 1 what the connections give, one after the other, and returns where each began.
func read(t *testing.T, bodies []body) (got string, offsets []int64, err error) {
	t.Helper()
	r, err := Loop{Classify: classify, First: time.Second, Most: time.Minute}.Reader(t.Context(), Source{
		What: "test", Timeout: time.Minute,
		Open: func(ctx context.Context, offset int64) (io.ReadCloser, error) {
			b := bodies[len(offsets)]
			offsets = append(offsets, offset)
			if b.shut {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			b.ctx = ctx
			return &b, nil
		},
		Fail: func(err error) error { return fmt.Errorf("failed: %w", err) },
	}, 1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	return string(b), offsets, err
}

// logged is what was logged.
type logged []string

func (l *logged) Log(_ context.Context, _ log.Severity, _ int, text string) { *l = append(*l, text) }

func TestReaderSaysThatItGetsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said logged
		log.SetLogger(&said)
		t.Cleanup(func() { log.SetLogger(&log.Structural{}) })
		bodies := slices.Repeat([]body{{end: errUnknown}}, 10)
		got, _, err := read(t, append(bodies, body{text: "abc", end: io.EOF}))
		if got != "abc" || err != nil {
			t.Errorf("got %q, %v, want all", got, err)
		}
		want := logged{
			"test: still trying after 4 connections that gave nothing: unknown",
			"test: still trying after 8 connections that gave nothing: unknown",
		}
		if diff := cmp.Diff(want, said); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}
