// SPDX-License-Identifier: Apache-2.0

package format

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/parquet-go/parquet-go"
)

// assembly puts the values of Parquet's columns together to the value of one column of ours.
type assembly struct {
	column      *Column
	first, last int // Its leaves are cursors from first up to, not with, last.
	nullable    bool
	definition  int // The level from which there is a value.
	element     int // Of List and Map: the definition level from which there is an element.
	repetition  int // Of List and Map: the level at which a further element begins.
	children    []*assembly
	set         func(v reflect.Value, value parquet.Value) error // Of single values.
}

func (a *assembly) read(cursors []cursor, v reflect.Value) error {
	next, ok, err := cursors[a.first].peek()
	if err != nil {
		return err
	}
	if !ok {
		_, err := cursors[a.first].next() // It says why there should be one.
		return err
	}
	if a.nullable && next.DefinitionLevel() < a.definition {
		if err := a.pass(cursors); err != nil {
			return err
		}
		return valued(a.column.setNull())
	}
	v = a.column.target(v)
	switch a.column.Kind {
	case Struct:
		for _, child := range a.children {
			if err := child.read(cursors, v.FieldByIndex(child.column.index)); err != nil {
				return fmt.Errorf("field %s: %w", child.column.Name, err)
			}
		}
		return nil
	case List, Map:
		if next.DefinitionLevel() < a.element {
			return a.pass(cursors)
		}
		return a.elements(cursors, v)
	}
	value, err := cursors[a.first].next()
	if err != nil {
		return err
	}
	return valued(a.set(v, value))
}

// valueError is an error of a value, and not of the file.
type valueError struct{ error }

func (e *valueError) Unwrap() error { return e.error }

func valued(err error) error {
	if err == nil {
		return nil
	}
	return &valueError{err}
}

// pass takes the one value that each leaf has for a null or an empty list.
func (a *assembly) pass(cursors []cursor) error {
	for i := a.first; i < a.last; i++ {
		if _, err := cursors[i].next(); err != nil {
			return err
		}
	}
	return nil
}

func (a *assembly) elements(cursors []cursor, v reflect.Value) error {
	if a.column.Kind == Map {
		v.Set(reflect.MakeMap(v.Type()))
	}
	for i := 0; ; i++ {
		elem := reflect.New(v.Type().Elem()).Elem()
		if a.column.Kind == Map {
			key := reflect.New(v.Type().Key()).Elem()
			if err := a.children[0].read(cursors, key); err != nil {
				return fmt.Errorf("key: %w", err)
			}
			if err := a.children[1].read(cursors, elem); err != nil {
				return fmt.Errorf("key %q: %w", key, err)
			}
			v.SetMapIndex(key, elem)
		} else {
			if err := a.children[0].read(cursors, elem); err != nil {
				return fmt.Errorf("element %d: %w", i, err)
			}
			v.Set(reflect.Append(v, elem))
		}
		next, more, err := cursors[a.first].peek()
		if err != nil || !more || next.RepetitionLevel() != a.repetition {
			return err
		}
	}
}

// levels are those of a node of a file's schema.
type levels struct{ definition, repetition int }

// assembler plans assemblies and collects the leaves that they need.
type assembler struct{ leaves []int }

// value plans a column that may be null.
func (p *assembler) value(n *parquet.Column, c *Column, l levels) (*assembly, error) {
	if n.Repeated() {
		return p.list(n, c, l)
	}
	if !n.Optional() {
		return p.present(n, c, l)
	}
	l.definition++
	a, err := p.present(n, c, l)
	if err != nil {
		return nil, err
	}
	a.nullable, a.definition = true, l.definition
	return a, nil
}

func (p *assembler) present(n *parquet.Column, c *Column, l levels) (*assembly, error) {
	switch {
	case c.Kind == Struct && !n.Leaf():
		return p.fields(n, c, l)
	case c.Kind == List && !n.Leaf() && len(n.Columns()) == 1 && n.Columns()[0].Repeated():
		return p.list(n.Columns()[0], c, l)
	case c.Kind == Map && !n.Leaf() && len(n.Columns()) == 1 && n.Columns()[0].Repeated() && len(n.Columns()[0].Columns()) == 2:
		return p.list(n.Columns()[0], c, l)
	case !n.Leaf():
		return nil, fmt.Errorf("the file has a group of columns, which is no value for a %v", c.typ)
	case c.Kind == Struct || c.Kind == List || c.Kind == Map:
		return nil, fmt.Errorf("the file has %s, which is no value for a %v", n.Type(), c.typ)
	}
	from := parquetScalar(n.Type())
	if err := c.accept(from); err != nil {
		return nil, err
	}
	a := &assembly{column: c, first: len(p.leaves), set: setterOf(c, from, n.Type().Kind())}
	p.leaves = append(p.leaves, n.Index())
	a.last = len(p.leaves)
	return a, nil
}

func (p *assembler) fields(n *parquet.Column, c *Column, l levels) (*assembly, error) {
	a := &assembly{column: c, first: len(p.leaves)}
	var errs []error
	for i := range c.Fields {
		f := &c.Fields[i]
		inner := n.Column(f.Name)
		if inner == nil {
			errs = append(errs, f.missing())
			continue
		}
		child, err := p.value(inner, f, l)
		if err != nil {
			errs = append(errs, fmt.Errorf("field %s: %w", f.Name, err))
			continue
		}
		a.children = append(a.children, child)
	}
	a.last = len(p.leaves)
	if a.first == a.last && len(errs) == 0 { // Without a leaf nobody knows whether it is there.
		errs = append(errs, errors.New("the file has none of its columns"))
	}
	return a, errors.Join(errs...)
}

// list plans a list or map by its repeated node. As the format's rules of compatibility say, an element is the one
// node in it, or the repeated node itself where that is older than these rules.
func (p *assembler) list(n *parquet.Column, c *Column, l levels) (*assembly, error) {
	if c.Kind != List && c.Kind != Map {
		return nil, fmt.Errorf("the file has a list, which is no value for a %v", c.typ)
	}
	l.definition++
	l.repetition++
	a := &assembly{column: c, first: len(p.leaves), element: l.definition, repetition: l.repetition}
	var plans []func() (*assembly, error)
	switch {
	case c.Kind == Map:
		key := &Column{Kind: String, typ: c.typ.Key()}
		plans = append(plans, func() (*assembly, error) { return p.value(n.Columns()[0], key, l) })
		plans = append(plans, func() (*assembly, error) { return p.value(n.Columns()[1], c.Elem, l) })
	case len(n.Columns()) == 1 && n.Name() != "array":
		plans = append(plans, func() (*assembly, error) { return p.value(n.Columns()[0], c.Elem, l) })
	default:
		plans = append(plans, func() (*assembly, error) { return p.present(n, c.Elem, l) })
	}
	for _, plan := range plans {
		child, err := plan()
		if err != nil {
			return nil, fmt.Errorf("elements: %w", err)
		}
		a.children = append(a.children, child)
	}
	a.last = len(p.leaves)
	return a, nil
}
