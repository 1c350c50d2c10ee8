package protocol

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/txn"
)

// DescribeTransactions: v0 (flexible)
//
// Behaviour:
//   - The state that is durable, with the partitions of a transaction that is
//     open or being ended (KIP-664).
var describeTransactionsAPI = api{
	key: 65, name: "DescribeTransactions", min: 0, max: 0,
	shape:  body(0, list(str())),
	needs:  needs(on(catalog.OpDescribe, catalog.ResourceTransactionalID)),
	handle: plain[kmsg.DescribeTransactionsRequest]((*Server).describeTransactions),
}

func (s *Server) describeTransactions(ctx context.Context, r *request, req *kmsg.DescribeTransactionsRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeTransactionsResponse()
	for _, id := range req.TransactionalIDs {
		resp.TransactionStates = append(resp.TransactionStates, s.describeTransaction(ctx, r, id))
	}
	return resp
}

func (s *Server) describeTransaction(ctx context.Context, r *request, id string) kmsg.DescribeTransactionsResponseTransactionState {
	out := kmsg.NewDescribeTransactionsResponseTransactionState()
	out.TransactionalID, out.StartTimestamp, out.ProducerID, out.ProducerEpoch = id, -1, -1, -1
	if err := s.may(r, catalog.OpDescribe, catalog.ResourceTransactionalID, id); err != nil {
		out.ErrorCode = code(err)
		return out
	}
	var rec txn.Record
	found := false
	err := s.txns.look(ctx, id, func(x *txn.Txn) {
		if x != nil {
			rec, found = x.Describe(), true
		}
	})
	if err == nil && !found {
		err = txn.ErrNotFound
	}
	if err != nil {
		out.ErrorCode = code(err)
		return out
	}
	out.State, out.TimeoutMillis = rec.State.String(), int32(rec.Timeout.Milliseconds())
	out.ProducerID, out.ProducerEpoch = rec.Producer.ID, rec.Producer.Epoch
	if len(rec.Partitions) > 0 {
		out.StartTimestamp = rec.Started
	}
	for topic, partitions := range byTopic(rec.Partitions) {
		if s.mayTopic(r, catalog.OpDescribe, topic) != nil {
			continue
		}
		out.Topics = append(out.Topics, kmsg.DescribeTransactionsResponseTransactionStateTopic{Topic: topic, Partitions: partitions})
	}
	return out
}
