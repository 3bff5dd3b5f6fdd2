// SPDX-License-Identifier: Apache-2.0

package attempt

import (
	"context"
	"errors"
	"testing"
	"time"

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
