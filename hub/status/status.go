// Package status is what the admin server shows of a node and of its site: each
// node is asked for what it has. It passes on what an operator wants of nodes and
// of their replicas.
//
// Goroutines: none.
package status

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/entrepot-hub/entrepot/hub/admin"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/leaders"
	"github.com/entrepot-hub/entrepot/hub/mesh"
	"github.com/entrepot-hub/entrepot/hub/peer"
	"github.com/entrepot-hub/entrepot/hub/reach"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/mirror"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

// Catalog is the site's.
type Catalog interface {
	State() *catalog.State
	Propose(ctx context.Context, cmd catalog.Command) (any, error)
}

// Moves are those of the site, and where this node's are.
type Moves interface {
	Pending() []catalog.PendingMove
	Status() map[storage.LogID]replica.Move
}

// Config is what there is of a node from its start on.
type Config struct {
	Node, Site, Version string
	Kafka, DataDir      string
	Started             time.Time
	Ready               func() error // nil: it serves
	Scrub               bool         // what is on the disk is checked
	Store               *storage.Store
	Mesh                *mesh.Mesh
	Peers               *peer.Peers
}

// Parts are what there is of a node once it belongs to a site.
type Parts struct {
	Node    int32  // broker ID
	Member  uint64 // in Raft groups
	Cluster string
	Set     *replica.Set
	Catalog Catalog
	Moves   Moves
	Reach   *reach.Nodes
	Leaders *leaders.Table
	Leader  func(topic string, partition int32) (node, epoch int32) // as this node knows; -1: nobody
	Links   *mirror.Manager
}

// View shows one node. It implements Node, Mesh, Links, Site and Samples of
// hub/admin.
type View struct {
	cfg   Config
	parts atomic.Pointer[Parts] // nil before the node belongs to a site
}

// New shows a node that belongs to no site yet.
func New(cfg Config) *View { return &View{cfg: cfg} }

// Begin shows the node of a site.
func (v *View) Begin(p Parts) { v.parts.Store(&p) }

// Ready implements admin.Node.
func (v *View) Ready() error {
	if err := v.cfg.Ready(); err != nil {
		return err
	}
	return v.cfg.Store.Disk().Offline
}

// Status implements admin.Node.
func (v *View) Status() admin.Status {
	s := admin.Status{
		Node: v.cfg.Node, Site: v.cfg.Site, Version: v.cfg.Version,
		Kafka: v.cfg.Kafka, DataDir: v.cfg.DataDir, Started: v.cfg.Started, Ready: true, Disk: v.disk(),
	}
	p := v.parts.Load()
	if p == nil {
		s.Ready, s.Reason = false, v.Ready().Error()
		return s
	}
	s.ClusterID = p.Cluster
	if err := v.Ready(); err != nil {
		s.Ready, s.Reason = false, err.Error()
	} else if bad := p.damaged(); len(bad) > 0 {
		s.Reason = fmt.Sprintf("%d partitions are quarantined, the first is %s", len(bad), bad[0])
	}
	if v.cfg.Scrub {
		c := p.Set.Scrubbed()
		s.Scrub = &admin.Scrub{Running: c.Running, Bytes: c.Bytes, LastPass: c.LastPass, Damaged: c.Damaged, Indexes: c.Indexes, Mended: c.Mended}
	}
	for _, t := range p.Catalog.State().Topics() {
		s.Topics = append(s.Topics, p.topic(t))
	}
	for _, l := range v.cfg.Peers.Stats() {
		s.Peers = append(s.Peers, admin.PeerLink{
			Node: l.Name, NodeID: l.Node, Class: l.Class.String(), Since: l.Since, Error: l.Error, Accepted: l.Accepted,
			Version: l.Version, Connects: l.Connects, RoundTripSeconds: l.RoundTrip.Seconds(), QueueBytes: int64(l.QueueBytes), Dropped: l.Dropped,
			SentFrames: l.SentFrames, SentBytes: l.SentBytes, ReceivedFrames: l.ReceivedFrames, ReceivedBytes: l.ReceivedBytes,
		})
	}
	return s
}

func (v *View) disk() admin.Disk {
	d := v.cfg.Store.Disk()
	out := admin.Disk{FreeBytes: d.Free, State: "ok"}
	switch {
	case d.Offline != nil:
		out.State, out.Reason = "offline", d.Offline.Error()
	case d.High:
		out.State = "full"
	case d.Low:
		out.State = "low"
	}
	return out
}

func (p *Parts) topic(t *catalog.Topic) admin.Topic {
	out := admin.Topic{Name: t.Name, Internal: catalog.IsInternal(t.Name), MirrorTo: t.Settings().MirrorTo}
	if t.Mirror != nil {
		out.Source = t.Mirror.Source
	}
	for n := range t.Partitions {
		r, ok := p.Set.Get(record.TopicPartition{Topic: t.Name, Partition: int32(n)})
		if !ok {
			continue
		}
		st := r.Status()
		one := admin.Partition{
			ID: int32(n), LogStart: st.Offsets.Start, HighWatermark: st.Offsets.HighWatermark,
			LeaderEpoch: st.Offsets.LeaderEpoch, Bytes: st.Bytes, Compaction: compaction(r),
		}
		if st.Err != nil {
			one.Damage = st.Err.Error()
		}
		out.Partitions = append(out.Partitions, one)
	}
	return out
}

// compaction is nil for a replica that is not compacted.
func compaction(r *replica.Replica) *admin.Compaction {
	d, on := r.Dirty()
	if !on {
		return nil
	}
	s := r.Compacted()
	return &admin.Compaction{
		CleanBelow: d.CleanBelow, DirtyBytes: d.Bytes, Ratio: d.Ratio, Passes: s.Passes, Errors: s.Errors,
		BeforeBytes: s.Before, AfterBytes: s.After, Last: s.Last, LastError: s.LastError,
	}
}

// Members implements admin.Mesh.
func (v *View) Members() []admin.Member {
	var all []admin.Member
	for _, m := range v.cfg.Mesh.Members() {
		all = append(all, admin.Member{
			ID: m.ID, Site: m.Site, Kafka: m.Kafka, Peer: m.Peer, Admin: m.Admin, Version: m.Version,
			Addr: m.Addr, Status: m.Status, Pool: m.Pool,
		})
	}
	return all
}

// RTT implements admin.Mesh.
func (v *View) RTT(a, b string) (time.Duration, error) {
	d, err := v.cfg.Mesh.RTT(a, b)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", admin.ErrNotFound, err)
	}
	return d, nil
}

// Links implements admin.Links.
func (v *View) Links() []admin.Link {
	p := v.parts.Load()
	if p == nil {
		return nil
	}
	var all []admin.Link
	for _, l := range p.Links.Status() {
		one := admin.Link{
			Name: l.Name, Kind: l.Kind, Source: l.Source, State: string(l.State), Reason: l.Reason,
			Records: l.Records, Bytes: l.Bytes, LagRecords: measure(l.LagRecords), LagSeconds: measure(l.LagSeconds), Heard: measure(l.Heard),
		}
		for _, t := range l.Topics {
			for _, p := range t.Partitions {
				one.Partitions = append(one.Partitions, linkPartition(t, p))
			}
		}
		all = append(all, one)
	}
	return all
}

func linkPartition(t mirror.TopicStatus, p mirror.PartitionStatus) admin.LinkPartition {
	return admin.LinkPartition{
		Topic: t.Name, Partition: p.Partition, Next: p.Next, SourceEnd: measure(p.SourceEnd),
		LagRecords: measure(p.LagRecords), LagSeconds: measure(p.LagSeconds), State: string(p.State), Reason: p.Reason,
	}
}

// measure is a number that may not be known.
func measure[N int64 | float64](n *N) admin.Measure {
	if n == nil {
		return admin.Measure{}
	}
	return admin.Known(float64(*n))
}

// damaged lists the partitions that are quarantined.
func (p *Parts) damaged() []record.TopicPartition {
	var all []record.TopicPartition
	for _, r := range p.Set.All() {
		if r.Status().Quarantined {
			all = append(all, record.TopicPartition{Topic: r.ID().Topic, Partition: r.ID().Partition})
		}
	}
	return all
}
