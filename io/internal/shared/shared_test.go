// SPDX-License-Identifier: Apache-2.0

package shared

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// thing is what a test shares.
type thing struct{ closed bool }

func newThings() *Pool[string, *thing] {
	return NewPool(func(_ context.Context, key string) (*thing, error) {
		if key == "" {
			return nil, errors.New("no key")
		}
		return &thing{}, nil
	}, func(t *thing) { t.closed = true })
}

// A value is closed some time after its last user, and not between two bundles.
func TestValueIsClosedAfterItsLastUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newThings()
		acquire := func() (*thing, func()) {
			t.Helper()
			v, release, err := p.Acquire(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			return v, release
		}
		wait := func(d time.Duration) {
			<-time.After(d)
			synctest.Wait() // For what was due meanwhile.
		}
		first, release1 := acquire()
		second, release2 := acquire()
		if second != first {
			t.Error("two users have two values")
		}
		release1()
		wait(2 * Keep)
		if first.closed {
			t.Fatal("the value is closed while somebody uses it")
		}
		release2()
		wait(Keep - 1)
		third, release3 := acquire()
		wait(2 * Keep)
		if third != first || first.closed {
			t.Errorf("a user that comes soon has another value, or a closed one (%v)", first.closed)
		}
		release3()
		wait(2 * Keep)
		if _, known := p.Known("a"); known || !first.closed {
			t.Errorf("a value that nobody uses is known (%v), or not closed (%v)", known, !first.closed)
		}
		if fourth, release := acquire(); fourth == first {
			t.Error("a closed value is used again")
		} else {
			release()
		}
		wait(2 * Keep)
	})
}

func TestKeysAreApart(t *testing.T) {
	p := newThings()
	a, _, _ := p.Acquire(t.Context(), "a")
	b, _, _ := p.Acquire(t.Context(), "b")
	if a == b {
		t.Error("two keys have one value")
	}
	if known, ok := p.Known("b"); !ok || known != b {
		t.Errorf("got %v, %v, want the value of the key", known, ok)
	}
}

func TestWhatCannotBeOpenedIsNotKept(t *testing.T) {
	p := newThings()
	if _, _, err := p.Acquire(t.Context(), ""); err == nil {
		t.Error("got no error, want that of open")
	}
	if _, known := p.Known(""); known {
		t.Error("it is known nevertheless")
	}
}
