package txn

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// TestTransactionsAreAllOrNothing lets several processes use one transactional
// ID at random: they begin, append, commit, abort, lose answers, die, and are
// fenced; the coordinator crashes between any two writes, loads what is
// durable and carries on. In the end each transaction is committed in all of
// its partitions or in none, as its process was told.
func TestTransactionsAreAllOrNothing(t *testing.T) {
	var committed, aborted, crashes int
	for seed := range uint64(2000) {
		w := newWorld(t, seed)
		for range 250 {
			w.step()
		}
		w.settle()
		w.judge()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		committed, aborted, crashes = committed+w.committed, aborted+w.aborted, crashes+w.crashes
	}
	t.Logf("%d transactions committed, %d aborted, %d crashes", committed, aborted, crashes)
}

// world is the oracle: it knows what was durable, what each partition holds,
// and what each process was told.
type world struct {
	t      *testing.T
	rng    *rand.Rand
	now    time.Time
	x      *Txn
	write  *Write // on its way
	kept   *Record
	prep   Record // the last decision that became durable
	marked map[record.TopicPartition]Producer
	due    []Marker
	parts  map[record.TopicPartition]*part
	procs  []*proc
	ticket Ticket
	asked  map[Ticket]func(Answer)
	fresh  int64
	all    []*tx

	committed, aborted, crashes int
}

// part is one partition: transactions are open in it until a marker comes.
type part struct {
	epochs map[int64]int16
	open   map[int64][]*tx // by producer ID
}

// proc is one process that uses the transactional ID.
type proc struct {
	version int16
	p       Producer
	tx      *tx
	busy    bool // waits for an answer
	fenced  bool // another one was given the transactional ID since
}

// tx is one transaction as its process sees it.
type tx struct {
	asked    *bool // commit or abort; nobody changes his mind
	told     *bool // committed?
	appended int
	outcomes []bool
	added    []record.TopicPartition
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 11)), now: time.UnixMilli(1e6),
		parts: map[record.TopicPartition]*part{}, asked: map[Ticket]func(Answer){}, fresh: 100,
	}
	for i := range int32(4) {
		w.parts[record.TopicPartition{Topic: "t", Partition: i}] = &part{epochs: map[int64]int16{}, open: map[int64][]*tx{}}
	}
	w.x = New("x", Default(), w.now)
	return w
}

func (w *world) step() {
	w.now = w.now.Add(time.Duration(w.rng.IntN(300)) * time.Millisecond)
	if d := w.x.Deadline(); !d.IsZero() && !d.After(w.now) {
		w.take(w.x.Tick(w.now))
	}
	switch n := w.rng.IntN(20); {
	case n == 0 && w.rng.IntN(2) == 0:
		w.crash()
	case n == 1 && w.rng.IntN(4) == 0 || len(w.procs) == 0:
		w.procs = append(w.procs, &proc{version: int16(1 + w.rng.IntN(2)), p: None})
	case n == 2 && w.rng.IntN(4) == 0:
		w.now = w.now.Add(10 * time.Second) // beyond the timeout of a transaction
	case n == 3 && w.rng.IntN(10) == 0:
		w.take(w.x.Expire(w.now.Add(w.x.cfg.Expiration)))
	case n < 9:
		w.written(w.rng.IntN(8) == 0)
	case n < 12:
		w.mark()
	default:
		w.act(w.procs[max(0, len(w.procs)-1-w.rng.IntN(3))])
	}
	w.ageEpoch()
}

// ageEpoch brings the epoch close to its end now and then.
func (w *world) ageEpoch() {
	if w.rng.IntN(200) > 0 || w.kept == nil || w.write != nil || w.kept.State != Empty || w.kept.Producer.Epoch > 100 {
		return
	}
	old := w.kept.Producer
	w.kept.Producer.Epoch = int16(maxEpoch - w.rng.IntN(3))
	for _, p := range w.procs {
		if p.p == old {
			p.p = w.kept.Producer
		}
	}
	w.load()
}

// act lets a process do something.
func (w *world) act(p *proc) {
	switch n := w.rng.IntN(10); {
	case p.busy && n > 0:
	case p.busy: // it stops waiting
		p.busy = false
	case p.p == None || n == 0 && p.tx == nil:
		w.init(p)
	case n < 6 && (p.tx == nil || p.tx.asked == nil):
		w.produce(p)
	default:
		w.end(p)
	}
}

func (w *world) park(p *proc, f func(Answer)) Ticket {
	w.ticket++
	p.busy = true
	t := w.ticket
	w.asked[t] = func(a Answer) {
		if p.busy {
			p.busy = false
			f(a)
		}
	}
	return t
}

func (w *world) init(p *proc) {
	t := w.park(p, func(a Answer) {
		switch {
		case a.Err == nil:
			p.p = a.Producer
			for _, o := range w.procs { // older processes must never come through again
				if o == p {
					break
				}
				o.fenced = true
			}
			if p.fenced {
				w.t.Errorf("a fenced process got %v", a.Producer)
			}
		case errors.Is(a.Err, ErrFenced):
			p.p = None
			w.drop(p)
		}
	})
	w.fresh++
	fresh := w.fresh
	if p.p == None {
		w.drop(p) // a new process in its place
	}
	w.take(w.x.Init(w.now, t, InitRequest{Timeout: 5 * time.Second, Producer: p.p, Fresh: fresh}))
}

// drop is the death of a process: another takes its place at the end.
func (w *world) drop(p *proc) {
	w.procs = slices.DeleteFunc(w.procs, func(o *proc) bool { return o == p })
	p.fenced = false
	w.procs = append(w.procs, p)
	p.tx = nil
}

func (w *world) produce(p *proc) {
	if p.tx == nil {
		p.tx = &tx{}
		w.all = append(w.all, p.tx)
	}
	tp := record.TopicPartition{Topic: "t", Partition: w.rng.Int32N(4)}
	mine, producer := p.tx, p.p
	if p.version == 1 && slices.Contains(mine.added, tp) {
		if err := w.x.Verify(producer, []record.TopicPartition{tp})[0]; err == nil {
			w.append(tp, p, mine, producer)
		}
		return
	}
	t := w.park(p, func(a Answer) {
		if a.Err != nil {
			return
		}
		mine.added = append(mine.added, tp)
		if p.version == 2 {
			w.append(tp, p, mine, producer)
		}
	})
	w.take(w.x.Add(w.now, t, AddRequest{Producer: producer, Partitions: []record.TopicPartition{tp}, Version: p.version, Wait: p.version == 2}))
}

// append is what a partition does: old epochs are refused.
func (w *world) append(tp record.TopicPartition, p *proc, mine *tx, producer Producer) {
	pt := w.parts[tp]
	if e, ok := pt.epochs[producer.ID]; ok && producer.Epoch < e {
		return
	}
	if p.fenced {
		w.t.Errorf("a fenced process appends as %v", producer)
	}
	pt.epochs[producer.ID] = producer.Epoch
	if !slices.Contains(pt.open[producer.ID], mine) {
		pt.open[producer.ID] = append(pt.open[producer.ID], mine)
		mine.appended++
	}
}

func (w *world) end(p *proc) {
	mine := p.tx
	if mine == nil {
		return
	}
	if mine.asked == nil {
		c := w.rng.IntN(3) > 0
		mine.asked = &c
	}
	commit := *mine.asked
	t := w.park(p, func(a Answer) {
		switch {
		case a.Err == nil:
			mine.told = &commit
			p.p, p.tx = a.Producer, nil
			if p.fenced && commit && mine.appended > 0 {
				w.t.Errorf("a fenced process commits as %v", p.p)
			}
		case errors.Is(a.Err, ErrFenced), errors.Is(a.Err, ErrState), errors.Is(a.Err, ErrUnknownProducer):
			p.p = None
			w.drop(p)
		}
	})
	w.fresh++
	w.take(w.x.End(w.now, t, EndRequest{Producer: p.p, Commit: commit, Version: p.version, Fresh: w.fresh}))
}

func (w *world) take(out Output) {
	for _, a := range out.Answers {
		f := w.asked[a.Ticket]
		if f == nil {
			w.t.Errorf("ticket %d was answered twice, or never asked: %v", a.Ticket, a.Err)
			continue
		}
		delete(w.asked, a.Ticket)
		f(a)
	}
	if out.Write != nil {
		if w.write != nil {
			w.t.Error("two writes at a time")
		}
		w.write = out.Write
		w.checkWrite(out.Write.Record)
	}
	for _, m := range out.Markers {
		if w.kept == nil || !w.kept.State.preparing() || m.Commit != (w.kept.State == PrepareCommit) || m.Producer != w.kept.Producer {
			w.t.Errorf("marker %+v, but durable is %+v", m, w.kept)
		}
		w.due = append(w.due, m)
	}
}

// checkWrite: the completion comes after all markers, and producers only go up.
func (w *world) checkWrite(r *Record) {
	if r == nil || w.kept == nil {
		return
	}
	if r.State == CompleteCommit || r.State == CompleteAbort {
		for _, tp := range w.prep.Partitions {
			if w.marked[tp] != w.prep.Producer {
				w.t.Errorf("%v is written before the marker of %v", r.State, tp)
			}
		}
	}
	if was := w.kept.Producer; r.Producer.ID < was.ID || r.Producer.ID == was.ID && r.Producer.Epoch < was.Epoch {
		w.t.Errorf("producer %v after %v", r.Producer, was)
	}
}

// written ends the write that is on its way. One that fails may be durable all
// the same.
func (w *world) written(fail bool) {
	if w.write == nil {
		return
	}
	rec := w.write.Record
	w.write = nil
	if fail {
		w.take(w.x.Written(w.now, errors.New("failed")))
		return
	}
	w.keep(rec)
	w.take(w.x.Written(w.now, nil))
	if w.x.State() == Dead {
		w.load()
	}
}

func (w *world) keep(rec *Record) {
	w.kept = rec
	if rec == nil { // nobody remembers whom it fenced
		for _, p := range w.procs {
			p.fenced = false
		}
	}
	if rec != nil && rec.State.preparing() {
		w.prep, w.marked = *rec, map[record.TopicPartition]Producer{}
	}
}

// mark writes one marker.
func (w *world) mark() {
	if len(w.due) == 0 {
		return
	}
	i := w.rng.IntN(len(w.due))
	m := w.due[i]
	w.due = slices.Delete(w.due, i, i+1)
	pt := w.parts[m.TopicPartition]
	if m.Producer.Epoch < pt.epochs[m.Producer.ID] {
		w.t.Errorf("the marker of %v is fenced: the partition has epoch %d", m.Producer, pt.epochs[m.Producer.ID])
	}
	for _, o := range pt.open[m.Producer.ID] {
		o.outcomes = append(o.outcomes, m.Commit)
	}
	delete(pt.open, m.Producer.ID)
	pt.epochs[m.Producer.ID] = m.Producer.Epoch
	w.marked[m.TopicPartition] = m.Producer
	if w.rng.IntN(10) > 0 { // else the crash is between the marker and its report
		w.take(w.x.Marked(w.now, m.TopicPartition))
		return
	}
	w.crash()
}

// crash loses what is not durable; the write on its way may just have become it.
func (w *world) crash() {
	w.crashes++
	if w.write != nil && w.rng.IntN(2) == 0 {
		w.keep(w.write.Record)
	}
	w.load()
}

func (w *world) load() {
	w.write, w.due = nil, nil
	clear(w.asked)
	for _, p := range w.procs {
		p.busy = false // the connection ended
	}
	if w.kept == nil {
		w.x = New("x", Default(), w.now)
		return
	}
	x, out := Load("x", Default(), w.now, *w.kept)
	w.x = x
	w.take(out)
}

// settle lets everything come to its end without new requests.
func (w *world) settle() {
	for range 1000 {
		w.written(false)
		w.mark()
		if d := w.x.Deadline(); !d.IsZero() {
			w.now = d
			w.take(w.x.Tick(w.now))
		}
	}
	if s := w.x.State(); s == Ongoing || s.preparing() {
		w.t.Errorf("it never ends: %v", s)
	}
	if n := len(w.asked); n > 0 {
		w.t.Errorf("%d requests were never answered", n)
	}
	for tp, pt := range w.parts {
		if len(pt.open) > 0 {
			w.t.Errorf("a transaction hangs in %v", tp)
		}
	}
}

// judge compares each transaction's outcome with what its process was told.
func (w *world) judge() {
	for _, tx := range w.all {
		if len(tx.outcomes) != tx.appended {
			w.t.Errorf("%s: ended in %d partitions of %d", tx, len(tx.outcomes), tx.appended)
		}
		if len(tx.outcomes) == 0 {
			continue
		}
		got := tx.outcomes[0]
		for _, o := range tx.outcomes {
			if o != got {
				w.t.Errorf("%s: committed in some partitions only", tx)
			}
		}
		switch {
		case tx.told != nil && *tx.told != got:
			w.t.Errorf("%s: committed is %v", tx, got)
		case got && (tx.asked == nil || !*tx.asked):
			w.t.Errorf("%s: committed without having been asked to", tx)
		}
		if got {
			w.committed++
		} else {
			w.aborted++
		}
	}
}

func (tx *tx) String() string {
	told := "nothing"
	if tx.told != nil {
		told = fmt.Sprintf("committed %v", *tx.told)
	}
	return fmt.Sprintf("transaction over %d partitions, told %s", tx.appended, told)
}
