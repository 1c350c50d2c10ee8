package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

// Set is all replicas of a node on one store.
type Set struct {
	cfg      Config
	store    *storage.Store
	queue    *runQueue
	room     *budget
	diskFull atomic.Bool
	peers    *peers
	led      atomic.Uint64 // counts changes of what is led here
	// received are the bytes of each class that came from other nodes and that no
	// step has taken yet.
	received [ClassBulk + 1]atomic.Int64

	compactions compactions
	fetches     *fetches
	scrubber    scrubber
	copies      atomic.Int32 // logs that are copied to this node, files that are sent to others
	offline     atomic.Bool  // every replica knows that the volume is

	mu struct {
		sync.Mutex
		byLog  map[storage.LogID]*Replica
		byName map[record.TopicPartition]*Replica // the newest generation
		byKey  map[groupKey]*Replica
		ended  bool
	}
}

// Open makes an empty set over a store. It steps its replicas while Run runs.
func Open(cfg Config, store *storage.Store) (*Set, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open replicas: %w", err)
	}
	cfg = cfg.withDefaults()
	var run [8]byte
	if _, err := io.ReadFull(cfg.Rand, run[:]); err != nil {
		return nil, fmt.Errorf("open replicas: draw a number for this run: %w", err)
	}
	s := &Set{cfg: cfg, store: store, peers: newPeers(binary.LittleEndian.Uint64(run[:]) | 1), queue: newRunQueue(), room: newBudget(cfg.TotalBytes), fetches: newFetches()}
	s.mu.byLog = map[storage.LogID]*Replica{}
	s.mu.byName = map[record.TopicPartition]*Replica{}
	s.mu.byKey = map[groupKey]*Replica{}
	return s, nil
}

// Add opens the replica's log, or creates it, and starts the group. A damaged
// log gives a quarantined replica, not an error (Invariant 8).
func (s *Set) Add(spec Spec) (*Replica, error) {
	if len(spec.Born) == 0 || s.cfg.Transport == nil && (len(spec.Born) != 1 || spec.Born[0] != s.cfg.Member) {
		return nil, fmt.Errorf("add %s: %w: members %v on node %d, want this node alone, or a way to the others", spec.ID, record.ErrInvalidReplicas, spec.Born, NodeOf(s.cfg.Member))
	}
	log, err := s.openLog(spec)
	if err != nil {
		return nil, fmt.Errorf("add %s: %w", spec.ID, err)
	}
	r := &Replica{set: s, id: spec.ID, log: log, room: newBudget(s.cfg.GroupBytes)}
	r.written.Store(s.cfg.Clock().UnixMilli())
	r.Configure(spec.Topic)
	if err := s.start(r, spec); err != nil {
		return nil, fmt.Errorf("add %s: %w", spec.ID, errors.Join(err, log.Close()))
	}
	if err := s.enter(r); err != nil {
		return nil, fmt.Errorf("add %s: %w", spec.ID, errors.Join(err, log.Close()))
	}
	if r.core != nil {
		s.ready(r) // a group of one campaigns in its first step
	}
	return r, nil
}

func (s *Set) openLog(spec Spec) (*storage.Log, error) {
	s.mu.Lock()
	_, have := s.mu.byLog[spec.ID]
	s.mu.Unlock()
	if have {
		return nil, storage.ErrExists
	}
	log, err := s.store.OpenLog(spec.ID)
	alone := spec.Alone || s.cfg.Transport == nil
	switch lost := errors.Is(err, storage.ErrLost); {
	case lost && !alone, errors.Is(err, record.ErrQuarantined) && !alone:
		// It may have voted and acknowledged what nobody knows here any more.
		return s.store.CreateLost(spec.ID)
	case lost, errors.Is(err, storage.ErrNotFound):
		return s.store.Create(spec.ID, s.stateAtBirth(spec))
	}
	return log, err
}

// stateAtBirth is what this node's log of a group begins with: as one that the
// group was created with, or as one that joins.
func (s *Set) stateAtBirth(spec Spec) storage.State {
	if slices.Contains(spec.Born, s.cfg.Member) && !spec.Joins {
		return firstState(spec.Born)
	}
	return joiningState()
}

// start makes the core of a sound log, and the view of a damaged one.
func (s *Set) start(r *Replica, spec Spec) error {
	var seed [8]byte
	if _, err := io.ReadFull(s.cfg.Rand, seed[:]); err != nil {
		return fmt.Errorf("draw a seed: %w", err)
	}
	r.coreConfig = coreConfig{
		id:            s.cfg.Member,
		topic:         spec.Topic,
		machine:       spec.Machine,
		electionTicks: s.cfg.ElectionTicks,
		quietTicks:    s.cfg.QuietTicks,
		maxInflight:   uint64(s.cfg.InflightBytes),
		mostProducers: s.cfg.MaxProducers,
		seed:          binary.LittleEndian.Uint64(seed[:]),
		logger:        s.cfg.Logger.With("topic", spec.ID.Topic, "partition", spec.ID.Partition),
	}
	if s.cfg.Source != nil && spec.Machine == nil {
		r.coreConfig.byFiles = func() bool { return r.log.Size() >= s.cfg.FilesAbove }
	}
	if damage := r.log.Damage(); damage != nil {
		r.quarantine(damage, nil)
		return nil
	}
	core, err := openCore(r.coreConfig, r.log, s.cfg.Clock().UnixMilli())
	if err != nil {
		return err
	}
	r.begin(core)
	r.publish()
	return nil
}

func (s *Set) enter(r *Replica) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.ended {
		return record.ErrStopped
	}
	if s.mu.byLog[r.id] != nil {
		return storage.ErrExists
	}
	s.mu.byLog[r.id], s.mu.byKey[keyOf(r.id)] = r, r
	tp := record.TopicPartition{Topic: r.id.Topic, Partition: r.id.Partition}
	if old := s.mu.byName[tp]; old == nil || old.id.ID != r.id.ID || old.id.Generation < r.id.Generation {
		s.mu.byName[tp] = r
	}
	return nil
}

// Get finds the replica of a partition: of its newest generation here.
func (s *Set) Get(tp record.TopicPartition) (*Replica, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.mu.byName[tp]
	return r, ok
}

// Led is another number whenever this node has begun or ceased to lead a group
// and answer for it, or does so in another term: who asked All before need not
// ask again while it is the same.
func (s *Set) Led() uint64 { return s.led.Load() }

// All lists the replicas by their log's name.
func (s *Set) All() []*Replica {
	all := s.replicas(nil)
	slices.SortFunc(all, func(a, b *Replica) int { return compareLogs(a.id, b.id) })
	return all
}

func compareLogs(a, b storage.LogID) int {
	switch {
	case a.Topic != b.Topic:
		if a.Topic < b.Topic {
			return -1
		}
		return 1
	case a.Partition != b.Partition:
		return int(a.Partition) - int(b.Partition)
	}
	return int(a.Generation) - int(b.Generation)
}

// Remove stops a replica; what waits in it gets record.ErrStopped. Its data
// goes too if deleteData is set.
func (s *Set) Remove(id storage.LogID, deleteData bool) error {
	s.mu.Lock()
	r := s.mu.byLog[id]
	delete(s.mu.byLog, id)
	delete(s.mu.byKey, keyOf(id))
	tp := record.TopicPartition{Topic: id.Topic, Partition: id.Partition}
	if r != nil && s.mu.byName[tp] == r {
		delete(s.mu.byName, tp)
	}
	s.mu.Unlock()
	if r == nil {
		return fmt.Errorf("remove %s: %w", id, storage.ErrNotFound)
	}
	r.shut(record.ErrStopped)
	s.fetches.forget(id) // not before: a last step may want the log
	if err := r.log.Close(); err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	if !deleteData {
		return nil
	}
	if err := s.store.Remove(id); err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	return nil
}

// Discard deletes the data of a log that is not open here. It is no error when
// there is none.
func (s *Set) Discard(id storage.LogID) error { return s.store.Remove(id) }

// Run steps the replicas until ctx ends. Then what waits in them gets
// record.ErrStopped, and nothing can be added any more; the store may be closed
// after it.
func (s *Set) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range s.cfg.Workers {
		workers.Go(s.work)
	}
	var compacting sync.WaitGroup
	compacting.Go(func() { s.compact(ctx) })
	var beating sync.WaitGroup
	beating.Go(func() { s.beat(ctx) })
	if s.cfg.ScrubRate > 0 {
		beating.Go(func() { s.scrub(ctx) })
	}
	if s.cfg.Source != nil {
		for range fetchers {
			beating.Go(func() { s.fetching(ctx) })
		}
	}
	s.tick(ctx)
	beating.Wait()
	compacting.Wait() // it asks the workers
	s.queue.close()
	workers.Wait()
	s.mu.Lock()
	s.mu.ended = true
	s.mu.Unlock()
	for _, r := range s.All() {
		r.shut(record.ErrStopped)
	}
	s.room.close()
	return nil
}

// housekeeping is the time between two looks at the disk.
const housekeeping = time.Second

// tick does what is due by time, until ctx ends.
func (s *Set) tick(ctx context.Context) {
	t := time.NewTicker(housekeeping)
	defer t.Stop()
	next := s.cfg.Clock().Add(s.cfg.RetentionEvery)
	for {
		disk := s.store.Disk()
		s.diskFull.Store(disk.High)
		now := s.cfg.Clock()
		due := !now.Before(next)
		if due {
			next = now.Add(s.cfg.RetentionEvery)
		}
		if due || disk.Low {
			for _, r := range s.All() {
				r.retain(now)
			}
		}
		if due {
			s.sweepStaged(now)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.wakeStalled()
			s.repair()
		}
	}
}

// wakeStalled has the groups try again whose rounds did not fit on the disk.
func (s *Set) wakeStalled() {
	s.mu.Lock()
	var stalled []*Replica
	for _, r := range s.mu.byLog {
		if v := r.view.Load(); v.stalled {
			stalled = append(stalled, r)
		}
	}
	s.mu.Unlock()
	for _, r := range stalled {
		s.ready(r)
	}
}

// Buffered is the number of bytes that all groups have taken and not answered.
func (s *Set) Buffered() int64 { return s.room.used() }
