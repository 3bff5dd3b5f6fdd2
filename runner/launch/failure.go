// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// stack begins what the Go runtime writes of a goroutine that has panicked.
var stack = regexp.MustCompile(`\s*goroutine \d+ \[`)

// explain is an error for a person at a terminal. Of a panic it says what and where; the stack
// goes into a file, which it names.
func explain(err error) string {
	text := err.Error()
	at := stack.FindStringIndex(text)
	if at == nil {
		return text
	}
	short := text[:at[0]]
	if place := panicked(text[at[0]:]); place != "" {
		short += "\n  at " + place
	}
	file, createErr := os.CreateTemp("", "hornbeam-panic-*.txt")
	if createErr != nil {
		return text
	}
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
		return text
	}
	return fmt.Sprintf("%s\n  the stack is in %s", short, file.Name())
}

// panicked returns function, file and line of the call that has panicked: the one after the
// runtime's own.
func panicked(stack string) string {
	lines := strings.Split(stack, "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, "panic(") || i+3 >= len(lines) {
			continue
		}
		function, _, _ := strings.Cut(lines[i+2], "(0x")
		place, _, _ := strings.Cut(strings.TrimSpace(lines[i+3]), " +0x")
		return function + ", " + place
	}
	return ""
}
