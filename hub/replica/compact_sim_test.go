package replica

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// The simulation of compaction writes keyed records, tombstones and
// transactions to a log from a seed, compacts it at any time, and stops the
// machine in the middle of it, by a power cut or a kill. What must hold after
// every step is in check. ENTREPOT_SIM_SEEDS is the number of schedules,
// ENTREPOT_SIM_SEED replays one.
func TestSimulateCompaction(t *testing.T) {
	first, n := uint64(1), uint64(400)
	if testing.Short() {
		n = 60
	}
	if s := os.Getenv("ENTREPOT_SIM_SEEDS"); s != "" {
		n, _ = strconv.ParseUint(s, 10, 64)
	}
	if s := os.Getenv("ENTREPOT_SIM_SEED"); s != "" {
		first, _ = strconv.ParseUint(s, 10, 64)
		n = first
	}
	var total compactTotals
	for seed := first; seed <= n; seed++ {
		if err := runCompaction(seed, compactPlant{}, &total); err != nil {
			t.Fatalf("seed %d (replay with ENTREPOT_SIM_SEED=%d): %v", seed, seed, err)
		}
	}
	t.Logf("%d schedules: %+v", n-first+1, total)
	if total.passes == 0 || total.cut == 0 || total.dropped == 0 {
		t.Error("nothing was compacted, or never interrupted")
	}
}

// TestCompactionSimulationNotices plants one mistake after the other.
func TestCompactionSimulationNotices(t *testing.T) {
	const within = 3000
	for _, p := range []struct {
		name string
		compactPlant
	}{
		{"the old file deleted before the new one's name is durable", compactPlant{faults: skipDirAfterRename}},
		{"the new file renamed before it is synced", compactPlant{faults: skipSyncOfNew}},
		{"a tombstone dropped before its time", compactPlant{edit: func(c *compactor) { c.now, c.horizon = 1<<60, 0 }}},
		{"compaction above the last stable offset", compactPlant{unstable: true}},
		{"a producer's last sequence dropped", compactPlant{edit: func(c *compactor) { c.lasts = nil }}},
		{"the end of the log dropped", compactPlant{edit: func(c *compactor) { c.end = -1 }}},
		{"keys that did not fit taken for known", compactPlant{overflow: true}},
		{"segments rewritten from the back", compactPlant{backwards: true}},
		{"an aborted record taken for the last of its key", compactPlant{edit: func(c *compactor) { c.txns = transactionScan{} }}},
	} {
		t.Run(p.name, func(t *testing.T) {
			for seed := uint64(1); seed <= within; seed++ {
				if err := runCompaction(seed, p.compactPlant, &compactTotals{}); err != nil {
					text := err.Error()
					t.Logf("noticed with seed %d: %s", seed, text[:min(len(text), 160)])
					return
				}
			}
			t.Errorf("not noticed in %d schedules", within)
		})
	}
}

type compactPlant struct {
	faults                        func() func(*vfs.Op) error
	edit                          func(*compactor)
	unstable, overflow, backwards bool
}

// skipDirAfterRename leaves out the sync of the directory that follows a
// rename.
func skipDirAfterRename() func(*vfs.Op) error {
	renamed := false
	return func(op *vfs.Op) error {
		switch {
		case op.Kind == vfs.OpRename:
			renamed = true
		case op.Kind == vfs.OpSyncDir && renamed:
			renamed = false
			return vfs.ErrSkip
		}
		return nil
	}
}

func skipSyncOfNew() func(*vfs.Op) error {
	return func(op *vfs.Op) error {
		if op.Kind == vfs.OpSync && len(op.Name) > 4 && op.Name[len(op.Name)-4:] == ".new" {
			return vfs.ErrSkip
		}
		return nil
	}
}

type compactTotals struct{ passes, cut, before, after, dropped int }

// modelRecord is a record as it was written.
type modelRecord struct {
	key, value string // value "" is a tombstone
	came       int64
	producer   int64 // of its transaction; -1 without
}

// compactSim is one log and what was written to it.
type compactSim struct {
	rng    *rand.Rand
	plant  compactPlant
	total  *compactTotals
	mem    *vfs.Mem
	store  *storage.Store
	log    *storage.Log
	now    time.Time
	next   int64
	writes int
	hard   storage.HardState

	written   map[int64]modelRecord
	outcome   map[int64]bool // first offset of a transaction → committed, once decided
	txnOf     map[int64]int64
	open      map[int64]int64 // producer → first offset
	sequence  map[int64]int32
	lastBatch map[int64]int64
	retention time.Duration
	keys      int64
}

var compactID = storage.LogID{Topic: "compacted", ID: record.TopicID{9}}

func runCompaction(seed uint64, p compactPlant, total *compactTotals) error {
	rng := rand.New(rand.NewPCG(seed, 7))
	s := &compactSim{
		rng: rng, plant: p, total: total, mem: vfs.NewMem(), now: time.UnixMilli(1_700_000_000_000),
		written: map[int64]modelRecord{}, outcome: map[int64]bool{}, txnOf: map[int64]int64{}, open: map[int64]int64{},
		sequence: map[int64]int32{}, lastBatch: map[int64]int64{},
		retention: time.Duration(rng.IntN(4)) * 10 * time.Second, keys: int64(1 + rng.IntN(12)),
		hard: storage.HardState{Term: 1},
	}
	if err := s.start(); err != nil {
		return err
	}
	for step := range 60 + rng.IntN(60) {
		err := s.step()
		if s.mem.Dead() {
			s.total.cut++
			err = s.restart()
		}
		s.mem.Uncut()
		if err == nil {
			err = s.check(s.log)
		}
		if err == nil && rng.IntN(6) == 0 {
			err = s.probe()
		}
		if err != nil {
			return fmt.Errorf("step %d: %w", step, err)
		}
	}
	return nil
}

type simRand struct{ rng *rand.Rand }

func (r simRand) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.rng.Uint32())
	}
	return len(p), nil
}

func (s *compactSim) openStore(mem *vfs.Mem) (*storage.Store, error) {
	var fs vfs.FS = mem
	if s.plant.faults != nil {
		fs = vfs.WithFaults(mem, s.plant.faults())
	}
	return storage.Open(fs, "/data", storage.Config{
		ReserveBytes: -1, LowWater: 1, HighWater: 1, TailCacheBytes: int64(s.rng.IntN(2)*3000 - 1),
		SegmentBytes: 1500, MaxOpenFiles: 2, Clock: func() time.Time { return s.now }, Rand: simRand{s.rng},
	})
}

func (s *compactSim) start() (err error) {
	if s.store, err = s.openStore(s.mem); err != nil {
		return err
	}
	if s.log, err = s.store.OpenLog(compactID); errors.Is(err, storage.ErrNotFound) && s.writes == 0 {
		s.log, err = s.store.Create(compactID, storage.State{Hard: s.hard})
	}
	return err
}

// restart stops the machine and looks at what is left.
func (s *compactSim) restart() error {
	if s.rng.IntN(2) == 0 {
		s.mem = s.mem.CrashClone(s.rng)
	} else {
		s.mem = s.mem.KillClone()
	}
	return s.start()
}

// probe recovers a copy twice: the second time must find what the first did.
func (s *compactSim) probe() error {
	mem := s.mem.CrashClone(s.rng)
	var before []storage.SegmentInfo
	for i := range 2 {
		st, err := s.openStore(mem)
		if err != nil {
			return err
		}
		l, err := st.OpenLog(compactID)
		if err != nil {
			return err
		}
		if err := s.check(l); err != nil {
			return fmt.Errorf("after a power cut: %w", err)
		}
		if now := l.Segments(); i == 1 && !slices.Equal(before, now) {
			return fmt.Errorf("recovered twice: %v, then %v", before, now)
		}
		before = l.Segments()
		mem = mem.KillClone()
	}
	return nil
}

func (s *compactSim) step() error {
	switch n := s.rng.IntN(13); {
	case n == 12:
		return s.roll()
	case n < 6:
		return s.write()
	case n < 7:
		s.now = s.now.Add(time.Duration(s.rng.IntN(15)) * time.Second)
		s.store.Step(s.now)
		return nil
	case n < 8:
		return s.flip()
	case n < 9:
		return s.restart()
	}
	if s.rng.IntN(2) == 0 {
		s.mem.CutAfter(1+s.rng.IntN(12), s.rng)
	}
	return s.compact()
}

// write appends a batch, or the end of a transaction, durably.
func (s *compactSim) write() error {
	for id := range 2 {
		id := int64(10 + id)
		if first, open := s.open[id]; open && s.rng.IntN(4) == 0 {
			commit := s.rng.IntN(2) == 0
			delete(s.open, id)
			s.outcome[first] = commit
			return s.append(record.NewMarker(id, 0, commit, 0, s.now.UnixMilli()))
		}
	}
	b := record.NewBuilder(record.Codec(s.rng.IntN(2)))
	id := []int64{-1, 5, 10, 11}[s.rng.IntN(4)]
	if id >= 0 {
		b.ProducerID, b.ProducerEpoch, b.BaseSequence = id, 0, s.sequence[id]
		b.Transactional = id >= 10
	}
	n := 1 + s.rng.IntN(4)
	for i := range n {
		s.writes++
		r := modelRecord{key: fmt.Sprintf("k%d", s.rng.Int64N(s.keys)), value: fmt.Sprintf("v%d", s.writes), came: s.now.UnixMilli(), producer: -1}
		rec := record.Record{Timestamp: s.now.UnixMilli() - int64(i), Key: []byte(r.key), Value: []byte(r.value)}
		if s.rng.IntN(4) == 0 {
			r.value, rec.Value = "", nil
		}
		if err := b.Append(rec); err != nil {
			return err
		}
		if b.Transactional {
			if _, open := s.open[id]; !open {
				s.open[id] = s.next
			}
			r.producer = id
			s.txnOf[s.next+int64(i)] = s.open[id]
		}
		s.written[s.next+int64(i)] = r
	}
	if id >= 0 {
		s.sequence[id] += int32(n)
		s.lastBatch[id] = s.next + int64(n) - 1
	}
	batch, err := b.Build()
	if err != nil {
		return err
	}
	return s.append(batch)
}

func (s *compactSim) append(b record.Batch) error {
	b.SetBaseOffset(s.next)
	b.SetLeaderEpoch(1)
	last, _ := s.log.Last()
	r := storage.Round{Entries: []storage.Entry{{Index: last + 1, Term: 1, Kind: storage.KindData, BaseOffset: s.next, LeaderEpoch: 1, Payload: b}}}
	s.hard.Commit = last + 1
	hard := s.hard
	r.Hard = &hard
	if s.log.ShouldRoll(s.now) {
		r.Before = &storage.Aux{}
	}
	if err := s.log.Append(r); err != nil {
		return err
	}
	s.next = b.NextOffset()
	s.store.Step(s.now)
	return nil
}

// roll begins a segment before there is anything for it, and compacts all that
// there is.
func (s *compactSim) roll() error {
	if last, _ := s.log.Last(); s.log.Tip().Index == last {
		return nil
	}
	err := s.log.Append(storage.Round{Before: &storage.Aux{}})
	for range 3 { // it rests, states that it was synced, and syncs that
		s.store.Step(s.now)
		s.now = s.now.Add(time.Second)
	}
	for range 3 {
		if err == nil {
			err = s.compact()
		}
		s.now = s.now.Add(10 * time.Second)
	}
	return err
}

// stable is the last stable offset.
func (s *compactSim) stable() int64 {
	at := s.next
	if s.plant.unstable {
		return at
	}
	for _, first := range s.open {
		at = min(at, first)
	}
	return at
}

func (s *compactSim) compact() error {
	last, _ := s.log.Last()
	plan := planCompaction(s.log.Segments(), Compaction{On: true}, compactionLimit{s.stable(), last}, s.now.UnixMilli())
	if len(plan.segments) == 0 {
		return nil
	}
	c := &compactor{
		keys: newOffsetMap(keyBytes * (1 + s.rng.Int64N(8))), now: s.now.UnixMilli(),
		horizon: deleteHorizon(s.now.UnixMilli(), s.retention), lasts: s.lastBatch,
	}
	p := pass{log: s.log, compactor: c, pace: newPace(0), segmentBytes: 1500}
	p.done = func(done storage.Rewritten) {
		s.total.before, s.total.after, s.total.dropped = s.total.before+int(done.Before), s.total.after+int(done.After), s.total.dropped+int(done.Dropped)
	}
	err := s.planted(&p, plan)
	if err == nil {
		s.total.passes++
	}
	if errors.Is(err, storage.ErrNotSealed) {
		return nil
	}
	return err
}

// planted is pass.run with the mistake of the plant, if there is one.
func (s *compactSim) planted(p *pass, plan compactionPlan) error {
	if s.plant.edit == nil && !s.plant.overflow && !s.plant.backwards {
		return p.run(context.Background(), plan)
	}
	end := plan.segments[len(plan.segments)-1].NextOffset
	err := p.findTransactions()
	if err == nil && s.plant.edit != nil {
		s.plant.edit(p.compactor)
	}
	if err == nil {
		err = p.findKeys(context.Background(), plan.dirtyFrom, end)
	}
	if err != nil {
		return err
	}
	if s.plant.overflow {
		p.compactor.clean = end
	}
	groups := compactionGroups(plan.segments, p.segmentBytes)
	if s.plant.backwards {
		slices.Reverse(groups)
	}
	return p.rewrite(context.Background(), groups)
}

// flip inverts a bit in a copy: whatever is read from it is what was written,
// or the damage is found.
func (s *compactSim) flip() error {
	mem := s.mem.KillClone()
	names, err := mem.List("/data/compacted-0")
	if err != nil || len(names) == 0 {
		return err
	}
	name := "/data/compacted-0/" + names[s.rng.IntN(len(names))]
	info, err := mem.Stat(name)
	if err != nil || info.Size == 0 {
		return err
	}
	at := s.rng.Int64N(info.Size)
	if err := mem.Flip(name, at, 1<<s.rng.IntN(8)); err != nil {
		return err
	}
	st, err := s.openStore(mem)
	if err != nil {
		return err
	}
	l, err := st.OpenLog(compactID)
	if err != nil {
		return nil // found
	}
	if last, _ := l.Last(); l.Damage() != nil || last < s.hard.Commit {
		return nil // found, or the end of the log, of which nothing states that it was synced
	}
	if err := s.check(l); err != nil && !errors.Is(err, record.ErrQuarantined) {
		return fmt.Errorf("a bit flipped at byte %d of %s: %w", at, name, err)
	}
	return nil
}

// check reads the whole log:
//   - every record is one that was written at that offset;
//   - of each key, what a reader ends with is what was written last and not
//     aborted: nothing is lost, nothing comes back;
//   - a tombstone that is the last of its key is there for delete.retention.ms;
//   - the last batch of each producer is there, with its sequence;
//   - the log ends where it did, and a reader gets there.
func (s *compactSim) check(l *storage.Log) error {
	if err := l.Damage(); err != nil {
		return fmt.Errorf("taken for damaged: %w", errors.Join(record.ErrQuarantined, err))
	}
	start, next := l.Offsets()
	if start != 0 || next != s.next {
		return fmt.Errorf("offsets %d to %d, want 0 to %d", start, next, s.next)
	}
	got := map[string]string{}
	there := map[int64]bool{}
	sequences := map[int64]int32{}
	at := start
	for at < next {
		batches, err := l.Read(at, next, 700)
		if err != nil {
			return err
		}
		if len(batches) == 0 {
			break
		}
		for _, b := range batches {
			if err := s.checkBatch(b, at, got, there); err != nil {
				return err
			}
			if b.ProducerID() >= 0 && !b.IsControl() {
				sequences[b.ProducerID()] = b.LastSequence()
			}
			at = b.NextOffset()
		}
	}
	if at != next {
		return fmt.Errorf("a reader gets to %d of %d", at, next)
	}
	if err := s.checkKeys(got, there); err != nil {
		return err
	}
	for id, want := range s.sequence {
		if got, ok := sequences[id]; !ok || got != want-1 {
			return fmt.Errorf("producer %d: the last sequence in the log is %d, %v; want %d", id, got, ok, want-1)
		}
	}
	return nil
}

func (s *compactSim) checkBatch(b record.Batch, from int64, got map[string]string, there map[int64]bool) error {
	if err := b.Check(); err != nil {
		return err
	}
	if b.BaseOffset() < from {
		return fmt.Errorf("a batch at %d, read from %d", b.BaseOffset(), from)
	}
	if b.IsControl() {
		return nil
	}
	return b.Each(1<<20, func(r record.Record) error {
		w, ok := s.written[r.Offset]
		if !ok || w.key != string(r.Key) || w.value != string(r.Value) || (w.value == "") != (r.Value == nil) || r.Timestamp > w.came || r.Timestamp < w.came-4 {
			return fmt.Errorf("offset %d: %s=%s at %d, written was %+v", r.Offset, r.Key, r.Value, r.Timestamp, w)
		}
		there[r.Offset] = true
		if first, ok := s.txnOf[r.Offset]; !ok || s.outcome[first] {
			got[w.key] = w.value
		}
		return nil
	})
}

func (s *compactSim) checkKeys(got map[string]string, there map[int64]bool) error {
	want, last := map[string]string{}, map[string]int64{}
	for o := range s.next {
		w, ok := s.written[o]
		if first, inside := s.txnOf[o]; !ok || inside && !s.outcome[first] {
			continue
		}
		want[w.key], last[w.key] = w.value, o
	}
	for key, value := range want {
		if got[key] != value {
			return fmt.Errorf("key %s ends as %q, written last was %q at %d", key, got[key], value, last[key])
		}
		w := s.written[last[key]]
		if value == "" && s.now.UnixMilli() < w.came+s.retention.Milliseconds() && !there[last[key]] {
			return fmt.Errorf("the tombstone of %s at %d is gone %d ms after it came", key, last[key], s.now.UnixMilli()-w.came)
		}
	}
	return nil
}
