// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A mark is the metadata beside the sequence number that a transaction commits. The number is the offset of a
// group that nobody consumes with, so it is there exactly if the records are.
type mark struct {
	Writer string    `json:"writer"` // Who numbers the records of this shard: one job, from its start on.
	Base   int64     `json:"base"`   // What the writer's state held for certain when the transaction began.
	Chain  string    `json:"chain"`  // Of the records up to the number.
	Dead   []refused `json:"dead,omitempty"`
}

// refused is a record after Base that the broker does not take.
type refused struct {
	Seq  int64  `json:"seq"`
	Code string `json:"code"`
}

// maxMark is what a broker takes as metadata (offset.metadata.max.bytes).
const maxMark = 4096

func (m mark) encode() (string, error) {
	text, err := json.Marshal(m)
	if err == nil && len(text) > maxMark {
		err = conflictError{fmt.Errorf("the broker refuses %d records of one bundle; is the topic right for them? (first: %s)", len(m.Dead), m.Dead[0].Code)}
	}
	return string(text), err
}

// committed is what Kafka says of a shard.
type committed struct {
	seq   int64 // 0 when there is nothing yet.
	mark  mark
	chain chain
}

// conflictError is one that trying again cannot cure: what Kafka holds and what the job knows exclude each other.
type conflictError struct{ error }

func (e conflictError) Unwrap() error { return e.error }

// refusal says which records of a transaction the broker does not take, and why.
type refusal struct {
	errs map[int]error // By their place.
}

func (r *refusal) Error() string {
	for _, err := range r.errs {
		return fmt.Sprintf("%d records refused: %v", len(r.errs), err)
	}
	return "records refused"
}

// refusedFor is the table of the broker's answers that mean one record and never change: its code, or "".
func refusedFor(err error) string {
	switch {
	case errors.Is(err, kerr.MessageTooLarge):
		return CodeTooLarge
	case errors.Is(err, kerr.RecordListTooLarge):
		return CodeListTooLarge
	case errors.Is(err, kerr.InvalidRecord):
		return CodeInvalid
	case errors.Is(err, kerr.InvalidTimestamp):
		return CodeInvalidTime
	}
	return ""
}

// session is a producer of its own for one shard. Opening it fences the one before and ends its transaction.
type session struct {
	id      string // The transactional id, and the name of the group.
	topic   string
	client  *kgo.Client
	adm     *kadm.Client
	limit   batchLimit
	topicID kadm.TopicID
	at      committed
}

// transactionTimeout is after how long the broker aborts the transaction of a writer that has vanished.
const transactionTimeout = time.Minute

// open starts a session and asks where the shard is.
func (w *exactWriter) open(ctx context.Context, id string) (*session, error) {
	opts, err := w.Access.options()
	if err != nil {
		return nil, conflictError{err}
	}
	s := &session{id: id, topic: w.Topic}
	s.client, err = kgo.NewClient(append(opts,
		kgo.SeedBrokers(w.Brokers...),
		kgo.ClientID("hornbeam-write"),
		kgo.TransactionalID(id),
		kgo.TransactionTimeout(transactionTimeout),
		kgo.DefaultProduceTopic(w.Topic),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.DialTimeout(5*time.Second),
		kgo.RetryTimeout(10*time.Second),
		kgo.ProducerLinger(0),
		kgo.UnknownTopicRetries(4),
		kgo.MetadataMinAge(100*time.Millisecond),
		s.limit.option(),
	)...)
	if err != nil {
		return nil, conflictError{err}
	}
	s.adm = kadm.NewClient(s.client)
	if err := s.begin(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *session) begin(ctx context.Context) error {
	if err := s.client.Ping(ctx); err != nil { // Bad credentials are told here at once.
		return err
	}
	if _, _, err := s.client.ProducerID(ctx); err != nil {
		return fmt.Errorf("InitProducerID: %w", err)
	}
	meta, err := s.adm.Metadata(ctx, s.topic)
	if err != nil {
		return fmt.Errorf("metadata of topic %s: %w", s.topic, err)
	}
	if err := meta.Topics[s.topic].Err; err != nil {
		return fmt.Errorf("metadata of topic %s: %w", s.topic, err)
	}
	s.topicID = meta.Topics[s.topic].ID
	if err := s.limit.ask(ctx, s.adm, s.topic); err != nil {
		return err
	}
	return s.locate(ctx)
}

// locate reads the sequence number. It is a group of its own, with the topic's first partition.
func (s *session) locate(ctx context.Context) error {
	offsets, err := s.adm.FetchOffsets(kadm.RequireStable(ctx), s.id)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("OffsetFetch: %w", err)
	}
	at, ok := offsets.Lookup(s.topic, 0)
	switch {
	case !ok:
		return nil
	case at.Err != nil:
		return fmt.Errorf("OffsetFetch: %w", at.Err)
	case at.At < 0:
		return nil
	}
	s.at.seq = at.At
	var c []byte
	if err = json.Unmarshal([]byte(at.Metadata), &s.at.mark); err == nil {
		c, err = hex.DecodeString(s.at.mark.Chain)
	}
	if err != nil || copy(s.at.chain[:], c) != len(s.at.chain) || s.at.mark.Writer == "" {
		return conflictError{fmt.Errorf("group %s holds offset %d with metadata %q, which no sink has written; choose another ID", s.id, at.At, at.Metadata)}
	}
	return nil
}

func (s *session) close() {
	if s != nil {
		s.client.CloseAllowingRebalance()
	}
}

// transact writes records and the sequence number, all or nothing. After any error the outcome is unknown, and
// the session is of no more use. There must be records: without one the client would not end the transaction.
func (s *session) transact(ctx context.Context, records []*kgo.Record, seq int64, m mark) error {
	metadata, err := m.encode()
	if err != nil {
		return err
	}
	if err := s.client.BeginTransaction(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := s.produce(ctx, records); err != nil {
		return err
	}
	id, epoch, err := s.client.ProducerID(ctx) // The epoch is a new one after each transaction.
	if err != nil {
		return fmt.Errorf("producer id: %w", err)
	}
	err = patience(ctx, func() error { return s.addOffsets(ctx, id, epoch) })
	if err == nil {
		err = patience(ctx, func() error { return s.commitOffset(ctx, id, epoch, seq, metadata) })
	}
	if err != nil {
		return err
	}
	if err := s.client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("EndTxn of producer %d: %w", id, err)
	}
	s.at = committed{seq: seq, mark: m}
	c, _ := hex.DecodeString(m.Chain)
	copy(s.at.chain[:], c)
	return nil
}

func (s *session) produce(ctx context.Context, records []*kgo.Record) error {
	place := make(map[*kgo.Record]int, len(records))
	for i, r := range records {
		place[r] = i
	}
	no := &refusal{errs: map[int]error{}}
	var other error
	for _, result := range s.client.ProduceSync(ctx, records...) {
		switch {
		case result.Err == nil:
		case refusedFor(result.Err) != "":
			no.errs[place[result.Record]] = result.Err
		case other == nil:
			other = result.Err
		}
	}
	if len(no.errs) > 0 {
		return no
	}
	if other != nil {
		return fmt.Errorf("produce: %w", other)
	}
	return nil
}

// addOffsets is needed before transactions of version 2, and does no harm with them.
func (s *session) addOffsets(ctx context.Context, id int64, epoch int16) error {
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = s.id, id, epoch, s.id
	resp, err := req.RequestWith(ctx, s.client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("AddOffsetsToTxn of producer %d: %w", id, err)
	}
	return nil
}

func (s *session) commitOffset(ctx context.Context, id int64, epoch int16, seq int64, metadata string) error {
	part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	part.Offset, part.Metadata = seq, kmsg.StringPtr(metadata)
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topic.Topic, topic.TopicID = s.topic, s.topicID // Which of them is sent depends on the version.
	topic.Partitions = append(topic.Partitions, part)
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch = s.id, s.id, id, epoch
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, s.client)
	if err == nil && (len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1) {
		err = errors.New("the answer has no partition")
	}
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("TxnOffsetCommit of producer %d: %w", id, err)
	}
	return nil
}

// patience repeats a request inside of a transaction while the broker says that it was not done: the markers of
// the transaction before are still being written, or the coordinator is being looked for.
func patience(ctx context.Context, request func() error) error {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		err := request()
		if !errors.Is(err, kerr.ConcurrentTransactions) && !errors.Is(err, kerr.CoordinatorLoadInProgress) && !errors.Is(err, kerr.CoordinatorNotAvailable) {
			return err
		}
		if sleep(ctx, wait) != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// explain says what to do about an error that has lasted.
func (w *exactWriter) explain(err error, id string) string {
	brokers := strings.Join(w.Brokers, ",")
	switch {
	case errors.Is(err, kerr.UnstableOffsetCommit):
		return fmt.Sprintf("the number in group %s waits for a transaction that does not end; find it with Kafka's "+
			"kafka-transactions.sh --bootstrap-server %s find-hanging --broker-id N, and abort it there", id, w.Brokers[0])
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return "the topic does not exist; create it first"
	case errors.Is(err, kerr.TransactionalIDAuthorizationFailed), errors.Is(err, kerr.GroupAuthorizationFailed), errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Sprintf("the user needs WRITE on the topic and on transactional id %s, and READ on group %s", id, id)
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return "the brokers do not accept user and password"
	case w.Access.SASL != "":
		return "is the cluster " + brokers + " up, and does it accept user and password?" // Some only hang up.
	}
	return "is the cluster " + brokers + " up?"
}

// isHopeless tells errors that waiting does not cure.
func isHopeless(err error) bool {
	var conflict conflictError
	return errors.As(err, &conflict) || errors.Is(err, kerr.TransactionalIDAuthorizationFailed) || errors.Is(err, kerr.GroupAuthorizationFailed) ||
		errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed) || errors.Is(err, kerr.SaslAuthenticationFailed)
}
