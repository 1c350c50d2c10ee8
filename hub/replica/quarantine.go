package replica

import (
	"errors"
	"fmt"

	"github.com/entrepot-hub/entrepot/record"
)

// quarantine is the view of a replica whose log is damaged: what is committed
// below the damage can be read, nothing else is done (Invariant 8). known are
// its offsets if it had a core until now.
func (r *Replica) quarantine(damage error, known *record.Offsets) {
	v := &view{role: RoleQuarantined, err: fmt.Errorf("%w: %w", record.ErrQuarantined, damage), lastEpoch: -1}
	v.term, v.commit = r.log.Hard().Term, r.log.Hard().Commit
	v.index, _ = r.log.Last()
	start, end := r.log.Offsets()
	if v.index > v.commit {
		// Above the commit nothing may be shown, and entries there begin at
		// the offset where it ends.
		end = start
		if e, err := r.log.Entries(v.commit+1, v.commit+2, 1); err == nil && len(e) == 1 {
			end = e[0].BaseOffset
		}
	}
	if old := r.view.Load(); old != nil {
		v.others = old.others // who are told that they lack this member
	}
	v.next = end
	v.offsets = record.Offsets{Start: start, LastStable: end, HighWatermark: end}
	if known != nil {
		v.offsets, v.next = *known, known.HighWatermark
	}
	r.show(v)
	r.inbox.post(func(b *inbox) { b.mu.closed = v.err })
}

// endQuarantined ends the core of a replica whose log turned out damaged. It
// runs on the worker that steps it. From now on the replica says nothing to its
// group, until it has another log.
func (r *Replica) endQuarantined() {
	c := r.core
	why, known := c.failed, c.offsets()
	if r.log.Damage() == nil {
		r.log.Quarantine(why) // nothing is wrong with the bytes, but with what they are
	}
	// First: once it is seen to be quarantined, it may be given another core.
	r.core, r.stalled = nil, nil
	r.quarantine(why, &known)
	var props []*proposal
	var calls []func(*core)
	r.inbox.post(func(b *inbox) {
		props, calls, b.mu.props, b.mu.calls, b.mu.msgs = b.mu.props, b.mu.calls, nil, nil, nil
		r.set.taken(&b.mu.received)
	})
	for _, p := range props {
		r.answer([]ack{{p: p, err: why}})
	}
	for _, f := range calls {
		f(c)
	}
	r.wake()
}

// noteDamage has a replica stop at once whose log was found damaged by who read
// it: it might lead, and nobody would hear of it before it writes again.
func (r *Replica) noteDamage() {
	damage := r.log.Damage()
	if damage == nil {
		return
	}
	r.inbox.post(func(b *inbox) {
		if b.mu.err == nil {
			b.mu.err = errors.Join(record.ErrQuarantined, damage)
		}
	})
	r.set.ready(r)
}

// volumeOffline tells every replica that nothing can be written any more, once:
// those that lead hand over at once rather than when they next write.
func (s *Set) volumeOffline(err error) {
	if s.offline.Swap(true) {
		return
	}
	for _, r := range s.All() {
		r.inbox.post(func(b *inbox) {
			if b.mu.err == nil {
				b.mu.err = err
			}
		})
		s.ready(r)
	}
}
