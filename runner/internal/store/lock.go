// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockDir takes the lock of the directory or says who has it. It is a lock of the kernel on an open
// file: it dies with the process, and what the file says is for people to read. Go opens files
// close-on-exec, so that workers do not inherit it.
func lockDir(fs *stateFS, path string) (io.Closer, error) {
	if !fs.disk {
		lock, err := fs.Lock(path)
		if err != nil {
			return nil, fmt.Errorf("in use (%s): %w", path, err)
		}
		return lock, nil
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil, errors.Join(fmt.Errorf("in use by another process (lock %s, held by %s): stop that "+
			"one or use another directory", path, holder(file)), file.Close())
	case err != nil:
		return nil, errors.Join(fmt.Errorf("cannot lock %s (%w): the file system has to support flock",
			path, err), file.Close())
	}
	host, _ := os.Hostname()
	text := fmt.Sprintf("pid %d on host %q, started %s\n", os.Getpid(), host,
		time.Now().UTC().Format(time.RFC3339))
	if err := file.Truncate(0); err != nil {
		return nil, errors.Join(fmt.Errorf("write lock: %w", err), file.Close())
	}
	if _, err := file.WriteAt([]byte(text), 0); err != nil {
		return nil, errors.Join(fmt.Errorf("write lock: %w", err), file.Close())
	}
	return file, nil
}

func holder(file *os.File) string {
	text := make([]byte, 256)
	n, _ := file.ReadAt(text, 0)
	if line, _, _ := strings.Cut(string(text[:n]), "\n"); line != "" {
		return line
	}
	return "unknown"
}
