// SPDX-License-Identifier: Apache-2.0

package s3io

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// place is what a URL says.
type place struct {
	url       string // Without a trailing slash of the path.
	bucket    string
	prefix    string // Of all keys: empty, or with a slash at its end.
	region    string
	endpoint  string
	pathStyle *bool // nil: not said.
	timeout   time.Duration
}

var (
	bucketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$`)
	// secret is what the name of an option looks like that would hold a secret.
	secret = regexp.MustCompile(`(?i)key|secret|token|password|credential|signature`)
)

const noCredentials = "credentials do not go into the URL: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role"

// parse reads a URL. Its errors do not repeat what may be a secret: the URL is not in them before
// all of it is known to be fine.
func parse(text string) (place, error) {
	rest, ok := strings.CutPrefix(text, "s3://")
	if !ok {
		return place{}, errors.New("s3io: the URL is not of the form s3://bucket/prefix")
	}
	path, query, _ := strings.Cut(rest, "?")
	bucket, prefix, _ := strings.Cut(path, "/")
	if strings.Contains(bucket, "@") || strings.Contains(bucket, ":") {
		return place{}, fmt.Errorf("s3://…: %s", noCredentials)
	}
	if !bucketName.MatchString(bucket) {
		return place{}, errors.New("s3://…: the URL does not begin with the name of a bucket (letters, digits, \".\", \"-\", \"_\"), as s3://bucket/prefix does")
	}
	prefix = strings.TrimSuffix(prefix, "/")
	p := place{bucket: bucket, timeout: time.Minute, url: "s3://" + bucket}
	if prefix != "" {
		p.url += "/" + prefix
		p.prefix = prefix + "/"
		if slices.Contains(strings.Split(prefix, "/"), "") {
			return place{}, fmt.Errorf("%s: the prefix has an empty part: write one slash between two parts", p.url)
		}
	}
	if err := p.options(query); err != nil {
		return place{}, fmt.Errorf("%s: %w", p.object(""), err)
	}
	if query != "" {
		p.url += "?" + query
	}
	return p, nil
}

func (p *place) options(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("the options after ? are not of the form name=value&name=value")
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if n := len(values[name]); n != 1 {
			return fmt.Errorf("option %q is given %d times", name, n)
		}
		if err := p.option(name, values.Get(name)); err != nil {
			return err
		}
	}
	return nil
}

func (p *place) option(name, value string) error {
	switch name {
	case "region":
		p.region = value
	case "endpoint":
		u, err := url.Parse(value)
		switch {
		case strings.Contains(value, "@"):
			return fmt.Errorf("option endpoint: %s", noCredentials)
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
			return errors.New("option endpoint is not of the form http://host:port or https://host:port")
		}
		p.endpoint = value
	case "path_style":
		is, err := strconv.ParseBool(value)
		if err != nil {
			return errors.New("option path_style is neither true nor false")
		}
		p.pathStyle = &is
	case "timeout":
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return errors.New("option timeout is not a duration above zero, like 30s")
		}
		p.timeout = d
	default:
		if secret.MatchString(name) {
			return errors.New(noCredentials)
		}
		return fmt.Errorf("option %q is not known; known are region, endpoint, path_style, timeout", name)
	}
	return nil
}

// object is the URL of an object, without options.
func (p *place) object(key string) string {
	return strings.TrimSuffix("s3://"+p.bucket+"/"+p.prefix+key, "/")
}
