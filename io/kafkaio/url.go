// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ParseURL reads the short form of a ReadConfig,
//
//	kafka://HOST:PORT[,HOST:PORT]/TOPIC[?from=POSITION&to=POSITION&...]
//
// where a position is earliest, latest, offset:N or time:RFC3339. Further parameters are registry, a URL, registry_auth,
// and those of Access: sasl, user, password, tls=true, ca, cert and key. Secrets are references, like
// password=env:KAFKA_PASSWORD; a URL that holds one is refused, and not repeated in the error. For a write the
// positions and the registry do not count.
func ParseURL(text string) (ReadConfig, error) {
	cfg, err := parseURL(text)
	if err != nil {
		return ReadConfig{}, fmt.Errorf("kafkaio: %q: %w; want kafka://HOST:PORT[,HOST:PORT]/TOPIC?from=earliest|latest|offset:N|time:RFC3339, and the same for to", redact(text), err)
	}
	return cfg, nil
}

// parameters are those of a URL; the values of the harmless ones are shown in errors.
var parameters = map[string]struct{ harmless bool }{
	"from": {true}, "to": {true}, "sasl": {true}, "tls": {true},
	"registry": {}, "registry_auth": {}, "user": {}, "password": {}, "ca": {}, "cert": {}, "key": {},
}

// redact takes out of a URL what may be a secret, also where it does not belong.
func redact(text string) string {
	address, query, has := strings.Cut(text, "?")
	if i := strings.LastIndex(address, "@"); i >= 0 {
		address = "kafka://...@" + address[i+1:]
	}
	if !has {
		return address
	}
	if splitPassword(query) {
		return "kafka://..."
	}
	params := strings.Split(query, "&")
	for i, p := range params {
		name, value, _ := strings.Cut(p, "=")
		switch known, ok := parameters[name]; {
		case !ok:
			params[i] = "..."
		case !known.harmless && !isReference(value):
			params[i] = name + "=..."
		}
	}
	return address + "?" + strings.Join(params, "&")
}

// splitPassword tells whether what follows a ? is rather the rest of a password, as in kafka://ann:is?it@host.
func splitPassword(query string) bool {
	name, _, _ := strings.Cut(query, "=")
	_, ok := parameters[name]
	return !ok && strings.Contains(query, "@")
}

func parseURL(text string) (cfg ReadConfig, err error) {
	rest, ok := strings.CutPrefix(text, "kafka://")
	if !ok {
		return cfg, fmt.Errorf("it does not start with kafka://")
	}
	// Not url.Parse: it refuses a list of hosts.
	rest, query, _ := strings.Cut(rest, "?")
	if strings.Contains(rest, "@") || splitPassword(query) {
		return cfg, fmt.Errorf("it holds a user or password; write sasl=MECHANISM&user=NAME&password=env:VARIABLE after the topic")
	}
	hosts, topic, ok := strings.Cut(rest, "/")
	if !ok || topic == "" {
		return cfg, fmt.Errorf("it names no topic")
	}
	for _, b := range strings.Split(hosts, ",") {
		host, port, err := net.SplitHostPort(b)
		if err != nil || host == "" {
			return cfg, fmt.Errorf("broker %q is not HOST:PORT", b)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return cfg, fmt.Errorf("broker %q: port is not 1 to 65535", b)
		}
		cfg.Brokers = append(cfg.Brokers, b)
	}
	if cfg.Topic, err = url.PathUnescape(topic); err != nil {
		return cfg, fmt.Errorf("topic: %w", err)
	}
	if err := checkTopic(cfg.Brokers, cfg.Topic); err != nil {
		return cfg, err
	}
	values, err := url.ParseQuery(strings.ReplaceAll(query, "+", "%2B")) // A + is part of a time's zone.
	if err != nil {
		return cfg, errors.New("what follows the ? is not NAME=VALUE&NAME=VALUE with % escapes") // The cause would repeat a part.
	}
	for name, v := range values {
		if _, ok := parameters[name]; !ok { // Its name may be a part of a secret with an &.
			return cfg, fmt.Errorf("a parameter is not one of %s", strings.Join(slices.Sorted(maps.Keys(parameters)), ", "))
		}
		if len(v) != 1 {
			return cfg, fmt.Errorf("%s is given %d times", name, len(v))
		}
		switch name {
		case "from":
			cfg.From, err = parsePosition(v[0])
		case "to":
			cfg.To, err = parsePosition(v[0])
		case "registry":
			cfg.Registry = v[0]
		case "registry_auth":
			cfg.RegistryAuth = v[0]
		case "sasl":
			cfg.Access.SASL = v[0]
		case "user":
			cfg.Access.User = v[0]
		case "password":
			cfg.Access.Password = v[0]
		case "tls":
			cfg.Access.TLS, err = strconv.ParseBool(v[0])
		case "ca":
			cfg.Access.CA = v[0]
		case "cert":
			cfg.Access.ClientCert = v[0]
		case "key":
			cfg.Access.ClientKey = v[0]
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
	case kind == "offset":
		n, err := strconv.ParseInt(arg, 10, 64)
		if err != nil || n < 0 {
			return Position{}, fmt.Errorf("offset %q is not a number from 0", arg)
		}
		return AtOffset(n), nil
	case kind == "time":
		t, err := time.Parse(time.RFC3339, arg)
		if err != nil {
			return Position{}, fmt.Errorf("time %q is not RFC3339, like 2026-05-01T12:00:00Z", arg)
		}
		return AtTime(t), nil
	}
	return Position{}, fmt.Errorf("%q is not a position", text)
}
