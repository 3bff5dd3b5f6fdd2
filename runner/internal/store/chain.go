// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
)

// Every commit writes one link of a chain: under its sequence number, the digest of its writes and
// a hash over that and the link before. Pebble can take a damaged record for the end of one log
// and go on with the next; the commits between are then missing in the chain.
//
// Only what was replayed from a log can have such a hole, so links are dropped once their commits
// are flushed to tables; the key prunedKey has the number of the first link that must be there.
//
// The digest is CRC-32C, which costs nothing beside the commit; the hash is the first eight bytes
// of SHA-256. They are to find accidents, not attackers.
var (
	chainPrefix = []byte{ownKeys, 'c'}
	prunedKey   = []byte{ownKeys, 'p'}
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
)

// minPruned is the least number of links worth a range deletion.
const minPruned = 64

// chain is the end of the chain.
type chain struct {
	seq    uint64 // Of the latest commit.
	link   uint64 // Its hash.
	pruned uint64 // The first link kept.
}

// extend adds the link of batch to batch, and drops links below flushed if they are many.
func (c chain) extend(batch *pebble.Batch, flushed uint64) (chain, error) {
	c.seq++
	digest := crc32.Checksum(batch.Repr()[batchrepr.HeaderLen:], castagnoli)
	c.link = hashLink(c.link, c.seq, digest)
	op := batch.SetDeferred(len(chainPrefix)+8, 12)
	copy(op.Key, chainPrefix)
	binary.BigEndian.PutUint64(op.Key[len(chainPrefix):], c.seq)
	binary.BigEndian.PutUint32(op.Value, digest)
	binary.BigEndian.PutUint64(op.Value[4:], c.link)
	if flushed < c.pruned+minPruned {
		return c, nil
	}
	from, to := c.pruned, flushed
	c.pruned = flushed
	return c, errors.Join(
		batch.DeleteRange(linkKey(from), linkKey(to), nil),
		batch.Set(prunedKey, binary.BigEndian.AppendUint64(nil, to), nil))
}

func linkKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64(bytes.Clone(chainPrefix), seq)
}

func hashLink(previous, seq uint64, digest uint32) uint64 {
	var in [20]byte
	binary.BigEndian.PutUint64(in[:], previous)
	binary.BigEndian.PutUint64(in[8:], seq)
	binary.BigEndian.PutUint32(in[16:], digest)
	sum := sha256.Sum256(in[:])
	return binary.BigEndian.Uint64(sum[:])
}

// beginChain writes what readChain expects of a table without commits.
func beginChain(db *pebble.DB) error {
	batch := db.NewBatch()
	if err := errors.Join(
		batch.Set(linkKey(0), make([]byte, 12), nil),
		batch.Set(prunedKey, make([]byte, 8), nil)); err != nil {
		return err
	}
	return batch.Commit(pebble.Sync)
}

// readChain checks that no link is missing and returns the end.
func readChain(db *pebble.DB) (chain, error) {
	pruned, closer, err := db.Get(prunedKey)
	if err != nil || len(pruned) != 8 {
		return chain{}, corrupt("the start of the commit chain is missing (%v)", err)
	}
	c := chain{pruned: binary.BigEndian.Uint64(pruned)}
	if err := closer.Close(); err != nil {
		return chain{}, err
	}
	iter, err := db.NewIter(&pebble.IterOptions{LowerBound: chainPrefix, UpperBound: prunedKey})
	if err != nil {
		return chain{}, fmt.Errorf("read the commit chain: %w", err)
	}
	next := c.pruned
	for ok := iter.First(); ok && err == nil; ok = iter.Next() {
		err = c.follow(next, iter.Key(), iter.Value())
		next++
	}
	if err := errors.Join(err, iter.Error(), iter.Close()); err != nil {
		return chain{}, fmt.Errorf("read the commit chain: %w", err)
	}
	if next == c.pruned {
		return chain{}, corrupt("commit %d is missing", next)
	}
	return c, nil
}

// follow goes to the link that is stored under key, which should be that of commit seq.
func (c *chain) follow(seq uint64, key, value []byte) error {
	if !bytes.Equal(key, linkKey(seq)) || len(value) != 12 {
		return corrupt("commit %d is missing, though later ones are there", seq)
	}
	digest, link := binary.BigEndian.Uint32(value), binary.BigEndian.Uint64(value[4:])
	if seq != c.pruned && link != hashLink(c.link, seq, digest) {
		return corrupt("commit %d does not follow the one before it", seq)
	}
	c.seq, c.link = seq, link
	return nil
}

// flushed knows which commits need the log no longer. Pebble tells up to which of its own sequence
// numbers it has flushed, so that some pairs of its numbers and ours are kept.
type flushed struct {
	mu    sync.Mutex // Guards the rest.
	seq   uint64
	pairs []pair
}

type pair struct{ seq, pebble uint64 }

// samplePeriod is how many commits one pair stands for.
const samplePeriod = 32

func (f *flushed) reset(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	// All that was replayed at open may still be in memory only.
	f.seq, f.pairs = 0, append(f.pairs[:0], pair{seq: seq})
}

func (f *flushed) applied(seq, pebble uint64) {
	if seq%samplePeriod != 0 || pebble == 0 {
		return // Pebble forgets the number of a batch that is large enough to be flushed by itself.
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pairs = append(f.pairs, pair{seq, pebble})
}

// flushedTo takes note that Pebble's numbers up to the given one are in tables.
func (f *flushed) flushedTo(pebble uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for n < len(f.pairs) && f.pairs[n].pebble <= pebble {
		f.seq = f.pairs[n].seq
		n++
	}
	f.pairs = append(f.pairs[:0], f.pairs[n:]...)
}

func (f *flushed) upTo() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seq
}
