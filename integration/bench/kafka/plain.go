// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// plain is the loop of a program that has only franz-go. Counts and offsets are committed in one
// transaction at the end, so it is exactly once; but its counts are in memory, and after a crash
// it begins with the first record again.
func plain() error {
	session, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(brokerList()...),
		kgo.ConsumerGroup(*to), kgo.ConsumeTopics(*topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.TransactionalID(*to), kgo.DefaultProduceTopic(*to),
	)
	if err != nil {
		return err
	}
	defer session.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := createTopic(ctx, session.Client(), *to); err != nil {
		return err
	}
	counts, err := count(ctx, session)
	if err != nil {
		return err
	}
	if err := session.Begin(); err != nil {
		return err
	}
	failed := kgo.AbortingFirstErrPromise(session.Client())
	for p, c := range counts {
		key, value := p.result(c)
		session.Produce(ctx, &kgo.Record{Key: key, Value: value}, failed.Promise())
	}
	produced := failed.Err()
	committed, err := session.End(ctx, kgo.TransactionEndTry(produced == nil))
	if err := errors.Join(produced, err); err != nil {
		return err
	}
	if !committed {
		return fmt.Errorf("the transaction into topic %s was not committed: the group was rebalanced; run it again", *to)
	}
	return nil
}

// count reads every partition to what is its end now.
func count(ctx context.Context, session *kgo.GroupTransactSession) (map[pane]int64, error) {
	ends, err := kadm.NewClient(session.Client()).ListEndOffsets(ctx, *topic)
	if err != nil {
		return nil, err
	}
	left := int64(0) // The input has no transactions, so each offset is a record.
	ends.Each(func(end kadm.ListedOffset) { left += end.Offset })
	counts := map[pane]int64{}
	for left > 0 {
		fetches := session.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			counts[pane{minuteOf(r.Timestamp.UnixMilli()), string(r.Key)}]++
			left--
		})
	}
	return counts, nil
}
