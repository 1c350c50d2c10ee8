package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// The simulation drives the real storage code on a file system in memory,
// from one seed: a schedule of rounds, conflicts, rolls, resets, trims, full
// disks and failed syncs, in which the machine stops at any moment, in the
// middle of an operation too, by a power cut or a kill, and starts again. After
// every step both kinds of stop are tried on a copy. The checks are stated
// where they are made: see soloLog.check and solo.checkFlip. A second schedule,
// in sim_trio_test.go, has three replicas.
//
// ENTREPOT_SIM_SEEDS is the number of schedules of each kind,
// ENTREPOT_SIM_SEED replays one.

// simSeeds is how many schedules a test runs by default.
const simSeeds = 10000

// runSeeds runs schedules on all processors and fails with the first seed, in
// order of discovery, for which run returns an error.
func runSeeds(t *testing.T, run func(seed uint64) error) {
	t.Helper()
	runSeedsOf(t, simSeeds, run)
}

// runSeedsOf is runSeeds with another number by default.
func runSeedsOf(t *testing.T, most uint64, run func(seed uint64) error) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // many small disks: mostly garbage
	if s := os.Getenv("ENTREPOT_SIM_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err == nil {
			err = run(seed)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	n := most
	if s := os.Getenv("ENTREPOT_SIM_SEEDS"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	} else if testing.Short() {
		n = 300
	}
	if seed, err := firstFailure(n, run); err != nil {
		t.Fatalf("seed %d (replay with ENTREPOT_SIM_SEED=%d go test -run '^%s$' ./storage): %v", seed, seed, t.Name(), err)
	}
	t.Logf("%d schedules", n)
}

// firstFailure runs seeds 1 to n until one fails.
func firstFailure(n uint64, run func(seed uint64) error) (seed uint64, err error) {
	var mu sync.Mutex
	next := uint64(1)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				mu.Lock()
				mine := next
				next++
				stop := err != nil || mine > n
				mu.Unlock()
				if stop {
					return
				}
				if e := run(mine); e != nil {
					mu.Lock()
					if err == nil || mine < seed {
						seed, err = mine, e
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return seed, err
}

func TestSimulateOneNode(t *testing.T) {
	runSeeds(t, func(seed uint64) error { return runSolo(seed, plant{}) })
}

// solo is one node with a few logs.
type solo struct {
	rng   *rand.Rand
	plant plant
	mem   *vfs.Mem
	store *Store
	logs  []*soloLog
	now   time.Time
	fault bool // a sync has failed: only a power cut follows
	serial
}

// serial makes every batch of a schedule a different one.
type serial struct{ n int64 }

var simBatches = sync.OnceValue(func() (sizes []record.Batch) {
	for _, shape := range [][2]int{{1, 0}, {1, 30}, {3, 40}, {1, 700}, {2, 900}} {
		b := record.NewBuilder(record.None)
		for i := range shape[0] {
			if err := b.Append(record.Record{Offset: int64(i), Timestamp: 1, Value: make([]byte, shape[1])}); err != nil {
				panic(err)
			}
		}
		batch, err := b.Build()
		if err != nil {
			panic(err)
		}
		sizes = append(sizes, batch)
	}
	return sizes
})

// batch returns a batch that no other equals.
func (s *serial) batch(rng *rand.Rand, base int64, epoch int32) record.Batch {
	templates := simBatches()
	b := bytes.Clone(templates[rng.IntN(len(templates))])
	s.n++
	record.Batch(b).SetLogAppendTime(s.n)
	record.Batch(b).SetBaseOffset(base)
	record.Batch(b).SetLeaderEpoch(epoch)
	return b
}

// entries continues a log after a place.
func (s *serial) entries(rng *rand.Rand, n int, index, term uint64, next int64) []Entry {
	var out []Entry
	for i := range uint64(n) {
		e := Entry{Index: index + 1 + i, Term: term, Kind: KindControl, BaseOffset: next, LeaderEpoch: int32(term)}
		if rng.IntN(4) > 0 {
			if rng.IntN(10) == 0 {
				e.BaseOffset += int64(rng.IntN(50)) // a mirrored batch behind a gap
			}
			e.Kind, e.Payload = KindData, s.batch(rng, e.BaseOffset, e.LeaderEpoch)
			next = e.NextOffset()
		} else {
			s.n++
			e.Payload = binary.BigEndian.AppendUint64(make([]byte, rng.IntN(100)), uint64(s.n))
		}
		out = append(out, e)
	}
	return out
}

const simDir = "/data"

func simConfig(rng *rand.Rand, now func() time.Time) Config {
	size := rng.IntN(3)
	return Config{ReserveBytes: -1, LowWater: 1, HighWater: 1, TailCacheBytes: int64(1 + size*4000), AheadBytes: []int64{-1, 256, 1 << 10}[size], MaxOpenFiles: 3, Clock: now, Rand: randReader{rng}}
}

type randReader struct{ rng *rand.Rand }

func (r randReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.rng.Uint32())
	}
	return len(p), nil
}

func runSolo(seed uint64, p plant) (err error) {
	s := &solo{rng: rand.New(rand.NewPCG(seed, 1)), plant: p, mem: vfs.NewMem(), now: time.UnixMilli(1_700_000_000_000)}
	for i := range 1 + s.rng.IntN(2) {
		s.logs = append(s.logs, &soloLog{sim: s, id: LogID{Topic: "t", Partition: int32(i)}})
	}
	if err := s.start(); err != nil {
		return err
	}
	for step := range 25 + s.rng.IntN(30) {
		if err := s.step(); err != nil {
			return fmt.Errorf("step %d: %w", step, err)
		}
	}
	return nil
}

// open opens a store on a file system as the schedule's node does.
func (s *solo) open(mem *vfs.Mem) (*Store, error) {
	st, err := Open(s.plant.wrap(mem), simDir, simConfig(s.rng, func() time.Time { return s.now }))
	if err == nil {
		st.planted.skipOver = s.plant.skipOver
	}
	return st, err
}

// start starts the node on its disk and opens or creates its logs.
func (s *solo) start() (err error) {
	s.fault = false
	if s.store, err = s.open(s.mem); err != nil {
		return err
	}
	for _, l := range s.logs {
		if err := l.open(); err != nil {
			return fmt.Errorf("log %s: %w", l.id, err)
		}
	}
	return nil
}

// step does one thing, then tries both kinds of stop on a copy.
func (s *solo) step() error {
	if s.rng.IntN(8) == 0 {
		s.mem.CutAfter(1+s.rng.IntN(4), s.rng)
	}
	err := s.act()
	if s.mem.Dead() {
		return s.restart()
	}
	s.mem.Uncut()
	switch {
	case err != nil:
		return err
	case s.fault:
		return s.restart()
	}
	if err := s.probe(s.mem.CrashClone(s.rng), true); err != nil {
		return fmt.Errorf("power cut: %w", err)
	}
	if err := s.probe(s.mem.KillClone(), false); err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	switch s.rng.IntN(12) {
	case 0:
		return s.restart()
	case 1:
		return s.checkFlip()
	}
	return nil
}

// act draws the next operation. Errors of a machine that stopped meanwhile are
// of no interest: the caller looks at that first.
func (s *solo) act() error {
	l := s.logs[s.rng.IntN(len(s.logs))]
	switch s.rng.IntN(17) {
	case 0, 1, 2, 3, 4, 5:
		return l.appendRound()
	case 6:
		return l.supersede()
	case 7:
		return l.reset()
	case 8:
		return l.trim()
	case 9:
		s.now = s.now.Add(time.Second)
		s.store.Step(s.now)
		s.store.Step(s.now)
	case 10:
		return s.fullDisk(l)
	case 14, 15:
		return l.compact()
	case 16:
		return l.scrub()
	case 11:
		if s.rng.IntN(4) == 0 {
			return s.closeAndOpen()
		}
		if s.rng.IntN(4) == 0 {
			return s.failSync()
		}
		s.store.Step(s.now)
	default:
		s.now = s.now.Add(time.Duration(s.rng.IntN(60)) * time.Millisecond)
		s.store.Step(s.now)
	}
	return nil
}

// fullDisk lets one round find the disk full, or nearly.
func (s *solo) fullDisk(l *soloLog) error {
	space, err := s.mem.Space("/")
	if err != nil {
		return nil
	}
	s.mem.SetCapacity(space.Total - space.Free + int64(1+s.rng.IntN(800)))
	defer s.mem.SetCapacity(0)
	return l.appendRound()
}

// failSync lets the next sync fail: the store must go offline for good.
func (s *solo) failSync() error {
	l := s.logs[0]
	if err := l.appendRound(); err != nil || s.mem.Dead() {
		return err
	}
	s.mem.CutAfter(1, s.rng)
	s.store.Step(s.now)
	if !s.mem.Dead() {
		s.mem.Uncut()
		return nil
	}
	s.fault = true
	if s.store.Disk().Offline == nil {
		return errors.New("a failed sync did not take the volume offline")
	}
	if err := l.log.Append(Round{}); !errors.Is(err, record.ErrOffline) {
		return fmt.Errorf("append on an offline volume: %w", err)
	}
	return nil
}

// closeAndOpen stops the node in an orderly way: everything is durable then.
func (s *solo) closeAndOpen() error {
	if err := s.store.Close(); err != nil {
		return err
	}
	for _, l := range s.logs {
		l.acked = len(l.ops)
	}
	s.mem = s.mem.CrashClone(s.rng)
	return s.start()
}

// restart stops the machine, if it has not stopped already, and starts it on
// what is left.
func (s *solo) restart() error {
	power := s.rng.IntN(2) == 0
	cut := s.mem.Dead()
	if power {
		s.mem = s.mem.CrashClone(s.rng)
	} else {
		s.mem = s.mem.KillClone()
	}
	for _, l := range s.logs {
		l.stopped(power, cut)
	}
	if err := s.start(); err != nil {
		return fmt.Errorf("start after a stop (power %v, in the middle %v): %w", power, cut, err)
	}
	return nil
}

// probe starts a node on a copy, twice, and checks what it finds: recovering
// what was recovered must change nothing.
func (s *solo) probe(mem *vfs.Mem, power bool) error {
	var before []string
	for range 2 {
		st, err := s.open(mem)
		if err != nil {
			return err
		}
		var found []string
		for _, l := range s.logs {
			text, err := l.recovered(st, power)
			if err != nil {
				return fmt.Errorf("log %s: %w", l.id, err)
			}
			found = append(found, text)
		}
		if before != nil && !slices.Equal(before, found) {
			return fmt.Errorf("recovered twice: %q, then %q", before, found)
		}
		before = found
		mem = mem.KillClone()
	}
	return nil
}

func randOf(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }
