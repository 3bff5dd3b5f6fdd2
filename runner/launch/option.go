// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"
)

// option is one option for a runner.
type option struct {
	key   string // In small letters, with underscores.
	value string // JSON, or else text.
}

// optionList is a list of options with different keys. It is the value of a flag that may be repeated.
type optionList []option

var optionKey = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// String is what the flag package shows as default.
func (l *optionList) String() string { return "" }

// Set adds an option, as the flag package wants it. A later one takes the place of an earlier one.
func (l *optionList) Set(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok || !optionKey.MatchString(key) {
		return fmt.Errorf("write KEY=VALUE, with a key such as checkpointing_interval")
	}
	*l = l.with(key, value)
	return nil
}

// with returns the list with an option in place of one with the same key.
func (l optionList) with(key, value string) optionList {
	others := slices.DeleteFunc(slices.Clone(l), func(o option) bool { return o.key == key })
	return append(others, option{key, value})
}

// or returns the list with an option that stands unless there is one with the same key.
func (l optionList) or(key, value string) optionList {
	if _, ok := l.get(key); ok {
		return l
	}
	return l.with(key, value)
}

func (l optionList) get(key string) (string, bool) {
	for _, o := range l {
		if o.key == key {
			return o.value, true
		}
	}
	return "", false
}

// addTo puts the options among those that a job server gets, by the names that Beam gives them.
func (l optionList) addTo(all *structpb.Struct) error {
	for _, o := range l {
		value, err := structpb.NewValue(o.decoded())
		if err != nil {
			return fmt.Errorf("--runner_option=%s: %w", o.key, err)
		}
		all.Fields["beam:option:"+o.key+":v1"] = value
	}
	return nil
}

// maxExact is the largest integer up to which a JSON number of a Struct, a float64, holds each.
const maxExact = 1 << 53

// decoded is the JSON value, or the text. An integer that would lose digits stays text, which
// runners read as a number where they want one.
func (o option) decoded() any {
	var value any
	if err := json.Unmarshal([]byte(o.value), &value); err != nil {
		return o.value
	}
	if n, ok := value.(float64); ok && (n >= maxExact || n <= -maxExact) {
		return o.value
	}
	return value
}
