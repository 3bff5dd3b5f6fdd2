// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxKey is the longest key in bytes that all stores take.
const MaxKey = 1024

// CheckKey refuses a key that not every store could hold as one object: one that is empty, longer than 1,024
// bytes, not UTF-8, with control characters, with an empty part, ".", ".." or the name of a temporary file.
func CheckKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("blob: the key is empty")
	case len(key) > MaxKey:
		return fmt.Errorf("blob: key %.40q… has %d bytes: at most %d are allowed", key, len(key), MaxKey)
	case !utf8.ValidString(key):
		return fmt.Errorf("blob: key %q is not UTF-8", key)
	case strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("blob: key %q holds a control character", key)
	}
	for part := range strings.SplitSeq(key, "/") {
		switch {
		case part == "":
			return fmt.Errorf("blob: key %q has an empty part: it must not begin or end with a slash, or hold two in a row", key)
		case part == "." || part == "..":
			return fmt.Errorf("blob: key %q has the part %q, which is no name", key, part)
		case isSpool(part):
			return fmt.Errorf("blob: key %q has the part %q, which is the name of a temporary file", key, part)
		}
	}
	return nil
}
