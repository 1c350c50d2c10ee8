package protocol

import (
	"context"
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/txn"
	"github.com/entrepot-hub/entrepot/record"
)

// transactions drives the transaction coordinators of this node: those whose
// partition of __transaction_state is led here. Their partitions are loaded as
// soon as they are led here, not when somebody asks: an open transaction has to
// end in time, and a decision has to be carried out.
type transactions struct {
	shards[*txnShard]
	marks markers
	peers *peers

	// The rest belongs to run's goroutine.
	parked map[txn.Ticket]func(txn.Answer)
	ticket txn.Ticket
}

// txnShard is one partition of __transaction_state with what it keeps.
type txnShard struct {
	part[*txnShard]
	txns   map[string]*txn.Txn
	writes []txnWrite
	marks  []retry // markers to be written
	again  []retry // markers that failed
}

// txnWrite is a record that is to be made durable.
type txnWrite struct {
	x *txn.Txn
	w *txn.Write
}

func newTransactions(cfg Config, parts Partitions, meta Meta, vacant *vacancies, marks markers, peers *peers) *transactions {
	c := &transactions{marks: marks, peers: peers, parked: map[txn.Ticket]func(txn.Answer){}}
	c.shards = newShards(cfg, parts, meta, vacant, catalog.TransactionsTopic, cfg.TransactionsPartitions, c)
	c.eager = true
	return c
}

// shard implements keeper.
func (c *transactions) shard(partition int32) *txnShard {
	return &txnShard{part: part[*txnShard]{partition: partition}}
}

// read implements keeper.
func (c *transactions) read(ctx context.Context, log Partition) (func(time.Time, *txnShard), error) {
	kept, err := readTransactions(ctx, log, c.log)
	return func(now time.Time, sh *txnShard) {
		sh.txns = make(map[string]*txn.Txn, len(kept))
		for id, rec := range kept {
			x, out := txn.Load(id, c.cfg.Txn, now, rec)
			sh.txns[id] = x
			c.apply(sh, x, out)
		}
	}, err
}

// drop implements keeper.
func (c *transactions) drop(_ time.Time, sh *txnShard, err error) {
	all := sh.txns
	sh.txns, sh.writes, sh.marks, sh.again = nil, nil, nil, nil
	for _, x := range all {
		c.apply(sh, x, x.Close(err))
	}
}

// tick implements keeper.
func (c *transactions) tick(now time.Time, sh *txnShard, sweep bool) {
	for _, x := range sh.txns {
		if d := x.Deadline(); !d.IsZero() && !now.Before(d) {
			c.apply(sh, x, x.Tick(now))
		} else {
			c.wakeBy(d)
		}
		if sweep {
			c.apply(sh, x, x.Expire(now))
		}
	}
	c.markAgain(now, sh)
}

// apply delivers the answers of an output, queues its write and writes its
// markers.
func (c *transactions) apply(sh *txnShard, x *txn.Txn, out txn.Output) {
	for _, a := range out.Answers {
		if reply, ok := c.parked[a.Ticket]; ok {
			delete(c.parked, a.Ticket)
			reply(a)
		}
	}
	if sh.txns[x.ID()] != x {
		return // handed over: it writes nothing any more
	}
	if out.Write != nil {
		sh.writes = append(sh.writes, txnWrite{x, out.Write})
	}
	for _, m := range out.Markers {
		sh.marks = append(sh.marks, retry{x: x, m: m})
	}
	if x.State() == txn.Dead || x.Vacant() {
		delete(sh.txns, x.ID())
		return
	}
	c.wakeBy(x.Deadline())
}

// flush implements keeper: it makes few batches of all writes, and few requests
// of all markers.
func (c *transactions) flush(sh *txnShard) {
	c.mark(sh)
	for len(sh.writes) > 0 {
		b := record.NewBuilder(record.None)
		now := c.cfg.Clock().UnixMilli()
		n := 0
		var err error
		for n < len(sh.writes) && (n == 0 || b.Size() < maxGroupBatch) && err == nil {
			err = b.Append(txnRecord(now, sh.writes[n]))
			n++
		}
		writes := sh.writes[:n:n]
		sh.writes = sh.writes[n:]
		var batch record.Batch
		if err == nil {
			batch, err = b.Build()
		}
		if err != nil {
			c.written(sh.partition, writes, fmt.Errorf("encode transaction records: %w", err))
			continue
		}
		partition := sh.partition
		sh.log.AppendFenced([]record.Batch{batch}, sh.epoch, -1, func(_ []record.Appended, err error) {
			c.written(partition, writes, coordinatorError(err))
		})
	}
}

// written reports the outcome of writes.
func (c *transactions) written(partition int32, writes []txnWrite, err error) {
	c.mail.put(event[*txnShard]{partition: partition, always: true, run: func(now time.Time, sh *txnShard, _ error) {
		for _, w := range writes {
			if sh.txns[w.x.ID()] == w.x {
				c.apply(sh, w.x, w.x.Written(now, err))
			}
		}
	}})
}

// stopped implements keeper.
func (c *transactions) stopped() {
	for t, reply := range c.parked {
		reply(txn.Answer{Ticket: t, Err: errNotCoordinator})
	}
	clear(c.parked)
}
