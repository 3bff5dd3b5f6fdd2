// SPDX-License-Identifier: Apache-2.0

package kinesisio

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Restriction is what is left to read of a range of hash keys. It says once where it starts, so that the start and
// the end mean the same after a restart.
type Restriction struct {
	Stream  string
	Created int64  // When the stream was created, in milliseconds; one that was deleted and created again has another time.
	End     int64  // Records that arrived at this time or later, in milliseconds, are not part of it; math.MaxInt64 when it is unbounded.
	Parts   []Part // Of which no two overlap. None: nothing is left.
}

// Part is what is left of one shard. Hash keys are 32 hexadecimal digits.
type Part struct {
	Shard     string
	Parents   []string // The shards it follows, also when they are no longer there.
	ShardLow  string   // The first hash key of the shard,
	ShardHigh string   // and the last.
	Low       string   // The first hash key of the part,
	High      string   // and the last.
	At        Place
}

// Place is a position in a shard.
type Place struct {
	Kind     string // "earliest", "time" or "sequence".
	Millis   int64  // For "time".
	Sequence string // For "sequence": the record that was last touched.
	Taken    int64  // For "sequence": how many of its user records were taken. -1: all, and the place is behind the record.
	Seen     int64  // Milliseconds: all that arrived later is to be read. When the last record before it arrived, when nothing followed it, or when the read began; 0: not known.
}

// partID tells a part from the others of its restriction.
type partID struct{ Shard, Low string }

func (p Part) id() partID { return partID{p.Shard, p.Low} }

func (r Restriction) bounded() bool { return r.End != math.MaxInt64 }

// waits tells whether a part waits for another parent of its shard in the same restriction, which is then read
// to its end first.
func (r Restriction) waits(p Part) bool {
	return p.At.Kind == "earliest" && slices.ContainsFunc(r.Parts, func(q Part) bool { return slices.Contains(p.Parents, q.Shard) })
}

// join makes one part of neighbours in one shard that nothing was read of.
func join(parts []Part) []Part {
	slices.SortStableFunc(parts, func(a, b Part) int { return strings.Compare(a.Shard+a.Low, b.Shard+b.Low) })
	var joined []Part
	for _, p := range parts {
		if n := len(joined); n > 0 {
			last := &joined[n-1]
			if last.Shard == p.Shard && last.At.Kind == "earliest" && p.At.Kind == "earliest" && after(last.High) == p.Low {
				last.High = p.High
				last.At.Seen = min(last.At.Seen, p.At.Seen)
				continue
			}
		}
		joined = append(joined, p)
	}
	return joined
}

// compareSequences orders sequence numbers, which are decimal and of any length.
func compareSequences(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// The claims. Those of a part come in the order of its shard.
type (
	// take is a user record.
	take struct {
		part     partID
		sequence string
		index    int64
		last     bool  // No user record follows it in the record.
		arrival  int64 // Milliseconds.
	}
	// pass is that nothing is left to read up to the end of a record.
	pass struct {
		part     partID
		sequence string
		arrival  int64
	}
	// tip is that nothing followed the place at this time.
	tip struct {
		part partID
		at   int64
	}
	// handOver is that a part is finished and others follow, or none.
	handOver struct {
		part partID
		to   []Part
	}
	// restart is that a part goes on somewhere else, because its place is gone.
	restart struct {
		part partID
		to   []Part
	}
)

// tracker implements sdf.RTracker.
type tracker struct {
	rest  Restriction // Its parts are those of the start.
	now   []Part      // What is left.
	taken float64     // User records.
	left  float64     // The backlog as last seen, in seconds.
	over  bool        // The rest was split off.
	err   error
}

func newTracker(rest Restriction) *tracker {
	return &tracker{rest: rest, now: slices.Clone(rest.Parts)}
}

// TryClaim takes a take, pass, tip, handOver or restart. After a checkpoint all are refused.
func (t *tracker) TryClaim(pos any) bool {
	if t.over || t.err != nil {
		return false
	}
	var id partID
	switch pos := pos.(type) {
	case take:
		id = pos.part
	case pass:
		id = pos.part
	case tip:
		id = pos.part
	case handOver:
		id = pos.part
	case restart:
		id = pos.part
	default:
		t.err = fmt.Errorf("kinesisio: position is %T", pos)
		return false
	}
	i := slices.IndexFunc(t.now, func(p Part) bool { return p.id() == id })
	if i < 0 { // It was split off.
		return false
	}
	at := &t.now[i].At
	switch pos := pos.(type) {
	case take:
		t.err = at.mayTake(pos.sequence, pos.index)
		if t.err == nil {
			taken := pos.index + 1
			if pos.last {
				taken = -1
			}
			*at = Place{Kind: "sequence", Sequence: pos.sequence, Taken: taken, Seen: at.seen(pos.arrival)}
			t.taken++
		}
	case pass:
		t.err = at.mayTake(pos.sequence, math.MaxInt64)
		if t.err == nil {
			*at = Place{Kind: "sequence", Sequence: pos.sequence, Taken: -1, Seen: at.seen(pos.arrival)}
		}
	case tip:
		at.Seen = max(at.Seen, pos.at)
	case handOver:
		seen := at.Seen // What the children have came later than what the part had.
		t.now = slices.Delete(t.now, i, i+1)
		for _, p := range pos.to {
			p.At.Seen = seen
			t.now = append(t.now, p)
		}
		t.now = join(t.now)
	case restart:
		t.now = append(slices.Delete(t.now, i, i+1), pos.to...)
	}
	return t.err == nil
}

// seen is Seen behind a record. The first one of a read may have arrived long before the read began.
func (p Place) seen(arrival int64) int64 {
	if p.Kind != "sequence" {
		return arrival
	}
	return max(p.Seen, arrival)
}

// mayTake refuses to go back.
func (p Place) mayTake(sequence string, index int64) error {
	if p.Kind != "sequence" {
		return nil
	}
	c := compareSequences(sequence, p.Sequence)
	if c < 0 || c == 0 && (p.Taken < 0 || index < p.Taken) {
		return fmt.Errorf("kinesisio: claim of record %s, index %d, but the position is %s, %d", sequence, index, p.Sequence, p.Taken)
	}
	return nil
}

// GetError implements sdf.RTracker.
func (t *tracker) GetError() error { return t.err }

// TrySplit implements sdf.RTracker. A checkpoint leaves everything that was not claimed. Another split gives
// shards away, if there are several: two restrictions in one shard would read no faster.
func (t *tracker) TrySplit(fraction float64) (primary, residual any, err error) {
	if t.over || t.IsDone() || fraction > 0 && len(t.now) < 2 {
		return t.rest, nil, nil
	}
	rest := t.rest
	if fraction <= 0 {
		rest.Parts, t.now, t.over = t.now, nil, true
		return t.rest, rest, nil
	}
	keep := min(max(int(math.Ceil(fraction*float64(len(t.now)))), 1), len(t.now)-1)
	rest.Parts = slices.Clone(t.now[keep:])
	t.now = slices.Clone(t.now[:keep])
	t.rest.Parts = slices.Clone(t.now)
	return t.rest, rest, nil
}

// GetProgress implements sdf.RTracker: user records, and seconds of the stream.
func (t *tracker) GetProgress() (done, remaining float64) { return t.taken, t.left }

// IsDone implements sdf.RTracker.
func (t *tracker) IsDone() bool { return t.err == nil && len(t.now) == 0 }

// GetRestriction implements sdf.RTracker.
func (t *tracker) GetRestriction() any { return t.rest }

// IsBounded implements sdf.BoundableRTracker.
func (t *tracker) IsBounded() bool { return t.rest.bounded() }
