package protocol

import (
	"errors"
	"slices"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// rack is where the consumer says that it is; empty for others.
func (f *fetch) rack() string {
	if f.req.Version < 11 {
		return ""
	}
	return f.req.Rack
}

// follower is this node's copy of a partition that another node leads.
func (s *Server) follower(t *catalog.Topic, p int32) Reader {
	node, _ := s.parts.Leader(t.Name, p)
	if hasPartition(t, p, nil) != nil || !s.peers.other(node) {
		return nil
	}
	log, err := s.parts.Follower(t.Name, p)
	if err != nil {
		return nil
	}
	return log
}

// prefer sends a consumer to a follower in its rack. It reports whether it did.
func (f *fetch) prefer(p *fetchPart, log Partition, rack string) bool {
	if log.Serving() != nil {
		return false
	}
	o := log.Offsets()
	if p.req.FetchOffset < o.Start || p.req.FetchOffset > o.HighWatermark || checkEpoch(p.req.CurrentLeaderEpoch, o.LeaderEpoch) != nil {
		return false // which the leader says best
	}
	node := f.s.nearest(p.topic, p.req.Partition, rack)
	if node < 0 {
		return false
	}
	p.out.preferred, p.out.offsets = node, o
	f.settled = true
	return true
}

// nearest is the follower that a consumer in a rack should read from; -1: the
// leader.
func (s *Server) nearest(t *catalog.Topic, n int32, rack string) int32 {
	st := s.meta.State()
	var there []int32
	for _, id := range t.Partitions[n].Replicas {
		if node, ok := st.Node(id); ok && node.Rack == rack && s.peers.up(id) {
			there = append(there, id)
		}
	}
	if len(there) == 0 || slices.Contains(there, s.cfg.Node) {
		return -1
	}
	synced := s.parts.InSync(t.Name, n)
	for _, id := range there {
		if slices.Contains(synced, id) {
			return id
		}
	}
	return -1
}

// sendBack sends a consumer to the leader that a follower cannot serve. Kafka
// answers an error, after which Java's client and librdkafka ask the leader;
// franz-go's stays where it was sent.
func (f *fetch) sendBack(p *fetchPart, err error) bool {
	if !errors.Is(err, record.ErrNotLeader) && !errors.Is(err, record.ErrOffsetNotAvailable) {
		return false
	}
	node, _ := f.s.parts.Leader(p.topic.Name, p.req.Partition)
	if !f.s.peers.other(node) {
		return false
	}
	p.out.preferred = node
	f.settled = true
	return true
}

// refuseAhead ends the fetch of what a follower has not got within the wait:
// the consumer goes back to the leader.
func (f *fetch) refuseAhead() {
	for _, p := range f.parts {
		if p.ahead != nil {
			f.refuse(p, p.ahead)
		}
	}
}
