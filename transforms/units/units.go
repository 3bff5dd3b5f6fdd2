// SPDX-License-Identifier: Apache-2.0

// Package units converts readings of devices from one unit to another, exactly: 212 °F is 100 °C,
// not 100.00000000000006. Units are named by their UCUM codes ([degF], Cel, kPa, …); the table in
// table.go is derived from the definitions of the SI and of the inch, pound and so on. This file has
// the plain conversion; the transforms are Parse, Convert, Dedupe and Hourly.
//
// Nothing is guessed. What is not understood is a dead letter with a Code and, often, a hint.
package units

import (
	"errors"
	"fmt"
	"math/big"
)

// Code says what is wrong with a reading. Tests and alarms go by it, never by a text.
type Code string

// The codes of the dead letters of this package.
const (
	CodeParse        Code = "PARSE"          // Not a record, or the value is not a number.
	CodeNoDevice     Code = "NO_DEVICE"      // The device is missing.
	CodeBadTime      Code = "BAD_TIME"       // The time is missing, unreadable or too long ago.
	CodeFuture       Code = "FUTURE"         // The time is too far ahead of the record's own.
	CodeNaN          Code = "NAN"            // NaN or infinite.
	CodeEmptyUnit    Code = "EMPTY_UNIT"     // No unit, and no default for the metric.
	CodeUnknownUnit  Code = "UNKNOWN_UNIT"   // Not a unit of the table.
	CodeDimension    Code = "DIMENSION"      // A unit of another kind of quantity than the target's.
	CodeDifference   Code = "DIFFERENCE"     // A point on a scale where a difference is measured.
	CodeBelowAbsZero Code = "BELOW_ABS_ZERO" // A temperature that does not exist.
	CodeConflict     Code = "CONFLICT"       // The device has another value at this time.
)

// Error is why something could not be converted.
type Error struct {
	Code Code
	Text string
}

func (e *Error) Error() string { return e.Text }

func fail(code Code, format string, args ...any) error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// codeOf is the code of an error of this package.
func codeOf(err error) Code {
	var e *Error
	if !errors.As(err, &e) {
		panic(fmt.Sprintf("units: an error without a code: %v", err))
	}
	return e.Code
}

// Unit is a unit of measure: base = (value + shift) · factor, in the base unit of its dimension.
type Unit struct {
	Code   string // In UCUM, case-sensitive.
	kind   dimension
	factor *big.Rat
	shift  *big.Rat // Nil for a ratio unit. Others name points on a scale, such as Cel.
}

// Lookup finds a unit by its UCUM code. Errors are EMPTY_UNIT and UNKNOWN_UNIT.
func Lookup(code string) (Unit, error) {
	if u, ok := table[code]; ok {
		return u, nil
	}
	if code == "" {
		return Unit{}, fail(CodeEmptyUnit, "the unit is missing")
	}
	if hint, ok := hints[code]; ok {
		return Unit{}, fail(CodeUnknownUnit, "%q is not a unit: %s", code, hint)
	}
	return Unit{}, fail(CodeUnknownUnit, "%.40q is not a unit of the table", code)
}

// Conv converts from one unit to another. It is immutable.
type Conv struct {
	from, to   Unit
	difference bool
}

// NewConv converts quantities, and points on a scale: 0 Cel is 273.15 K.
func NewConv(from, to Unit) (*Conv, error) {
	if from.kind != to.kind {
		return nil, fail(CodeDimension, "%s is a %s, %s is a %s", from.Code, from.kind, to.Code, to.kind)
	}
	return &Conv{from: from, to: to}, nil
}

// NewDifference converts differences: a rise of 5 K is one of 9 [degR]. Units that name points on
// a scale are refused, because with them nobody knows which of the two is meant.
func NewDifference(from, to Unit) (*Conv, error) {
	for _, u := range []Unit{from, to} {
		if u.shift != nil {
			return nil, fail(CodeDifference, "%s names a point on a scale, not a difference; a difference of temperatures is in K or [degR]", u.Code)
		}
	}
	c, err := NewConv(from, to)
	if err != nil {
		return nil, err
	}
	c.difference = true
	return c, nil
}

// Rat converts exactly. The error is BELOW_ABS_ZERO.
func (c *Conv) Rat(value *big.Rat) (*big.Rat, error) {
	x := new(big.Rat).Set(value)
	if c.from.shift != nil {
		x.Add(x, c.from.shift)
	}
	if c.from.kind == temperature && !c.difference && x.Sign() < 0 {
		text, _ := formatDecimal(value, DefaultDigits)
		return nil, fail(CodeBelowAbsZero, "%s %s is below absolute zero", text, c.from.Code)
	}
	if c.from.Code == c.to.Code {
		return x.Set(value), nil
	}
	x.Mul(x, c.from.factor)
	x.Quo(x, c.to.factor)
	if c.to.shift != nil {
		x.Sub(x, c.to.shift)
	}
	return x, nil
}

// DefaultDigits is how many significant digits a number without an end is rounded to.
const DefaultDigits = 15

// Decimal converts decimal text to decimal text. The result is exact and as short as can be; if it
// has no end, it is rounded once, half to even. Errors are PARSE, NAN and BELOW_ABS_ZERO.
func (c *Conv) Decimal(value string) (string, error) {
	x, err := parseValue(value)
	if err != nil {
		return "", err
	}
	y, err := c.Rat(x)
	if err != nil {
		return "", err
	}
	text, _ := formatDecimal(y, DefaultDigits)
	return text, nil
}

func parseValue(text string) (*big.Rat, error) {
	x, err := parseDecimal(text)
	switch {
	case errors.Is(err, errNotFinite):
		return nil, fail(CodeNaN, "the value %.40q is %v", text, err)
	case err != nil:
		return nil, fail(CodeParse, "the value %.40q is %v", text, err)
	}
	return x, nil
}
