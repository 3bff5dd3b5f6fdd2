// SPDX-License-Identifier: Apache-2.0

// Package triggertest reads the trigger expressions of specs, such as
// repeat(afterAny(count(3), delay(5s))). Only tests use it.
package triggertest

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// Parse reads a trigger: default, never, always, count(n), delay(5s), align(60s) or
// align(60s+5s), synchronized, end, end(early=…, late=…), afterAll(…), afterAny(…), afterEach(…),
// orFinally(main, until), repeat(…).
func Parse(text string) (plan.Trigger, error) {
	name, inside, _ := strings.Cut(strings.TrimSpace(text), "(")
	var args []string
	if inside != "" {
		args = split(strings.TrimSuffix(inside, ")"))
	}
	kinds := map[string]plan.TriggerKind{
		"default": plan.Default, "never": plan.Never, "always": plan.Always, "count": plan.ElementCount,
		"delay": plan.AfterProcessingTime, "align": plan.AfterProcessingTime,
		"synchronized": plan.AfterSynchronizedProcessingTime, "end": plan.AfterEndOfWindow,
		"afterAll": plan.AfterAll, "afterAny": plan.AfterAny, "afterEach": plan.AfterEach,
		"orFinally": plan.OrFinally, "repeat": plan.Repeat,
	}
	kind, ok := kinds[name]
	if !ok {
		return plan.Trigger{}, fmt.Errorf("unknown trigger %q", text)
	}
	t := plan.Trigger{Kind: kind}
	for _, arg := range args {
		if err := apply(&t, name, arg); err != nil {
			return t, err
		}
	}
	return t, nil
}

func apply(t *plan.Trigger, name, arg string) (err error) {
	switch name {
	case "count":
		t.Count, err = strconv.ParseInt(arg, 10, 64)
		return err
	case "delay":
		d, err := time.ParseDuration(arg)
		t.Delays = append(t.Delays, plan.TimestampDelay{Delay: d})
		return err
	case "align":
		period, offset, _ := strings.Cut(arg, "+")
		d := plan.TimestampDelay{}
		if d.Period, err = time.ParseDuration(period); err == nil && offset != "" {
			d.Offset, err = time.ParseDuration(offset)
		}
		t.Delays = append(t.Delays, d)
		return err
	}
	_, expression, found := strings.Cut(arg, "=")
	if name != "end" || !found {
		expression = arg
	} else if head := arg[:strings.Index(arg, "=")]; head != "early" && head != "late" {
		return fmt.Errorf("end has no %q", head)
	}
	part, err := Parse(expression)
	switch {
	case name == "end" && strings.HasPrefix(arg, "early="):
		t.Early = &part
	case name == "end" && strings.HasPrefix(arg, "late="):
		t.Late = &part
	default:
		t.Parts = append(t.Parts, part)
	}
	return err
}

// split cuts s at the commas that are not inside parentheses.
func split(s string) (parts []string) {
	depth, from := 0, 0
	for i, c := range s {
		switch {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			parts = append(parts, strings.TrimSpace(s[from:i]))
			from = i + 1
		}
	}
	return append(parts, strings.TrimSpace(s[from:]))
}
