// SPDX-License-Identifier: Apache-2.0

package planner

import (
	"fmt"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/urn"
	"google.golang.org/protobuf/proto"
)

// maxCoderParts bounds a coder written out as a tree: shared parts make trees exponential.
const maxCoderParts = 10_000

// coders are the coders of a pipeline and those that planning adds.
type coders struct {
	all  map[string]*pipepb.Coder
	wire map[string]string // From a coder's ID to that of its form on the wire.
}

func newCoders(given map[string]*pipepb.Coder) *coders {
	c := &coders{all: map[string]*pipepb.Coder{}, wire: map[string]string{}}
	for id, m := range given {
		c.all[id] = m
	}
	return c
}

// arity says how many parts the coders have that the runner looks into.
var arity = map[string]int{
	urn.CoderKV:           2,
	urn.CoderIterable:     1,
	urn.CoderNullable:     1,
	urn.CoderLengthPrefix: 1,
	urn.CoderTimer:        2,
}

// check verifies that all coders are there, have the parts they need and do not contain
// themselves.
func (c *coders) check() error {
	sizes := map[string]int{}
	const visiting = -1
	var size func(id string) (int, error)
	size = func(id string) (int, error) {
		switch n := sizes[id]; {
		case n == visiting:
			return 0, malformed("coder %q contains itself", id)
		case n > 0:
			return n, nil
		}
		m, ok := c.all[id]
		if !ok {
			return 0, malformed("coder %q does not exist", id)
		}
		if n, ok := arity[m.GetSpec().GetUrn()]; ok && n != len(m.GetComponentCoderIds()) {
			return 0, malformed("coder %q has %d parts, not %d", id, len(m.GetComponentCoderIds()), n)
		}
		sizes[id] = visiting
		total := 1
		for _, part := range m.GetComponentCoderIds() {
			n, err := size(part)
			if err != nil {
				return 0, err
			}
			total += n
			if total > maxCoderParts {
				return 0, malformed("coder %q has more than %d parts", id, maxCoderParts)
			}
		}
		sizes[id] = total
		return total, nil
	}
	for _, id := range sorted(c.all) {
		if _, err := size(id); err != nil {
			return err
		}
	}
	return nil
}

func (c *coders) urn(id string) string      { return c.all[id].GetSpec().GetUrn() }
func (c *coders) parts(id string) []string  { return c.all[id].GetComponentCoderIds() }
func (c *coders) is(id, wanted string) bool { return c.urn(id) == wanted }

// add adds a coder under an ID that starts with id and returns the ID. The same coder is not added
// twice.
func (c *coders) add(id, urn string, parts ...string) string {
	m := &pipepb.Coder{Spec: &pipepb.FunctionSpec{Urn: urn}, ComponentCoderIds: parts}
	return c.put(id, m)
}

func (c *coders) put(id string, m *pipepb.Coder) string {
	for {
		other, taken := c.all[id]
		if !taken {
			c.all[id] = m
			return id
		}
		if proto.Equal(other, m) {
			return id
		}
		id += "'"
	}
}

// onWire returns the ID of the coder that elements have between SDK and runner: the same, with
// every part that the runner cannot skip in a length prefix.
func (c *coders) onWire(id string) string {
	if w, ok := c.wire[id]; ok {
		return w
	}
	w := id
	switch c.urn(id) {
	case urn.CoderKV, urn.CoderIterable, urn.CoderNullable:
		m := c.all[id]
		changed := false
		parts := make([]string, len(m.GetComponentCoderIds()))
		for i, part := range m.GetComponentCoderIds() {
			parts[i] = c.onWire(part)
			changed = changed || parts[i] != part
		}
		if changed {
			w = c.put(id+"/wire", &pipepb.Coder{Spec: m.GetSpec(), ComponentCoderIds: parts})
		}
	default:
		if !coder.Known(coder.Coder{URN: c.urn(id)}) {
			w = c.add(id+"/wire", urn.CoderLengthPrefix, id)
		}
	}
	c.wire[id] = w
	return w
}

// prefixed returns the ID of a form of the coder that starts with the value's length.
func (c *coders) prefixed(id string) string {
	switch c.urn(id) {
	case urn.CoderBytes, urn.CoderString, urn.CoderLengthPrefix:
		return id
	}
	return c.add(id+"/prefixed", urn.CoderLengthPrefix, id)
}

// windowed returns the ID of the coder of windowed values.
func (c *coders) windowed(element, window string) string {
	return c.add(element+"/"+window, urn.CoderWindowedValue, element, window)
}

// tree returns the coder as the runner sees it. What is inside a length prefix stays hidden.
func (c *coders) tree(id string) coder.Coder {
	t := coder.Coder{URN: c.urn(id)}
	if t.URN == urn.CoderLengthPrefix {
		return t
	}
	for _, part := range c.parts(id) {
		t.Parts = append(t.Parts, c.tree(part))
	}
	return t
}

// same tells whether two coders write the same bytes.
func (c *coders) same(a, b string) bool {
	if a == b {
		return true
	}
	return c.form(a) == c.form(b)
}

// form writes a coder with all its parts, independent of the coders' IDs.
func (c *coders) form(id string) string {
	m := c.all[id]
	s := fmt.Sprintf("(%q %q", m.GetSpec().GetUrn(), m.GetSpec().GetPayload())
	for _, part := range m.GetComponentCoderIds() {
		s += " " + c.form(part)
	}
	return s + ")"
}

// collect copies into out the coders with the given IDs and all their parts.
func (c *coders) collect(out map[string]*pipepb.Coder, ids ...string) {
	for _, id := range ids {
		if _, done := out[id]; done || id == "" {
			continue
		}
		out[id] = c.all[id]
		c.collect(out, c.parts(id)...)
	}
}
