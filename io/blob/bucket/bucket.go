// SPDX-License-Identifier: Apache-2.0

// Package bucket is what stores of package blob that are a bucket of a service have in common: their URLs,
// SCHEME://BUCKET/PREFIX?OPTIONS, and what tells whether an object is the one that was to be made. It knows no service.
package bucket

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Place is what a URL says.
type Place struct {
	URL     string // Without a slash at the end of the path; with the options.
	Bucket  string
	Prefix  string            // Of the names of all objects: empty, or with a slash at its end.
	Options map[string]string // By their names; only such as are known.
	Timeout time.Duration     // Of the option timeout; how long a request may go without an answer.

	scheme string
}

// Syntax is what the URLs of a service may be.
type Syntax struct {
	Scheme        string
	Options       []string // The names of the options that are known.
	NoCredentials string   // What to say to who writes credentials into the URL.
}

var (
	name = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$`)
	// secret is what the name of an option looks like that would hold a secret.
	secret = regexp.MustCompile(`(?i)key|secret|token|password|credential|signature`)
)

// Parse reads a URL. The prefix is taken as it is written. Errors say nothing of a URL before it is known to
// hold no secret.
func (s Syntax) Parse(text string) (Place, error) {
	rest, ok := strings.CutPrefix(text, s.Scheme+"://")
	if !ok {
		return Place{}, fmt.Errorf("the URL is not of the form %s://bucket/prefix", s.Scheme)
	}
	path, query, _ := strings.Cut(rest, "?")
	bucket, prefix, _ := strings.Cut(path, "/")
	if strings.ContainsAny(bucket, "@:") {
		return Place{}, fmt.Errorf("%s://…: %s", s.Scheme, s.NoCredentials)
	}
	if !name.MatchString(bucket) {
		return Place{}, fmt.Errorf("%s://…: the URL does not begin with the name of a bucket (letters, digits, \".\", \"-\", \"_\"), as %s://bucket/prefix does", s.Scheme, s.Scheme)
	}
	p := Place{Bucket: bucket, Timeout: time.Minute, scheme: s.Scheme}
	if prefix = strings.TrimSuffix(prefix, "/"); prefix != "" {
		p.Prefix = prefix + "/"
	}
	p.URL = p.Object("")
	for _, part := range strings.Split(prefix, "/") {
		if prefix != "" && part == "" {
			return Place{}, fmt.Errorf("%s: the prefix has an empty part: write one slash between two parts", p.URL)
		}
	}
	if err := p.readOptions(query, s); err != nil {
		return Place{}, fmt.Errorf("%s: %w", p.URL, err)
	}
	if query != "" {
		p.URL += "?" + query
	}
	return p, nil
}

func (p *Place) readOptions(query string, s Syntax) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("the options after ? are not of the form name=value&name=value")
	}
	p.Options = map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch {
		case slices.Contains(s.Options, name) && len(values[name]) == 1:
			p.Options[name] = values.Get(name)
		case slices.Contains(s.Options, name):
			return fmt.Errorf("option %s is given %d times", name, len(values[name]))
		case secret.MatchString(name):
			return errors.New(s.NoCredentials)
		default:
			return fmt.Errorf("option %q is not known; known are %s", name, strings.Join(s.Options, ", "))
		}
	}
	if text, ok := p.Options["timeout"]; ok {
		p.Timeout, err = time.ParseDuration(text)
		if err != nil || p.Timeout <= 0 {
			return errors.New("option timeout is not a duration above zero, like 30s")
		}
	}
	return nil
}

// Object returns the URL of the object at a key, without options.
func (p *Place) Object(key string) string {
	return strings.TrimSuffix(p.scheme+"://"+p.Bucket+"/"+p.Prefix+key, "/")
}

// Within is how long a request with a body of n bytes may take: below 64 KiB a second a connection is taken as stuck.
func (p *Place) Within(n int64) time.Duration {
	return p.Timeout + time.Duration(n)*time.Second/(64<<10)
}

// Fail names the object at a key in an error, and says what may be done, if there is a hint.
func (p *Place) Fail(key string, err error, hint string) error {
	if hint != "" {
		return fmt.Errorf("%s: %w (%s)", p.Object(key), err, hint)
	}
	return fmt.Errorf("%s: %w", p.Object(key), err)
}
