// SPDX-License-Identifier: Apache-2.0

package format

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/twmb/avro"
)

// avroRead reads a datum into a field, and avroSkip passes over one. A datum that ends early makes the decoder bad.
type (
	avroRead func(d *decoder, v reflect.Value) error
	avroSkip func(d *decoder)
)

// avroSchemas reads data of one schema. Records that hold themselves are in it once.
type avroSchemas struct {
	named map[string]*avro.SchemaNode
	space map[*avro.SchemaNode]string // The namespace that a node is in, for names without one.
	skips map[*avro.SchemaNode]*avroSkip
}

// avroRows returns how the rows of a file are read and passed over.
func avroRows(root *avro.SchemaNode, columns []Column) (avroRead, avroSkip, error) {
	s := avroSchemas{named: map[string]*avro.SchemaNode{}, space: map[*avro.SchemaNode]string{}, skips: map[*avro.SchemaNode]*avroSkip{}}
	s.name(root, "")
	if root.Type != "record" {
		return nil, nil, fmt.Errorf("the rows of the file are no records but %s", root.Type)
	}
	read, err := s.record(root, columns)
	if err != nil {
		return nil, nil, err
	}
	return read, s.skip(root), nil
}

// name collects the named types, which are defined once and then referred to.
func (s avroSchemas) name(n *avro.SchemaNode, space string) {
	s.space[n] = space
	if n.Name != "" {
		space = n.Namespace
		s.named[qualified(n.Name, space)] = n
	}
	for i := range n.Fields {
		s.name(&n.Fields[i].Type, space)
	}
	for i := range n.Branches {
		s.name(&n.Branches[i], space)
	}
	for _, inner := range []*avro.SchemaNode{n.Items, n.Values} {
		if inner != nil {
			s.name(inner, space)
		}
	}
}

// resolve follows a reference.
func (s avroSchemas) resolve(n *avro.SchemaNode) *avro.SchemaNode {
	for _, name := range []string{qualified(n.Type, s.space[n]), n.Type} {
		if named, ok := s.named[name]; ok && n.Name == "" {
			return named
		}
	}
	return n
}

func qualified(name, space string) string {
	if space == "" || strings.Contains(name, ".") {
		return name
	}
	return space + "." + name
}

// record reads the fields in the order of the file.
func (s avroSchemas) record(n *avro.SchemaNode, columns []Column) (avroRead, error) {
	var errs []error
	for i := range columns {
		if !slices.ContainsFunc(n.Fields, func(f avro.SchemaField) bool { return f.Name == columns[i].Name }) {
			errs = append(errs, columns[i].missing())
		}
	}
	reads := make([]avroRead, len(n.Fields))
	for i := range n.Fields {
		typ := &n.Fields[i].Type
		at := slices.IndexFunc(columns, func(c Column) bool { return c.Name == n.Fields[i].Name })
		if at < 0 {
			skip := s.skip(typ)
			reads[i] = func(d *decoder, _ reflect.Value) error {
				skip(d)
				return nil
			}
			continue
		}
		c := &columns[at]
		read, err := s.value(typ, c)
		if err != nil {
			errs = append(errs, fmt.Errorf("field %s: %w", c.Name, err))
			continue
		}
		reads[i] = func(d *decoder, v reflect.Value) error {
			if err := read(d, v.FieldByIndex(c.index)); err != nil {
				return fmt.Errorf("field %s: %w", c.Name, err)
			}
			return nil
		}
	}
	return func(d *decoder, v reflect.Value) error {
		for _, read := range reads {
			if err := read(d, v); err != nil || d.bad {
				return err
			}
		}
		return nil
	}, errors.Join(errs...)
}

// value reads what may be null.
func (s avroSchemas) value(n *avro.SchemaNode, c *Column) (avroRead, error) {
	n = s.resolve(n)
	if n.Type == "null" {
		return func(*decoder, reflect.Value) error { return c.setNull() }, nil
	}
	if n.Type != "union" {
		read, err := s.present(n, c)
		return func(d *decoder, v reflect.Value) error { return read(d, c.target(v)) }, err
	}
	branches := make([]avroRead, len(n.Branches))
	for i := range n.Branches {
		var err error
		if branches[i], err = s.value(&n.Branches[i], c); err != nil {
			return nil, err
		}
	}
	return func(d *decoder, v reflect.Value) error {
		branch := d.long()
		if branch < 0 || branch >= int64(len(branches)) {
			d.fail()
			return nil
		}
		return branches[branch](d, v)
	}, nil
}

// present reads what is not null.
func (s avroSchemas) present(n *avro.SchemaNode, c *Column) (avroRead, error) {
	switch {
	case n.Type == "record" && c.Kind == Struct:
		return s.record(n, c.Fields)
	case n.Type == "array" && c.Kind == List:
		read, err := s.value(n.Items, c.Elem)
		return func(d *decoder, v reflect.Value) error {
			return d.blocks(func() error {
				elem := reflect.New(v.Type().Elem()).Elem()
				err := read(d, elem)
				v.Set(reflect.Append(v, elem))
				return err
			})
		}, err
	case n.Type == "map" && c.Kind == Map:
		read, err := s.value(n.Values, c.Elem)
		return func(d *decoder, v reflect.Value) error {
			return d.blocks(func() error {
				key := reflect.New(v.Type().Key()).Elem()
				key.SetString(string(d.bytes()))
				elem := reflect.New(v.Type().Elem()).Elem()
				err := read(d, elem)
				if v.IsNil() {
					v.Set(reflect.MakeMap(v.Type()))
				}
				v.SetMapIndex(key, elem)
				return err
			})
		}, err
	}
	return avroScalar(n, c)
}

var avroScalars = map[string]scalar{
	"boolean": {kind: Bool},
	"int":     {kind: Int, bits: 32},
	"long":    {kind: Int, bits: 64},
	"float":   {kind: Float, bits: 32},
	"double":  {kind: Float, bits: 64},
	"string":  {kind: String},
	"enum":    {kind: String},
	"bytes":   {kind: Bytes},
	"fixed":   {kind: Bytes},
}

var avroUnits = map[string]time.Duration{
	"timestamp-millis": time.Millisecond, "local-timestamp-millis": time.Millisecond,
	"timestamp-micros": time.Microsecond, "local-timestamp-micros": time.Microsecond,
	"timestamp-nanos": time.Nanosecond, "local-timestamp-nanos": time.Nanosecond,
}

// avroRefused are the logical types whose values mean something else than their bare type says.
var avroRefused = []string{"decimal", "date", "time-millis", "time-micros", "duration"}

func avroScalar(n *avro.SchemaNode, c *Column) (avroRead, error) {
	from, ok := avroScalars[n.Type]
	from.name = n.Type
	if n.LogicalType != "" {
		from.name += " of " + n.LogicalType
	}
	if unit, ok := avroUnits[n.LogicalType]; ok && n.Type == "long" {
		from.kind, from.unit = Timestamp, unit
	}
	if !ok || slices.Contains(avroRefused, n.LogicalType) {
		return nil, fmt.Errorf("the file has %s, which is no value for a %v", from.name, c.typ)
	}
	if err := c.accept(from); err != nil {
		return nil, err
	}
	switch n.Type {
	case "boolean":
		return func(d *decoder, v reflect.Value) error { v.SetBool(d.byte() != 0); return nil }, nil
	case "float":
		return func(d *decoder, v reflect.Value) error { v.SetFloat(float64(d.float32())); return nil }, nil
	case "double":
		return func(d *decoder, v reflect.Value) error { v.SetFloat(d.float64()); return nil }, nil
	case "string":
		return func(d *decoder, v reflect.Value) error { return c.setText(v, d.bytes()) }, nil
	case "bytes":
		return func(d *decoder, v reflect.Value) error { v.SetBytes(slices.Clone(d.bytes())); return nil }, nil
	case "fixed":
		return func(d *decoder, v reflect.Value) error { v.SetBytes(slices.Clone(d.take(int64(n.Size)))); return nil }, nil
	case "enum":
		return func(d *decoder, v reflect.Value) error {
			i := d.long()
			if i < 0 || i >= int64(len(n.Symbols)) {
				d.fail()
				return nil
			}
			return c.setText(v, []byte(n.Symbols[i]))
		}, nil
	}
	if from.kind == Timestamp {
		return func(d *decoder, v reflect.Value) error { setTime(v, d.long(), from.unit); return nil }, nil
	}
	return func(d *decoder, v reflect.Value) error { return c.setInt(v, d.long()) }, nil
}

// skip passes over a datum of any schema.
func (s avroSchemas) skip(n *avro.SchemaNode) avroSkip {
	n = s.resolve(n)
	if known, ok := s.skips[n]; ok {
		return func(d *decoder) { (*known)(d) } // It may be one that is made further up.
	}
	made := new(avroSkip)
	s.skips[n] = made
	*made = s.newSkip(n)
	if len(n.Fields) > 0 || len(n.Branches) > 0 || n.Items != nil || n.Values != nil {
		flat := *made
		*made = func(d *decoder) { d.nested(flat) }
	}
	return *made
}

func (s avroSchemas) newSkip(n *avro.SchemaNode) avroSkip {
	var inner []avroSkip
	for i := range n.Fields {
		inner = append(inner, s.skip(&n.Fields[i].Type))
	}
	for i := range n.Branches {
		inner = append(inner, s.skip(&n.Branches[i]))
	}
	switch n.Type {
	case "boolean":
		return func(d *decoder) { d.take(1) }
	case "int", "long", "enum":
		return func(d *decoder) { d.long() }
	case "float":
		return func(d *decoder) { d.take(4) }
	case "double":
		return func(d *decoder) { d.take(8) }
	case "string", "bytes":
		return func(d *decoder) { d.bytes() }
	case "fixed":
		return func(d *decoder) { d.take(int64(n.Size)) }
	case "record", "error":
		return func(d *decoder) {
			for _, skip := range inner {
				if skip(d); d.bad {
					return
				}
			}
		}
	case "union":
		return func(d *decoder) {
			if i := d.long(); i >= 0 && i < int64(len(inner)) {
				inner[i](d)
			} else {
				d.fail()
			}
		}
	case "array":
		item := s.skip(n.Items)
		return func(d *decoder) { d.skipBlocks(func() { item(d) }) }
	case "map":
		value := s.skip(n.Values)
		return func(d *decoder) { d.skipBlocks(func() { d.bytes(); value(d) }) }
	}
	return func(*decoder) {} // Null.
}
