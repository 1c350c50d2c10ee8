package replica

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
)

// keptBatches is how many batches of a producer are remembered, which is how
// many a client may have in flight (KIP-98, KAFKA-5494).
const keptBatches = 5

// producers is what idempotence needs to know of the log up to one place
// (Invariant 17). The leader checks a batch against the state after its whole
// log, the uncommitted tail included, before it proposes it.
type producers struct {
	byID    map[int64]*producer
	most    int // how many to remember
	aborted abortedList
}

// producer is one producer ID.
type producer struct {
	epoch       int16
	n           uint8 // batches kept
	coordinator int32 // coordinator epoch of the last marker; -1 when none came
	seen        int64 // when the last batch came, ms by this node's clock
	open        int64 // first offset of the open transaction; -1 when none is
	marker      int64 // offset of the last marker; -1 when none came
	batches     [keptBatches]sequences
}

func newProducer(epoch int16) *producer {
	return &producer{epoch: epoch, coordinator: -1, open: -1, marker: -1}
}

// sequences is one batch: its sequence numbers and its first offset. Deltas of
// offsets and sequences agree.
type sequences struct {
	first, last int32
	base        int64
}

// ProducerInfo is what Producers reports of one producer.
type ProducerInfo struct {
	ID               int64
	Epoch            int16
	LastSequence     int32 // -1 when no batch is known
	LastOffset       int64 // -1 when no batch is known
	LastSeen         int64 // ms since the Unix epoch, by this node's clock
	CoordinatorEpoch int32 // of the last transaction marker; -1 when none came
	TxnFirst         int64 // first offset of the open transaction; -1 when none is
}

// verdict is what check says of a batch that may go on.
type verdict struct {
	duplicate bool
	base      int64 // of a duplicate: the offset it got the first time
}

// check decides about a batch from a client. Errors wrap
// record.ErrProducerFenced, record.ErrOutOfOrderSequence and
// record.ErrTransactionState. A producer that
// is not known may start at any sequence: its state may have expired, and
// clients have no way to begin again otherwise.
func (p *producer) check(b record.Batch) (verdict, error) {
	if p == nil {
		return verdict{}, nil
	}
	epoch, first := b.ProducerEpoch(), b.BaseSequence()
	switch {
	case p.open >= 0 && !b.IsTransactional() && epoch >= p.epoch:
		return verdict{}, fmt.Errorf("%w: producer %d has a transaction open since offset %d, the batch belongs to none", record.ErrTransactionState, b.ProducerID(), p.open)
	case epoch < p.epoch:
		return verdict{}, fmt.Errorf("%w: producer %d has epoch %d, the batch %d", record.ErrProducerFenced, b.ProducerID(), p.epoch, epoch)
	case first < 0:
		return verdict{}, nil // a coordinator's, which sends nothing twice
	case epoch > p.epoch:
		if first != 0 {
			return verdict{}, fmt.Errorf("%w: producer %d begins epoch %d with sequence %d, not 0", record.ErrOutOfOrderSequence, b.ProducerID(), epoch, first)
		}
		return verdict{}, nil
	}
	for _, s := range p.batches[:p.n] {
		if s.first == first && s.last == b.LastSequence() {
			return verdict{duplicate: true, base: s.base}, nil
		}
	}
	if want := p.next(); first != want {
		return verdict{}, fmt.Errorf("%w: producer %d of epoch %d sends sequence %d, want %d", record.ErrOutOfOrderSequence, b.ProducerID(), epoch, first, want)
	}
	return verdict{}, nil
}

// next is the sequence that the producer must send; it wraps from MaxInt32 to
// 0.
func (p *producer) next() int32 {
	if p.n == 0 {
		return 0
	}
	return (p.batches[p.n-1].last + 1) & math.MaxInt32
}

// add notes a batch that is in the log at base.
func (p *producer) add(b record.Batch, base, now int64) {
	if e := b.ProducerEpoch(); e != p.epoch {
		p.epoch, p.n = e, 0
	}
	p.seen = now
	if b.IsControl() {
		return // a transaction marker has no sequence
	}
	if p.open < 0 && b.IsTransactional() {
		p.open = base
	}
	if b.BaseSequence() < 0 {
		return
	}
	if p.n == keptBatches {
		copy(p.batches[:], p.batches[1:])
		p.n--
	}
	p.batches[p.n] = sequences{first: b.BaseSequence(), last: b.LastSequence(), base: base}
	p.n++
}

// ofProducer reports whether a batch counts as a producer's. What a mirror's
// source let pass without an epoch or a sequence is nobody's: it cannot be sent
// again. Only what a group coordinator writes into a transaction needs no sequence.
func ofProducer(b record.Batch) bool {
	return b.ProducerID() >= 0 && b.ProducerEpoch() >= 0 && (b.BaseSequence() >= 0 || b.IsControl() || b.IsTransactional())
}

// observe notes a batch of the log.
func (ps *producers) observe(b record.Batch, now int64) {
	if !ofProducer(b) {
		return
	}
	id := b.ProducerID()
	p := ps.byID[id]
	if p == nil {
		if ps.byID == nil {
			ps.byID = map[int64]*producer{}
		}
		if ps.most > 0 && len(ps.byID) >= ps.most {
			ps.evict(len(ps.byID) - ps.most + 1 + ps.most/16)
		}
		p = newProducer(b.ProducerEpoch())
		ps.byID[id] = p
	}
	p.add(b, b.BaseOffset(), now)
	if b.IsControl() {
		ps.end(p, b)
	}
}

// evict forgets the n producers not seen for longest, but for those whose
// transaction is open: without it the last stable offset would pass it by.
func (ps *producers) evict(n int) {
	ids := make([]int64, 0, len(ps.byID))
	for id, p := range ps.byID {
		if p.open < 0 {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b int64) int {
		return cmp.Or(cmp.Compare(ps.byID[a].seen, ps.byID[b].seen), cmp.Compare(a, b))
	})
	for _, id := range ids[:min(n, len(ids))] {
		delete(ps.byID, id)
	}
}

// expire forgets producers not seen since before, in ms, and with no open
// transaction.
func (ps *producers) expire(before int64) {
	maps.DeleteFunc(ps.byID, func(_ int64, p *producer) bool { return p.seen < before && p.open < 0 })
}

// info lists all producers by ID.
func (ps *producers) info() []ProducerInfo {
	all := make([]ProducerInfo, 0, len(ps.byID))
	for _, id := range slices.Sorted(maps.Keys(ps.byID)) {
		p := ps.byID[id]
		i := ProducerInfo{ID: id, Epoch: p.epoch, LastSequence: -1, LastOffset: -1, LastSeen: p.seen, CoordinatorEpoch: p.coordinator, TxnFirst: p.open}
		if p.n > 0 {
			s := p.batches[p.n-1]
			i.LastSequence, i.LastOffset = s.last, s.base+int64((s.last-s.first)&math.MaxInt32)
		}
		all = append(all, i)
	}
	return all
}

// stage checks the batches of one request, which are accepted together or not
// at all: what it learns of the first ones counts for the later ones and for
// nothing else.
type stage struct {
	ps      *producers
	touched map[int64]*producer
}

func (s *stage) check(b record.Batch, base int64) (verdict, error) {
	id := b.ProducerID()
	if id < 0 {
		return verdict{}, nil
	}
	p := s.touched[id]
	if p == nil {
		if known := s.ps.byID[id]; known != nil {
			c := *known
			p = &c
		}
	}
	v, err := p.check(b)
	if err != nil || v.duplicate {
		return v, err
	}
	if p == nil {
		p = newProducer(b.ProducerEpoch())
	}
	p.add(b, base, 0)
	if s.touched == nil {
		s.touched = map[int64]*producer{}
	}
	s.touched[id] = p
	return v, nil
}
