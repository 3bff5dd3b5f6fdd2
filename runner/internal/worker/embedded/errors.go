// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Error is what user code said when it failed a bundle. All texts are valid UTF-8: bytes that
// were not are escaped as \xNN.
type Error struct {
	Transform string // Its ID; empty if it is not known, as with a panic.
	Name      string // The unique name of the transform, or else of the stage.
	DoFn      string // The name of the DoFn, if known.
	Text      string // What the DoFn said.
}

// Error prints where it happened and what the DoFn said.
func (e *Error) Error() string {
	if e.DoFn == "" {
		return fmt.Sprintf("%s: %s", e.Name, e.Text)
	}
	return fmt.Sprintf("%s: DoFn %s: %s", e.Name, e.DoFn, e.Text)
}

// userError takes apart what the executor of the SDK returns: the DoFn's error is inside a dump
// of the whole plan, of a type that is not exported, behind a line that says where it is from.
func userError(s *stage, names map[string]string, err error) error {
	text := err.Error()
	e := &Error{Name: s.Name}
	const (
		head     = "DoFn[UID:"
		pid      = ", PID:"
		doFn     = ", Name: "
		end      = "] failed:\n"
		causedBy = "\n\tcaused by:\n"
		panicked = "panic: "
	)
	if _, rest, ok := strings.Cut(text, head); ok {
		where, cause, found := strings.Cut(rest, end)
		if _, ids, ok := strings.Cut(where, pid); ok && found {
			id, fn, _ := strings.Cut(ids, doFn)
			e.Transform, e.DoFn, e.Text = escape(id), escape(fn), escape(cause)
			if name := names[id]; name != "" {
				e.Name = escape(name)
			}
			return e
		}
	}
	if i := strings.LastIndex(text, causedBy); i >= 0 {
		text = text[i+len(causedBy):]
	}
	if i := strings.Index(text, panicked); i > 0 && strings.HasPrefix(err.Error(), panicked) {
		text = text[i:]
	}
	e.Text = escape(text)
	return e
}

// escape replaces bytes that are not UTF-8 by \xNN.
func escape(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, `\x%02x`, s[0])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}
