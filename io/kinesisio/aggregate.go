// SPDX-License-Identifier: Apache-2.0

package kinesisio

import (
	"bytes"
	"crypto/md5"
	"math/big"

	"google.golang.org/protobuf/encoding/protowire"
)

// aggregateMagic begins a record that holds many: then come a message in Protocol Buffers' encoding and its MD5 sum.
var aggregateMagic = []byte{0xf3, 0x89, 0x9a, 0xc2}

// userRecord is one of the records that a Kinesis record holds.
type userRecord struct {
	key      string
	explicit string // The explicit hash key, decimal, or empty.
	data     []byte
}

// disaggregate returns the user records of an aggregated record. False: it is none, or a damaged one, which is an
// ordinary record.
func disaggregate(data []byte) ([]userRecord, bool) {
	if len(data) < len(aggregateMagic)+md5.Size || !bytes.HasPrefix(data, aggregateMagic) {
		return nil, false
	}
	message, sum := data[len(aggregateMagic):len(data)-md5.Size], data[len(data)-md5.Size:]
	if got := md5.Sum(message); !bytes.Equal(got[:], sum) {
		return nil, false
	}
	var keys, hashes []string
	var bodies [][]byte
	err := fields(message, func(number protowire.Number, value []byte, _ uint64) {
		switch number {
		case 1:
			keys = append(keys, string(value))
		case 2:
			hashes = append(hashes, string(value))
		case 3:
			bodies = append(bodies, value)
		}
	})
	if err != nil {
		return nil, false
	}
	records := make([]userRecord, 0, len(bodies))
	for _, body := range bodies {
		key, hash := uint64(len(keys)), uint64(len(hashes)) // Past the end: the first is required.
		explicit := false
		r := userRecord{}
		err := fields(body, func(number protowire.Number, value []byte, n uint64) {
			switch number {
			case 1:
				key = n
			case 2:
				hash, explicit = n, true
			case 3:
				r.data = value
			}
		})
		if err != nil || key >= uint64(len(keys)) || explicit && hash >= uint64(len(hashes)) {
			return nil, false
		}
		r.key = keys[key]
		if explicit {
			r.explicit = hashes[hash]
			if _, ok := parseHash(r.explicit); !ok {
				return nil, false
			}
		}
		records = append(records, r)
	}
	return records, true
}

// fields visits the fields of a message; value is that of a length-delimited one, n that of a number.
func fields(message []byte, visit func(number protowire.Number, value []byte, n uint64)) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		var value []byte
		var integer uint64
		switch kind {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			integer, n = protowire.ConsumeVarint(message)
		default:
			n = protowire.ConsumeFieldValue(number, kind, message)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		visit(number, value, integer)
		message = message[n:]
	}
	return nil
}

// aggregate is the reverse of disaggregate.
func aggregate(records []userRecord) []byte {
	var keys, hashes []string
	var bodies []byte
	index := func(table *[]string, s string) uint64 {
		for i, t := range *table {
			if t == s {
				return uint64(i)
			}
		}
		*table = append(*table, s)
		return uint64(len(*table) - 1)
	}
	for _, r := range records {
		var body []byte
		body = protowire.AppendTag(body, 1, protowire.VarintType)
		body = protowire.AppendVarint(body, index(&keys, r.key))
		if r.explicit != "" {
			body = protowire.AppendTag(body, 2, protowire.VarintType)
			body = protowire.AppendVarint(body, index(&hashes, r.explicit))
		}
		body = protowire.AppendTag(body, 3, protowire.BytesType)
		body = protowire.AppendBytes(body, r.data)
		bodies = protowire.AppendTag(bodies, 3, protowire.BytesType)
		bodies = protowire.AppendBytes(bodies, body)
	}
	message := []byte{}
	for _, k := range keys {
		message = protowire.AppendTag(message, 1, protowire.BytesType)
		message = protowire.AppendString(message, k)
	}
	for _, h := range hashes {
		message = protowire.AppendTag(message, 2, protowire.BytesType)
		message = protowire.AppendString(message, h)
	}
	message = append(message, bodies...)
	sum := md5.Sum(message)
	return bytes.Join([][]byte{aggregateMagic, message, sum[:]}, nil)
}

// A hash key is a number below 2^128, kept as 32 hexadecimal digits so that it compares as a string.

// hashOf is the hash key that Kinesis gives to a partition key.
func hashOf(key string) string {
	sum := md5.Sum([]byte(key))
	return hexHash(new(big.Int).SetBytes(sum[:]))
}

func hexHash(n *big.Int) string {
	const digits = "0123456789abcdef"
	var raw [16]byte
	n.FillBytes(raw[:])
	text := make([]byte, 0, 32)
	for _, b := range raw {
		text = append(text, digits[b>>4], digits[b&15])
	}
	return string(text)
}

// parseHash reads a decimal hash key.
func parseHash(decimal string) (string, bool) {
	if !sequenceNumber.MatchString(decimal) {
		return "", false
	}
	n, ok := new(big.Int).SetString(decimal, 10)
	if !ok || n.BitLen() > 128 {
		return "", false
	}
	return hexHash(n), true
}

// after is the next hash key; empty after the last one.
func after(hash string) string {
	n, _ := new(big.Int).SetString(hash, 16)
	n.Add(n, big.NewInt(1))
	if n.BitLen() > 128 {
		return ""
	}
	return hexHash(n)
}

// before is the hash key that precedes a hash key other than the first.
func before(hash string) string {
	n, _ := new(big.Int).SetString(hash, 16)
	return hexHash(n.Sub(n, big.NewInt(1)))
}
