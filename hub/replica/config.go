package replica

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"time"

	"github.com/entrepot-hub/entrepot/storage"
)

// Config of a node's set of replicas. The zero value of a field means its
// default, but for Member.
type Config struct {
	// Member is this node in all its groups: MemberID, not 0.
	Member uint64
	// Transport carries messages to other nodes; nil: there are none, and all
	// groups are of this node alone.
	Transport Transport
	// Source is where replicas fetch logs from that they lack, as files; nil:
	// from nowhere.
	Source Source
	// FilesAbove is the size in bytes from which on a log goes as files to a
	// member that has nothing of it; default 64 MiB. A compacted one always does.
	FilesAbove int64
	// FetchRate bounds how many bytes a second are fetched as files, all logs
	// together, so that clients are served meanwhile; default 64 MiB, negative
	// for no limit.
	FetchRate int64
	// ScrubRate is how many bytes a second are read to check what is on the disk,
	// while the node is not busy; default 8 MiB, negative for not at all.
	// ScrubEvery is the time between two passes over everything; default 7 days.
	ScrubRate  int64
	ScrubEvery time.Duration
	// Workers step the groups that have something to do; default GOMAXPROCS.
	Workers int
	// Tick is the time between two ticks of groups with more than one voter;
	// default 100 ms. Groups of one have no ticks.
	Tick time.Duration
	// ElectionTicks is how many ticks without a leader make a follower
	// campaign, up to twice that, as chance has it; default 10.
	ElectionTicks int
	// QuietTicks is how many ticks with nothing to do make a group go quiet:
	// no ticks and no heartbeats until something comes. Default half of
	// ElectionTicks; negative, or more than ElectionTicks-2: never, since Raft
	// looks every ElectionTicks anew for who is heard.
	QuietTicks int
	// GroupBytes bounds the bytes that a group has taken and not answered yet;
	// default 16 MiB. What is more waits in Append.
	GroupBytes int64
	// TotalBytes bounds them for all groups together; default 256 MiB.
	TotalBytes int64
	// InflightBytes bounds the appends on the way to one follower of one
	// group; default 8 MiB.
	InflightBytes int64
	// ReceiveBytes bounds the messages of each class that have come from other
	// nodes and that no group has taken yet, over all groups; default 64 MiB.
	// What is more is dropped, and Raft sends again what matters.
	ReceiveBytes int64
	// RetentionEvery is the time between two looks at what is too old or too
	// much; default 1 min. A volume below its low watermark is looked at
	// every second.
	RetentionEvery time.Duration
	// ProducerExpiry is how long a silent producer is remembered; default 24 h
	// (Kafka's producer.id.expiration.ms).
	ProducerExpiry time.Duration
	// MaxProducers is how many producers a partition remembers; default
	// 20,000. The ones silent for longest are forgotten first.
	MaxProducers int
	// CompactEvery is the time between two looks at what there is to compact;
	// default 15 s (Kafka's log.cleaner.backoff.ms).
	CompactEvery time.Duration
	// CompactBytes is the memory for the keys of the log that is being
	// compacted; default 128 MiB (Kafka's log.cleaner.dedupe.buffer.size). A
	// log with more keys takes several passes.
	CompactBytes int64
	// CompactRate is how many bytes a second compaction reads and writes, so
	// that it leaves the disk to others; default 64 MiB, negative for no limit.
	CompactRate int64

	Clock  func() time.Time // default time.Now
	Rand   io.Reader        // seeds of election timeouts; default crypto/rand
	Logger *slog.Logger     // default: discard
}

// Validate says which field is wrong and what would be right.
func (c Config) Validate() error {
	var errs []error
	if NodeOf(c.Member) <= 0 {
		errs = append(errs, fmt.Errorf("member %d is node %d: want a broker ID from 1", c.Member, NodeOf(c.Member)))
	}
	if c.GroupBytes < 0 || c.TotalBytes < 0 || c.TotalBytes > 0 && c.TotalBytes < c.GroupBytes {
		errs = append(errs, fmt.Errorf("bytes of one group %d, of all %d: want the first no larger than the second", c.GroupBytes, c.TotalBytes))
	}
	if c.InflightBytes != 0 && c.InflightBytes < 1<<20 {
		errs = append(errs, fmt.Errorf("bytes in flight %d: want at least 1 MiB", c.InflightBytes))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	orDefault(&c.FilesAbove, 64<<20)
	orDefault(&c.FetchRate, 64<<20)
	orDefault(&c.ScrubRate, 8<<20)
	orDefault(&c.ScrubEvery, 7*24*time.Hour)
	orDefault(&c.Workers, runtime.GOMAXPROCS(0))
	orDefault(&c.Tick, 100*time.Millisecond)
	orDefault(&c.ElectionTicks, 10)
	orDefault(&c.QuietTicks, max(c.ElectionTicks/2, 2))
	orDefault(&c.GroupBytes, 16<<20)
	orDefault(&c.TotalBytes, max(256<<20, c.GroupBytes))
	orDefault(&c.InflightBytes, 8<<20)
	orDefault(&c.ReceiveBytes, 64<<20)
	orDefault(&c.RetentionEvery, time.Minute)
	orDefault(&c.ProducerExpiry, 24*time.Hour)
	orDefault(&c.MaxProducers, 20_000)
	orDefault(&c.CompactEvery, 15*time.Second)
	orDefault(&c.CompactBytes, 128<<20)
	orDefault(&c.CompactRate, 64<<20)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// TopicConfig is what a topic's settings mean for each of its replicas.
type TopicConfig struct {
	Replicated      bool          // durability=replicated: acknowledge what is written, not synced
	LogAppendTime   bool          // message.timestamp.type
	ReadOnly        bool          // refuse clients though no link holds the partition
	MaxMessageBytes int           // of one batch; 0: no limit
	SegmentBytes    int64         // 0: the store's default
	SegmentAge      time.Duration // 0: the store's default
	Retention       time.Duration // 0 or less: no limit
	RetentionBytes  int64         // 0 or less: no limit
	Keep            bool          // no retention at all: a compacted topic
	Compact         Compaction
}

func (t TopicConfig) log() storage.LogConfig {
	return storage.LogConfig{SegmentBytes: t.SegmentBytes, SegmentAge: t.SegmentAge}
}

// Spec describes one replica of this node.
type Spec struct {
	ID storage.LogID
	// Born are the members that the group was created with, the same on all of
	// them and for ever. Where this node has no log of the group yet, it begins
	// with an empty one: as one of them, or, if it is not, to wait until it is
	// added and the leader brings it what there is.
	Born []uint64
	// Joins: this node is not to begin as one of Born even if it is one, since
	// it may have been in the group, left it and forgotten how it voted.
	Joins bool
	// Alone: no other node has a replica. Then a log whose folder is gone begins
	// anew, since nobody can bring it back; otherwise it is quarantined.
	Alone   bool
	Topic   TopicConfig
	Machine Machine // nil for a partition
}

// Machine is the state machine of a group that holds no records. Its methods
// are called by one goroutine at a time.
type Machine interface {
	// Apply takes a committed command and yields what Propose returns.
	Apply(index uint64, cmd []byte) any
	// Snapshot encodes the present state.
	Snapshot() []byte
	// Restore replaces the state by one that Snapshot gave; empty is the state
	// before the first command.
	Restore([]byte) error
}
