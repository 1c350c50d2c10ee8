package replica

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// mendCase is the log of a lone replica with transactions, idempotent batches and
// others, of which some frames are damaged.
type mendCase struct {
	t    *testing.T
	rng  *rand.Rand
	fs   *vfs.Mem
	spec Spec
	all  txnOracle // as it was written
	hw   int64
}

// mendProducer is a producer of a mendCase.
type mendProducer struct {
	id    int64
	epoch int16
	seq   int32
	open  bool
	rises bool // its epoch rises with each marker (KIP-890)
}

func newMendCase(t *testing.T, seed uint64) *mendCase {
	c := &mendCase{t: t, rng: rand.New(rand.NewPCG(seed, 5)), fs: vfs.NewMem()}
	c.spec = Spec{ID: clicks(0), Topic: TopicConfig{SegmentBytes: int64(1500 + c.rng.IntN(6000))}}
	if c.rng.IntN(2) == 0 {
		c.spec.Topic.SegmentBytes = 1 << 20 // no header behind the damage
	}
	c.write()
	return c
}

func (c *mendCase) start() (*node, *Replica) {
	n := startNode(c.t, c.fs, "data", storage.Config{ReserveBytes: -1, TailCacheBytes: -1, LowWater: 1, HighWater: 1}, Config{})
	return n, n.add(c.spec)
}

func (c *mendCase) write() {
	n, r := c.start()
	producers := []*mendProducer{{id: 1, rises: true}, {id: 2, rises: true}, {id: 3}, {id: 4}}
	for i := range 40 + c.rng.IntN(60) {
		p := producers[c.rng.IntN(len(producers))]
		values := []string{fmt.Sprint("value ", i), "and another one"}[:1+c.rng.IntN(2)]
		var b record.Batch
		switch k := c.rng.IntN(6); {
		case k == 0:
			b = batch(c.t, values...)
		case p.id == 4:
			b = idempotent(c.t, p.id, 0, p.seq, values...)
		case k < 3 && p.open:
			m := record.TransactionMarker{ProducerID: p.id, ProducerEpoch: p.epoch, Commit: c.rng.IntN(2) == 0}
			if p.rises {
				p.epoch, p.seq = p.epoch+1, 0
				m.ProducerEpoch++
			}
			p.open = false
			done := make(chan error, 1)
			r.EndTransaction(m, func(err error) { done <- err })
			if err := <-done; err != nil {
				c.t.Fatal(err)
			}
			continue
		default:
			b, p.open = transactional(c.t, p.id, p.epoch, p.seq, values...), true
		}
		if b.ProducerID() >= 0 {
			p.seq += b.Count()
		}
		if _, err := appendWait(c.t, r, b); err != nil {
			c.t.Fatal(err)
		}
	}
	c.all, c.hw = c.readAll(r), r.Offsets().HighWatermark
	n.stop()
}

func (c *mendCase) readAll(r *Replica) (all txnOracle) {
	for at := r.Offsets().Start; at < r.Offsets().HighWatermark; {
		got, err := r.Read(at, 1<<20)
		if err != nil {
			c.t.Fatal(err)
		}
		if len(got.Batches) == 0 {
			break
		}
		for _, b := range got.Batches {
			all = append(all, bytes.Clone(b))
			at = b.NextOffset()
		}
	}
	return all
}

// damage changes bytes of one or a few frames, several bits at a time.
func (c *mendCase) damage() (what string) {
	var text bytes.Buffer
	if err := storage.Dump(c.fs, "data/clicks-0", &text, true); err != nil {
		c.t.Fatal(err)
	}
	var frames []dumpedFrame
	for dec := json.NewDecoder(&text); dec.More(); {
		var f dumpedFrame
		if err := dec.Decode(&f); err != nil {
			c.t.Fatal(err)
		}
		if f.What != "end" && f.What != "footer" && f.What[:min(6, len(f.What))] != "header" {
			frames = append(frames, f)
		}
	}
	frames = frames[:len(frames)-1] // the last one, a state, is not stated by any
	for range 1 + c.rng.IntN(3) {
		i := c.rng.IntN(len(frames))
		for wanted := c.rng.IntN(2) == 0; wanted && frames[i].What != "marker"; {
			i = c.rng.IntN(len(frames))
		}
		for range 1 + c.rng.IntN(3)*c.rng.IntN(2) { // one, or some that follow each other
			if i == len(frames) {
				break
			}
			f := frames[i]
			i++
			at := f.At + c.rng.Int64N(f.Length)
			what += fmt.Sprintf("%s at byte %d of %s; ", f.What, at, f.File)
			for at := at; at < min(at+3, f.At+f.Length); at++ {
				if err := c.fs.Flip("data/clicks-0/"+f.File, at, byte(1+c.rng.IntN(255))); err != nil {
					c.t.Fatal(err)
				}
			}
		}
	}
	return what
}

// repair does what `log repair --execute` does.
func (c *mendCase) repair() (s *storage.Salvage, m Mending, err error) {
	all, err := storage.OpenSalvages(c.fs, "data", true)
	if err != nil {
		return nil, m, err
	}
	defer all.Close()
	if len(all.Refused) > 0 || len(all.Logs) > 1 {
		return nil, m, fmt.Errorf("%d logs are damaged, refused %v", len(all.Logs), all.Refused)
	}
	if len(all.Logs) == 0 {
		return nil, m, nil
	}
	s = all.Logs[0]
	if m, err = Mend(s, 1, false, 1000); err == nil {
		_, err = all.Repair(s, m.Aux, m.Fill)
	}
	return s, m, err
}

// TestMend damages frames of a lone replica's log, markers among them, repairs it
// and opens it again. Everything that was not told to be lost is there; nothing of
// an aborted transaction is shown; what was committed is, but for what was told.
func TestMend(t *testing.T) {
	first, n := simRange(300)
	var total struct{ repaired, lost, ended, guessed, open, joined int }
	for seed := first; seed < first+uint64(n); seed++ {
		c := newMendCase(t, seed)
		what := c.damage()
		s, m, err := c.repair()
		if err == nil && s != nil {
			total.repaired++
			for _, g := range s.Gaps {
				total.lost += int(g.NextOffset - g.Offset)
			}
			for _, e := range m.Ended {
				total.ended++
				if e.Guessed {
					total.guessed++
				}
			}
			total.open, total.joined = total.open+len(m.Open), total.joined+len(m.Joined)
			err = c.check(s, m)
		}
		if err != nil {
			t.Fatalf("seed %d: %s: %v", seed, what, err)
		}
	}
	t.Logf("%+v", total)
}

func lostAt(s *storage.Salvage, offset int64) bool {
	return slices.ContainsFunc(s.Gaps, func(g storage.Gap) bool { return g.Offset <= offset && offset < g.NextOffset })
}

func (c *mendCase) check(s *storage.Salvage, m Mending) error {
	n, r := c.start()
	defer n.stop()
	got := c.readAll(r)
	for i, b := range c.all {
		at := slices.IndexFunc(got, func(g record.Batch) bool { return g.BaseOffset() == b.BaseOffset() })
		lost := lostAt(s, b.BaseOffset())
		switch {
		case lost && at >= 0 && !slices.ContainsFunc(m.Ended, func(e MendedTxn) bool { return e.Marker == b.BaseOffset() }):
			return fmt.Errorf("the batch at offset %d was told to be lost", b.BaseOffset())
		case !lost && at < 0:
			return fmt.Errorf("the batch at offset %d is missing", b.BaseOffset())
		case !lost && !bytes.Equal(got[at], b):
			return fmt.Errorf("the batch at offset %d is another", b.BaseOffset())
		case lost || b.IsControl():
			continue
		}
		if err := c.shown(r, m, i); err != nil {
			return err
		}
	}
	for _, t := range m.Joined {
		if t.Producer < 3 {
			return fmt.Errorf("told of %+v, and the epoch tells that there was no marker, or that there was one", t)
		}
	}
	o := r.Offsets()
	if o.HighWatermark != c.hw {
		return fmt.Errorf("high watermark %d, was %d", o.HighWatermark, c.hw)
	}
	if err := c.stable(o.LastStable, s, m); err != nil {
		return err
	}
	return c.goesOn(r)
}

// shown compares what a reader of what is committed sees of a batch.
func (c *mendCase) shown(r *Replica, m Mending, i int) error {
	b := c.all[i]
	at := b.BaseOffset()
	stable := r.Offsets().LastStable
	visible := at < stable
	if visible {
		list, err := r.Aborted(at, at+1)
		if err != nil {
			return err
		}
		// From the begin, as a client that reads everything: with what it is told
		// it skips from there to the next abort marker.
		visible = slices.Contains(readCommitted(c.t, r, 0, 1<<20), at)
		old, err := r.findAborted(r.view.Load(), at, at+1) // as if it were too old for the list
		if err != nil {
			return fmt.Errorf("the batch at offset %d: %w", at, err)
		}
		one, err := r.Read(at, 1)
		if err != nil {
			return err
		}
		for _, list := range [][]record.AbortedTransaction{list, old} {
			if (len(filtered(c.t, one.Batches[:1], list)) > 0) != visible {
				return fmt.Errorf("the batch at offset %d: seen %v by who reads from the begin, and not so by who begins there with %v", at, visible, list)
			}
		}
	}
	committed := true
	if b.IsTransactional() {
		k := c.all.markerOf(i)
		committed = k >= 0
		if committed {
			commit, _, err := c.all[k].Marker()
			if err != nil {
				return err
			}
			committed = commit
		}
	}
	mine := func(t MendedTxn) bool { return t.Producer == b.ProducerID() && t.First <= at }
	told := b.ProducerID() >= 0 && slices.ContainsFunc(slices.Concat(m.Joined, m.Ended), func(t MendedTxn) bool { return mine(t) && t.Guessed && at < t.Marker })
	told = told || committed && !visible && at >= stable && (len(m.Open) > 0 || at >= c.all.lastStable(0, c.hw))
	if visible && !committed {
		told = slices.ContainsFunc(m.Joined, func(t MendedTxn) bool { return mine(t) && at < t.Marker && t.Commit })
	}
	if visible != committed && !told {
		return fmt.Errorf("the batch at offset %d of producer %d: committed %v, shown %v", at, b.ProducerID(), committed, visible)
	}
	return nil
}

// stable checks that nothing holds the last stable offset back but what was told,
// or was open.
func (c *mendCase) stable(lso int64, s *storage.Salvage, m Mending) error {
	want := c.hw
	for id, first := range c.all.open() {
		if lostAt(s, first) { // as far as it can be read
			i := slices.IndexFunc(c.all, func(b record.Batch) bool {
				return b.ProducerID() == id && b.BaseOffset() > first && !lostAt(s, b.BaseOffset())
			})
			if first = c.hw; i >= 0 {
				first = c.all[i].BaseOffset()
			}
		}
		want = min(want, first)
	}
	for _, t := range m.Open {
		want = min(want, t.First)
	}
	if lso > want || lso < want && len(m.Open)+len(m.Joined)+len(m.Ended) == 0 && len(c.all.open()) == 0 {
		return fmt.Errorf("last stable offset %d, want %d; told of %+v", lso, want, m)
	}
	return nil
}

// goesOn ends what was told to be open, and writes.
func (c *mendCase) goesOn(r *Replica) error {
	for _, p := range r.Producers() {
		if p.TxnFirst < 0 {
			continue
		}
		done := make(chan error, 1)
		r.EndTransaction(record.TransactionMarker{ProducerID: p.ID, ProducerEpoch: p.Epoch, CoordinatorEpoch: max(p.CoordinatorEpoch, 0)}, func(err error) { done <- err })
		if err := <-done; err != nil {
			return fmt.Errorf("end what producer %d has open: %w", p.ID, err)
		}
	}
	if _, err := appendWait(c.t, r, batch(c.t, "more")); err != nil {
		return err
	}
	if o := r.Offsets(); o.LastStable != o.HighWatermark {
		return fmt.Errorf("last stable offset %d < %d, and nothing is open", o.LastStable, o.HighWatermark)
	}
	return nil
}

// damagedLog makes a log of a group with these members, with entries of one record
// each behind a first control entry, and damages the entry at one index.
func damagedLog(t *testing.T, id storage.LogID, voters []uint64, snapshot uint64, at uint64) *vfs.Mem {
	t.Helper()
	mem := vfs.NewMem()
	store, err := storage.Open(mem, "data", storage.Config{ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	l, err := store.Create(id, firstState(voters))
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(2); i < 30; i++ {
		e := storage.Entry{Index: i, Term: 1, Kind: storage.KindControl, Payload: append(control(subCommand), fmt.Sprint("command ", i)...)}
		if id.ID != (record.TopicID{}) {
			b := batch(t, fmt.Sprint("record ", i))
			b.SetBaseOffset(int64(i - 2))
			b.SetLeaderEpoch(0)
			e.Kind, e.BaseOffset, e.Payload = storage.KindData, int64(i-2), b
		}
		r := storage.Round{Entries: []storage.Entry{e}, Hard: &storage.HardState{Term: 1, Commit: i - 1}}
		if i == 20 {
			st := firstState(voters)
			var state controlState
			st.Control = state.encode(machineSnapshot{index: snapshot, data: []byte("snapshot")})
			r.Before = &st.Aux
		}
		if err := l.Append(r); err != nil {
			t.Fatal(err)
		}
		store.Step(time.Unix(0, 0))
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	dir := "data/" + id.String()
	names, err := mem.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		var text bytes.Buffer
		if err := storage.Dump(mem, dir+"/"+name, &text, true); err != nil {
			t.Fatal(err)
		}
		for dec := json.NewDecoder(&text); dec.More(); {
			var f struct {
				dumpedFrame
				Index uint64 `json:"index"`
			}
			if err := dec.Decode(&f); err != nil {
				t.Fatal(err)
			}
			if f.Index == at && (f.What == "data" || f.What == "control") {
				if err := mem.Flip(dir+"/"+name, f.At+20, 0x55); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return mem
}

// mendIn mends and repairs the only damaged log of a disk.
func mendIn(t *testing.T, mem *vfs.Mem, self uint64, only bool) (Mending, error) {
	t.Helper()
	all, err := storage.OpenSalvages(mem, "data", true)
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	if len(all.Logs) != 1 {
		t.Fatalf("%d logs are damaged, refused %v", len(all.Logs), all.Refused)
	}
	m, err := Mend(all.Logs[0], self, only, 0)
	if err == nil {
		_, err = all.Repair(all.Logs[0], m.Aux, m.Fill)
	}
	return m, err
}

// A log with other replicas is refused, unless they are said to be gone; then the
// node is the group's only member.
func TestMendOfSeveral(t *testing.T) {
	mem := damagedLog(t, clicks(0), []uint64{1, 2}, 0, 10)
	for _, self := range []uint64{1, 3} {
		if _, err := mendIn(t, mem, self, self == 3); err == nil || self == 1 && !errors.Is(err, ErrNotAlone) {
			t.Errorf("as member %d: %v", self, err)
		}
	}
	m, err := mendIn(t, mem, 1, true)
	if err != nil || !slices.Equal(m.Others, []int32{2}) {
		t.Fatalf("%+v, %v", m, err)
	}
	r := startNode(t, mem, "data", storage.Config{ReserveBytes: -1}, Config{}).add(Spec{ID: clicks(0)})
	if o := r.Offsets(); o.HighWatermark != 28 {
		t.Errorf("offsets %+v", o)
	}
	got, err := r.Read(8, 1)
	if err != nil || got.Batches[0].BaseOffset() != 9 {
		t.Errorf("behind the lost record: %+v, %v", got, err)
	}
	if a, err := appendWait(t, r, batch(t, "more")); err != nil || a[0].BaseOffset != 28 {
		t.Errorf("appended %+v, %v", a, err)
	}
}

// Commands of the catalog are not left out: only what its snapshot holds may be
// lost.
func TestMendOfTheCatalog(t *testing.T) {
	meta := storage.LogID{Topic: "__meta"}
	for _, c := range []struct {
		snapshot, at uint64
		ok           bool
	}{{19, 10, true}, {12, 10, false}, {19, 25, false}} {
		mem := damagedLog(t, meta, []uint64{1}, c.snapshot, c.at)
		if _, err := mendIn(t, mem, 1, false); (err == nil) != c.ok {
			t.Errorf("snapshot of entry %d, entry %d lost: %v", c.snapshot, c.at, err)
		}
		if !c.ok {
			continue
		}
		m := &restored{}
		n := startNode(t, mem, "data", storage.Config{ReserveBytes: -1}, Config{})
		n.add(Spec{ID: meta, Machine: m})
		n.stop()
		if m.snapshot != "snapshot" || len(m.commands) != 10 || m.commands[0] != "command 20" {
			t.Errorf("the catalog is %+v", m)
		}
	}
}

// restored is a machine that notes what it is given.
type restored struct {
	snapshot string
	commands []string
}

func (m *restored) Apply(_ uint64, cmd []byte) any {
	m.commands = append(m.commands, string(cmd))
	return nil
}
func (m *restored) Snapshot() []byte       { return []byte(m.snapshot) }
func (m *restored) Restore(b []byte) error { m.snapshot = string(b); return nil }
