package protocol

import (
	"fmt"
	"math"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/record"
)

// fetchSession is what a client and this server agreed on (KIP-227), so that
// the client names only what is new and the server only what has changed. It
// belongs to one connection and ends with it: it is used by the goroutine that
// handles the connection's requests alone, and nobody can take over another's.
// A client that comes back on another connection is told that there is no such
// session and begins one anew.
type fetchSession struct {
	id     int32
	epoch  int32 // of the last fetch
	byID   bool  // topics are named by their IDs (v13+)
	topics []kmsg.FetchRequestTopic
	told   [][]record.Offsets // parallel to topics and their partitions
	at     map[topicKey]int   // in topics
	size   int                // partitions
}

// topicKey is how a request names a topic.
type topicKey struct {
	name string
	id   record.TopicID
}

// untold is what a client knows of a partition that it was told nothing of.
var untold = record.Offsets{Start: -1, LastStable: -1, HighWatermark: -1}

// begins reports whether the request ends a session, if there is one, and
// perhaps begins another; otherwise it goes on with one.
func begins(req *kmsg.FetchRequest) bool { return req.SessionEpoch <= 0 }

// session returns the session of a request, nil for one without. A request that
// goes on with a session then names all partitions of it.
func (s *Server) session(slot **fetchSession, req *kmsg.FetchRequest) (*fetchSession, error) {
	old := *slot
	if begins(req) {
		s.endSession(slot)
		if req.Version < 7 || req.SessionEpoch < 0 {
			return nil, nil
		}
		return s.newSession(slot, req), nil
	}
	switch {
	case old == nil || old.id != req.SessionID:
		return nil, fmt.Errorf("%w: %d", errSession, req.SessionID)
	case old.byID != (req.Version >= 13):
		return nil, fmt.Errorf("%w: session %d", errSessionTopicID, req.SessionID)
	case req.SessionEpoch != old.following():
		return nil, fmt.Errorf("%w: %d, want %d", errSessionEpoch, req.SessionEpoch, old.following())
	}
	old.epoch = req.SessionEpoch
	s.sessionParts.Add(-int64(old.size))
	old.forget(req.ForgottenTopics)
	before := old.size
	old.merge(req.Topics)
	if s.sessionParts.Add(int64(old.size)) > s.cfg.Limits.Sessions && old.size > before {
		s.endSession(slot)
		return nil, fmt.Errorf("%w: %d: it has grown too large", errSession, req.SessionID)
	}
	req.Topics = old.topics
	return old, nil
}

// following is the epoch of the next fetch.
func (f *fetchSession) following() int32 {
	if f.epoch == math.MaxInt32 {
		return 1
	}
	return f.epoch + 1
}

// newSession begins one, unless there are as many partitions in sessions as
// there may be.
func (s *Server) newSession(slot **fetchSession, req *kmsg.FetchRequest) *fetchSession {
	f := &fetchSession{byID: req.Version >= 13, at: map[topicKey]int{}}
	f.merge(req.Topics)
	if s.sessionParts.Add(int64(f.size)) > s.cfg.Limits.Sessions {
		s.sessionParts.Add(-int64(f.size))
		return nil
	}
	for f.id == 0 {
		f.id = s.sessionIDs.Add(1) & math.MaxInt32
	}
	*slot = f
	req.Topics = f.topics
	return f
}

// endSession forgets a connection's session.
func (s *Server) endSession(slot **fetchSession) {
	if f := *slot; f != nil {
		s.sessionParts.Add(-int64(f.size))
		*slot = nil
	}
}

func (f *fetchSession) key(name string, id record.TopicID) topicKey {
	if f.byID {
		return topicKey{id: id}
	}
	return topicKey{name: name}
}

// merge takes over partitions that are new, or are to be read from elsewhere.
func (f *fetchSession) merge(topics []kmsg.FetchRequestTopic) {
	for i := range topics {
		rt := &topics[i]
		k := f.key(rt.Topic, rt.TopicID)
		at, ok := f.at[k]
		if !ok {
			at = len(f.topics)
			f.at[k] = at
			f.topics = append(f.topics, kmsg.FetchRequestTopic{Topic: rt.Topic, TopicID: rt.TopicID})
			f.told = append(f.told, nil)
		}
		t := &f.topics[at]
		index := map[int32]int{}
		for j := range t.Partitions {
			index[t.Partitions[j].Partition] = j
		}
		for _, p := range rt.Partitions {
			if j, ok := index[p.Partition]; ok {
				t.Partitions[j] = p
				continue
			}
			index[p.Partition] = len(t.Partitions)
			t.Partitions = append(t.Partitions, p)
			f.told[at] = append(f.told[at], untold)
			f.size++
		}
	}
}

// forget drops partitions that the client no longer reads.
func (f *fetchSession) forget(topics []kmsg.FetchRequestForgottenTopic) {
	for _, ft := range topics {
		at, ok := f.at[f.key(ft.Topic, ft.TopicID)]
		if !ok {
			continue
		}
		gone := make(map[int32]bool, len(ft.Partitions))
		for _, p := range ft.Partitions {
			gone[p] = true
		}
		t := &f.topics[at]
		kept, told := t.Partitions[:0], f.told[at][:0]
		for j, p := range t.Partitions {
			if !gone[p.Partition] {
				kept, told = append(kept, p), append(told, f.told[at][j])
			}
		}
		f.size -= len(t.Partitions) - len(kept)
		t.Partitions, f.told[at] = kept, told
		if len(kept) == 0 {
			f.drop(at)
		}
	}
}

// drop removes a topic without partitions.
func (f *fetchSession) drop(at int) {
	f.topics, f.told = slices.Delete(f.topics, at, at+1), slices.Delete(f.told, at, at+1)
	clear(f.at)
	for i := range f.topics {
		f.at[f.key(f.topics[i].Topic, f.topics[i].TopicID)] = i
	}
}

// tell notes what the client is told, and leaves out of an answer that goes on
// with a session what it knows already.
func (f *fetchSession) tell(a *fetchAnswer, all bool) {
	a.session = f.id
	kept := a.topics[:0]
	for i := range a.topics {
		t := a.topics[i]
		some := t.parts[:0]
		for j := range t.parts {
			p := &t.parts[j]
			news := f.news(p, &f.told[i][j])
			if !all && !news {
				p.giveBack()
				continue
			}
			some = append(some, *p)
		}
		if t.parts = some; len(some) > 0 {
			kept = append(kept, t)
		}
	}
	a.topics = kept
}

// news reports whether the client has to be told of a partition. An error comes
// without offsets, so that its end is news too.
func (f *fetchSession) news(p *fetchedPart, told *record.Offsets) bool {
	before := *told
	*told = p.offsets
	return p.code != 0 || len(p.batches) > 0 || p.diverging >= 0 || p.preferred >= 0 || p.offsets.Start != before.Start ||
		p.offsets.HighWatermark != before.HighWatermark || p.offsets.LastStable != before.LastStable
}
