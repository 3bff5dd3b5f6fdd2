// SPDX-License-Identifier: Apache-2.0

// Package canary looks for a secret where none may be: in what programs say, keep and send.
package canary

import (
	"bytes"
	"encoding/base64"
	"slices"
)

// Secret is every secret of these tests. It may be where the user has put it, and nowhere else.
const Secret = "canary-4711-secret"

// In tells whether the secret is in a content.
func In(content []byte) bool { return TextIn(content, Secret) }

// TextIn tells whether a text is in a content, as it is or in base64, as DoFns are in a pipeline.
func TextIn(content []byte, text string) bool {
	forms := []string{text}
	for range 2 { // A DoFn may be in the base64 of another text.
		for _, form := range slices.Clone(forms) {
			forms = append(forms, inBase64(form)...)
		}
	}
	return slices.ContainsFunc(forms, func(form string) bool { return bytes.Contains(content, []byte(form)) })
}

// inBase64 returns what is sure to be in the base64 of any text with this one in it: it may begin at each of three places.
func inBase64(text string) []string {
	var forms []string
	for offset := range 3 {
		all := base64.RawStdEncoding.EncodeToString(append(make([]byte, offset), text...))
		first, end := (8*offset+5)/6, 8*(offset+len(text))/6
		forms = append(forms, all[first:end])
	}
	return forms
}
