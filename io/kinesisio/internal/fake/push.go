// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/smithy-go/eventstream"
)

// pushing is what the server knows of its consumers.
type pushing struct {
	consumers     map[string]string // The stream of each ARN.
	subscriptions map[subscribed]*subscription
	changed       chan struct{} // Closed and made anew when something is to be pushed.
	stopped       chan struct{} // Closed at the end of the test.
}

type subscribed struct{ arn, shard string }

// subscription is what one consumer gets of one shard.
type subscription struct {
	stream *stream
	shard  *shard
	at     int // The index of the next record.
	since  time.Time
	ended  bool
	reason string // The exception with which it ends, if it does not end by itself.
}

const (
	// Hold is how long nobody else can subscribe as the same consumer; Kinesis has five seconds.
	Hold = 20 * time.Millisecond

	heartbeat = 10 * time.Millisecond // Between two events of a shard without records; Kinesis has about five seconds.
	perEvent  = 4                     // Records.
)

// Register registers a consumer with a stream and returns its ARN.
func (s *Server) Register(name, consumer string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	arn := fmt.Sprintf("arn:aws:kinesis:us-east-1:123456789012:stream/%s/consumer/%s:1540591616", name, consumer)
	s.consumers[arn] = name
	return arn
}

// EndSubscriptions ends all subscriptions, as Kinesis does after five minutes.
func (s *Server) EndSubscriptions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.subscriptions {
		sub.ended = true
	}
	s.wake()
}

// wake tells the subscriptions to look for something new.
func (s *Server) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// subscribe answers SubscribeToShard with events, until the subscription ends, or refuses it.
func (s *Server) subscribe(w http.ResponseWriter, r *http.Request, in request) *failure {
	p, bad := s.begin(in)
	if bad != nil {
		return bad
	}
	w.Header().Set("Content-Type", "application/vnd.amazon.eventstream")
	for more := send(w, eventstream.EventMessageType, "initial-response", object{}); more; {
		more = s.push(w, r, p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.ended = true
	return nil
}

// begin makes a subscription, which ends the one before it.
func (s *Server) begin(in request) (*subscription, *failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := &subscription{since: time.Now(), stream: s.streams[s.consumers[in.ConsumerARN]]}
	if sub.stream != nil {
		sub.shard = sub.stream.shard(in.ShardId)
	}
	if sub.shard == nil {
		return nil, &failure{"ResourceNotFoundException", "no such consumer, or shard " + in.ShardId}
	}
	from := in.StartingPosition
	var bad *failure
	if sub.at, bad = sub.shard.at(from.Type, from.SequenceNumber, from.Timestamp); bad != nil {
		return nil, bad
	}
	key := subscribed{in.ConsumerARN, in.ShardId}
	if before := s.subscriptions[key]; before != nil && !before.ended {
		if time.Since(before.since) < Hold {
			return nil, &failure{"ResourceInUseException", "another active subscription exists for this consumer"}
		}
		before.ended, before.reason = true, "ResourceInUseException"
		s.wake()
	}
	s.subscriptions[key] = sub
	return sub, nil
}

// push waits for something to send, and tells whether there may be more.
func (s *Server) push(w http.ResponseWriter, r *http.Request, sub *subscription) bool {
	beat := time.NewTimer(heartbeat)
	defer beat.Stop()
	for due := false; ; {
		s.mu.Lock()
		changed, ended := s.changed, sub.ended
		var event object
		last := false
		if !ended {
			event, last = s.event(sub, due)
		}
		s.mu.Unlock()
		switch {
		case ended && sub.reason != "":
			send(w, eventstream.ExceptionMessageType, sub.reason, object{"message": "the subscription was taken over"})
			return false
		case ended:
			return false
		case event != nil:
			return send(w, eventstream.EventMessageType, "SubscribeToShardEvent", event) && !last
		}
		select {
		case <-changed:
		case <-beat.C:
			due = true
		case <-s.stopped:
			return false
		case <-r.Context().Done():
			return false
		}
	}
}

// event is what a subscription sends next, if there is something or it is due, and whether it is the last of its shard.
func (s *Server) event(sub *subscription, due bool) (event object, last bool) {
	sh := sub.shard
	sub.at = max(sub.at, sh.trimmed)
	if sub.at == len(sh.records) && !sh.closed && !due {
		return nil, false
	}
	event, sub.at = s.read(sub.stream, sh, sub.at, perEvent)
	if _, last = event["ChildShards"]; last {
		return event, true
	}
	event["ContinuationSequenceNumber"] = sh.first
	if sub.at > 0 {
		event["ContinuationSequenceNumber"] = sh.records[sub.at-1].sequence
	}
	return event, false
}

// send sends one message of a stream, and tells whether that went well.
func send(w http.ResponseWriter, kind, of string, payload object) bool {
	text, err := json.Marshal(payload)
	if err != nil {
		panic(err) // Of what this package made.
	}
	m := eventstream.Message{Payload: text}
	m.Headers.Set(eventstream.MessageTypeHeader, eventstream.StringValue(kind))
	m.Headers.Set(":"+kind+"-type", eventstream.StringValue(of))
	m.Headers.Set(eventstream.ContentTypeHeader, eventstream.StringValue("application/json"))
	return eventstream.NewEncoder().Encode(w, m) == nil && http.NewResponseController(w).Flush() == nil
}
