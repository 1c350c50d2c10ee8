package protocol

import (
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// groupTopics shows consumer groups the topics of one state of the catalog.
type groupTopics struct {
	state   *catalog.State
	version int64
	visible func(topic string) bool // to who asks; nil: all are
}

// topics are those of the present catalog. To be called by run's goroutine.
func (c *coordinator) topics() groupTopics {
	if st := c.meta.State(); st != c.site.state {
		c.site = groupTopics{state: st, version: c.site.version + 1}
	}
	return c.site
}

func (t groupTopics) Version() int64 { return t.version }

func (t groupTopics) Topic(name string) (id record.TopicID, partitions int32, ok bool) {
	topic, ok := t.state.Topic(name)
	if !ok {
		return id, 0, false
	}
	return topic.ID, int32(len(topic.Partitions)), true
}

func (t groupTopics) Name(id record.TopicID) (string, bool) {
	topic, ok := t.state.TopicByID(id)
	if !ok {
		return "", false
	}
	return topic.Name, true
}

// visibleTo leaves out of expressions what the client may not describe: it
// could not read what it would be assigned. The topics are looked up again when
// the catalog changes, and the ACLs are in it.
func (t groupTopics) visibleTo(s *Server, r *request) groupTopics {
	if s.cfg.Authorize != nil {
		t.visible = func(topic string) bool { return s.mayTopic(r, catalog.OpDescribe, topic) == nil }
	}
	return t
}

// Matching offers the hub's own topics too, as Apache Kafka does when it is the
// broker that matches: an expression is about names, not about kinds.
func (t groupTopics) Matching(accept func(string) bool) (names []string) {
	for _, topic := range t.state.Topics() {
		if accept(topic.Name) && (t.visible == nil || t.visible(topic.Name)) {
			names = append(names, topic.Name)
		}
	}
	return names
}
