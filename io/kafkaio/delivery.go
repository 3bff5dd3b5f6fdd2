// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/log"
	"github.com/twmb/franz-go/pkg/kgo"
)

// delivery is one batch on its way.
type delivery struct {
	*exactWriter
	shard  int64
	id     string
	before progress
	batch  numbered
	chains []chain // After each record.
	in     *shardBundle

	to int64     // The next transaction goes no further: less than the batch while a refused record is looked for.
	at committed // What Kafka has, as far as is known.
}

func newDelivery(w *exactWriter, shard int64, id string, before progress, b numbered) *delivery {
	d := &delivery{exactWriter: w, shard: shard, id: id, before: before, batch: b, in: w.bundle[shard], to: b.last()}
	var c chain
	copy(c[:], before.Chain)
	for _, r := range b.records {
		c = c.next(r)
		d.chains = append(d.chains, c)
	}
	if s := w.sessions[shard]; s != nil && s.at.seq != before.Kafka {
		w.drop(shard) // Somebody else has written in between, or the last bundle has failed.
	}
	return d
}

// run brings the batch to Kafka. After an error the outcome of a transaction is unknown: a new session ends it
// in one way or the other, and says in which.
func (d *delivery) run(ctx context.Context) error {
	deadline := time.Now().Add(d.Timeout)
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		attempt, cancel := context.WithDeadline(ctx, deadline)
		err := d.attempt(attempt)
		cancel()
		if err == nil {
			return nil
		}
		d.drop(d.shard)
		var no *refusal
		switch {
		case ctx.Err() != nil:
			return errors.Join(ctx.Err(), err)
		case errors.As(err, &no):
			d.isolate(no)
			continue
		case isHopeless(err):
			return fmt.Errorf("%w (%s)", err, d.explain(err, d.id))
		case time.Now().Add(wait).After(deadline):
			return fmt.Errorf("no success for %v: %w (%s)", d.Timeout, err, d.explain(err, d.id))
		}
		log.Infof(ctx, "kafkaio.Write: transactional id %s: the outcome is unknown and asked for again: %v", d.id, err)
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// attempt writes what Kafka does not have yet.
func (d *delivery) attempt(ctx context.Context) error {
	s := d.sessions[d.shard]
	if s == nil {
		var err error
		if s, err = d.open(ctx, d.id); err != nil {
			return err
		}
		d.sessions[d.shard] = s
		if err := d.compare(s.at); err != nil {
			return conflictError{err}
		}
	}
	d.at = s.at
	for {
		seqs := d.unsent()
		if len(seqs) > 0 {
			records := make([]*kgo.Record, len(seqs))
			for i, seq := range seqs {
				r, err := decodeRecord(d.batch.records[seq-d.batch.first])
				if err != nil {
					return conflictError{err}
				}
				records[i] = r.toKafka()
			}
			last := seqs[len(seqs)-1]
			c := d.chains[last-d.batch.first]
			m := mark{Writer: d.batch.writer, Base: d.in.base, Chain: hex.EncodeToString(c[:]), Dead: d.in.dead}
			if err := s.transact(ctx, records, last, m); err != nil {
				return err
			}
			d.at = s.at
		}
		if d.to == d.batch.last() {
			return nil
		}
		d.to = d.batch.last()
	}
}

// compare refuses to write when what Kafka has cannot be what this job has written.
func (d *delivery) compare(at committed) error {
	const start = "the sink would lose or double records and stops; after a look at the topic, go on with another ID"
	p, seq := d.before, at.seq
	switch {
	case seq > 0 && at.mark.Writer != d.batch.writer:
		return fmt.Errorf("another job has written with ID %q (writer %s up to %d, this one is %s), or the state of this job was lost: each sink needs an ID of its own",
			d.ID, at.mark.Writer, seq, d.batch.writer)
	case seq < p.Kafka:
		return fmt.Errorf("Kafka has lost what it had acknowledged: group %s is at %d, this job has written up to %d; "+
			"a broker lost data, the topic was created again, or the group has expired (offsets.retention.minutes): %s", d.id, seq, p.Kafka, start)
	case seq == p.Kafka:
		if seq > 0 && !bytes.Equal(at.chain[:], p.KafkaChain) {
			return fmt.Errorf("group %s is at %d, but with other records than this job has written: %s", d.id, seq, start)
		}
		return nil
	case at.mark.Base > p.Seq || seq < d.batch.first:
		return fmt.Errorf("the state of this job was rolled back: group %s is at %d, written when the job was at %d, and the job is at %d; "+
			"was an older copy of the state directory put back? %s", d.id, seq, at.mark.Base, p.Seq, start)
	case seq <= d.batch.last() && at.chain != d.chains[seq-d.batch.first]:
		return fmt.Errorf("the state of this job was rolled back: group %s is at %d, with other records up to there than the job has now: %s", d.id, seq, start)
	}
	for _, r := range at.mark.Dead {
		if r.Seq > d.in.base && !d.isDead(r.Seq) {
			d.in.dead = append(d.in.dead, r)
		}
	}
	return nil
}

// unsent are the numbers that a transaction has to write, in order.
func (d *delivery) unsent() (seqs []int64) {
	for seq := max(d.batch.first, d.at.seq+1); seq <= d.to; seq++ {
		if !d.isDead(seq) {
			seqs = append(seqs, seq)
		}
	}
	return seqs
}

func (d *delivery) isDead(seq int64) bool {
	return slices.ContainsFunc(d.in.dead, func(r refused) bool { return r.Seq == seq })
}

func (d *delivery) deadHere() (n int) {
	for _, r := range d.in.dead {
		if d.batch.first <= r.Seq && r.Seq <= d.batch.last() {
			n++
		}
	}
	return n
}

// isolate finds the record that is refused, with brokers that refuse many records for one of them.
func (d *delivery) isolate(no *refusal) {
	sent := d.unsent()
	var places []int
	for place := range no.errs {
		places = append(places, place)
	}
	slices.Sort(places)
	if len(places) == 1 {
		d.in.dead = append(d.in.dead, refused{Seq: sent[places[0]], Code: refusedFor(no.errs[places[0]])})
		return
	}
	d.to = sent[places[(len(places)-1)/2]]
}

// after is the progress when the batch is written.
func (d *delivery) after() progress {
	p := d.before
	p.Seq = d.batch.last()
	last := d.chains[len(d.chains)-1]
	p.Chain = last[:]
	if kafka := min(d.at.seq, p.Seq); kafka >= d.batch.first {
		c := d.chains[kafka-d.batch.first]
		p.Kafka, p.KafkaChain = kafka, c[:]
	}
	return p
}
