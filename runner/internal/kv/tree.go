// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"bytes"
	"slices"
	"sort"
)

const maxNode = 32 // Entries of a node; a fuller one is split.

// node is a node of a B+ tree: a leaf has pairs, an inner node has children, and lows[i] bounds the
// keys of children[i] from below (lows[0] is not looked at). Nodes are changed only by the
// transaction that made them; others copy first.
//
// Deleting does not rebalance, it only drops empty nodes: tables of tests are small, and queues
// empty whole nodes anyway.
type node struct {
	owner    *owner
	pairs    []pair
	lows     [][]byte
	children []*node
}

// owner is the identity of the transaction that may change a node. It has a size so that two
// owners have two addresses.
type owner struct{ _ byte }

type pair struct{ key, value []byte }

func (n *node) get(key []byte) ([]byte, bool) {
	for n.children != nil {
		n = n.children[n.child(key)]
	}
	if i, found := n.search(key); found {
		return n.pairs[i].value, true
	}
	return nil, false
}

// scan reports whether visit wants more.
func (n *node) scan(from, to []byte, visit func(key, value []byte) bool) bool {
	if n.children == nil {
		i, _ := n.search(from)
		for ; i < len(n.pairs); i++ {
			if to != nil && bytes.Compare(n.pairs[i].key, to) >= 0 {
				return false
			}
			if !visit(n.pairs[i].key, n.pairs[i].value) {
				return false
			}
		}
		return true
	}
	for i := n.child(from); i < len(n.children); i++ {
		if !n.children[i].scan(from, to, visit) {
			return false
		}
	}
	return true
}

// set returns the tree with p in it.
func (n *node) set(o *owner, p pair) *node {
	n = n.own(o)
	n.insert(o, p)
	if n.full() {
		low, right := n.split()
		n = &node{owner: o, lows: [][]byte{nil, low}, children: []*node{n, right}}
	}
	return n
}

func (n *node) insert(o *owner, p pair) {
	if n.children == nil {
		i, found := n.search(p.key)
		if found {
			n.pairs[i] = p
		} else {
			n.pairs = slices.Insert(n.pairs, i, p)
		}
		return
	}
	i := n.child(p.key)
	child := n.children[i].own(o)
	n.children[i] = child
	child.insert(o, p)
	if child.full() {
		low, right := child.split()
		n.lows = slices.Insert(n.lows, i+1, low)
		n.children = slices.Insert(n.children, i+1, right)
	}
}

// delete returns the tree without key.
func (n *node) delete(o *owner, key []byte) *node {
	if _, ok := n.get(key); !ok {
		return n
	}
	n = n.own(o)
	n.remove(o, key)
	for len(n.children) == 1 {
		n = n.children[0]
	}
	if n.children != nil && len(n.children) == 0 {
		return new(node)
	}
	return n
}

// remove takes out key, which is there, and reports whether n is empty now.
func (n *node) remove(o *owner, key []byte) bool {
	if n.children == nil {
		i, _ := n.search(key)
		n.pairs = slices.Delete(n.pairs, i, i+1)
		return len(n.pairs) == 0
	}
	i := n.child(key)
	child := n.children[i].own(o)
	n.children[i] = child
	if child.remove(o, key) {
		n.lows = slices.Delete(n.lows, i, i+1)
		n.children = slices.Delete(n.children, i, i+1)
	}
	return len(n.children) == 0
}

// own returns a node with the content of n that o may change.
func (n *node) own(o *owner) *node {
	if n.owner == o {
		return n
	}
	c := &node{owner: o}
	if n.children == nil {
		c.pairs = append(make([]pair, 0, len(n.pairs)+1), n.pairs...)
		return c
	}
	c.lows = append(make([][]byte, 0, len(n.lows)+1), n.lows...)
	c.children = append(make([]*node, 0, len(n.children)+1), n.children...)
	return c
}

func (n *node) full() bool { return len(n.pairs) > maxNode || len(n.children) > maxNode }

// split moves the upper half of n to a new node.
func (n *node) split() (low []byte, right *node) {
	right = &node{owner: n.owner}
	if n.children == nil {
		at := len(n.pairs) / 2
		right.pairs = append(make([]pair, 0, maxNode+1), n.pairs[at:]...)
		clear(n.pairs[at:])
		n.pairs = n.pairs[:at]
		return right.pairs[0].key, right
	}
	at := len(n.children) / 2
	right.lows = append(make([][]byte, 0, maxNode+1), n.lows[at:]...)
	right.children = append(make([]*node, 0, maxNode+1), n.children[at:]...)
	clear(n.lows[at:])
	clear(n.children[at:])
	n.lows, n.children = n.lows[:at], n.children[:at]
	return right.lows[0], right
}

// child returns the place of the child that has the keys around key.
func (n *node) child(key []byte) int {
	return sort.Search(len(n.lows)-1, func(i int) bool { return bytes.Compare(n.lows[i+1], key) > 0 })
}

func (n *node) search(key []byte) (int, bool) {
	return slices.BinarySearchFunc(n.pairs, key, func(p pair, key []byte) int {
		return bytes.Compare(p.key, key)
	})
}
