package protocol

import (
	"errors"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/txn"
	"github.com/entrepot-hub/entrepot/record"
)

// markers writes transaction markers to the partitions that this node leads.
type markers struct {
	parts  Partitions
	meta   Meta
	groups *coordinator
	open   *openTransactions
}

// write appends the marker of one partition and calls done once, from any
// goroutine, when it is committed.
func (m markers) write(tp record.TopicPartition, marker record.TransactionMarker, done func(error)) {
	p, err := m.parts.Partition(tp.Topic, tp.Partition)
	if err != nil {
		done(err)
		return
	}
	m.open.close(tp, marker.ProducerID)
	p.EndTransaction(marker, func(err error) {
		if err == nil && tp.Topic == catalog.OffsetsTopic {
			m.groups.ended(tp.Partition, marker)
		}
		done(err)
	})
}

// gone reports whether no marker can ever be written to the partition: it went
// with its topic, or it is written at another site by now.
func (m markers) gone(tp record.TopicPartition) bool {
	t, ok := m.meta.State().Topic(tp.Topic)
	return !ok || int(tp.Partition) >= len(t.Partitions) || t.Mirror != nil
}

// retry is a marker to be tried again.
type retry struct {
	at    time.Time
	x     *txn.Txn
	m     txn.Marker
	tries int
}

// mark writes a marker, again and again until it is committed.
func (c *transactions) mark(sh *txnShard, x *txn.Txn, m txn.Marker, tries int) {
	partition := sh.partition
	c.marks.write(m.TopicPartition, record.TransactionMarker{
		ProducerID: m.Producer.ID, ProducerEpoch: m.Producer.Epoch, Commit: m.Commit, CoordinatorEpoch: sh.epoch,
	}, func(err error) {
		c.mail.put(event[*txnShard]{partition: partition, always: true, run: func(now time.Time, sh *txnShard, _ error) {
			if sh.txns[x.ID()] == x {
				c.marked(now, sh, retry{x: x, m: m, tries: tries + 1}, err)
			}
		}})
	})
}

// marked is the outcome of one try.
func (c *transactions) marked(now time.Time, sh *txnShard, r retry, err error) {
	switch {
	case err == nil:
	case c.marks.gone(r.m.TopicPartition):
	case errors.Is(err, record.ErrProducerFenced):
		// The partition has seen a later epoch, whose own marker ends what is open.
		c.log.Warn("a partition refused the marker of a transaction", "transactional_id", r.x.ID(),
			"topic", r.m.Topic, "partition", r.m.Partition, "error", err)
	case errors.Is(err, record.ErrCoordinatorFenced):
		c.unload(sh, errNotCoordinator) // what another coordinator wrote is to be read
		return
	default:
		if r.tries == slowMarker {
			c.log.Warn("the marker of a transaction cannot be written, its producer has to wait", "transactional_id", r.x.ID(),
				"topic", r.m.Topic, "partition", r.m.Partition, "error", err)
		}
		r.at = now.Add(c.cfg.Txn.Retry)
		sh.again = append(sh.again, r)
		c.wakeBy(r.at)
		return
	}
	c.apply(sh, r.x, r.x.Marked(now, r.m.TopicPartition))
}

// slowMarker is the failed try after which a marker is worth a warning.
const slowMarker = 20

// markAgain tries the markers again that are due.
func (c *transactions) markAgain(now time.Time, sh *txnShard) {
	all := sh.again
	sh.again = nil
	for _, r := range all {
		if now.Before(r.at) {
			sh.again = append(sh.again, r)
			c.wakeBy(r.at)
			continue
		}
		c.mark(sh, r.x, r.m, r.tries)
	}
}
