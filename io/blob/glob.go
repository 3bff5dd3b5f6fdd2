// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"context"
	"fmt"
	"iter"
	"path"
	"regexp"
	"slices"
	"strings"
)

// meta are the characters that make a part of a path a pattern.
const meta = `*?[\`

// options are those at the end of a URL. A character of a pattern ends them.
var options = regexp.MustCompile(`\?[A-Za-z_][A-Za-z0-9_]*=[^?*[\\]*$`)

// SplitGlob cuts a URL or path before the first part that is a pattern: what is before it is a store's URL,
// the rest a pattern for Glob. Without a pattern the last part is cut off. The bucket of a URL is no pattern, and
// NAME=VALUE&NAME=VALUE behind the last ? of a URL are options of the store. CheckSplit says where that is not clear.
//
//	s3://bucket/cards/year=*/**/x.jsonl   s3://bucket/cards            year=*/**/x.jsonl
//	s3://bucket/cards/*.csv?timeout=1m    s3://bucket/cards?timeout=1m *.csv
//	cards/2018.csv                        cards                        2018.csv
func SplitGlob(url string) (base, pattern string) {
	root, query := "", ""
	if scheme, rest, ok := strings.Cut(url, "://"); ok {
		if at := options.FindStringIndex(rest); at != nil {
			rest, query = rest[:at[0]], rest[at[0]:]
		}
		bucket, key, _ := strings.Cut(rest, "/")
		root, url = scheme+"://"+bucket, key
	} else if strings.HasPrefix(url, "/") {
		root, url = "/", strings.TrimLeft(url, "/")
	}
	literal := url
	if at := strings.IndexAny(url, meta); at >= 0 {
		literal = url[:at]
	}
	cut := strings.LastIndexByte(literal, '/')
	pattern = url[cut+1:]
	folder := ""
	if cut >= 0 {
		folder = url[:cut]
	}
	switch {
	case root == "" && folder == "":
		base = "."
	case root == "" || folder == "":
		base = root + folder
	case root == "/":
		base = root + folder
	default:
		base = root + "/" + folder
	}
	return base + query, pattern
}

// optionLike is what options begin with, and patterns hardly do.
var optionLike = regexp.MustCompile(`\?[A-Za-z_][A-Za-z0-9_]*=`)

// CheckSplit refuses a URL or path of which SplitGlob makes no pattern for Glob, or one that may have been meant as
// options.
func CheckSplit(url string) error {
	_, pattern := SplitGlob(url)
	if like := optionLike.FindString(pattern); like != "" && strings.Contains(url, "://") {
		return fmt.Errorf("blob: %s is inside the pattern %q: write options at its end, as one ?NAME=VALUE&NAME=VALUE, "+
			"or [^/] for any one character", like, pattern)
	}
	return CheckGlob(pattern)
}

// CheckGlob refuses what is no pattern for Glob.
func CheckGlob(pattern string) error {
	if pattern == "" {
		return fmt.Errorf("blob: the pattern names no object; ** stands for all below")
	}
	for part := range strings.SplitSeq(pattern, "/") {
		if part == "" {
			return fmt.Errorf("blob: pattern %q has an empty part", pattern)
		}
		if _, err := path.Match(part, ""); err != nil {
			return fmt.Errorf("blob: pattern %q: %w", pattern, err)
		}
	}
	return nil
}

// Glob yields the objects whose keys match a pattern, in the order of their keys. Within a part, *, ?, [a-z]
// and \ mean what they mean to path.Match; the part ** stands for any number of parts, and at the end for at
// least one. Folders of a Walker in which nothing can match are not read.
//
// As readers of Hadoop, Spark and DuckDB do, it passes over what is hidden: names that begin with a dot or, unless they
// are a folder NAME=VALUE, with an underscore, as claims and manifests. A part of the pattern that begins with that
// character finds them.
func Glob(ctx context.Context, s Store, pattern string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		if err := CheckGlob(pattern); err != nil {
			yield(Object{}, err)
			return
		}
		prefix := pattern
		if at := strings.IndexAny(pattern, meta); at >= 0 {
			prefix = pattern[:at]
		}
		parts := strings.Split(pattern, "/")
		objects := s.List(ctx, prefix)
		if w, ok := s.(Walker); ok {
			objects = w.Walk(ctx, prefix, func(folder string) bool {
				return matchBegin(parts, strings.Split(strings.TrimSuffix(folder, "/"), "/"))
			})
		}
		for o, err := range objects {
			if err != nil {
				yield(Object{}, err)
				return
			}
			if match(parts, strings.Split(o.Key, "/")) && !yield(o, nil) {
				return
			}
		}
	}
}

// matchBegin tells whether a key that begins with the parts of a folder can match a pattern.
func matchBegin(pattern, folder []string) bool {
	for i, part := range folder {
		if pattern[i] == "**" {
			// Any part behind it may be the one that finds what is hidden.
			return !slices.ContainsFunc(folder[i:], func(part string) bool {
				return !sees("**", part) && !slices.ContainsFunc(pattern[i:], func(p string) bool { return matchPart(p, part) })
			})
		}
		if i+1 == len(pattern) {
			return false // A key in the folder has more parts.
		}
		if !matchPart(pattern[i], part) {
			return false
		}
	}
	return true
}

func matchPart(pattern, part string) bool {
	ok, _ := path.Match(pattern, part)
	return ok && sees(pattern, part)
}

// sees tells whether a part of a pattern may stand for a name, which may be hidden.
func sees(pattern, name string) bool {
	hidden := strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") && !strings.Contains(name, "=")
	return !hidden || strings.HasPrefix(strings.TrimPrefix(pattern, `\`), name[:1])
}

// match tells whether the parts of a key match those of a pattern, which CheckGlob has seen. rest is what to go
// back to: the last ** takes one part more.
func match(pattern, key []string) bool {
	var rest, taken []string
	for {
		switch {
		case len(pattern) > 0 && pattern[0] == "**":
			pattern = pattern[1:]
			if len(pattern) == 0 { // At the end it is any number of parts, and one more.
				pattern = []string{"*"}
			}
			rest, taken = pattern, key
			continue
		case len(pattern) == 0 && len(key) == 0:
			return true
		case len(pattern) > 0 && len(key) > 0:
			if matchPart(pattern[0], key[0]) {
				pattern, key = pattern[1:], key[1:]
				continue
			}
		}
		if len(taken) == 0 || !sees("**", taken[0]) {
			return false
		}
		taken = taken[1:]
		pattern, key = rest, taken
	}
}
