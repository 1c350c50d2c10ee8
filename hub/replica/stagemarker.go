package replica

import (
	"fmt"
	"math"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

// stageMarker puts the marker of a transaction at the end of the log. It may
// fence the producer's epoch (KIP-890), and it ends nothing when no transaction
// is open here. A partition that is read-only for clients takes it: they
// cannot write, and what they wrote must end.
func (c *core) stageMarker(m record.TransactionMarker) error {
	switch ctl := &c.tail.control; {
	case c.cfg.machine != nil:
		return fmt.Errorf("%w: a transaction marker for a group without records", record.ErrInvalidRequest)
	case ctl.mirror.Active:
		return fmt.Errorf("%w: its transactions end at site %q", record.ErrReadOnly, ctl.mirror.Source)
	case m.ProducerID < 0 || m.ProducerEpoch < 0 || m.CoordinatorEpoch < 0:
		return fmt.Errorf("%w: a transaction marker of producer %d, epoch %d, coordinator epoch %d", record.ErrInvalidRequest, m.ProducerID, m.ProducerEpoch, m.CoordinatorEpoch)
	case c.tail.next == math.MaxInt64:
		return fmt.Errorf("%w: the partition has no offsets left", record.ErrOffsetOutOfRange)
	}
	if err := c.tail.producers.byID[m.ProducerID].checkMarker(m); err != nil {
		return err
	}
	b, epoch := m.Batch(c.now), c.epoch()
	b.SetBaseOffset(c.tail.next)
	b.SetLeaderEpoch(epoch)
	return c.stageEntry(storage.Entry{Kind: storage.KindData, BaseOffset: c.tail.next, LeaderEpoch: epoch, Payload: b})
}

// checkMarker decides about a marker from a coordinator. An older one may
// still believe that it is in charge.
func (p *producer) checkMarker(m record.TransactionMarker) error {
	switch {
	case p == nil:
		return nil
	case m.ProducerEpoch < p.epoch:
		return fmt.Errorf("%w: producer %d has epoch %d, the marker %d", record.ErrProducerFenced, m.ProducerID, p.epoch, m.ProducerEpoch)
	case m.CoordinatorEpoch < p.coordinator:
		return fmt.Errorf("%w: the last marker of producer %d came from epoch %d, this one from %d", record.ErrCoordinatorFenced, m.ProducerID, p.coordinator, m.CoordinatorEpoch)
	}
	return nil
}
