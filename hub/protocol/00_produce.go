package protocol

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// Produce: v3-13, offered from 0 (see 18_api_versions.go)
//
// Behaviour:
//   - One v2 batch for each partition; its bytes go to the log as they came.
//     Nothing is decoded, unless the topic's settings ask for it: see accept.
//   - Partitions are proposed in order while the request is handled; the answer
//     follows when all are committed, or with REQUEST_TIMED_OUT for those that
//     are not within TimeoutMillis (they may still be committed).
//   - acks=1 is answered like acks=all: there is no leader's log that others do
//     not share. acks=0 has no answer; a fault ends the connection, as in Kafka,
//     so that the client looks for the leader again.
//   - The first transactional batch in a partition becomes, from v12 on, part of
//     its transaction, or has to be: the coordinator is asked before it is
//     appended (KIP-890). A producer with an old epoch gets
//     INVALID_PRODUCER_EPOCH; while a transaction before is being ended, the
//     request waits.
//   - A mirrored topic answers POLICY_VIOLATION with the site to write at.
//
// Version notes:
//   - v3: v2 batches only; v5: log start offset; v7: zstd allowed
//   - v8: error message and the records at fault (KIP-467)
//   - v9: flexible; v10: the present leader with NOT_LEADER (KIP-951)
//   - v11: TRANSACTION_ABORTABLE; v12: adds partitions to the transaction (KIP-890)
//   - v13: topic IDs (KIP-516)
const produceKey = 0

var produceAPI = api{
	key: produceKey, name: "Produce", min: 3, max: 13,
	shape: body(9, str(), fixed(2), fixed(4), array(
		str().to(12), fixed(16).from(13), array(fixed(4), blob()))),
	needs:  needs(on(catalog.OpWrite, catalog.ResourceTopic)),
	handle: (*Server).produce,
}

// ownMemory is how many times larger than a batch its request may be before
// the batch is copied out: whoever keeps one keeps the whole request's memory.
const ownMemory = 8

func (s *Server) produce(ctx context.Context, r *request) (answer, error) {
	req, err := decode[kmsg.ProduceRequest](r)
	if err != nil {
		return answer{}, err
	}
	a := newProduceAnswer(s, r, req)
	st := s.meta.State()
	for i := range req.Topics {
		rt := &req.Topics[i]
		t, err := s.produceTopic(st, r, req, rt)
		for j := range rt.Partitions {
			slot := &a.resp.Topics[i].Partitions[j]
			if err != nil {
				a.fail(slot, err)
				continue
			}
			s.produceOne(ctx, a, slot, t, rt.Partitions[j].Records)
		}
	}
	a.proposed()
	return answer{later: a}, nil
}

// produceTopic checks what holds for all partitions of a topic alike.
func (s *Server) produceTopic(st *catalog.State, r *request, req *kmsg.ProduceRequest, rt *kmsg.ProduceRequestTopic) (*catalog.Topic, error) {
	if req.Acks < -1 || req.Acks > 1 {
		return nil, fmt.Errorf("%w, not %d", errAcks, req.Acks)
	}
	if id := req.TransactionID; id != nil {
		if err := s.mayTransact(r, *id); err != nil {
			return nil, err
		}
	}
	t, err := s.findFor(r, catalog.OpWrite, st, req.Version >= 13, rt.Topic, rt.TopicID)
	switch {
	case err != nil:
		return nil, err
	case isInternal(t.Name):
		return nil, fmt.Errorf("%w: %q is written by the hub alone", record.ErrInvalidTopic, t.Name)
	case t.Mirror != nil:
		return nil, fmt.Errorf("%w: topic %q is written at site %q", record.ErrReadOnly, t.Name, t.Mirror.Source)
	}
	return t, nil
}

// produceOne checks and proposes one partition's batch.
func (s *Server) produceOne(ctx context.Context, a *produceAnswer, slot *kmsg.ProduceResponseTopicPartition, t *catalog.Topic, records []byte) {
	b, err := producedBatch(records, a.r.version)
	if err == nil {
		b, err = s.accept(t, b, slot)
	}
	if err != nil {
		a.fail(slot, fmt.Errorf("%s-%d: %w", t.Name, slot.Partition, err))
		return
	}
	p, err := s.partition(t, slot.Partition)
	if err != nil {
		a.fail(slot, err)
		a.redirect(slot, t)
		return
	}
	if len(a.r.frame.bytes) > ownMemory*len(b) {
		b = slices.Clone(b)
	}
	a.begin()
	done := func(got []record.Appended, err error) { a.appended(slot, t, got, err) }
	if b.IsTransactional() {
		s.appendTransactional(ctx, a, record.TopicPartition{Topic: t.Name, Partition: slot.Partition}, p, b, done)
		return
	}
	p.Append([]record.Batch{b}, done)
}

// producedBatch verifies the one batch that a request has for a partition.
func producedBatch(records []byte, version int16) (record.Batch, error) {
	b, rest, err := record.SplitBatch(records)
	switch {
	case len(records) == 0:
		return nil, fmt.Errorf("%w: no batch, want one for each partition", record.ErrInvalidBatch)
	case err != nil:
		return nil, err
	case len(rest) > 0:
		return nil, fmt.Errorf("%w: more than one batch for a partition", record.ErrInvalidBatch)
	}
	if err := b.Check(); err != nil {
		return nil, err
	}
	if err := b.CheckProduced(); err != nil {
		return nil, err
	}
	if b.Codec() == record.Zstd && version < 7 {
		return nil, fmt.Errorf("%w: zstd needs version 7 of Produce, the request has %d", record.ErrUnsupportedCodec, version)
	}
	if b.IsTransactional() && b.BaseSequence() < 0 {
		return nil, fmt.Errorf("%w: a transactional batch without a sequence", record.ErrInvalidBatch)
	}
	return b, nil
}

// produceTimeout bounds what a client may ask for; below 1 ms Kafka waits not
// at all, and neither do we.
func produceTimeout(ms int32) time.Duration {
	return min(time.Duration(max(ms, 0))*time.Millisecond, 10*time.Minute)
}
