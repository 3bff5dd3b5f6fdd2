// SPDX-License-Identifier: Apache-2.0

package grouping

import (
	"encoding/binary"
	"fmt"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
)

// spill is values of a key in rows of their own: those numbered below rows of a chain.
type spill struct {
	chain bundle.ID // The bundle that began the chain.
	n     uint32    // Its number in that bundle.
	rows  uint32
	count int64 // Of values.
}

// spilled returns the number of values in all of them.
func spilled(spills []spill) (count int64) {
	for _, s := range spills {
		count += s.count
	}
	return count
}

// newSpill begins a chain.
func (p *pass) newSpill() spill {
	s := spill{chain: p.at.Bundle, n: p.chains}
	p.chains++
	return s
}

// extend puts values at the end of a chain.
func (p *pass) extend(key string, s *spill, values []byte, count int64) {
	s.count += count
	for len(values) > 0 {
		n := min(len(values), p.g.options.Row)
		p.set(p.spillName(key, *s, s.rows), values[:n:n])
		s.rows++
		values = values[n:]
	}
}

func chainOf(key string, s spill, rows uint32) bundle.Chain {
	b := make([]byte, 0, 1+binary.MaxVarintLen32+len(key)+24)
	b = binary.AppendUvarint(append(b, tableSpill), uint64(len(key)))
	b = append(b, key...)
	b = binary.BigEndian.AppendUint64(b, s.chain.Epoch)
	b = binary.BigEndian.AppendUint64(b, s.chain.N)
	return bundle.Chain{Prefix: binary.BigEndian.AppendUint32(b, s.n), Rows: rows}
}

func (p *pass) spillName(key string, s spill, n uint32) []byte { return chainOf(key, s, n+1).Row(n) }

// appendSpilled appends the values of a chain.
func (p *pass) appendSpilled(b []byte, key string, s spill) []byte {
	chain := chainOf(key, s, s.rows)
	for n := range s.rows {
		value, ok := p.view.Get(chain.Row(n))
		if !ok && p.view.Err() == nil {
			p.fail(fmt.Errorf("grouping: values %v of key %x are missing", s, key))
		}
		if !ok {
			return b
		}
		b = append(b, value...)
	}
	return b
}

// unspill removes the rows of all chains.
func (p *pass) unspill(key string, spills []spill) {
	for _, s := range spills {
		chain := chainOf(key, s, s.rows)
		for n := range s.rows {
			p.delete(chain.Row(n))
		}
	}
}

// kept is the name of the values in all chains.
func (p *pass) kept(key string, spills []spill) bundle.Kept {
	k := bundle.Kept{Stage: p.g.stage, Group: p.group}
	for _, s := range spills {
		k.Chains = append(k.Chains, chainOf(key, s, s.rows))
	}
	return k
}

// spillCell moves the inline values of a cell to rows of their own. A cell gets elements one by one,
// so its chain grows.
func (p *pass) spillCell(r *row, c *cell) {
	if len(c.spills) == 0 {
		c.spills = append(c.spills, p.newSpill())
	}
	p.extend(r.key, &c.spills[len(c.spills)-1], c.values, c.count-spilled(c.spills))
	c.values = nil
}

// drop removes all values of a cell.
func (p *pass) drop(r *row, c *cell) {
	p.unspill(r.key, c.spills)
	c.count, c.size, c.spills, c.values = 0, 0, nil, nil
}

func appendSpills(b []byte, spills []spill) []byte {
	b = binary.AppendUvarint(b, uint64(len(spills)))
	for _, s := range spills {
		b = binary.AppendUvarint(binary.AppendUvarint(b, s.chain.Epoch), s.chain.N)
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(s.n)), uint64(s.rows))
		b = binary.AppendUvarint(b, uint64(s.count))
	}
	return b
}

func readSpills(r *reader) (spills []spill) {
	for n := r.count(5); n > 0 && r.err == nil; n-- {
		spills = append(spills, spill{
			chain: bundle.ID{Epoch: r.uvarint(), N: r.uvarint()},
			n:     uint32(r.uvarint()), rows: uint32(r.uvarint()), count: int64(r.uvarint()),
		})
	}
	return spills
}
