// SPDX-License-Identifier: Apache-2.0

package format

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Kind is what the values of a column are.
type Kind int

const (
	Bool Kind = iota
	Int
	Uint
	Float
	String    // UTF-8; also what has a MarshalText.
	Bytes     // []byte.
	Timestamp // time.Time: microseconds since 1970, in UTC.
	List      // Of Elem. A nil slice is an empty list.
	Map       // From strings to Elem. A nil map is an empty one.
	Struct    // Of Fields.
)

// Column describes a field of a struct type, or an element of a slice or map, for all formats with columns.
type Column struct {
	Name     string // As encoding/json names it; empty for elements.
	Kind     Kind
	Bits     int      // Of Int, Uint and Float.
	Optional bool     // The field is a pointer: nil is null.
	Fields   []Column // Of Struct.
	Elem     *Column  // Of List and Map.

	index []int        // Of the field in its struct, through embedded ones.
	typ   reflect.Type // Without the pointer.
	text  bool         // A String by MarshalText.
}

var (
	timeType      = reflect.TypeFor[time.Time]()
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
	errNoColumns  = errors.New("it has no exported field, so no column")
	errRecursive  = errors.New("it is recursive, and columns cannot be: leave the field out or write it as a string of JSON")
)

// Columns describes a struct type. Fields are named, left out and flattened as encoding/json does; its options
// omitempty and string are for JSON alone. The error names every field that has no place in a column.
func Columns(t reflect.Type) ([]Column, error) {
	if t.Kind() != reflect.Struct || t == timeType {
		return nil, fmt.Errorf("elements are %v: columns are made of the fields of a struct", t)
	}
	if implements(t, jsonMarshaler) || implements(t, textMarshaler) {
		return nil, fmt.Errorf("%v encodes itself, by MarshalJSON or MarshalText, so its fields are no columns: convert it to a plain struct", t)
	}
	var c Column
	if err := c.describeStruct(t, nil); err != nil {
		return nil, fmt.Errorf("%v: %w", t, err)
	}
	return c.Fields, nil
}

// describeStruct fills in the fields. The types that it is inside of are those of the way down to here.
func (c *Column) describeStruct(t reflect.Type, inside []reflect.Type) error {
	c.Kind, c.typ = Struct, t
	fields, err := fieldsOf(t)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range fields {
		column := Column{Name: f.name, index: f.index}
		if err := column.describe(f.typ, append(slices.Clip(inside), t)); err != nil {
			errs = append(errs, fmt.Errorf("field %s: %w", f.name, err))
		}
		c.Fields = append(c.Fields, column)
	}
	if len(fields) == 0 {
		return errNoColumns
	}
	return errors.Join(errs...)
}

func (c *Column) describe(t reflect.Type, inside []reflect.Type) error {
	if t.Kind() == reflect.Pointer {
		c.Optional = true
		t = t.Elem()
	}
	c.typ = t
	switch {
	case t == timeType:
		c.Kind = Timestamp
		return nil
	case implements(t, textMarshaler):
		c.Kind, c.text = String, true
		return nil
	case implements(t, jsonMarshaler):
		return fmt.Errorf("%v has a MarshalJSON, so its type is not known: give it a MarshalText, or use a string", t)
	}
	switch t.Kind() {
	case reflect.Bool:
		c.Kind = Bool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		c.Kind, c.Bits = Int, t.Bits()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		c.Kind, c.Bits = Uint, t.Bits()
	case reflect.Float32, reflect.Float64:
		c.Kind, c.Bits = Float, t.Bits()
	case reflect.String:
		c.Kind = String
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			c.Kind = Bytes
			return nil
		}
		c.Kind = List
		return c.describeElem(t, inside)
	case reflect.Map:
		if t.Key().Kind() != reflect.String || implements(t.Key(), textMarshaler) {
			return fmt.Errorf("%v has keys that are no strings: use a map[string] or a slice of structs", t)
		}
		c.Kind = Map
		return c.describeElem(t, inside)
	case reflect.Struct:
		if slices.Contains(inside, t) {
			return errRecursive
		}
		return c.describeStruct(t, inside)
	case reflect.Array:
		return fmt.Errorf("%v is an array: use a slice", t)
	case reflect.Pointer:
		return fmt.Errorf("%v is a pointer to a pointer: use one", reflect.PointerTo(t))
	default:
		return fmt.Errorf(`%v has no type that a column can have: leave it out with the tag json:"-", or use a string of JSON`, t)
	}
	return nil
}

func (c *Column) describeElem(t reflect.Type, inside []reflect.Type) error {
	if slices.Contains(inside, t) { // type list []list
		return errRecursive
	}
	c.Elem = &Column{}
	if err := c.Elem.describe(t.Elem(), append(slices.Clip(inside), t)); err != nil {
		return fmt.Errorf("elements of %v: %w", t, err)
	}
	return nil
}

func implements(t, i reflect.Type) bool {
	return t.Implements(i) || reflect.PointerTo(t).Implements(i)
}

// field is a field of a struct before its type is looked at.
type field struct {
	name   string
	tagged bool
	index  []int
	typ    reflect.Type
}

// fieldsOf are the fields of a struct in their order, those of embedded structs in place of them. Of several
// with one name the least deep counts, then the one with a tag, as in encoding/json.
func fieldsOf(t reflect.Type) ([]field, error) {
	all, err := flatten(t, nil, nil)
	if err != nil {
		return nil, err
	}
	var fields []field
	for i, f := range all {
		better := func(g field) bool {
			if len(g.index) != len(f.index) {
				return len(g.index) < len(f.index)
			}
			return g.tagged && !f.tagged
		}
		if slices.ContainsFunc(all, func(g field) bool { return g.name == f.name && better(g) }) {
			continue
		}
		for _, g := range all[:i] {
			if g.name == f.name && len(g.index) == len(f.index) && g.tagged == f.tagged {
				return nil, fmt.Errorf("two fields are named %s: rename one by a json tag", f.name)
			}
		}
		fields = append(fields, f)
	}
	return fields, nil
}

func flatten(t reflect.Type, index []int, inside []reflect.Type) ([]field, error) {
	if slices.Contains(inside, t) {
		return nil, errRecursive
	}
	inside = append(slices.Clip(inside), t)
	var all []field
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		name, _, _ := strings.Cut(tag, ",")
		if !validName(name) {
			name = ""
		}
		at := append(slices.Clip(index), i)
		switch {
		case tag == "-":
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			inner, err := flatten(f.Type, at, inside)
			if err != nil {
				return nil, err
			}
			all = append(all, inner...)
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Pointer && f.Type.Elem().Kind() == reflect.Struct:
			return nil, fmt.Errorf("%s is embedded by a pointer: embed the struct itself, or name it by a json tag", f.Name)
		case f.IsExported():
			if name == "" {
				all = append(all, field{name: f.Name, index: at, typ: f.Type})
			} else {
				all = append(all, field{name: name, tagged: true, index: at, typ: f.Type})
			}
		}
	}
	return all, nil
}

// validName tells whether encoding/json takes a name from a tag.
func validName(s string) bool {
	for _, r := range s {
		if !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return false
		}
	}
	return s != ""
}
