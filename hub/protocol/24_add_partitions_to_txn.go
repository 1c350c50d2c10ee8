package protocol

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/txn"
	"github.com/entrepot-hub/entrepot/record"
)

// AddPartitionsToTxn: v0-5
//
// Behaviour:
//   - Answered when the partitions are durably part of the transaction, which
//     begins with the first. All are added or none: beside one that does not
//     exist the others get OPERATION_NOT_ATTEMPTED.
//   - While the markers of the transaction before are written, the request waits.
//     Kafka answers CONCURRENT_TRANSACTIONS, which clients follow with a pause
//     many times as long; here only what takes seconds is answered so.
//   - v4+ is what brokers send, for several transactional IDs: they may only ask
//     whether partitions have been added (KIP-890).
//
// Version notes:
//   - v2: PRODUCER_FENCED, INVALID_PRODUCER_EPOCH before; v3: flexible
//   - v4: batched, verify only; v5: TRANSACTION_ABORTABLE
var addPartitionsToTxnAPI = api{
	key: 24, name: "AddPartitionsToTxn", min: 0, max: 5,
	shape: body(3, str().to(3), fixed(8).to(3), fixed(2).to(3), array(str(), list(fixed(4))).to(3),
		array(str(), fixed(8), fixed(2), fixed(1), array(str(), list(fixed(4)))).from(4)),
	needs:  needs(on(catalog.OpWrite, catalog.ResourceTransactionalID), on(catalog.OpWrite, catalog.ResourceTopic)),
	handle: plain[kmsg.AddPartitionsToTxnRequest]((*Server).addPartitionsToTxn),
}

func (s *Server) addPartitionsToTxn(ctx context.Context, r *request, req *kmsg.AddPartitionsToTxnRequest) kmsg.Response {
	resp := kmsg.NewPtrAddPartitionsToTxnResponse()
	if req.Version >= 4 {
		for _, rt := range req.Transactions {
			var tps []record.TopicPartition
			for _, t := range rt.Topics {
				tps = appendPartitions(tps, t.Topic, t.Partitions)
			}
			codes := s.addToTxn(ctx, r, req.Version, rt.TransactionalID, txn.Producer{ID: rt.ProducerID, Epoch: rt.ProducerEpoch}, tps, rt.VerifyOnly)
			resp.Transactions = append(resp.Transactions, addedToTransaction(rt.TransactionalID, tps, codes))
		}
		return resp
	}
	var tps []record.TopicPartition
	for _, t := range req.Topics {
		tps = appendPartitions(tps, t.Topic, t.Partitions)
	}
	codes := s.addToTxn(ctx, r, req.Version, req.TransactionalID, txn.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}, tps, false)
	for _, t := range req.Topics {
		ot := kmsg.AddPartitionsToTxnResponseTopic{Topic: t.Topic}
		for _, p := range t.Partitions {
			ot.Partitions = append(ot.Partitions, kmsg.AddPartitionsToTxnResponseTopicPartition{Partition: p, ErrorCode: codes[0]})
			codes = codes[1:]
		}
		resp.Topics = append(resp.Topics, ot)
	}
	return resp
}

func appendPartitions(tps []record.TopicPartition, topic string, partitions []int32) []record.TopicPartition {
	for _, p := range partitions {
		tps = append(tps, record.TopicPartition{Topic: topic, Partition: p})
	}
	return tps
}

// addedToTransaction answers for one transactional ID of v4+.
func addedToTransaction(id string, tps []record.TopicPartition, codes []int16) kmsg.AddPartitionsToTxnResponseTransaction {
	out := kmsg.AddPartitionsToTxnResponseTransaction{TransactionalID: id}
	for i, tp := range tps {
		n := len(out.Topics)
		if n == 0 || out.Topics[n-1].Topic != tp.Topic {
			out.Topics = append(out.Topics, kmsg.AddPartitionsToTxnResponseTransactionTopic{Topic: tp.Topic})
			n++
		}
		t := &out.Topics[n-1]
		t.Partitions = append(t.Partitions, kmsg.AddPartitionsToTxnResponseTransactionTopicPartition{Partition: tp.Partition, ErrorCode: codes[i]})
	}
	return out
}

// addToTxn adds partitions to a transaction, or only looks whether they are in
// it, and returns a code for each.
func (s *Server) addToTxn(ctx context.Context, r *request, version int16, id string, p txn.Producer, tps []record.TopicPartition, verify bool) []int16 {
	codes := make([]int16, len(tps))
	denied := s.mayTransact(r, id)
	unknown := false
	for i, tp := range tps {
		var t *catalog.Topic
		err := denied
		if err == nil {
			t, err = s.findToCoordinate(ctx, r, catalog.OpWrite, false, tp.Topic, record.TopicID{})
		}
		codes[i] = code(hasPartition(t, tp.Partition, err))
		unknown = unknown || codes[i] != 0
	}
	if denied != nil {
		return codes
	}
	if unknown && !verify {
		for i := range codes {
			if codes[i] == 0 {
				codes[i] = kerr.OperationNotAttempted.Code
			}
		}
		return codes
	}
	errs := make([]error, len(tps))
	a, err := s.txns.ask(ctx, id, false, func(now time.Time, x *txn.Txn, t txn.Ticket) txn.Output {
		if verify {
			copy(errs, x.Verify(p, tps))
			return txn.Output{Answers: []txn.Answer{{Ticket: t}}}
		}
		return x.Add(now, t, txn.AddRequest{Producer: p, Partitions: slices.Clone(tps), Version: transactionVersion(version), Wait: true})
	})
	for i := range errs {
		if err == nil {
			err = a.Err
		}
		if err != nil {
			errs[i] = err
		}
		if codes[i] == 0 {
			codes[i] = code(addError(errs[i], version))
		}
	}
	return codes
}

// transactionVersion is that of the client for whom partitions are added: only
// clients of version 2 leave it to the partitions' leaders (KIP-890).
func transactionVersion(version int16) int16 {
	if version >= 4 {
		return 2
	}
	return 1
}

// addError is err as versions before say it.
func addError(err error, version int16) error {
	if version < 2 {
		err = oldFence(err)
	}
	if version < 5 {
		err = oldState(err)
	}
	return err
}
