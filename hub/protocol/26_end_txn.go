package protocol

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/txn"
)

// EndTxn: v0-5
//
// Behaviour:
//   - Answered when the decision is durable. The markers follow; until they are
//     all committed, the first step of a next transaction waits.
//   - v5 raises the producer's epoch and answers it, with another producer ID
//     where the epochs are used up. It may be sent again when the answer is lost,
//     and it may abort a transaction that nothing was added to.
//
// Version notes:
//   - v2: PRODUCER_FENCED, INVALID_PRODUCER_EPOCH before; v3: flexible
//   - v4: TRANSACTION_ABORTABLE; v5: producer ID and epoch (KIP-890)
var endTxnAPI = api{
	key: 26, name: "EndTxn", min: 0, max: 5,
	shape:  body(3, str(), fixed(8), fixed(2), fixed(1)),
	needs:  needs(on(catalog.OpWrite, catalog.ResourceTransactionalID)),
	handle: plain[kmsg.EndTxnRequest]((*Server).endTxn),
}

func (s *Server) endTxn(ctx context.Context, r *request, req *kmsg.EndTxnRequest) kmsg.Response {
	resp := kmsg.NewPtrEndTxnResponse()
	if err := s.mayTransact(r, req.TransactionalID); err != nil {
		resp.ProducerID, resp.ProducerEpoch, resp.ErrorCode = -1, -1, code(err)
		return resp
	}
	ask := txn.EndRequest{Producer: txn.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}, Commit: req.Commit, Version: 1}
	if req.Version >= 5 {
		ask.Version = 2
	}
	a, err := s.txns.askFresh(ctx, req.TransactionalID, false, s.nextProducerID, func(fresh int64) input {
		return func(now time.Time, x *txn.Txn, t txn.Ticket) txn.Output {
			ask.Fresh = fresh
			return x.End(now, t, ask)
		}
	})
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	if err == nil {
		resp.ProducerID, resp.ProducerEpoch = a.Producer.ID, a.Producer.Epoch
	}
	if req.Version < 2 {
		err = oldFence(err)
	}
	resp.ErrorCode = code(err)
	return resp
}
