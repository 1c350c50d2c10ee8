package replica

import (
	"fmt"
	"math"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

// stageControl checks a control entry against the tail and stages it. What
// would change nothing is not written; it is answered when everything before
// it is committed.
func (c *core) stageControl(ctl ControlEntry) error {
	var err error
	var needed bool
	switch e := ctl.(type) {
	case LogStart:
		needed, err = c.checkLogStart(e)
	case MirrorStart:
		needed, err = c.checkMirrorStart(e)
	case MirrorStop:
		if needed, err = c.checkMirrorStop(e); err == nil && needed {
			err = c.raiseAboveLineage()
		}
	case ReadOnly:
		needed = e.On != c.tail.control.readOnly
	case EpochBase:
		needed = e.Base > c.tail.control.epochBase
		if int64(c.term)+int64(e.Base) > math.MaxInt32 {
			err = fmt.Errorf("%w: epoch base %d with term %d", record.ErrInvalidRequest, e.Base, c.term)
		}
	default:
		err = fmt.Errorf("%w: control entry %T", record.ErrInvalidRequest, ctl)
	}
	if err != nil || !needed {
		return err
	}
	return c.stageEntry(storage.Entry{Kind: storage.KindControl, Payload: ctl.encode()})
}

func (c *core) checkLogStart(e LogStart) (bool, error) {
	mirrored := c.tail.control.mirror.Active
	if e.Offset < 0 || !mirrored && e.Offset > c.hw {
		return false, fmt.Errorf("%w: log start %d, want 0 to the high watermark %d", record.ErrOffsetOutOfRange, e.Offset, c.hw)
	}
	return e.Offset > c.tail.control.logStart, nil
}

func (c *core) checkMirrorStart(e MirrorStart) (bool, error) {
	m := c.tail.control.mirror
	if m.Active && m.Link == e.Link && m.Source == e.Source && m.Epoch == e.Epoch {
		return false, nil
	}
	if e.Link == "" || e.Source == "" || e.Epoch < 0 {
		return false, fmt.Errorf("%w: mirror start without link or source, or with epoch %d", record.ErrInvalidRequest, e.Epoch)
	}
	if e.Epoch <= m.Epoch && (m.Active || m.Epoch != 0) {
		return false, fmt.Errorf("%w: the partition is at mirror epoch %d, the start has %d", record.ErrMirrorFenced, m.Epoch, e.Epoch)
	}
	return true, nil
}

func (c *core) checkMirrorStop(e MirrorStop) (bool, error) {
	m := c.tail.control.mirror
	if !m.Active && m.Epoch == e.Epoch {
		return false, nil
	}
	if e.Epoch <= m.Epoch {
		return false, fmt.Errorf("%w: the partition is at mirror epoch %d, the stop has %d", record.ErrMirrorFenced, m.Epoch, e.Epoch)
	}
	return true, nil
}

// raiseAboveLineage makes the leader epoch greater than that of every record,
// so that what is written here from now on cannot be taken for the source's.
func (c *core) raiseAboveLineage() error {
	l := c.tail.control.lineage
	if len(l) == 0 || l[len(l)-1].epoch == math.MaxInt32 {
		return nil
	}
	return c.raiseEpoch(l[len(l)-1].epoch + 1)
}
