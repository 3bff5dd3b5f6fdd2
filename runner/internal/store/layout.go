// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// The state directory. Files are made under a name that ends in ".new" and renamed when complete:
// first FORMAT, then the database, which a crash in Pebble's first Open could otherwise leave in a
// state that cannot be opened.
const (
	lockFile   = "LOCK"
	formatFile = "FORMAT"
	dbDir      = "db"
	guardName  = "GUARD"
	guardFile  = dbDir + "/" + guardName // Inside, so that both appear at once.
	unfinished = ".new"
)

// format is the number of this layout and of what is in the table. A store opens all up to it.
const format = 1

const formatText = "hornbeam state directory, format %d\n" +
	"Written by hornbeam, see https://github.com/hornbeam-dev/hornbeam. Change nothing in here.\n"

// prepare locks the directory and makes sure that it is a complete one that this version can read.
func (s *Store) prepare() (err error) {
	if s.readOnly {
		if _, err := s.fs.Stat(s.path(formatFile)); err != nil {
			return fmt.Errorf("not a state directory: %w", err)
		}
	} else if err := s.checkForeign(); err != nil {
		return err
	} else if err := mkdirDurable(s.fs, s.dir); err != nil {
		return err
	}
	if s.lock, err = lockDir(s.fs, s.path(lockFile)); err != nil {
		return err
	}
	if err := s.complete(); err != nil {
		return errors.Join(err, s.lock.Close())
	}
	return nil
}

// checkForeign refuses a directory with files that are not ours, before anything is written to it.
func (s *Store) checkForeign() error {
	names, err := s.fs.List(s.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == formatFile {
			return nil
		}
	}
	for _, name := range names {
		switch name {
		case lockFile, formatFile + unfinished, dbDir + unfinished, "lost+found":
		default:
			return fmt.Errorf("it has no %s file but other content (%s): it is not a state directory; "+
				"choose an empty or new one", formatFile, name)
		}
	}
	return nil
}

// complete makes the directory complete, if it is new or its creation was interrupted.
func (s *Store) complete() error {
	found, err := readFormat(s.fs, s.path(formatFile))
	if errors.Is(err, os.ErrNotExist) {
		return s.create()
	}
	if err != nil {
		return err
	}
	if found > format {
		return fmt.Errorf("it has format %d, and this version of hornbeam reads up to %d: use the "+
			"version that wrote it, or a newer one", found, format)
	}
	if _, err := s.fs.Stat(s.path(dbDir)); err == nil {
		return nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, err := s.fs.Stat(s.path(dbDir + unfinished)); err == nil && !s.readOnly {
		return s.create()
	}
	return corrupt("%s is missing", s.path(dbDir))
}

func (s *Store) create() error {
	fresh := s.path(dbDir + unfinished)
	if err := s.fs.RemoveAll(fresh); err != nil {
		return fmt.Errorf("remove unfinished database: %w", err)
	}
	if err := s.createDB(fresh); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	if err := writeFormat(s.fs, s.dir); err != nil {
		return err
	}
	if err := s.fs.Rename(fresh, s.path(dbDir)); err != nil {
		return fmt.Errorf("name new database: %w", err)
	}
	return syncDir(s.fs, s.dir)
}

// createDB makes a database without commits, and the guard that belongs to it.
func (s *Store) createDB(path string) (err error) {
	if err := s.fs.MkdirAll(path, 0o700); err != nil {
		return err
	}
	db, err := s.openPebble(path)
	if err != nil {
		return err
	}
	if err := errors.Join(beginChain(db), db.Close(), s.failedNow()); err != nil {
		return err
	}
	if err := createGuardFor(s.fs, path, 0); err != nil {
		return err
	}
	return errors.Join(syncDir(s.fs, path), syncDir(s.fs, s.dir))
}

// createGuardFor writes the guard of a database that is not open.
func createGuardFor(fs vfs.FS, path string, seq uint64) error {
	desc, err := pebble.Peek(path, fs)
	if err != nil {
		return err
	}
	number, ok := manifestNumber(fs.PathBase(desc.ManifestFilename))
	if !ok {
		return fmt.Errorf("unexpected manifest name %q", desc.ManifestFilename)
	}
	info, err := fs.Stat(fs.PathJoin(path, fs.PathBase(desc.ManifestFilename)))
	if err != nil {
		return err
	}
	return createGuard(fs, fs.PathJoin(path, guardName), seq, manifestMark{number, uint64(info.Size())})
}

func writeFormat(fs vfs.FS, dir string) error {
	path := fs.PathJoin(dir, formatFile)
	file, err := fs.Create(path+unfinished, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create format file: %w", err)
	}
	_, err = fmt.Fprintf(file, formatText, format)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write format file: %w", err)
	}
	if err := fs.Rename(path+unfinished, path); err != nil {
		return fmt.Errorf("name format file: %w", err)
	}
	return syncDir(fs, dir)
}

func readFormat(fs vfs.FS, path string) (int, error) {
	file, err := fs.Open(path)
	if err != nil {
		return 0, err
	}
	content, err := io.ReadAll(io.LimitReader(file, 4096))
	if err := errors.Join(err, file.Close()); err != nil {
		return 0, fmt.Errorf("read format file: %w", err)
	}
	line, _, _ := strings.Cut(string(content), "\n")
	digits, ok := strings.CutPrefix(line, "hornbeam state directory, format ")
	number, err := strconv.Atoi(digits)
	if !ok || err != nil || number < 1 {
		return 0, corrupt("%s does not name a format", path)
	}
	return number, nil
}

// mkdirDurable creates dir and its parents, and syncs the parents of those that it created.
func mkdirDurable(fs vfs.FS, dir string) error {
	if _, err := fs.Stat(dir); err == nil {
		return nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	parent := fs.PathDir(dir)
	if parent != dir {
		if err := mkdirDurable(fs, parent); err != nil {
			return err
		}
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(fs, parent)
}

func syncDir(fs vfs.FS, dir string) error {
	file, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
