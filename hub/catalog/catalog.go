// Package catalog is the metadata of one site as a pure state machine: nodes,
// topics with their placement and settings, producer ID blocks, ACLs,
// credentials and quotas, connectors that were made through the API, and what
// the operator wants of each job. A State is
// an immutable value; Apply takes a command and returns the next one. The same
// commands in the same order give the same states on every node, which is why
// whatever depends on a clock or on chance (topic IDs, creation times) travels
// inside the command.
//
// The commands are entries of the Raft group `__meta`; Machine joins the two.
//
// Goroutines: none. A State may be read from anywhere; Machine guards its
// pointer itself.
package catalog

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"github.com/entrepot-hub/entrepot/record"
)

// State is the whole catalog at one index of the log. It is never changed
// after Apply returned it; nothing reached through it may be changed either.
type State struct {
	site     string
	siteID   int32
	cluster  string                       // the site's random ID; empty in a site from before there was one
	lastNode int32                        // highest broker ID ever given; IDs are not used twice
	lastMove int64                        // highest number ever given to a move
	moving   int                          // partitions that have a Move
	producer int64                        // counter of the next producer ID, without the site's bits
	nodes    []Node                       // by ID
	topics   []*Topic                     // by name
	byID     []*Topic                     // by topic ID
	jobs     map[string]string            // name -> desired state
	leases   map[string]Lease             // of tasks, by name
	security *Security                    // nil: nothing is set
	groups   map[string]map[string]string // settings of groups, by name
	deleted  []record.TopicID             // the newest last

	connectors map[string]map[string]string // made through the API: name -> configuration
}

// New is the catalog of a site in which nothing has happened yet.
func New() *State { return &State{} }

// Topic is one topic of the site, local or mirrored.
type Topic struct {
	Name       string
	ID         record.TopicID // the same at all sites
	Partitions []Partition
	Config     map[string]string // what was set; defaults are in Keys
	Mirror     *Mirror           // nil: the topic is written here
	Created    int64             // milliseconds since the Unix epoch

	settings *Settings // what Config says, once the topic is in a state
}

// Partition says where one partition lives.
type Partition struct {
	Replicas   []int32 // node IDs that are wanted, the preferred leader first
	Generation int32   // a new one begins where a failback cut the one before
	// Born are the first members of the partition's Raft group, by which every
	// replica begins its log; they never change. nil: those of BornMembers.
	Born []uint64 `json:",omitempty"`
	Move *Move    `json:",omitempty"` // nil: the group is where it shall be
	// Moved: a move was completed. From then on a node without a log joins the
	// group even if it is one of Born: it may have left, and deleted its copy.
	Moved bool `json:",omitempty"`
}

// BornMembers are the members of the partition's Raft group when it was
// created: Born, or else Replicas in their first incarnation.
func (p Partition) BornMembers() []uint64 {
	if p.Born != nil {
		return p.Born
	}
	members := make([]uint64, len(p.Replicas))
	for i, n := range p.Replicas {
		members[i] = memberID(n, 0)
	}
	return members
}

// Mirror says that a topic is pulled from another site and read-only here.
type Mirror struct {
	Source string // site that writes the topic
	Link   string // link that owns it
	Epoch  int64  // counts the changes of this relation; the append guard of 30-mirror.md
	State  MirrorState
}

// MirrorState is what a mirrored topic is doing.
type MirrorState string

// The states of a mirrored topic. A stopped one stays read-only.
const (
	MirrorActive  MirrorState = "active"
	MirrorStopped MirrorState = "stopped"
)

// Site is the site's name and its number in producer IDs; zero before SiteInit.
func (s *State) Site() (name string, id int32) { return s.site, s.siteID }

// Topics are all topics by name.
func (s *State) Topics() []*Topic { return s.topics }

// Topic finds a topic by name.
func (s *State) Topic(name string) (*Topic, bool) {
	i, ok := s.findTopic(name)
	if !ok {
		return nil, false
	}
	return s.topics[i], true
}

// TopicByID finds a topic by its ID (KIP-516).
func (s *State) TopicByID(id record.TopicID) (*Topic, bool) {
	i, ok := slices.BinarySearchFunc(s.byID, id, compareID)
	if !ok {
		return nil, false
	}
	return s.byID[i], true
}

// Jobs are the desired states of all jobs for which one was set.
func (s *State) Jobs() map[string]string { return maps.Clone(s.jobs) }

// Job is what the operator wants of a job: JobRunning unless set otherwise.
func (s *State) Job(name string) string {
	if d, ok := s.jobs[name]; ok {
		return d
	}
	return JobRunning
}

func (s *State) findTopic(name string) (int, bool) {
	return slices.BinarySearchFunc(s.topics, name, func(t *Topic, name string) int { return cmp.Compare(t.Name, name) })
}

func compareID(t *Topic, id record.TopicID) int { return slices.Compare(t.ID[:], id[:]) }

// withTopic returns a state in which t replaces the topic of its name, or
// joins the others.
func (s *State) withTopic(t *Topic) *State {
	settings := t.readSettings()
	t.settings = &settings
	next := *s
	if old, ok := s.Topic(t.Name); ok {
		next.moving -= old.moves()
	}
	next.moving += t.moves()
	next.topics = put(s.topics, t, func(a, b *Topic) int { return cmp.Compare(a.Name, b.Name) })
	next.byID = put(s.byID, t, func(a, b *Topic) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return &next
}

func (s *State) withoutTopic(t *Topic) *State {
	next := *s
	next.moving -= t.moves()
	next.topics = slices.DeleteFunc(slices.Clone(s.topics), func(o *Topic) bool { return o == t })
	next.byID = slices.DeleteFunc(slices.Clone(s.byID), func(o *Topic) bool { return o == t })
	next.deleted = append(slices.Clone(s.deleted[max(0, len(s.deleted)+1-keepDeleted):]), t.ID)
	return &next
}

// keepDeleted is how many deleted topics are remembered.
const keepDeleted = 4096

// Deleted reports whether a topic of this ID was deleted, of the newest 4,096. A
// node that ended between the decision and the removal of its data finds out
// by it at its next start.
func (s *State) Deleted(id record.TopicID) bool { return slices.Contains(s.deleted, id) }

// put returns a sorted copy of list with t in the place of its equal.
func put(list []*Topic, t *Topic, order func(a, b *Topic) int) []*Topic {
	i, found := slices.BinarySearchFunc(list, t, order)
	next := make([]*Topic, 0, len(list)+1)
	next = append(next, list[:i]...)
	next = append(next, t)
	if found {
		i++
	}
	return append(next, list[i:]...)
}

// moves counts the partitions that are being moved.
func (t *Topic) moves() (n int) {
	for _, p := range t.Partitions {
		if p.Move != nil {
			n++
		}
	}
	return n
}

// clone is a copy of t whose parts may be replaced, not changed in place.
func (t *Topic) clone() *Topic {
	c := *t
	c.settings = nil
	return &c
}

// Internal topics: consumer group offsets and transactions in Kafka's record
// formats, and the checkpoints of connectors.
const (
	OffsetsTopic      = "__consumer_offsets"
	TransactionsTopic = "__transaction_state"
	CheckpointsTopic  = "__connect_checkpoints"
	ShareStateTopic   = "__share_group_state"

	// MetaGroup is the Raft group that holds the catalog. No topic can have
	// its name.
	MetaGroup = "__meta"
)

// IsInternal reports whether a topic belongs to the hub itself: clients may
// read it, but neither write nor delete it.
func IsInternal(topic string) bool {
	switch topic {
	case OffsetsTopic, TransactionsTopic, CheckpointsTopic, ShareStateTopic:
		return true
	}
	return false
}

// InternalSegmentBytes is the size of an internal topic's segments: the newest
// one is not compacted, and who loads the topic reads all of it.
const InternalSegmentBytes = 16 << 20

// InternalTopic is the command that creates an internal topic: compacted, in
// small segments, and synced whatever the site's defaults are.
func InternalTopic(name string, id record.TopicID, partitions, replicas int32, created int64) CreateTopic {
	return CreateTopic{
		Name: name, ID: id, Partitions: partitions, Replicas: replicas, Created: created,
		Config: map[string]string{
			KeyCleanupPolicy: "compact",
			KeyCompression:   "producer",
			KeyDurability:    DurabilitySynced,
			KeySegmentBytes:  strconv.Itoa(InternalSegmentBytes),
		},
	}
}
