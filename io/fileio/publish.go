// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// marker is the file that names the job a folder belongs to.
const marker = "_hornbeam_job"

// publish makes path appear once and whole, with what write writes, and returns its size. A file of the
// same content that is already there is the trace of an earlier attempt, and left as it is.
func publish(path string, write func(io.Writer) error) (size int64, err error) {
	dir, name := filepath.Split(path)
	temp := filepath.Join(dir, "."+name+".tmp")
	f, err := lockTemp(temp)
	if err != nil {
		return 0, err
	}
	closed := false
	defer func() {
		if !closed {
			err = errors.Join(err, os.Remove(temp), f.Close())
		}
	}()
	if err := write(f); err != nil {
		return 0, fmt.Errorf("write %s: %w", temp, err)
	}
	if err := f.Sync(); err != nil {
		return 0, fmt.Errorf("sync %s: %w", temp, err)
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	switch err := os.Link(temp, path); {
	case errors.Is(err, fs.ErrExist):
		equal, err := sameContent(f, path)
		if err != nil {
			return 0, fmt.Errorf("compare with %s: %w", path, err)
		}
		if !equal {
			return 0, fmt.Errorf("%s exists with other content: the folder holds another job's results, or the input of this job has changed; "+
				"move the files away or name another folder", path)
		}
	case err != nil:
		return 0, fmt.Errorf("link %s (the folder must be on a file system with hard links): %w", path, err)
	}
	if err := syncDir(dir); err != nil {
		return 0, err
	}
	closed = true
	// The name goes before the lock does, so that nobody finds a finished temporary file unlocked.
	if err := errors.Join(os.Remove(temp), f.Close()); err != nil {
		return 0, fmt.Errorf("close %s: %w", temp, err)
	}
	return info.Size(), nil
}

// lockTemp opens an empty file that only this call writes. What it finds of an earlier attempt is unlinked,
// never truncated: after a crash it may be a second name of the finished file.
func lockTemp(temp string) (*os.File, error) {
	for {
		f, err := os.OpenFile(temp, os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			return nil, errors.Join(fmt.Errorf("%s is being written by another worker: %w", temp, err), f.Close())
		}
		mine, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		named, err := os.Stat(temp)
		switch {
		case err == nil && os.SameFile(mine, named) && mine.Size() == 0 && links(mine) == 1:
			return f, nil
		case err == nil && os.SameFile(mine, named):
			err = os.Remove(temp)
		case errors.Is(err, fs.ErrNotExist):
			err = nil // Its writer finished between our open and our lock.
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
}

func links(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink)
	}
	return 1
}

func sameContent(f *os.File, path string) (bool, error) {
	other, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer other.Close()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	a, b := bufio.NewReaderSize(f, 1<<16), bufio.NewReaderSize(other, 1<<16)
	bufA, bufB := make([]byte, 1<<16), make([]byte, 1<<16)
	for {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		if !bytes.Equal(bufA[:n], bufB[:m]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			return atEnd(errA) && atEnd(errB), errors.Join(notEnd(errA), notEnd(errB))
		}
	}
}

func atEnd(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }

func notEnd(err error) error {
	if atEnd(err) {
		return nil
	}
	return err
}

func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the folder for the files: %w", err)
	}
	return syncDir(filepath.Dir(filepath.Clean(dir)))
}

func syncDir(dir string) error {
	if dir == "" {
		dir = "."
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	return nil
}

// Claim makes dir the folder of the job with the given id, by a small file in it. A folder that another job
// has claimed, or that holds files and no claim, is refused; claiming again with the same id is not.
func Claim(dir, jobID string) error {
	if jobID == "" || strings.ContainsAny(jobID, "\r\n") {
		return fmt.Errorf("fileio: job id %q must be one line", jobID)
	}
	if err := makeDir(dir); err != nil {
		return err
	}
	path := filepath.Join(dir, marker)
	owner, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if owner, err = claimNew(dir, path, jobID); err != nil {
			return fmt.Errorf("fileio: claim %s: %w", dir, err)
		}
	}
	if err != nil {
		return fmt.Errorf("fileio: claim %s: %w", dir, err)
	}
	if got := strings.TrimSuffix(string(owner), "\n"); got != jobID {
		return fmt.Errorf("fileio: folder %s holds the results of job %q, this is job %q; name another folder or move the results away", dir, got, jobID)
	}
	return nil
}

// claimNew puts the claim there if nobody does it first, and returns whatever claim is there then.
func claimNew(dir, path, jobID string) ([]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Name() == marker {
			return os.ReadFile(path)
		}
		if !strings.HasPrefix(e.Name(), ".") {
			return nil, fmt.Errorf("it is not empty (%s) and belongs to no job; name an empty folder", e.Name())
		}
	}
	// A private name per attempt: two workers of one job may claim at the same moment.
	f, err := os.CreateTemp(dir, "."+marker+".*.tmp")
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(jobID + "\n")
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	if err := errors.Join(os.Remove(f.Name()), syncDir(dir)); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}
