package protocol

import (
	"cmp"
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/hub/txn"
	"github.com/entrepot-hub/entrepot/record"
)

// AddOffsetsToTxn: v0-4
//
// Behaviour:
//   - AddPartitionsToTxn for the partition of __consumer_offsets that keeps the
//     group. Clients that use TxnOffsetCommit v5+ have no need for it.
//
// Version notes:
//   - v2: PRODUCER_FENCED, INVALID_PRODUCER_EPOCH before; v3: flexible
//   - v4: TRANSACTION_ABORTABLE
var addOffsetsToTxnAPI = api{
	key: 25, name: "AddOffsetsToTxn", min: 0, max: 4,
	shape:  body(3, str(), fixed(8), fixed(2), str()),
	needs:  needs(on(catalog.OpWrite, catalog.ResourceTransactionalID), on(catalog.OpRead, catalog.ResourceGroup)),
	handle: plain[kmsg.AddOffsetsToTxnRequest]((*Server).addOffsetsToTxn),
}

func (s *Server) addOffsetsToTxn(ctx context.Context, r *request, req *kmsg.AddOffsetsToTxnRequest) kmsg.Response {
	resp := kmsg.NewPtrAddOffsetsToTxnResponse()
	err := s.addGroup(ctx, r, req)
	if req.Version < 2 {
		err = oldFence(err)
	}
	resp.ErrorCode = code(err)
	return resp
}

func (s *Server) addGroup(ctx context.Context, r *request, req *kmsg.AddOffsetsToTxnRequest) error {
	if err := cmp.Or(s.mayTransact(r, req.TransactionalID), s.mayGroup(r, catalog.OpRead, req.Group)); err != nil {
		return err
	}
	if req.Group == "" {
		return group.ErrInvalidGroupID
	}
	p, err := s.groups.shardOf(ctx, req.Group)
	if err != nil {
		return err
	}
	_, err = s.txns.ask(ctx, req.TransactionalID, false, func(now time.Time, x *txn.Txn, t txn.Ticket) txn.Output {
		return x.Add(now, t, txn.AddRequest{
			Producer:   txn.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch},
			Partitions: []record.TopicPartition{{Topic: catalog.OffsetsTopic, Partition: p}}, Version: 1, Wait: true,
		})
	})
	return err
}
