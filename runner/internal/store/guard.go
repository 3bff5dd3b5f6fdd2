// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// guard is the file that says what the rest of the directory must still have: the latest commit
// that was acknowledged, and how long Pebble's manifest was when it was last synced. It is written
// after each of these without an fsync. So it survives the death of the process exactly, and after
// a loss of power it says less than is there, never more.
//
// It has three slots of 24 bytes, in one sector: the sequence number of the commit, and the number
// and length of the latest two manifests. There are two because Pebble makes a new manifest before
// it begins to use it.
type guard struct {
	file vfs.File

	mu        sync.Mutex // Guards the rest, but not I/O on the commit's slot, which has one writer.
	seq       uint64     // As found at open.
	manifests [2]manifestMark
	current   int // Which of manifests is in use, or written.
}

type manifestMark struct{ number, size uint64 }

const (
	slotSize  = 24
	guardSize = 3 * slotSize
)

// ErrCorrupt is wrapped by the errors of a directory that has lost or damaged something.
var ErrCorrupt = errors.New("state is damaged")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s; nothing was changed: keep the directory for analysis and restore a "+
		"complete copy", ErrCorrupt, fmt.Sprintf(format, args...))
}

func slot(a, b uint64) []byte {
	p := make([]byte, slotSize)
	binary.BigEndian.PutUint64(p, a)
	binary.BigEndian.PutUint64(p[8:], b)
	binary.BigEndian.PutUint32(p[16:], crc32.Checksum(p[:16], castagnoli))
	copy(p[20:], "mark")
	return p
}

func createGuard(fs vfs.FS, path string, seq uint64, manifest manifestMark) error {
	file, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create guard file: %w", err)
	}
	content := append(slot(seq, 0), slot(manifest.number, manifest.size)...)
	_, err = file.Write(append(content, slot(0, 0)...))
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write guard file: %w", err)
	}
	return nil
}

func openGuard(fs vfs.FS, path string) (*guard, error) {
	if _, err := fs.Stat(path); err != nil { // Opening for writing would create it.
		return nil, corrupt("the guard file cannot be read (%v)", err)
	}
	file, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("open guard file: %w", err)
	}
	g := &guard{file: file}
	var slots [3]manifestMark
	for i := range slots {
		p := make([]byte, slotSize)
		if _, err := file.ReadAt(p, int64(i*slotSize)); err != nil {
			return nil, errors.Join(corrupt("the guard file is too short (%v)", err), file.Close())
		}
		slots[i] = manifestMark{binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[8:])}
		if string(p) != string(slot(slots[i].number, slots[i].size)) {
			return nil, errors.Join(corrupt("the guard file has a wrong checksum"), file.Close())
		}
	}
	g.seq = slots[0].number
	copy(g.manifests[:], slots[1:])
	return g, nil
}

func (g *guard) close() error { return g.file.Close() }

// noteSequence is called after commit seq was synced, and before anyone is told.
func (g *guard) noteSequence(seq uint64) error {
	if _, err := g.file.WriteAt(slot(seq, 0), 0); err != nil {
		return fmt.Errorf("write guard file: %w", err)
	}
	return nil
}

func (g *guard) checkSequence(recovered uint64) error {
	if recovered < g.seq {
		return corrupt("the state was rolled back or the log has lost its end: commit %d was "+
			"acknowledged, %d is the latest here", g.seq, recovered)
	}
	return nil
}

// noteManifest is called when the first size bytes of a manifest are known to be on disk.
func (g *guard) noteManifest(number, size uint64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	fresh := g.manifests[g.current].number != number
	if fresh {
		g.current = 1 - g.current
	}
	mark := manifestMark{number, size}
	g.manifests[g.current] = mark
	_, err := g.file.WriteAt(slot(number, size), int64((1+g.current)*slotSize))
	if err == nil && fresh {
		err = g.file.Sync() // Before Pebble begins to use it.
	}
	if err != nil {
		return fmt.Errorf("write guard file: %w", err)
	}
	return nil
}

// checkManifest checks that the manifest in use is whole as far as it was known to be. Pebble
// itself takes a damaged record for the end, and so opens an older state.
func (g *guard) checkManifest(fs vfs.FS, dir string) error {
	desc, err := pebble.Peek(dir, fs)
	if err != nil {
		return corrupt("cannot find the manifest in %s: %v", dir, err)
	}
	if !desc.Exists {
		return corrupt("%s has no manifest", dir)
	}
	name := fs.PathBase(desc.ManifestFilename)
	number, ok := manifestNumber(name)
	if !ok {
		return corrupt("%q is no manifest", name)
	}
	for i, mark := range g.manifests {
		if mark.number != number {
			continue
		}
		g.current = i
		return checkRecords(fs, fs.PathJoin(dir, name), int64(mark.size))
	}
	return corrupt("%s is not the manifest that was in use (%d or %d)", name,
		g.manifests[0].number, g.manifests[1].number)
}

func manifestNumber(name string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, "MANIFEST-")
	if !ok {
		return 0, false
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, err == nil && number > 0
}

// checkRecords checks that the file has only whole records in its first size bytes.
func checkRecords(fs vfs.FS, path string, size int64) error {
	file, err := fs.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return corrupt("%s is missing", path)
	}
	if err != nil {
		return fmt.Errorf("check manifest: %w", err)
	}
	reader, end := record.NewReader(file, 0), int64(0)
	for err == nil {
		var r io.Reader
		if r, err = reader.Next(); err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if err == nil {
			end = reader.Offset()
		}
	}
	if closing := file.Close(); closing != nil {
		return fmt.Errorf("check manifest: %w", closing)
	}
	if end < size {
		return corrupt("%s is readable for %d bytes of %d (%v)", path, end, size, err)
	}
	return nil
}
