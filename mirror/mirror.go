// Package mirror copies topics of other sites into this one, offset by offset
// and byte by byte. A topic that is local at its site and whose setting
// mirror.to names this site (or *) is pulled from there: made here with the
// same ID, partitions and settings, then filled with the source's record
// batches as they are, at the offsets and leader epochs they have there.
//
// The position of a mirror is the end of the destination's own log and nothing
// else, so there is no second record of it that could disagree after a crash.
// Nothing is ever appended without the guard "the next offset must be …", and
// nothing is repaired by guessing: a source that was recreated, has lost or
// changed what was mirrored, or no longer has what comes next, stops the
// partition with a state that says so.
//
// Files: partition.go and link.go are the state machine, pure: answers and the
// clock go in, requests and appends come out. driver.go runs it, kafka.go
// speaks to the source, manager.go holds a link for each source site.
//
// Goroutines: Manager.Run starts one a link, and each link one for every
// request or append under way: at most one discovery, one fetch for each of
// the source's brokers, one append for each partition, one topic creation for
// each topic. All end with Run's context, and Run waits for them.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"strings"

	"github.com/entrepot-hub/entrepot/record"
)

// ErrSourceRecreated is what EnsureTopic wraps when a mirror of this name and
// source is here, but with another topic ID.
var ErrSourceRecreated = errors.New("the source topic was recreated")

// Site is the destination: this site's hub.
type Site interface {
	// EnsureTopic makes the topic, or makes the one that is here agree in
	// number of partitions (never fewer) and settings. It is called again
	// after each change at the source, and by every node of the site. Errors
	// wrap ErrSourceRecreated for a mirror with another ID and
	// record.ErrTopicExists for a topic that is no mirror of this source.
	EnsureTopic(ctx context.Context, t MirroredTopic) error

	// Target opens a partition for appending. The error wraps
	// record.ErrNotLeader when another node of this site leads it.
	Target(tp record.TopicPartition) (Target, error)

	// Mirrors are the mirrored topics that this site has, so that one whose
	// source cannot be reached is shown all the same.
	Mirrors() []MirroredTopic
}

// Target is one partition at the destination. Calls do not overlap.
type Target interface {
	// Next is the offset after the last record in the log, committed or not,
	// and the leader epoch of that record; 0 and -1 for a log that never had
	// one.
	Next() (offset int64, lastEpoch int32)

	// Append puts whole batches into the log as they are and returns when they
	// are committed and durable. next is what Next must be at that moment; it
	// is refused otherwise. The batches belong to the target from then on.
	// After an error it is not known what was appended.
	Append(ctx context.Context, link string, next int64, batches []record.Batch) error

	// SetLogStart makes offset the log start; it is never above Next.
	SetLogStart(ctx context.Context, offset int64) error
}

// Source is a site to mirror from, as the mesh knows it.
type Source struct {
	Site    string
	Brokers []string // host:port of its nodes' Kafka listeners
}

// MirroredTopic is a topic at the destination.
type MirroredTopic struct {
	Name       string
	ID         record.TopicID // the source's
	Partitions int32
	Config     map[string]string // only those set at the source, of MirroredSetting
	SourceSite string
	Link       string
}

func (t MirroredTopic) equal(o MirroredTopic) bool {
	return t.Name == o.Name && t.ID == o.ID && t.Partitions == o.Partitions &&
		t.SourceSite == o.SourceSite && t.Link == o.Link && maps.Equal(t.Config, o.Config)
}

// settings of a topic that a mirror takes over from its source.
var settings = []string{
	"cleanup.policy", "compression.type", "delete.retention.ms", "max.compaction.lag.ms", "max.message.bytes",
	"message.timestamp.type", "min.cleanable.dirty.ratio", "min.compaction.lag.ms",
	"retention.bytes", "retention.ms", "segment.bytes", "segment.index.bytes", "segment.jitter.ms", "segment.ms",
}

// The settings that say what is mirrored. A topic that is a mirror itself
// shows where it comes from as the read-only setting mirror.source.
const (
	settingTo     = "mirror.to"
	settingSource = "mirror.source"
)

// MirroredSetting reports whether a mirror takes the topic setting over from
// its source. A site's own value for one of them is overwritten.
func MirroredSetting(name string) bool {
	for _, s := range settings {
		if s == name {
			return true
		}
	}
	return false
}

// Kinds of link.
const KindMirror = "mirror"

// Link says what is mirrored from where. One is made for every site of the
// mesh (DefaultLink).
type Link struct {
	Name   string   // unique at the destination
	Source string   // site
	Topics []string // patterns (path.Match); a topic must match one
	Kind   string   // KindMirror
	OnGap  GapPolicy
}

// GapPolicy says what happens when the source has deleted records that were
// not mirrored yet.
type GapPolicy string

// The policies. Both report the range.
const (
	GapStop GapPolicy = "stop" // the partition waits for a decision
	GapSkip GapPolicy = "skip" // it goes on behind the gap
)

// DefaultLink mirrors whatever the source site offers.
func DefaultLink(site string) Link {
	return Link{Name: site, Source: site, Topics: []string{"*"}, Kind: KindMirror, OnGap: GapStop}
}

// Validate finds what is wrong with a link.
func (l Link) Validate() error {
	switch {
	case l.Name == "":
		return errors.New("a link has no name")
	case l.Source == "":
		return fmt.Errorf("link %q has no source", l.Name)
	case l.Kind != KindMirror:
		return fmt.Errorf("link %q: kind %q, want %q", l.Name, l.Kind, KindMirror)
	case l.OnGap != GapStop && l.OnGap != GapSkip:
		return fmt.Errorf("link %q: gap policy %q, want %q or %q", l.Name, l.OnGap, GapStop, GapSkip)
	}
	for _, p := range l.Topics {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("link %q: topic pattern %q: %w", l.Name, p, err)
		}
	}
	return nil
}

// takes reports whether a topic is the link's. The hub's own topics are never.
func (l Link) takes(topic string) bool {
	if strings.HasPrefix(topic, "__") {
		return false
	}
	for _, p := range l.Topics {
		if ok, err := path.Match(p, topic); ok && err == nil {
			return true
		}
	}
	return false
}
