package group

import (
	"encoding/binary"
	"hash/fnv"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// pattern is a regular expression that members subscribe by, and the topics it
// stands for.
type pattern struct {
	text string
	re   *regexp.Regexp
	Resolved
}

// sweepPatterns forgets expressions that no member has any more.
func (c *consumers) sweepPatterns() {
	for text := range c.regexes {
		used := false
		for _, m := range c.byID {
			used = used || m.Regex == text
		}
		if !used {
			delete(c.regexes, text)
			c.touch(RegexEntry, text)
		}
	}
}

// look finds out whether the topics that are subscribed to have changed:
// created, deleted, grown, or matched by an expression now.
func (c *consumers) look(now time.Time, topics Topics, subscribed bool) (changed bool) {
	if v := topics.Version(); v == c.seen && !subscribed {
		return false
	}
	c.seen = topics.Version()
	for _, p := range c.regexes {
		names := topics.Matching(p.re.MatchString)
		if p.At == 0 || !slices.Equal(names, p.Topics) {
			p.Resolved = Resolved{Topics: names, Version: c.seen, At: now.UnixMilli()}
			c.touch(RegexEntry, p.text)
		}
	}
	h := c.hashTopics(topics)
	if h == c.hash {
		return false
	}
	c.hash = h
	c.touch(GroupEntry, "")
	return true
}

// names are the topics that anybody subscribes to, sorted.
func (c *consumers) names() []string {
	all := map[string]bool{}
	for _, m := range c.byID {
		for _, n := range m.Topics {
			all[n] = true
		}
	}
	for _, p := range c.regexes {
		for _, n := range p.Topics {
			all[n] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// hashTopics is a digest of the topics that anybody subscribes to, such that it
// tells a topic from one of the same name that was made later.
func (c *consumers) hashTopics(topics Topics) int64 {
	h := fnv.New64a()
	for _, name := range c.names() {
		if id, n, ok := topics.Topic(name); ok {
			_, _ = h.Write(binary.BigEndian.AppendUint32(append([]byte(name), id[:]...), uint32(n)))
		}
	}
	return int64(h.Sum64())
}

// retarget computes the targets of the present epoch.
func (c *consumers) retarget(topics Topics) {
	members := c.sorted()
	subs, partitions := c.subscribers(members, topics)
	for i, a := range assignor(c.assignorName())(subs, partitions) {
		if m := members[i]; m.target == nil || !m.target.equal(a) {
			m.target = a
			c.touch(TargetEntry, m.id)
		}
	}
	c.target = c.epoch
	c.touch(TargetEpochEntry, "")
}

func (c *consumers) subscribers(members []*consumer, topics Topics) ([]subscriber, map[record.TopicID]int32) {
	partitions := map[record.TopicID]int32{}
	ids := map[string]record.TopicID{}
	for _, name := range c.names() {
		if id, n, ok := topics.Topic(name); ok {
			ids[name], partitions[id] = id, n
		}
	}
	subs := make([]subscriber, len(members))
	for i, m := range members {
		s := subscriber{id: m.id, instance: m.Instance, prior: m.target}
		names := m.Topics
		if p := c.regexes[m.Regex]; p != nil {
			names = slices.Concat(names, p.Topics)
		}
		for _, name := range names {
			if id, ok := ids[name]; ok {
				s.topics = append(s.topics, id)
			}
		}
		slices.SortFunc(s.topics, compareTopics)
		s.topics = slices.Compact(s.topics)
		subs[i] = s
	}
	return subs, partitions
}

// assignorName is the one that most members ask for; Uniform unless any do.
func (c *consumers) assignorName() string {
	votes := map[string]int{}
	for _, m := range c.byID {
		if m.Assignor != "" {
			votes[m.Assignor]++
		}
	}
	best := Uniform
	for _, name := range []string{Uniform, Range} {
		if votes[name] > votes[best] {
			best = name
		}
	}
	return best
}
