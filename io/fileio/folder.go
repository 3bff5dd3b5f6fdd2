// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/fileio/internal/format"
)

// noValue is the folder of elements without a value, by the name that Hive, Spark and Trino know.
const noValue = "__HIVE_DEFAULT_PARTITION__"

// layouts are the folders by event time.
var layouts = map[string]string{"year": "2006", "month": "01", "day": "02", "date": time.DateOnly, "hour": "15"}

// folders says in which folder an element is: date=2018-04-01/hour=13/country=DE.
type folders struct {
	times  []string // Names in layouts.
	zone   *time.Location
	fields []column
	room   int // Bytes that a folder may have, at most, so that its files can have names.
}

// column is a folder by a column of the element.
type column struct {
	name string
	text func(element any) (text string, null bool, err error)
}

// newFolders says all that is wrong with the folders of cfg for elements of a type; room is how many bytes of a key
// are not for names.
func newFolders(cfg WriteConfig, t reflect.Type, room int) (*folders, error) {
	f := &folders{times: cfg.Partition, room: room}
	var errs []error
	seen := map[string]bool{}
	for _, name := range slices.Concat(cfg.Partition, cfg.Fields) {
		if seen[name] {
			errs = append(errs, fmt.Errorf("Partition and Fields name %q twice: a path has one folder of a name", name))
		}
		seen[name] = true
	}
	for _, name := range cfg.Partition {
		if _, ok := layouts[name]; !ok {
			errs = append(errs, fmt.Errorf("Partition has %q: want year, month, day, date or hour", name))
		}
	}
	zone, err := time.LoadLocation(cfg.Zone)
	if err != nil || cfg.Zone == "Local" {
		errs = append(errs, fmt.Errorf("Zone is %q: want a name of the IANA database that this machine has, like Europe/Berlin", cfg.Zone))
	}
	f.zone = zone
	for _, name := range cfg.Fields {
		if strings.HasPrefix(name, ".") {
			errs = append(errs, fmt.Errorf("Fields has %q, which begins with a dot: readers take such folders for hidden ones", name))
		}
		text, err := format.TextOf(t, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("Fields: %w", err))
		}
		f.fields = append(f.fields, column{name: name, text: text})
	}
	return f, errors.Join(errs...)
}

// of returns the folder of an element, with a slash at its end unless it is empty.
func (f *folders) of(at time.Time, element any) (string, error) {
	var path strings.Builder
	if len(f.times) > 0 {
		at = at.In(f.zone)
		if at.Year() < 0 || at.Year() > 9999 {
			return "", fmt.Errorf("the event time of the element is in the year %d: Partition needs elements with event times", at.Year())
		}
	}
	for _, name := range f.times {
		path.WriteString(name + "=" + at.Format(layouts[name]) + "/")
	}
	for _, c := range f.fields {
		value, err := c.value(element)
		if err != nil {
			return "", err
		}
		part := escape(c.name) + "=" + value
		if len(part) > maxPart {
			return "", fmt.Errorf("the folder %.60s… has %d bytes: file systems take %d", part, len(part), maxPart)
		}
		path.WriteString(part + "/")
	}
	folder := path.String()
	if len(folder) > f.room {
		return "", fmt.Errorf("the folders %.60s… have %d bytes: %d are left for them", folder, len(folder), f.room)
	}
	if folder == "" {
		return "", nil
	}
	return folder, blob.CheckKey(strings.TrimSuffix(folder, "/"))
}

// maxPart is the longest name of a folder that the usual file systems take.
const maxPart = 255

func (c column) value(element any) (string, error) {
	text, null, err := c.text(element)
	if err != nil || null || text == "" { // No folder can have an empty value: Hive and Spark take it for null, too.
		return noValue, err
	}
	return escape(text), nil
}

// escape writes what has a meaning in paths as %XX, as FileUtils.escapePathName of Hive does, which Spark follows.
func escape(text string) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if c < ' ' || c == 0x7f || strings.IndexByte(`"#%'*/:=?\{[]^`, c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
