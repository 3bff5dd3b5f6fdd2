// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"os"
	"runtime/debug"
	"strings"
	"testing"
)

func TestPanicIsExplained(t *testing.T) {
	var err error
	func() {
		defer func() {
			err = errors.New("DoFn x: panic: " + recover().(string) + " " + string(debug.Stack()))
		}()
		panicking()
	}()
	text := explain(err)
	if strings.Contains(text, "goroutine ") || !strings.Contains(text, "DoFn x: panic: not liked\n") || !strings.Contains(text, "launch.panicking") {
		t.Errorf("got %q", text)
	}
	_, name, _ := strings.Cut(text, "the stack is in ")
	defer os.Remove(name)
	if stack, err := os.ReadFile(name); err != nil || !strings.Contains(string(stack), "goroutine ") {
		t.Errorf("the file %q has no stack: %v", name, err)
	}
}

//go:noinline
func panicking() { panic("not liked") }

func TestOrdinaryErrorStaysAsItIs(t *testing.T) {
	if got := explain(errors.New("no such topic")); got != "no such topic" {
		t.Errorf("got %q", got)
	}
}

func TestNumbersForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567"} {
		if got := group(n); got != want {
			t.Errorf("%d is written %s, want %s", n, got, want)
		}
	}
	for n, want := range map[uint64]string{5: "5 B", 1000: "1 kB", 156_500_000: "156.5 MB"} {
		if got := size(n); got != want {
			t.Errorf("%d bytes are written %s, want %s", n, got, want)
		}
	}
}
