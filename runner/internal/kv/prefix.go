// SPDX-License-Identifier: Apache-2.0

package kv

// Prefixed reads the part of base whose keys begin with prefix, which its own keys leave out.
// Closing it closes base.
func Prefixed(base View, prefix []byte) View { return prefixed{base, prefix} }

type prefixed struct {
	View
	prefix []byte
}

func (p prefixed) at(key []byte) []byte {
	return append(append(make([]byte, 0, len(p.prefix)+len(key)), p.prefix...), key...)
}

func (p prefixed) Get(key []byte) ([]byte, bool) { return p.View.Get(p.at(key)) }

func (p prefixed) Scan(from, to []byte, visit func(key, value []byte) bool) {
	end := PrefixEnd(p.prefix)
	if to != nil {
		end = p.at(to)
	}
	p.View.Scan(p.at(from), end, func(key, value []byte) bool {
		return visit(key[len(p.prefix):], value)
	})
}
