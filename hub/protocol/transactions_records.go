package protocol

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/txn"
	"github.com/entrepot-hub/entrepot/record"
)

// The records of __transaction_state are Kafka's: the key is the transactional
// ID, a null value removes it. Version 1 of the value (KIP-890) has tags.
const (
	txnKeyVersion   = 0
	txnValueVersion = 1
)

// txnValueShape is what both versions of the value are made of, behind the
// version.
var txnValueShape = body(1, fixed(8), fixed(2), fixed(4), fixed(1), array(str(), list(fixed(4))), fixed(8), fixed(8))

func txnRecord(now int64, w txnWrite) record.Record {
	key := kmsg.TxnMetadataKey{Version: txnKeyVersion, TransactionalID: w.x.ID()}
	return record.Record{Timestamp: now, Key: key.AppendTo(nil), Value: txnValue(w.w.Record)}
}

func txnValue(r *txn.Record) []byte {
	if r == nil {
		return nil
	}
	v := kmsg.NewTxnMetadataValue()
	v.Version = txnValueVersion
	v.ProducerID, v.ProducerEpoch = r.Producer.ID, r.Producer.Epoch
	v.TimeoutMillis = int32(r.Timeout.Milliseconds())
	v.State = kmsg.TransactionState(r.State)
	v.LastUpdateTimestamp, v.StartTimestamp = r.Updated, r.Started
	v.PreviousProducerID, v.NextProducerID = r.Previous, r.Next
	v.ClientTransactionVersion = r.Version
	if r.State != txn.Empty {
		v.Topics = []kmsg.TxnMetadataValueTopic{}
	}
	for topic, partitions := range byTopic(r.Partitions) {
		v.Topics = append(v.Topics, kmsg.TxnMetadataValueTopic{Topic: topic, Partitions: partitions})
	}
	return v.AppendTo(nil)
}

// byTopic groups partitions that are in order.
func byTopic(tps []record.TopicPartition) func(yield func(string, []int32) bool) {
	return func(yield func(string, []int32) bool) {
		for len(tps) > 0 {
			topic := tps[0].Topic
			var partitions []int32
			for len(tps) > 0 && tps[0].Topic == topic {
				partitions = append(partitions, tps[0].Partition)
				tps = tps[1:]
			}
			if !yield(topic, partitions) {
				return
			}
		}
	}
}

// readTransactions reads a partition from its start to its end.
func readTransactions(ctx context.Context, log Partition, logger *slog.Logger) (map[string]txn.Record, error) {
	all := map[string]txn.Record{}
	err := readLog(ctx, log, func(b record.Batch) error {
		if b.IsControl() {
			return nil
		}
		return b.Each(maxGroupRecords, func(r record.Record) error {
			if err := readTxnRecord(all, r); err != nil {
				// As for groups: one must not take all others down.
				logger.Error("skipped a record of a transactional ID", "offset", r.Offset, "error", err)
			}
			return nil
		})
	})
	return all, err
}

func readTxnRecord(all map[string]txn.Record, r record.Record) error {
	if len(r.Key) < 2 || binary.BigEndian.Uint16(r.Key) != txnKeyVersion {
		return fmt.Errorf("a key of %d bytes, want one of version %d", len(r.Key), txnKeyVersion)
	}
	var key kmsg.TxnMetadataKey
	if err := key.ReadFrom(r.Key); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	if r.Value == nil {
		delete(all, key.TransactionalID)
		return nil
	}
	rec, err := decodeTxnValue(r.Value)
	if err != nil {
		return fmt.Errorf("transactional ID %q: %w", key.TransactionalID, err)
	}
	all[key.TransactionalID] = rec
	return nil
}

func decodeTxnValue(value []byte) (txn.Record, error) {
	if err := checkValueVersion(value, txnValueVersion); err != nil {
		return txn.Record{}, err
	}
	if err := txnValueShape.check(value[2:], int16(binary.BigEndian.Uint16(value))); err != nil {
		return txn.Record{}, err
	}
	v := kmsg.NewTxnMetadataValue()
	if err := v.ReadFrom(value); err != nil {
		return txn.Record{}, err
	}
	rec := txn.Record{
		Producer: txn.Producer{ID: v.ProducerID, Epoch: v.ProducerEpoch}, Previous: v.PreviousProducerID, Next: v.NextProducerID,
		Timeout: time.Duration(v.TimeoutMillis) * time.Millisecond, State: txn.State(v.State),
		Started: v.StartTimestamp, Updated: v.LastUpdateTimestamp, Version: v.ClientTransactionVersion,
	}
	for _, t := range v.Topics {
		for _, p := range t.Partitions {
			rec.Partitions = append(rec.Partitions, record.TopicPartition{Topic: t.Topic, Partition: p})
		}
	}
	return rec, rec.Check()
}
