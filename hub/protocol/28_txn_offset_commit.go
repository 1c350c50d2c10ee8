package protocol

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/hub/txn"
	"github.com/entrepot-hub/entrepot/record"
)

// TxnOffsetCommit: v0-5
//
// Behaviour:
//   - The offsets become the group's when the transaction is committed, and are
//     dropped when it is aborted. Answered when they are durable.
//   - The partition of __consumer_offsets that keeps the group becomes, from v5
//     on, part of the transaction, or has to be (KIP-890).
//   - From v3 on the group's member is checked, so that a member that was left
//     out of a rebalance commits nothing (KIP-447).
//   - An old epoch is INVALID_PRODUCER_EPOCH in all versions.
//
// Version notes:
//   - v2: leader epoch; v3: flexible, member; v4: TRANSACTION_ABORTABLE
//   - v5: adds the group to the transaction (KIP-890)
var txnOffsetCommitAPI = api{
	key: 28, name: "TxnOffsetCommit", min: 0, max: 5,
	shape: body(3, str(), str(), fixed(8), fixed(2), fixed(4).from(3), str().from(3), str().from(3),
		array(str(), array(fixed(4), fixed(8), fixed(4).from(2), str()))),
	needs:  needs(on(catalog.OpWrite, catalog.ResourceTransactionalID), on(catalog.OpRead, catalog.ResourceGroup), on(catalog.OpRead, catalog.ResourceTopic)),
	handle: plain[kmsg.TxnOffsetCommitRequest]((*Server).txnOffsetCommit),
}

func (s *Server) txnOffsetCommit(ctx context.Context, r *request, req *kmsg.TxnOffsetCommitRequest) kmsg.Response {
	resp := kmsg.NewPtrTxnOffsetCommitResponse()
	ask := group.CommitRequest{
		MemberID: req.MemberID, Instance: orEmpty(req.InstanceID), Generation: req.Generation,
		IDs: make(map[string]record.TopicID, len(req.Topics)),
	}
	var slots []*int16 // of ask.Offsets
	resp.Topics = make([]kmsg.TxnOffsetCommitResponseTopic, len(req.Topics))
	now := s.cfg.Clock().UnixMilli()
	denied := cmp.Or(s.mayTransact(r, req.TransactionalID), s.mayGroup(r, catalog.OpRead, req.Group))
	for i := range req.Topics {
		rt, ot := &req.Topics[i], &resp.Topics[i]
		ot.Topic = rt.Topic
		ot.Partitions = make([]kmsg.TxnOffsetCommitResponseTopicPartition, len(rt.Partitions))
		var t *catalog.Topic
		err := denied
		if err == nil {
			t, err = s.findToCoordinate(ctx, r, catalog.OpRead, false, rt.Topic, record.TopicID{})
		}
		for j := range rt.Partitions {
			rp, slot := &rt.Partitions[j], &ot.Partitions[j]
			slot.Partition = rp.Partition
			if slot.ErrorCode = code(hasPartition(t, rp.Partition, err)); slot.ErrorCode != 0 {
				continue
			}
			slots = append(slots, &slot.ErrorCode)
			ask.IDs[t.Name] = t.ID
			ask.Offsets = append(ask.Offsets, group.OffsetWrite{
				TopicPartition: record.TopicPartition{Topic: rt.Topic, Partition: rp.Partition},
				Offset:         &group.Offset{Offset: rp.Offset, LeaderEpoch: rp.LeaderEpoch, Metadata: orEmpty(rp.Metadata), CommitTime: committedAt(t, now)},
			})
		}
	}
	if len(slots) == 0 {
		return resp
	}
	errs, err := s.commitInTxn(ctx, req, ask)
	for i, slot := range slots {
		switch {
		case err != nil:
			*slot = code(txnCommitError(err, req.Version))
		case i < len(errs):
			*slot = code(errs[i])
		}
	}
	return resp
}

// commitInTxn sees to it that the group's partition is in the transaction, and
// stores the offsets with it.
func (s *Server) commitInTxn(ctx context.Context, req *kmsg.TxnOffsetCommitRequest, ask group.CommitRequest) ([]error, error) {
	switch {
	case req.Group == "":
		return nil, group.ErrInvalidGroupID
	case req.TransactionalID == "":
		return nil, txn.ErrInvalidID
	}
	n, err := s.groups.shardOf(ctx, req.Group)
	if err != nil {
		return nil, err
	}
	p, err := s.parts.Partition(catalog.OffsetsTopic, n)
	if err != nil {
		return nil, coordinatorError(err)
	}
	k := txnPartition{record.TopicPartition{Topic: catalog.OffsetsTopic, Partition: n}, req.ProducerID}
	guard, err := s.guard(ctx, req, k, groupPart{p})
	if err != nil {
		return nil, err
	}
	tx := group.Transactional{ProducerID: req.ProducerID, ProducerEpoch: req.ProducerEpoch, Guard: guard}
	a, err := s.groups.ask(ctx, req.Group, func(now time.Time, g *group.Group, t group.Ticket) group.Output {
		return g.CommitTransactional(now, t, ask, tx)
	})
	return a.Commit, err
}

// groupPart is a partition of __consumer_offsets that moves away from under a
// commit.
type groupPart struct{ Partition }

// Transaction tells the coordinator's errors, not the partition's (pitfall 9).
func (p groupPart) Transaction(producerID int64) (record.Transaction, error) {
	t, err := p.Partition.Transaction(producerID)
	return t, coordinatorError(err)
}

// guard waits until the coordinator has agreed.
func (s *Server) guard(ctx context.Context, req *kmsg.TxnOffsetCommitRequest, k txnPartition, p Partition) (int64, error) {
	type agreed struct {
		guard int64
		err   error
	}
	reply := make(chan agreed, 1)
	s.inTransaction(ctx, req.TransactionalID, k, req.ProducerEpoch, p, req.Version >= 5, func(guard int64, err error) {
		reply <- agreed{guard, err}
	})
	select {
	case a := <-reply:
		return a.guard, a.err
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", errNoCoordinator, ctx.Err())
	}
}

// txnCommitError is err in the codes that clients of TxnOffsetCommit know.
func txnCommitError(err error, version int16) error {
	if version < 4 {
		err = oldState(err)
	}
	switch {
	case errors.Is(err, txn.ErrConcurrent), errors.Is(err, errNoPeer):
		return fmt.Errorf("%w: the transaction cannot be verified: %v", errNoCoordinator, err) // retriable
	case version < 3 && (errors.Is(err, group.ErrUnknownMember) || errors.Is(err, group.ErrFencedInstance)):
		return fmt.Errorf("%w: %v", group.ErrIllegalGen, err)
	}
	return oldFence(err)
}
