package mirror

import (
	"errors"
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// topic is one mirrored topic, or one that is to become so.
type topic struct {
	name string
	id   record.TopicID
	link *Link

	want    MirroredTopic // as the source has it; its ID is zero before the first discovery
	leaders []leader      // at the source, by partition
	made    MirroredTopic // what EnsureTopic last agreed to
	busy    bool          // EnsureTopic is under way
	retry   retry
	trouble string // of EnsureTopic

	missed  int // discoveries in a row that did not have it
	verdict *halt
	foreign record.TopicID // another ID that the source has for the name
	paused  bool
	gone    bool // paused as a whole link
	parts   []*partition
}

// pulls reports whether the source may be asked for the topic's records.
func (t *topic) pulls() bool {
	return t.verdict == nil && !t.paused && !t.gone && t.want.ID == t.id && !t.id.IsZero()
}

// active reports whether something is under way at the destination.
func (t *topic) active() bool {
	for _, p := range t.parts {
		if p.busy || p.phase == opening {
			return true
		}
	}
	return t.busy
}

// grow adds partitions up to n.
func (t *topic) grow(n int32) {
	for i := int32(len(t.parts)); i < n; i++ {
		t.parts = append(t.parts, newPartition(t, i))
	}
	t.lead()
}

// lead tells the partitions who leads them at the source.
func (t *topic) lead() {
	for i, p := range t.parts {
		if i < len(t.leaders) {
			p.leader = t.leaders[i]
		}
	}
}

// seen takes the source's description of a topic of this name.
func (t *topic) seen(s *sourceTopic, site string) {
	switch {
	case s.fault != "":
		return
	case s.id != t.id && len(t.parts) > 0:
		t.recreated(s.id)
		return
	case !offered(s, site):
		t.missed++
		t.stop(fmt.Sprintf("%s of the topic at the source no longer names this site", settingTo))
		return
	}
	// What EnsureTopic found stands until it finds otherwise.
	if t.verdict != nil && (t.verdict.state == StateStopped || t.verdict.state == StateRecreated && !t.foreign.IsZero()) {
		t.verdict = nil
	}
	t.id, t.missed, t.foreign = s.id, 0, record.TopicID{}
	t.want = MirroredTopic{
		Name: t.name, ID: s.id, Partitions: int32(len(s.leaders)), Config: s.config,
		SourceSite: t.link.Source, Link: t.link.Name,
	}
	t.leaders = s.leaders
	t.lead()
	for _, p := range t.parts {
		p.refused = false
	}
}

// recreated: the source has another topic of the name, when it says so twice.
// Meanwhile nothing can be pulled: fetches name the ID.
func (t *topic) recreated(id record.TopicID) {
	if t.foreign == id {
		t.verdict = &halt{state: StateRecreated, reason: fmt.Sprintf(
			"topic %q at the source has ID %s, the mirror was made from %s: it was deleted and made anew there", t.name, id, t.id)}
	}
	t.foreign = id
}

// absent: the source does not have the topic. A broker that has just started
// may not know it yet, so it must be so twice.
func (t *topic) absent() {
	t.missed++
	t.stop("the topic was deleted at the source")
}

func (t *topic) stop(reason string) {
	if t.missed > 1 && (t.verdict == nil || t.verdict.state == StateStopped) {
		t.verdict = &halt{state: StateStopped, reason: reason}
	}
}

// offered reports whether a source topic is to be mirrored to site.
func offered(s *sourceTopic, site string) bool {
	if s.mirror || s.id.IsZero() {
		return false
	}
	for _, to := range s.to {
		if to == site || to == "*" {
			return true
		}
	}
	return false
}

// unmade reports whether EnsureTopic is to be called now.
func (t *topic) unmade(now time.Time) bool {
	return !t.busy && !t.gone && !t.want.ID.IsZero() && !t.want.equal(t.made) && t.retry.due(now) &&
		(t.verdict == nil || t.verdict.state == StateRefused || t.verdict.state == StateRecreated && t.foreign.IsZero())
}

// ensured takes the outcome of EnsureTopic.
func (t *topic) ensured(now time.Time, e ensured) {
	t.busy = false
	if e.err == nil {
		t.made, t.trouble, t.retry = e.topic, "", retry{}
		if t.verdict != nil && t.verdict.state != StateStopped {
			t.verdict = nil
		}
		t.grow(e.topic.Partitions)
		return
	}
	t.retry.failed(now, ensureMost)
	t.trouble = "make the topic here: " + e.err.Error()
	switch {
	case errors.Is(e.err, ErrSourceRecreated):
		t.verdict = &halt{state: StateRecreated, reason: e.err.Error()}
	case errors.Is(e.err, record.ErrTopicExists):
		t.verdict = &halt{state: StateRefused, reason: e.err.Error()}
	}
}
