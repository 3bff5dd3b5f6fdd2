// SPDX-License-Identifier: Apache-2.0

// Package coder knows Beam's standard coders well enough to walk over encoded elements without
// decoding them: where an element begins and ends, its timestamp and windows, and where its key
// is. Values never become Go values here.
package coder

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/urn"
)

// Coder is a coder of the Beam model: its URN and the coders of its parts.
type Coder struct {
	URN   string
	Parts []Coder
}

// Skip returns the length of the encoded value at the head of b.
type Skip func(b []byte) (int, error)

// ErrShort is the error of an encoding that ends too early.
var ErrShort = errors.New("coder: encoding is cut short")

// Known tells whether a value of c can be skipped.
func Known(c Coder) bool {
	switch c.URN {
	case urn.CoderBytes, urn.CoderString, urn.CoderBool, urn.CoderVarInt, urn.CoderDouble,
		urn.CoderLengthPrefix, urn.CoderGlobalWindow, urn.CoderIntervalWindow:
		return true
	case urn.CoderKV, urn.CoderIterable, urn.CoderNullable:
		for _, part := range c.Parts {
			if !Known(part) {
				return false
			}
		}
		return true
	}
	return false
}

// Compile returns the skip program of c. The planner wraps what is not Known in a length prefix,
// so an error here is a mistake of ours.
func Compile(c Coder) (Skip, error) {
	parts := make([]Skip, len(c.Parts))
	if c.URN != urn.CoderLengthPrefix {
		for i, part := range c.Parts {
			skip, err := Compile(part)
			if err != nil {
				return nil, err
			}
			parts[i] = skip
		}
	}
	switch c.URN {
	case urn.CoderBytes, urn.CoderString, urn.CoderLengthPrefix:
		return skipPrefixed, nil
	case urn.CoderBool:
		return fixed(1), nil
	case urn.CoderDouble:
		return fixed(8), nil
	case urn.CoderVarInt:
		return skipVarint, nil
	case urn.CoderGlobalWindow:
		return fixed(0), nil
	case urn.CoderIntervalWindow:
		return func(b []byte) (int, error) {
			_, n, err := event.ReadInterval(b)
			return n, err
		}, nil
	case urn.CoderKV:
		return sequence(parts), nil
	case urn.CoderNullable:
		return nullable(parts[0]), nil
	case urn.CoderIterable:
		return iterable(parts[0]), nil
	}
	return nil, fmt.Errorf("coder: no way to skip %q without a length prefix", c.URN)
}

func fixed(n int) Skip {
	return func(b []byte) (int, error) {
		if len(b) < n {
			return 0, ErrShort
		}
		return n, nil
	}
}

func skipVarint(b []byte) (int, error) {
	_, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, ErrShort
	}
	return n, nil
}

func skipPrefixed(b []byte) (int, error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return 0, ErrShort
	}
	return n + int(size), nil
}

func sequence(parts []Skip) Skip {
	return func(b []byte) (int, error) {
		total := 0
		for _, skip := range parts {
			n, err := skip(b[total:])
			if err != nil {
				return 0, err
			}
			total += n
		}
		return total, nil
	}
}

func nullable(part Skip) Skip {
	return func(b []byte) (int, error) {
		if len(b) == 0 {
			return 0, ErrShort
		}
		if b[0] == 0 {
			return 1, nil
		}
		n, err := part(b[1:])
		return n + 1, err
	}
}

// Forms of Beam's iterables, beside a count and that many values.
const (
	Blocks = -1             // In place of the count: blocks of values follow, each with its own count.
	Token  = math.MaxUint64 // In place of a block's count: the rest is named by a token.
)

// iterable skips all forms of Beam's iterables: a count and that many values, or Blocks and blocks
// of values that end with an empty one or with a token.
func iterable(part Skip) Skip {
	many := func(b []byte, count uint64) (int, error) {
		total := 0
		for ; count > 0; count-- {
			n, err := part(b[total:])
			if err != nil {
				return 0, err
			}
			if n == 0 {
				break // So are the others, however many they claim to be.
			}
			total += n
		}
		return total, nil
	}
	return func(b []byte) (int, error) {
		if len(b) < 4 {
			return 0, ErrShort
		}
		count := int32(binary.BigEndian.Uint32(b))
		if count >= 0 {
			n, err := many(b[4:], uint64(count))
			return n + 4, err
		}
		total := 4
		for {
			count, n := binary.Uvarint(b[total:])
			if n <= 0 {
				return 0, ErrShort
			}
			total += n
			if count == 0 {
				return total, nil
			}
			if count == Token {
				n, err := skipPrefixed(b[total:])
				return total + n, err
			}
			n, err := many(b[total:], count)
			if err != nil {
				return 0, err
			}
			total += n
		}
	}
}
