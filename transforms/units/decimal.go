// SPDX-License-Identifier: Apache-2.0

package units

import (
	"errors"
	"math/big"
	"strings"
)

// Limits of a decimal number, so that a short text cannot ask for a huge one.
const (
	maxDigits   = 64
	maxExponent = 99
)

var (
	errNotNumber = errors.New("not a decimal number such as -12.5 or 1.25e3")
	errComma     = errors.New("a decimal number has a point, not a comma")
	errTooLong   = errors.New("a number of more than 64 digits, or an exponent beyond 99")
	errNotFinite = errors.New("not a finite number")
)

// parseDecimal reads a decimal number exactly.
func parseDecimal(text string) (*big.Rat, error) {
	switch strings.ToLower(strings.TrimLeft(text, "+-")) {
	case "nan", "inf", "infinity":
		return nil, errNotFinite
	}
	mantissa, exponent := text, 0
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		mantissa = text[:i]
		e, ok := parseExponent(text[i+1:])
		if !ok {
			return nil, errNotNumber
		}
		exponent = e
	}
	sign := ""
	if len(mantissa) > 0 && (mantissa[0] == '-' || mantissa[0] == '+') {
		sign, mantissa = mantissa[:1], mantissa[1:]
	}
	whole, part, _ := strings.Cut(mantissa, ".")
	digits := whole + part
	if strings.Contains(digits, ",") {
		return nil, errComma
	}
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return nil, errNotNumber
	}
	if len(digits) > maxDigits || exponent > maxExponent || exponent < -maxExponent {
		return nil, errTooLong
	}
	n, ok := new(big.Int).SetString(sign+digits, 10)
	if !ok {
		return nil, errNotNumber
	}
	return scale(n, exponent-len(part)), nil
}

// parseExponent saturates: what is too long is out of range in any case.
func parseExponent(text string) (int, bool) {
	negative := strings.HasPrefix(text, "-")
	text = strings.TrimPrefix(strings.TrimPrefix(text, "-"), "+")
	if text == "" || len(text) > maxDigits || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n := 0
	for _, digit := range []byte(text) {
		n = min(10*n+int(digit-'0'), 1000)
	}
	if negative {
		n = -n
	}
	return n, true
}

// scale is n times ten to the power.
func scale(n *big.Int, power int) *big.Rat {
	ten := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(power, -power))), nil)
	if power < 0 {
		return new(big.Rat).SetFrac(n, ten)
	}
	return new(big.Rat).SetInt(new(big.Int).Mul(n, ten))
}

// formatDecimal writes a number with as many places as it needs. If it has no end, or more
// significant digits than asked for, it is rounded to so many, half to even, and exact is false.
func formatDecimal(x *big.Rat, digits int) (text string, exact bool) {
	if places, ok := x.FloatPrec(); ok {
		text = x.FloatString(places)
		if significant(text) <= max(digits, maxDigits) {
			return text, true
		}
	}
	return round(x, digits), false
}

func significant(text string) int {
	return len(strings.TrimLeft(strings.Replace(strings.TrimPrefix(text, "-"), ".", "", 1), "0"))
}

// round is x to so many significant digits, half to even, without trailing zeros after the point.
func round(x *big.Rat, digits int) string {
	if x.Sign() == 0 {
		return "0"
	}
	magnitude := magnitude(x)
	for {
		places := digits - magnitude
		n := roundToInt(new(big.Rat).Mul(x, scale(big.NewInt(1), places)))
		if len(strings.TrimPrefix(n.String(), "-")) > digits {
			magnitude++ // Rounding gave one digit more, as 9.99 gives 10.0.
			continue
		}
		return trimmed(scale(n, -places).FloatString(max(places, 0)))
	}
}

// trimmed is the text without zeros that say nothing.
func trimmed(text string) string {
	if !strings.Contains(text, ".") {
		return text
	}
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// magnitude is how many digits x has before the point, 0 for 0.1 up to 1, -1 for 0.01 up to 0.1.
func magnitude(x *big.Rat) int {
	abs := new(big.Rat).Abs(x)
	m := len(abs.Num().String()) - len(abs.Denom().String()) + 1
	for abs.Cmp(scale(big.NewInt(1), m-1)) < 0 {
		m--
	}
	return m
}

// roundToInt rounds half to even.
func roundToInt(x *big.Rat) *big.Int {
	quotient, rest := new(big.Int).QuoRem(x.Num(), x.Denom(), new(big.Int))
	switch new(big.Int).Lsh(rest.Abs(rest), 1).Cmp(x.Denom()) {
	case 0:
		if quotient.Bit(0) == 0 {
			return quotient
		}
	case -1:
		return quotient
	}
	return quotient.Add(quotient, big.NewInt(int64(x.Sign())))
}
