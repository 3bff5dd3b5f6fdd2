// SPDX-License-Identifier: Apache-2.0

package format

import (
	"reflect"

	"github.com/parquet-go/parquet-go"
)

// parquetGroup is a parquet.Group whose fields keep their order.
type parquetGroup struct {
	parquet.Group
	fields []parquet.Field
}

func (g parquetGroup) Fields() []parquet.Field { return g.fields }

// parquetField is a node with a name. Rows are made of values, never of Go structs, so it has no value of one.
type parquetField struct {
	parquet.Node
	name string
}

func (f parquetField) Name() string { return f.name }

func (f parquetField) Value(reflect.Value) reflect.Value { return reflect.Value{} }

func parquetGroupOf(columns []Column) parquetGroup {
	g := parquetGroup{Group: parquet.Group{}}
	for i := range columns {
		node := parquetNode(&columns[i])
		g.Group[columns[i].Name] = node
		g.fields = append(g.fields, parquetField{node, columns[i].Name})
	}
	return g
}

func parquetNode(c *Column) parquet.Node {
	node := parquetValue(c)
	if c.Optional {
		node = parquet.Optional(node)
	}
	return node
}

func parquetValue(c *Column) parquet.Node {
	switch c.Kind {
	case Bool:
		return parquet.Leaf(parquet.BooleanType)
	case Int:
		return parquet.Encoded(parquet.Int(c.Bits), &parquet.DeltaBinaryPacked)
	case Uint:
		return parquet.Encoded(parquet.Uint(c.Bits), &parquet.DeltaBinaryPacked)
	case Timestamp:
		return parquet.Encoded(parquet.Timestamp(parquet.Microsecond), &parquet.DeltaBinaryPacked)
	case Float:
		if c.Bits == 32 {
			return parquet.Leaf(parquet.FloatType)
		}
		return parquet.Leaf(parquet.DoubleType)
	case String:
		return parquet.Encoded(parquet.String(), &parquet.RLEDictionary)
	case Bytes:
		return parquet.Leaf(parquet.ByteArrayType)
	case List:
		return parquet.List(parquetNode(c.Elem))
	case Map:
		return parquet.Map(parquet.String(), parquetNode(c.Elem))
	}
	return parquetGroupOf(c.Fields)
}
