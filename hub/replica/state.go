package replica

import (
	"fmt"
	"math"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

// logState is everything that the entries of a log up to one index amount to.
// The core keeps it for the end of its log, uncommitted entries included: that
// is what a leader checks proposals against (Invariant 3) and what a segment
// header states (Invariant 12).
type logState struct {
	index, term uint64
	next        int64 // next offset
	control     controlState
	producers   producers
}

// observe takes the entry that follows. now is this node's clock in ms.
func (s *logState) observe(e *storage.Entry, now int64) error {
	if e.Index != s.index+1 || e.Term < s.term {
		return fmt.Errorf("entry %d of term %d follows entry %d of term %d", e.Index, e.Term, s.index, s.term)
	}
	if e.Kind == storage.KindData {
		if err := s.observeData(e, now); err != nil {
			return err
		}
	} else {
		c, err := decodeControl(e.Payload)
		if err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		if c != nil {
			s.next = s.control.apply(c, s.next)
			s.producers.aborted.trim(s.control.logStart)
		}
	}
	s.index, s.term = e.Index, e.Term
	return nil
}

func (s *logState) observeData(e *storage.Entry, now int64) error {
	b := record.Batch(e.Payload)
	switch {
	case len(b) < record.BatchHeaderSize:
		return fmt.Errorf("entry %d: %w: %d bytes", e.Index, record.ErrInvalidBatch, len(b))
	case b.LastDelta() < 0 || b.BaseOffset() < s.next || b.BaseOffset() > math.MaxInt64-int64(b.LastDelta())-1 || b.LeaderEpoch() < 0:
		return fmt.Errorf("entry %d: %w: offset %d with delta %d and epoch %d, the log is at %d", e.Index, record.ErrInvalidBatch, b.BaseOffset(), b.LastDelta(), b.LeaderEpoch(), s.next)
	}
	s.control.lineage = addEpoch(s.control.lineage, b.LeaderEpoch(), b.BaseOffset())
	s.producers.observe(b, now)
	s.next = b.NextOffset()
	return nil
}

// decodeState is the logState that a segment header holds, and what else is in
// it.
func decodeState(st storage.State, mostProducers int) (s logState, snap machineSnapshot, conf confState, err error) {
	s = logState{index: st.Index, term: st.Term, next: st.NextOffset}
	if s.control, snap, err = decodeControlState(st.Control); err != nil {
		return s, snap, conf, err
	}
	if s.producers, err = decodeProducers(st.Producers); err != nil {
		return s, snap, conf, err
	}
	if len(st.Producers) > 0 && st.Producers[0] == 1 {
		s.producers.aborted.from = st.NextOffset // what was aborted before was not noted
	}
	s.producers.most = mostProducers
	conf, err = decodeConf(st.Conf)
	return s, snap, conf, err
}
