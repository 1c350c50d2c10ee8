package mesh

import (
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

// timings of one pool.
type timings struct {
	gossip    *memberlist.Config
	joinFirst time.Duration // after the first failed join; doubled from there
	joinMost  time.Duration
	reconnect time.Duration // between attempts to reach failed members
	reclaim   time.Duration // a failed node may come back at another address after this
	conflict  time.Duration // a node's former address may be alive to others for so long
	leave     time.Duration // how long a leaving node stays to answer probes
}

// timings of a pool under the profile.
func (p Profile) timings(pool string) timings {
	switch {
	case p == ProfileLocal:
		return localTimings()
	case pool == poolWAN:
		return wanTimings()
	}
	return lanTimings()
}

func lanTimings() timings {
	return timings{
		gossip:    memberlist.DefaultLANConfig(),
		joinFirst: 500 * time.Millisecond,
		joinMost:  15 * time.Second,
		reconnect: 5 * time.Second,
		reclaim:   5 * time.Second,
		conflict:  30 * time.Second,
		leave:     500 * time.Millisecond,
	}
}

// wanTimings are those of the LAN but for what distance changes.
func wanTimings() timings {
	t := lanTimings()
	t.gossip = memberlist.DefaultWANConfig()
	// A join cannot be cut short, and a stop waits for it: not 30 seconds.
	t.gossip.TCPTimeout = 10 * time.Second
	t.reconnect = 10 * time.Second
	t.conflict = 2 * time.Minute
	t.leave = time.Second
	return t
}

// localTimings are for many nodes on one machine, possibly a busy one: quick,
// yet slower to suspect than to gossip.
func localTimings() timings {
	t := lanTimings()
	t.gossip = memberlist.DefaultLocalConfig()
	t.gossip.ProbeInterval = 500 * time.Millisecond
	t.gossip.ProbeTimeout = 300 * time.Millisecond
	t.gossip.SuspicionMult = 4
	t.gossip.GossipInterval = 50 * time.Millisecond
	t.gossip.PushPullInterval = 5 * time.Second
	t.gossip.TCPTimeout = 2 * time.Second
	t.joinFirst = 50 * time.Millisecond
	t.joinMost = time.Second
	t.reconnect = time.Second
	t.reclaim = 500 * time.Millisecond
	t.conflict = 5 * time.Second
	t.leave = 100 * time.Millisecond
	return t
}

// serfConfig is everything that does not depend on the node.
func (t timings) serfConfig() *serf.Config {
	c := serf.DefaultConfig()
	c.MemberlistConfig = t.gossip
	c.MemberlistConfig.DeadNodeReclaimTime = t.reclaim
	c.ReconnectInterval = t.reconnect
	// A site may be cut off for a long weekend; after this, only seeds find it.
	c.ReconnectTimeout = 7 * 24 * time.Hour
	c.LeavePropagateDelay = t.leave
	c.BroadcastTimeout = 2 * time.Second
	// Serf would end the pool of the node that loses the vote, without a word
	// to us. Two nodes of one name are reported instead (Conflict).
	c.EnableNameConflictResolution = false
	c.RejoinAfterLeave = true
	c.ValidateNodeNames = false // checkName allows '_' as well
	return c
}
