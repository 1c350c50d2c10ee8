// Package topics keeps a node's replicas in line with the catalog, and makes the
// topics that the hub's own parts ask for.
//
// Goroutines: none.
package topics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

// Catalog is the site's.
type Catalog interface {
	State() *catalog.State
	Watch() (*catalog.State, <-chan struct{})
	Propose(ctx context.Context, cmd catalog.Command) (any, error)
}

// Topics keeps this node's replicas in line with the catalog: a partition that
// the catalog places here is open, one that it no longer names is removed.
type Topics struct {
	self uint64 // this node in Raft groups
	set  *replica.Set
	meta Catalog
	log  *slog.Logger

	// turn is held while the replicas are brought in line, disk writes
	// included: it is there to let one caller after the other do just that.
	turn sync.Mutex
	have map[storage.LogID]replica.TopicConfig
	at   *catalog.State
	// failing are the logs that could not be opened the last time: told once,
	// and no reason to refuse what concerns other topics.
	failing map[storage.LogID]bool
	// opened are the replicas of one member that were opened just now: they
	// elect themselves at once, and Follow waits until they have.
	opened []*replica.Replica
	// fresh are the replicas of several members that were opened just now and
	// are to be led here, with how often they were made to campaign.
	fresh map[*replica.Replica]int
}

// New is the topics of a node with its member in Raft groups.
func New(self uint64, set *replica.Set, meta Catalog, log *slog.Logger) *Topics {
	return &Topics{self: self, set: set, meta: meta, log: log}
}

// Open opens every partition at start. One that cannot be opened is reported
// and tried again by Run: a damaged log must not keep the others from serving.
// Logs that the catalog does not name are left alone and reported: data is
// deleted only where its topic was, never because a name is missing.
func (t *Topics) Open(ctx context.Context, logs []storage.LogID) {
	s := t.meta.State()
	t.turn.Lock()
	t.have, t.failing = map[storage.LogID]replica.TopicConfig{}, map[storage.LogID]bool{}
	t.fresh = map[*replica.Replica]int{}
	t.turn.Unlock()
	want := t.placed(s)
	logs = t.finishDeletions(s, logs, want)
	for id := range want {
		if !slices.Contains(logs, id) {
			// Either the node ended right after the topic was created, or
			// somebody took the folder away.
			t.log.Warn("the log of a partition is not there and is begun anew, empty", "log", id.String(), "topic_id", id.ID.String())
		}
	}
	if err := t.Follow(ctx); err != nil {
		t.log.Error("a partition cannot be opened", "error", err)
	}
	t.turn.Lock()
	defer t.turn.Unlock()
	for _, id := range logs {
		if !want[id] && id.Topic != catalog.MetaGroup {
			t.log.Warn("a log of no topic in the catalog is left as it is", "log", id.String(), "topic_id", id.ID.String())
		}
	}
}

// finishDeletions removes what is left of topics that were deleted, and of
// partitions that have moved away: the node ended before it had. It returns the
// other logs.
func (t *Topics) finishDeletions(s *catalog.State, logs []storage.LogID, want map[storage.LogID]bool) []storage.LogID {
	return slices.DeleteFunc(logs, func(id storage.LogID) bool {
		if want[id] || !s.Deleted(id.ID) && !moved(s, id) {
			return false
		}
		if err := t.set.Discard(id); err != nil {
			t.log.Error("a log that this node does not have any more cannot be removed", "error", err)
			return false
		}
		return true
	})
}

// moved reports whether a log is of a partition that is on other nodes by now.
func moved(s *catalog.State, id storage.LogID) bool {
	topic, ok := s.TopicByID(id.ID)
	return ok && int(id.Partition) < len(topic.Partitions) && topic.Partitions[id.Partition].Generation == id.Generation
}

// placed are the logs that this node has, or is to have, by a state.
func (t *Topics) placed(s *catalog.State) map[storage.LogID]bool {
	all := map[storage.LogID]bool{}
	for _, topic := range s.Topics() {
		for p, part := range topic.Partitions {
			if s.Holds(part, t.self) {
				all[logID(topic, p, part)] = true
			}
		}
	}
	return all
}

func logID(topic *catalog.Topic, p int, part catalog.Partition) storage.LogID {
	return storage.LogID{Topic: topic.Name, ID: topic.ID, Partition: int32(p), Generation: part.Generation}
}

// Follow brings the replicas in line with the present state and waits until
// those serve that nobody else leads. Its error tells what failed now and had
// not failed before.
func (t *Topics) Follow(ctx context.Context) error {
	err := t.align()
	t.await(ctx)
	return err
}

// align brings the replicas in line with the present state.
func (t *Topics) align() error {
	t.turn.Lock()
	defer t.turn.Unlock()
	if t.have == nil {
		return nil // before Open: nothing is open yet
	}
	s := t.meta.State()
	if s == t.at {
		return nil
	}
	if t.at != nil && t.alike(s, t.at) {
		t.at = s
		return nil
	}
	var errs []error
	t.opened = slices.DeleteFunc(t.opened, func(r *replica.Replica) bool { return r.Serving() == nil || r.Status().Err != nil })
	behind := false
	want := t.placed(s)
	// First what goes: a topic made anew has the place of the one before.
	for id := range t.have {
		if want[id] {
			continue
		}
		if err := t.set.Remove(id, true); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", id, err))
			continue
		}
		delete(t.have, id)
		delete(t.failing, id)
	}
	for _, topic := range s.Topics() {
		settings := replicaConfig(topic)
		for p, part := range topic.Partitions {
			if !s.Holds(part, t.self) {
				continue
			}
			id := logID(topic, p, part)
			err := t.keep(id, part, settings)
			if err != nil && !t.failing[id] {
				errs = append(errs, err)
			}
			t.failing[id] = err != nil
			behind = behind || err != nil
		}
	}
	if len(errs) == 0 && !behind {
		t.at = s
	}
	return errors.Join(errs...)
}

// alike reports whether two states place the same replicas here, as they do
// before and after most commands: topics are never changed in place.
func (t *Topics) alike(a, b *catalog.State) bool {
	return slices.Equal(a.Topics(), b.Topics()) && t.registered(a) == t.registered(b)
}

// registered reports whether this member is its node's by a state.
func (t *Topics) registered(s *catalog.State) bool {
	n, ok := s.Node(replica.NodeOf(t.self))
	return ok && n.Member() == t.self
}

func (t *Topics) keep(id storage.LogID, part catalog.Partition, settings replica.TopicConfig) error {
	had, open := t.have[id]
	if open && had == settings {
		return nil
	}
	if open {
		r, ok := t.set.Get(record.TopicPartition{Topic: id.Topic, Partition: id.Partition})
		if !ok {
			return fmt.Errorf("%s: open but not to be found", id)
		}
		r.Configure(settings)
		t.have[id] = settings
		return nil
	}
	born := part.BornMembers()
	alone := len(born) == 1 && len(part.Replicas) == 1 && replica.NodeOf(born[0]) == part.Replicas[0]
	r, err := t.set.Add(replica.Spec{ID: id, Born: born, Joins: part.Moved, Alone: alone, Topic: settings})
	if err != nil {
		return fmt.Errorf("open %s: %w", id, err)
	}
	t.have[id] = settings
	if alone && part.Move == nil {
		t.opened = append(t.opened, r)
	} else if born[0] == t.self {
		t.fresh[r] = 0
	}
	return nil
}

// await waits until the replicas serve that were opened and nobody else leads,
// for all of them together no longer than leaderTime. Each is waited for by
// whoever comes meanwhile, too: it may be what was asked for.
func (t *Topics) await(ctx context.Context) {
	t.turn.Lock()
	opened := slices.Clone(t.opened)
	t.turn.Unlock()
	ctx, cancel := context.WithTimeout(ctx, leaderTime)
	defer cancel()
	for _, r := range opened {
		if err := serving(ctx, r); err != nil && !errors.Is(err, record.ErrStopped) {
			t.log.Error("a partition does not serve", "log", r.ID().String(), "error", err)
		}
	}
	t.turn.Lock()
	defer t.turn.Unlock()
	t.opened = slices.DeleteFunc(t.opened, func(r *replica.Replica) bool { return slices.Contains(opened, r) })
}

// serving waits until a replica has found its leader, this node, and answers.
// One that is quarantined never will, and says so at once.
func serving(ctx context.Context, r *replica.Replica) error {
	for {
		changed := r.Changed()
		err := r.Serving()
		if err == nil || r.Status().Err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return err
		}
	}
}

// leaderTime is how long a group of one may take to elect itself: a sync of
// its log, behind whatever the disk is busy with.
const leaderTime = 30 * time.Second

// replicaConfig is what a replica has to know of its topic's settings. A
// mirror has no retention of its own: it follows its source's log start. It is
// compacted by itself, since nobody tells it what its source has let go of.
func replicaConfig(t *catalog.Topic) replica.TopicConfig {
	s := t.Settings()
	return replica.TopicConfig{
		Replicated:      s.Replicated,
		LogAppendTime:   s.LogAppendTime,
		ReadOnly:        t.Mirror != nil,
		MaxMessageBytes: s.MaxMessageBytes,
		SegmentBytes:    s.SegmentBytes,
		SegmentAge:      segmentAge(s),
		Retention:       s.Retention,
		RetentionBytes:  s.RetentionBytes,
		Keep:            !s.Delete || t.Mirror != nil,
		Compact: replica.Compaction{
			On: s.Compact, DeleteRetention: s.DeleteRetention, MinLag: s.MinLag, MaxLag: s.MaxLag, DirtyRatio: s.DirtyRatio,
		},
	}
}

// segmentAge is when a segment ends: early enough that what it holds can be
// compacted in time.
func segmentAge(s catalog.Settings) time.Duration {
	if s.Compact {
		return min(s.SegmentAge, s.MaxLag)
	}
	return s.SegmentAge
}

// Run follows what other nodes propose, and tries again what could not be
// brought in line.
func (t *Topics) Run(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		_, changed := t.meta.Watch()
		if err := t.align(); err != nil {
			t.log.Error("topics are not in line with the catalog", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
		case <-t.campaignAgain():
			t.campaign()
		}
	}
}

// How a group that is new comes to its leader without waiting for an election
// timeout: the first of its members campaigns, again and again for a while,
// because the others may not have heard of the group yet.
const (
	campaignEvery = 50 * time.Millisecond
	campaignMost  = 20
)

// campaignAgain fires when there are fresh groups to be led.
func (t *Topics) campaignAgain() <-chan time.Time {
	t.turn.Lock()
	defer t.turn.Unlock()
	if len(t.fresh) == 0 {
		return nil
	}
	return time.After(campaignEvery)
}

func (t *Topics) campaign() {
	t.turn.Lock()
	defer t.turn.Unlock()
	for r, tries := range t.fresh {
		if leader, _ := r.Leader(); leader != 0 || tries >= campaignMost {
			delete(t.fresh, r)
			continue
		}
		t.fresh[r]++
		r.Campaign()
	}
}
