package protocol

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// InitProducerID: v0-5
//
// Behaviour:
//   - Every call gives a new producer ID with epoch 0, also to a client that
//     brings the one it has (v3+, KIP-360).
//   - IDs are drawn from the catalog in blocks, and begin with the site's
//     number: two sites never give the same one.
//   - A transactional ID gets INVALID_REQUEST: no transactions yet, and no
//     client waits or tries again in vain.
//
// Version notes:
//   - v2: flexible; v3: the producer's present ID
var initProducerIDAPI = api{
	key: 22, name: "InitProducerId", min: 0, max: 5,
	shape:  body(2, str(), fixed(4), fixed(8).from(3), fixed(2).from(3)),
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

func (s *Server) initProducerID(ctx context.Context, _ *request, req *kmsg.InitProducerIDRequest) kmsg.Response {
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	if req.TransactionalID != nil {
		resp.ErrorCode = code(fmt.Errorf("transactional ID %q: %w", *req.TransactionalID, errNoTransactions))
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
