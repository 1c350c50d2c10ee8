package replica

import (
	"errors"
	"maps"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
)

// simTxn is what a transactional client of the simulation and its coordinator
// know.
type simTxn struct {
	values      []string // of the open transaction
	ending      *simEnd  // decided, and not acknowledged yet
	coordinator int32
	decided     map[string]bool // value: committed, of acknowledged markers
	guard       int64           // of a transaction that has ended since
	stale       bool
}

type simEnd struct {
	marker record.TransactionMarker
	bump   bool // the marker carries the next epoch (KIP-890)
	flying bool
}

func newSimTxn() *simTxn { return &simTxn{decided: map[string]bool{}} }

// endOrMisbehave ends the transaction, or sends what must be refused. The
// client has nothing in flight. It reports false when the client goes on.
func (c *simClient) endOrMisbehave() bool {
	rng, x := c.p.s.rng, c.txn
	switch {
	case x.ending != nil:
		if !x.ending.flying {
			c.flyMarker()
		}
		return true // the coordinator answers only then
	case rng.IntN(6) == 0:
		c.misbehave()
		return true
	case len(x.values) > 0 && rng.IntN(3) > 0:
		x.coordinator += rng.Int32N(2)
		x.ending = &simEnd{bump: rng.IntN(2) == 0, marker: record.TransactionMarker{
			ProducerID: c.pid, ProducerEpoch: c.epoch, Commit: rng.IntN(2) == 0, CoordinatorEpoch: x.coordinator,
		}}
		if x.ending.bump {
			x.ending.marker.ProducerEpoch++
		}
		c.flyMarker()
		return true
	}
	return false
}

func (c *simClient) flyMarker() {
	x, e := c.txn, c.txn.ending
	e.flying = true
	guard := c.p.transaction(c.pid).Guard
	c.p.r.EndTransaction(e.marker, func(err error) {
		e.flying = false
		switch {
		case err != nil && !unavailable(err):
			c.p.s.fatalf("%s: marker %+v: %v", c.p.id, e.marker, err)
		case err != nil || x.ending != e:
			return
		}
		if e.marker.Commit {
			c.p.s.counts.commits++
		} else {
			c.p.s.counts.aborts++
		}
		for _, v := range x.values {
			x.decided[v] = e.marker.Commit
		}
		if e.bump {
			c.epoch, c.next, c.last = c.epoch+1, 0, nil
		}
		x.values, x.ending, x.guard, x.stale = nil, nil, guard, true
	})
}

// transaction asks the core: nothing else runs in the simulation.
func (p *simPart) transaction(pid int64) record.Transaction {
	return p.r.core.tail.producers.transaction(pid)
}

func unavailable(err error) bool {
	return errors.Is(err, record.ErrOffline) || errors.Is(err, record.ErrStopped) || errors.Is(err, record.ErrReadOnly) || errors.Is(err, record.ErrLeaderUnknown)
}

// misbehave sends what a zombie would: it must not come into the log.
func (c *simClient) misbehave() {
	s, x := c.p.s, c.txn
	want := record.ErrTransactionState
	refused := func(err error) {
		if err == nil || !errors.Is(err, want) && !unavailable(err) {
			s.fatalf("%s: producer %d misbehaves: %v, want %v", c.p.id, c.pid, err, want)
		}
		s.counts.refused++
	}
	appended := func(_ []record.Appended, err error) { refused(err) }
	known := c.p.transaction(c.pid)
	switch s.rng.IntN(4) {
	case 0: // a batch outside of the transaction that is open
		if known.Open() {
			c.p.r.Append([]record.Batch{idempotent(s.t, c.pid, c.epoch, c.next, "outside")}, appended)
		}
	case 1: // a batch that was checked before the marker came
		if x.stale && x.guard != known.Guard {
			c.p.r.AppendTransactional([]record.Batch{transactional(s.t, c.pid, c.epoch, c.next, "late")}, x.guard, appended)
		}
	case 2: // a marker of a coordinator that was replaced
		if c.p.producer(c.pid).coordinator > 0 {
			want = record.ErrCoordinatorFenced
			c.p.r.EndTransaction(record.TransactionMarker{ProducerID: c.pid, ProducerEpoch: c.epoch, CoordinatorEpoch: c.p.producer(c.pid).coordinator - 1}, refused)
		}
	case 3: // a marker of an epoch that was fenced
		if known.Epoch > 0 {
			want = record.ErrProducerFenced
			c.p.r.EndTransaction(record.TransactionMarker{ProducerID: c.pid, ProducerEpoch: known.Epoch - 1, CoordinatorEpoch: x.coordinator}, refused)
		}
	}
}

func (p *simPart) producer(pid int64) producer {
	if known := p.r.core.tail.producers.byID[pid]; known != nil {
		return *known
	}
	return *newProducer(-1)
}

// checkTransactions compares what readers with read_committed see with what
// was promised to the clients, and with the batches.
func (p *simPart) checkTransactions(found map[int64]string) {
	s := p.s
	checkTransactions(s, p.r, p.seen)
	off := p.r.Offsets()
	list, err := p.r.Aborted(off.Start, off.LastStable)
	if err != nil {
		s.fatalf("%s: aborted transactions: %v", p.id, err)
	}
	visible := map[string]bool{}
	for _, at := range filtered(s.t, oracleOf(p.seen).within(off.Start, off.LastStable), list) {
		visible[found[at]] = true
	}
	for _, c := range p.clients {
		if c.txn == nil {
			continue
		}
		for offset, v := range p.acked {
			commit, decided := c.txn.decided[v]
			switch {
			case offset < off.Start || !decided && !slices.Contains(c.txn.values, v):
			case !decided && c.txn.ending == nil && (offset < off.LastStable || visible[v]):
				s.fatalf("%s: %s at offset %d is undecided, stable is what lies below %d", p.id, v, offset, off.LastStable)
			case decided && offset < off.LastStable && visible[v] != commit:
				s.fatalf("%s: %s at offset %d is committed: %v, visible: %v", p.id, v, offset, commit, visible[v])
			}
		}
		if len(c.txn.values) > 0 {
			s.counts.openStarts++
		}
	}
}

// oracleOf has all batches that were ever seen of a partition.
func oracleOf(seen map[int64]string) (o txnOracle) {
	for _, at := range slices.Sorted(maps.Keys(seen)) {
		o = append(o, record.Batch(seen[at]))
	}
	return o
}

// checkTransactions compares what a replica at rest knows of transactions, and
// what its readers are told, with the batches that were ever seen.
func checkTransactions(s *sim, r *Replica, seen map[int64]string) {
	o := oracleOf(seen)
	o.checkCore(s.t, r.core)
	off := r.Offsets()
	for range 8 {
		if off.LastStable <= off.Start {
			break
		}
		from := off.Start + s.rng.Int64N(off.LastStable-off.Start)
		to := from + 1 + s.rng.Int64N(off.LastStable-from)
		list, err := r.Aborted(from, to)
		if err != nil {
			s.fatalf("%s: aborted transactions from %d to %d: %v", r.ID(), from, to, err)
		}
		o.checkReader(s.t, from, to, list)
		if list, err = r.findAborted(r.view.Load(), from, to); err != nil {
			s.fatalf("%s: aborted transactions from %d to %d, read from the log: %v", r.ID(), from, to, err)
		}
		o.checkReader(s.t, from, to, list)
	}
	if s.t.Failed() {
		s.fatalf("%s: its transactions are not those of the batches", r.ID())
	}
}
