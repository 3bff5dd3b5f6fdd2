// SPDX-License-Identifier: Apache-2.0

package s3io

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/hornbeam-dev/hornbeam/io/blob/bucket"
)

var syntax = bucket.Syntax{
	Scheme:        "s3",
	Options:       []string{"region", "endpoint", "path_style", "timeout"},
	NoCredentials: "credentials do not go into the URL: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role",
}

// place is what a URL says.
type place struct {
	bucket.Place
	pathStyle *bool // nil: not said.
}

func parse(text string) (place, error) {
	where, err := syntax.Parse(text)
	if err != nil {
		return place{}, err
	}
	p := place{Place: where}
	for _, name := range syntax.Options {
		if value, ok := p.Options[name]; ok {
			if err := p.option(name, value); err != nil {
				return place{}, fmt.Errorf("%s: %w", p.Object(""), err)
			}
		}
	}
	return p, nil
}

func (p *place) option(name, value string) error {
	switch name {
	case "endpoint":
		u, err := url.Parse(value)
		switch {
		case strings.Contains(value, "@"):
			return fmt.Errorf("option endpoint: %s", syntax.NoCredentials)
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
			return errors.New("option endpoint is not of the form http://host:port or https://host:port")
		}
	case "path_style":
		is, err := strconv.ParseBool(value)
		if err != nil {
			return errors.New("option path_style is neither true nor false")
		}
		p.pathStyle = &is
	}
	return nil
}
