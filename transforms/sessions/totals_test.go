// SPDX-License-Identifier: Apache-2.0

package sessions

import (
	"bytes"
	"testing"
)

func FuzzTotals(f *testing.F) {
	f.Add(encodeTotals(Totals{-5, 9, 3, -100}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		totals, err := decodeTotals(b)
		if err != nil {
			return
		}
		again, err := decodeTotals(encodeTotals(totals))
		if err != nil || again != totals {
			t.Errorf("got %+v, %v; want %+v", again, err, totals)
		}
		if len(encodeTotals(totals)) > len(b) && !bytes.Equal(encodeTotals(totals), b) {
			t.Errorf("encoding of %+v is longer than one that decodes to it", totals)
		}
	})
}
