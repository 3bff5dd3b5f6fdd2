// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv/kvtest"
	"github.com/hornbeam-dev/hornbeam/runner/internal/store"
)

func TestTable(t *testing.T) {
	kvtest.Run(t, func(t *testing.T) kv.Table {
		s, err := store.Open(t.TempDir()+"/state", store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestCheckpoint(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir+"/state", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for n := uint64(1); n <= 60; n++ {
		if _, err := commitRow(s, n); err != nil {
			t.Fatal(err)
		}
		if n == 40 {
			if err := s.Checkpoint(dir + "/copy"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]uint64{"state": 60, "copy": 40} {
		s, err := store.OpenReadOnly(path.Join(dir, name), store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := verify(s, n); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if s, err = store.Open(dir+"/copy", store.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := commitRow(s, 41); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestSpecs runs the scripts of testdata, which say what is written to disk when.
//
//	open             opens the state directory
//	commit key=value commits without waiting; prints nothing, for the log is written by and by
//	sync             waits for the latest commit
//	close            closes the state directory
//
// The output lists what was created, renamed and synced, and writes to the guard, each once per
// command, for how many commits share a sync is chance. Left out are numbers of files, removals, and
// tables and other files of Pebble that no promise depends on.
func TestSpecs(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, script string) {
		var log operations
		fs := vfs.WithLogging(vfs.NewMem(), log.add)
		var s *store.Store
		var wait func() error
		datadriven.RunTest(t, script, func(t *testing.T, d *datadriven.TestData) string {
			var err error
			switch d.Cmd {
			case "open":
				s, err = store.Open("state", store.Options{FS: fs})
			case "commit":
				tx := s.Begin()
				tx.Set([]byte(d.CmdArgs[0].Key), []byte(d.CmdArgs[0].Vals[0]))
				wait, err = tx.Commit()
				if err == nil {
					return ""
				}
			case "sync":
				err = wait()
			case "close":
				err = s.Close()
			default:
				t.Fatalf("unknown command %s", d.Cmd)
			}
			if err != nil {
				return err.Error()
			}
			return log.take()
		})
	})
}

// operations is a log of what was done to a file system.
type operations struct {
	mu    sync.Mutex // Guards lines.
	lines []string
}

var (
	shown  = regexp.MustCompile(`^(create|rename|sync|sync-data|write-at)\b`)
	hidden = regexp.MustCompile(`OPTIONS|marker\.format|temporary|sst`)
	number = regexp.MustCompile(`\d{6}`)
)

func (o *operations) add(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if !shown.MatchString(line) || hidden.MatchString(line) {
		return
	}
	line = number.ReplaceAllString(line, "N")
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.Contains(o.lines, line) {
		o.lines = append(o.lines, line)
	}
}

func (o *operations) take() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	lines := o.lines
	o.lines = nil
	return strings.Join(lines, "\n")
}
