// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

func TestIn(t *testing.T) {
	for offset := range 7 {
		text := strings.Repeat("x", offset) + Secret + "yz"
		for level := range 3 {
			if !In([]byte("some " + text + " text")) {
				t.Errorf("offset %d: the secret is not found in base64 of base64, level %d: %s", offset, level, text)
			}
			text = base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s%s", strings.Repeat("-", offset%3), text))
		}
	}
	if In([]byte("canary-4711, which is no secret")) {
		t.Error("a secret is found where none is")
	}
}
