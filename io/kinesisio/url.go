// SPDX-License-Identifier: Apache-2.0

package kinesisio

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// ParseURL reads the short form of a ReadConfig,
//
//	kinesis://STREAM[?region=REGION&endpoint=URL&from=POSITION&to=POSITION&consumer=ARN]
//
// where a position is earliest, latest, sequence:N or time:RFC3339. For a write only stream, region and endpoint count.
func ParseURL(text string) (ReadConfig, error) {
	cfg, err := parseURL(text)
	if err != nil {
		return ReadConfig{}, fmt.Errorf("kinesisio: %w; want kinesis://STREAM?region=REGION&endpoint=URL&from=earliest|latest|sequence:N|time:RFC3339&to=latest|time:RFC3339&consumer=ARN", err)
	}
	return cfg, nil
}

// parameters are the names in the part of a URL after the ?.
var parameters = []string{"region", "endpoint", "from", "to", "consumer"}

// parseURL does not repeat what it does not know in its errors: somebody may have put a password into it, and an & or =
// in that makes a name of a part.
func parseURL(text string) (cfg ReadConfig, err error) {
	rest, ok := strings.CutPrefix(text, "kinesis://")
	if !ok {
		return cfg, errors.New("the address does not start with kinesis://")
	}
	stream, query, _ := strings.Cut(rest, "?")
	if strings.Contains(stream, "@") {
		return cfg, errors.New("the address holds a user or password; credentials come from the environment (AWS_PROFILE, AWS_ACCESS_KEY_ID …)")
	}
	cfg.Stream = strings.TrimSuffix(stream, "/")
	values, err := url.ParseQuery(strings.ReplaceAll(query, "+", "%2B")) // A + is part of a time's zone.
	if err != nil {
		return cfg, errors.New("the part after ? is not NAME=VALUE&NAME=VALUE")
	}
	for name := range values {
		if !slices.Contains(parameters, name) {
			return cfg, fmt.Errorf("the part after ? holds a parameter that is none of %s", strings.Join(parameters, ", "))
		}
	}
	for _, name := range parameters {
		v := values[name]
		switch {
		case len(v) == 0:
			continue
		case len(v) > 1:
			return cfg, fmt.Errorf("%s is given %d times", name, len(v))
		}
		switch name {
		case "region":
			cfg.Region = v[0]
		case "endpoint":
			cfg.Endpoint = v[0]
		case "consumer":
			cfg.Consumer = v[0]
		case "from":
			cfg.From, err = parsePosition(v[0])
		case "to":
			cfg.To, err = parsePosition(v[0])
		}
		if err != nil {
			return cfg, fmt.Errorf("%s: %w", name, err)
		}
	}
	_, err = cfg.withDefaults()
	return cfg, err
}

func parsePosition(text string) (Position, error) {
	kind, arg, _ := strings.Cut(text, ":")
	switch {
	case text == "earliest" || text == "latest":
		return Position{Kind: text}, nil
	case kind == "sequence":
		return AtSequence(arg), AtSequence(arg).check("it")
	case kind == "time":
		t, err := time.Parse(time.RFC3339, arg)
		if err != nil {
			return Position{}, fmt.Errorf("time %q is not RFC3339, like 2026-05-01T12:00:00Z", arg)
		}
		return AtTime(t), nil
	}
	return Position{}, fmt.Errorf("%q is not a position", text)
}
