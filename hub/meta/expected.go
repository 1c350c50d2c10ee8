package meta

import (
	"sync"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// expected are the topics that somebody has asked for and waits to hear of. When
// the catalog's leader is lost in between, the topic not being there does not tell
// that the command was lost, too: the topic may have been made and deleted since.
// The commands tell, as they are applied here.
type expected struct {
	mu   sync.Mutex
	byID map[record.TopicID]*expectation
}

type expectation struct {
	topic   *catalog.Topic // as it was made; nil: no command that was applied here did
	unknown bool           // commands came with a snapshot
}

// Expect begins to look out for a topic that is about to be asked for under an ID
// of its own. made is the topic as a command that was applied here since has made
// it, also if it is gone again, and nil if none has; sure is false when that is
// not known. end has to be called.
func (m *Catalog) Expect(id record.TopicID) (made func() (t *catalog.Topic, sure bool), end func()) {
	return m.machine.expected.add(id)
}

func (e *expected) add(id record.TopicID) (made func() (*catalog.Topic, bool), end func()) {
	one := &expectation{}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.byID == nil {
		e.byID = map[record.TopicID]*expectation{}
	}
	e.byID[id] = one
	made = func() (*catalog.Topic, bool) {
		e.mu.Lock()
		defer e.mu.Unlock()
		return one.topic, one.topic != nil || !one.unknown
	}
	return made, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.byID, id)
	}
}

// applied looks at what a command yielded.
func (e *expected) applied(r catalog.Result) {
	t, ok := r.Value.(*catalog.Topic)
	if !ok || t == nil || r.Err != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if one := e.byID[t.ID]; one != nil && one.topic == nil {
		one.topic = t
	}
}

// skipped takes that commands were not applied here one by one.
func (e *expected) skipped() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, one := range e.byID {
		one.unknown = true
	}
}
