package protocol

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/txn"
	"github.com/entrepot-hub/entrepot/record"
)

// InitProducerID: v0-5
//
// Behaviour:
//   - Every call gives a new producer ID with epoch 0, also to a client that
//     brings the one it has (v3+, KIP-360).
//   - IDs are drawn from the catalog in blocks, and begin with the site's
//     number: two sites never give the same one.
//   - With a transactional ID every call raises the epoch, which fences who had
//     the ID before. While a transaction of it is open, that is aborted first,
//     and the client is told CONCURRENT_TRANSACTIONS until it is done.
//
// Version notes:
//   - v2: flexible; v3: the producer's present ID and epoch
//   - v4: PRODUCER_FENCED, INVALID_PRODUCER_EPOCH before
var initProducerIDAPI = api{
	key: 22, name: "InitProducerId", min: 0, max: 5,
	shape:  body(2, str(), fixed(4), fixed(8).from(3), fixed(2).from(3)),
	needs:  needs([]right{{catalog.OpIdempotentWrite, catalog.ResourceCluster}, {catalog.OpWrite, catalog.ResourceTopic}, {catalog.OpWrite, catalog.ResourceTransactionalID}}),
	handle: plain[kmsg.InitProducerIDRequest]((*Server).initProducerID),
}

// idBlock is how many producer IDs a node draws at once; what is left of a
// block is lost with the node.
const idBlock = 1000

// producerIDs hands out IDs of a block. turn is held by who uses it.
type producerIDs struct {
	turn      chan struct{}
	next, end int64
}

func (s *Server) initProducerID(ctx context.Context, r *request, req *kmsg.InitProducerIDRequest) kmsg.Response {
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	if err := s.mayProduce(r, req.TransactionalID); err != nil {
		resp.ErrorCode = code(err)
		return resp
	}
	if req.TransactionalID != nil {
		p, err := s.initTransactional(ctx, req)
		resp.ProducerID, resp.ProducerEpoch, resp.ErrorCode = p.ID, p.Epoch, code(err)
		return resp
	}
	id, err := s.nextProducerID(ctx)
	if err != nil {
		s.log.Warn("cannot give a producer ID", "error", err)
		resp.ErrorCode = code(errNoCoordinator) // retriable for every client
		return resp
	}
	resp.ProducerID, resp.ProducerEpoch = id, 0
	return resp
}

// initTransactional asks the transaction coordinator.
func (s *Server) initTransactional(ctx context.Context, req *kmsg.InitProducerIDRequest) (txn.Producer, error) {
	ask := txn.InitRequest{Timeout: time.Duration(req.TransactionTimeoutMillis) * time.Millisecond, Producer: txn.None}
	if req.Version >= 3 {
		ask.Producer = txn.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}
	}
	if (ask.Producer.ID < 0) != (ask.Producer.Epoch < 0) {
		return txn.None, fmt.Errorf("%w: producer %d with epoch %d", record.ErrInvalidRequest, req.ProducerID, req.ProducerEpoch)
	}
	a, err := s.txns.askFresh(ctx, *req.TransactionalID, true, s.nextProducerID, func(fresh int64) input {
		return func(now time.Time, x *txn.Txn, t txn.Ticket) txn.Output {
			ask.Fresh = fresh
			return x.Init(now, t, ask)
		}
	})
	if err != nil {
		if req.Version < 4 {
			err = oldFence(err)
		}
		return txn.None, err
	}
	return a.Producer, nil
}

func (s *Server) nextProducerID(ctx context.Context) (int64, error) {
	p := &s.pids
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if p.next == p.end {
		got, err := s.meta.Propose(ctx, catalog.AllocateProducerIDs{Count: idBlock})
		if err != nil {
			return 0, fmt.Errorf("draw a block of producer IDs: %w", err)
		}
		block, ok := got.(catalog.ProducerIDs)
		if !ok || block.Count < 1 {
			return 0, fmt.Errorf("draw a block of producer IDs: got %v", got)
		}
		p.next, p.end = block.First, block.First+int64(block.Count)
	}
	p.next++
	return p.next - 1, nil
}
