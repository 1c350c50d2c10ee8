package mesh

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/serf/serf"
)

// Status is what gossip says of a member.
type Status = string

// The states of a member. Left is said by the member itself, failed by others.
const (
	StatusAlive   Status = "alive"
	StatusLeaving Status = "leaving"
	StatusLeft    Status = "left"
	StatusFailed  Status = "failed"
)

// Member is one node.
type Member struct {
	ID      string `json:"id"`
	Site    string `json:"site"`
	Kafka   string `json:"kafka,omitempty"` // host:port for clients
	Peer    string `json:"peer,omitempty"`  // host:port for other nodes
	Admin   string `json:"admin,omitempty"` // host:port of the admin API
	Version string `json:"version,omitempty"`
	Addr    string `json:"addr"`   // host:port of its gossip in Pool
	Status  Status `json:"status"` // alive, leaving, left or failed
	Pool    string `json:"pool"`   // the pool that says so: lan or wan
	// Expect is how many nodes the member waits for to begin a site, Cluster
	// the ID of the site that it belongs to, empty before, and Nonce what its
	// data directory has instead. Of LAN members only.
	Expect  int    `json:"expect,omitempty"`
	Cluster string `json:"cluster,omitempty"`
	Nonce   string `json:"nonce,omitempty"`
}

// The pools.
const (
	poolLAN = "lan"
	poolWAN = "wan"
)

func memberOf(m serf.Member, pool string) Member {
	expect, _ := strconv.Atoi(m.Tags[tagExpect]) // 0 if it says none, or nonsense
	return Member{
		ID: m.Name, Site: m.Tags[tagSite], Expect: expect, Cluster: m.Tags[tagCluster], Nonce: m.Tags[tagNonce],
		Kafka: m.Tags[tagKafka], Peer: m.Tags[tagPeer], Admin: m.Tags[tagAdmin], Version: m.Tags[tagVersion],
		Addr:   gossipAddr(m.Addr, m.Port),
		Status: m.Status.String(), Pool: pool,
	}
}

func gossipAddr(ip net.IP, port uint16) string {
	return net.JoinHostPort(ip.String(), strconv.Itoa(int(port)))
}

// RTT estimates the round trip between two nodes from their network
// coordinates (Vivaldi, as Serf keeps them): the LAN pool's for two nodes of
// this site, the WAN pool's otherwise. It is an error while a node is unknown
// or has not been measured yet.
func (m *Mesh) RTT(a, b string) (time.Duration, error) {
	if a == b {
		return 0, nil
	}
	p := m.wan
	if m.lan.has(a) && m.lan.has(b) {
		p = m.lan
	}
	for _, id := range []string{a, b} {
		if !m.lan.has(id) && !m.wan.has(id) {
			return 0, fmt.Errorf("mesh: node %q is not known; known are %s", id, m.names())
		}
	}
	from, ok := p.serf.GetCachedCoordinate(a)
	to, ok2 := p.serf.GetCachedCoordinate(b)
	if !ok || !ok2 {
		missing := a
		if ok {
			missing = b
		}
		return 0, fmt.Errorf("mesh: the distance to node %q has not been measured yet in the %s pool", missing, p.kind)
	}
	return from.DistanceTo(to), nil
}

// names lists the known IDs for people.
func (m *Mesh) names() (list string) {
	for i, member := range m.Members() {
		if i > 0 {
			list += ", "
		}
		list += member.ID
	}
	return list
}
