package protocol

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

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

// retry is a marker to be written, for the first time or again.
type retry struct {
	at    time.Time
	x     *txn.Txn
	m     txn.Marker
	tries int
	gone  bool // its partition was not in the catalog at the last try
}

// mark writes all markers that are to be written, again and again until they
// are committed: those of partitions that are led here, and by one request for
// each other node all that it leads.
func (c *transactions) mark(sh *txnShard) {
	marks := sh.marks
	sh.marks = nil
	away := map[int32][]retry{}
	for _, r := range marks {
		node, _ := c.parts.Leader(r.m.Topic, r.m.Partition)
		if c.peers.other(node) {
			away[node] = append(away[node], r)
			continue
		}
		c.marks.write(r.m.TopicPartition, record.TransactionMarker{
			ProducerID: r.m.Producer.ID, ProducerEpoch: r.m.Producer.Epoch, Commit: r.m.Commit, CoordinatorEpoch: sh.epoch,
		}, func(err error) { c.tried(sh.partition, r, err) })
	}
	for node, rs := range away {
		c.markAt(sh, node, rs)
	}
}

// markAt has another node write markers.
func (c *transactions) markAt(sh *txnShard, node int32, rs []retry) {
	partition := sh.partition
	c.peers.start(node, markersRequest(rs, sh.epoch), func(resp kmsg.Response, err error) {
		got, err := askOf[*kmsg.WriteTxnMarkersResponse](resp, err)
		for i, r := range rs {
			if err == nil {
				c.tried(partition, r, markerOutcome(got, i))
				continue
			}
			c.tried(partition, r, err)
		}
	})
}

// markersRequest has one entry for each marker, so that the answer has, too.
func markersRequest(rs []retry, epoch int32) *kmsg.WriteTxnMarkersRequest {
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	req.Version = writeTxnMarkersAPI.max
	for _, r := range rs {
		m := kmsg.NewWriteTxnMarkersRequestMarker()
		m.ProducerID, m.ProducerEpoch, m.Committed, m.CoordinatorEpoch = r.m.Producer.ID, r.m.Producer.Epoch, r.m.Commit, epoch
		m.Topics = []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: r.m.Topic, Partitions: []int32{r.m.Partition}}}
		req.Markers = append(req.Markers, m)
	}
	return req
}

// markerOutcome is what became of the i-th marker of a request.
func markerOutcome(got *kmsg.WriteTxnMarkersResponse, i int) error {
	if i >= len(got.Markers) || len(got.Markers[i].Topics) != 1 || len(got.Markers[i].Topics[0].Partitions) != 1 {
		return fmt.Errorf("%w: no outcome of a marker", errNoPeer)
	}
	return failure(got.Markers[i].Topics[0].Partitions[0].ErrorCode)
}

// tried reports the outcome of one try.
func (c *transactions) tried(partition int32, r retry, err error) {
	c.mail.put(event[*txnShard]{partition: partition, always: true, run: func(now time.Time, sh *txnShard, _ error) {
		if sh.txns[r.x.ID()] == r.x {
			r.tries++
			c.marked(now, sh, r, err)
		}
	}})
}

// marked is the outcome of one try.
func (c *transactions) marked(now time.Time, sh *txnShard, r retry, err error) {
	switch {
	case err == nil:
	case !r.gone && c.marks.gone(r.m.TopicPartition):
		c.makeSure(sh.partition, r)
		return
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
		r.at, r.gone = now.Add(c.cfg.Txn.Retry), false
		sh.again = append(sh.again, r)
		c.wakeBy(r.at)
		return
	}
	c.apply(sh, r.x, r.x.Marked(now, r.m.TopicPartition))
}

// slowMarker is the failed try after which a marker is worth a warning.
const slowMarker = 20

// markAgain has those markers tried again that are due.
func (c *transactions) markAgain(now time.Time, sh *txnShard) {
	all := sh.again
	sh.again = nil
	for _, r := range all {
		if now.Before(r.at) {
			sh.again = append(sh.again, r)
			c.wakeBy(r.at)
			continue
		}
		sh.marks = append(sh.marks, r)
	}
}

// makeSure tries a marker again once this node's catalog is as new as the site's
// is now. One that is behind does not know of partitions that were made a
// moment ago, whose transactions would stay open for ever.
func (c *transactions) makeSure(partition int32, r retry) {
	c.loads.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, patience)
		defer cancel()
		err := catchUp(ctx, c.meta)
		c.mail.put(event[*txnShard]{partition: partition, always: true, run: func(now time.Time, sh *txnShard, _ error) {
			if sh.txns[r.x.ID()] == r.x {
				r.gone, r.at = err == nil, now.Add(c.cfg.Txn.Retry)
				sh.again = append(sh.again, r)
				c.wakeBy(r.at)
			}
		}})
	})
}
