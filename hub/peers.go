package hub

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"

	"github.com/entrepot-hub/entrepot/hub/auth"
	"github.com/entrepot-hub/entrepot/hub/leaders"
	"github.com/entrepot-hub/entrepot/hub/mesh"
	"github.com/entrepot-hub/entrepot/hub/peer"
	"github.com/entrepot-hub/entrepot/hub/replica"
)

// What nodes ask of each other.
const (
	callBootstrap  = "bootstrap"  // to begin a site together
	callJoin       = "join"       // to become a node of the site
	callPropose    = "propose"    // a command for the catalog
	callReport     = "report"     // what a node has, for who looks at the site
	callJobs       = "jobs"       // the connectors that it runs, for the admin API
	callConnectors = "connectors" // the same for Kafka Connect's
	callSteer      = "steer"      // to restart or resume its tasks of a connector
	callRelay      = "relay"      // an HTTP request that is its business
	callKafka      = "kafka"      // what the Kafka servers of a site ask of each other
)

func (h *Hub) openPeers(context.Context) error {
	pc := peer.Default()
	pc.Logger = h.log.With("part", "peer")
	// hub/replica sums and verifies its messages itself (wire.go), with the
	// batches in them by their own sums; summing those again costs.
	pc.OwnSums[peer.Append] = true
	if c := h.cfg.Listeners.Peer.TLS; c != nil {
		t, err := auth.OpenTLS(c.files(), h.log.With("part", "tls"), nil)
		if err != nil {
			return fmt.Errorf("listeners.peer: %w", err)
		}
		pc.ServerTLS, pc.ClientTLS = t.Server(), func(host string) *tls.Config { return t.Client(host) }
	}
	var err error
	if h.peers, err = peer.New(pc, h.peerIdentity(), peerHandler{h}); err != nil {
		return err
	}
	// All that is fetched of logs comes as streams: bounded here, together.
	h.peers.SetBulkRate(int64(h.cfg.Cluster.FetchRate))
	return nil
}

// peerIdentity is who this node is to others, without a cluster as long as it
// belongs to none.
func (h *Hub) peerIdentity() peer.Identity {
	id := peer.Identity{Name: h.cfg.Node.ID}
	if h.isSomebody() {
		b, _ := base64.RawURLEncoding.DecodeString(h.id.Cluster)
		copy(id.Cluster[:], b)
		id.Node, id.Incarnation = h.id.ID, h.id.Incarnation
	}
	return id
}

// peerHandler does what other nodes send.
type peerHandler struct{ h *Hub }

// Message implements peer.Handler.
func (p peerHandler) Message(from peer.Peer, class peer.Class, frame []byte) {
	h := p.h
	if !h.joined.Load() {
		return
	}
	var err error
	if class == peer.Control {
		err = h.notice(from.Node, frame)
	} else {
		err = h.set.Receive(replica.MemberID(from.Node, from.Incarnation), replicaClass(class), frame)
	}
	if err != nil {
		h.log.Warn("a message of another node is not understood", "node", from.Name, "class", class.String(), "error", err)
	}
}

// What nodes tell each other, unasked: the first byte of a notice.
const (
	noticeLeaders byte = 'L' // what the node leads
	noticeJobs    byte = 'J' // which connectors its jobs files have
)

// notice takes what another node tells.
func (h *Hub) notice(from int32, b []byte) error {
	switch {
	case len(b) > 0 && b[0] == noticeLeaders:
		claims, whole, err := leaders.Decode(b[1:])
		if err == nil {
			h.leaders.Update(from, claims, whole)
		}
		return err
	case len(b) > 0 && b[0] == noticeJobs:
		return h.placing.heard(from, b[1:])
	}
	return nil // of a later version
}

// Call implements peer.Handler.
func (p peerHandler) Call(ctx context.Context, from peer.Peer, method string, body []byte) ([]byte, error) {
	h := p.h
	if method == callBootstrap {
		return h.bootstrapCalled(from, body)
	}
	if strings.HasPrefix(method, replica.Methods) && from.Registered() && h.joined.Load() {
		return h.set.Answer(ctx, method, body)
	}
	if !h.begun.Load() {
		return nil, fmt.Errorf("node %s does not serve yet", h.cfg.Node.ID)
	}
	switch {
	case method == callJoin:
		return h.joinCalled(ctx, from, body)
	case !from.Registered():
	case method == callPropose:
		return h.meta.forwarded(ctx, body)
	case method == callReport:
		return json.Marshal(h.report(ctx))
	case method == callJobs:
		return json.Marshal(jobsView{h}.Jobs())
	case method == callConnectors:
		return json.Marshal(h.connectors.here())
	case method == callSteer:
		return nil, h.steered(body)
	case method == callRelay:
		return h.relayCalled(ctx, body)
	case method == callKafka:
		return h.server.Answer(ctx, body)
	}
	return nil, fmt.Errorf("node %s does not do %q for node %s", h.cfg.Node.ID, method, from.Name)
}

// Stream implements peer.Handler.
func (p peerHandler) Stream(ctx context.Context, from peer.Peer, method string, body []byte, w io.Writer) error {
	if strings.HasPrefix(method, replica.Methods) && from.Registered() && p.h.joined.Load() {
		return p.h.set.Stream(ctx, method, body, w)
	}
	return fmt.Errorf("node %s has no stream %q for node %s", p.h.cfg.Node.ID, method, from.Name)
}

// Link implements peer.Handler.
func (p peerHandler) Link(to peer.Peer, class peer.Class, up bool) {
	if class == peer.Control && p.h.joined.Load() {
		p.h.announcer.link(to.Node, up)
		p.h.nodes.set(to.Node, up)
	}
	if class == peer.Heartbeat && !up && p.h.joined.Load() {
		p.h.set.NodeFailed(to.Node) // a hint: elections begin early, and Raft decides
	}
}

// kafkaPeers reaches the Kafka servers of the other nodes.
type kafkaPeers struct{ h *Hub }

// Call implements protocol.Peers.
func (p kafkaPeers) Call(ctx context.Context, node int32, request []byte) ([]byte, error) {
	return p.h.peers.Call(ctx, node, callKafka, request)
}

// Up implements protocol.Peers.
func (p kafkaPeers) Up(node int32) bool { return p.h.nodes.up(node) }

// transport carries the messages of Raft groups.
type transport struct{ h *Hub }

// Send implements replica.Transport.
func (t transport) Send(to uint64, class replica.Class, parts net.Buffers) bool {
	return t.h.peers.Send(replica.NodeOf(to), peerClass(class), parts)
}

func peerClass(c replica.Class) peer.Class {
	switch c {
	case replica.ClassHeartbeat:
		return peer.Heartbeat
	case replica.ClassAppend:
		return peer.Append
	}
	return peer.Bulk
}

func replicaClass(c peer.Class) replica.Class {
	switch c {
	case peer.Heartbeat:
		return replica.ClassHeartbeat
	case peer.Append:
		return replica.ClassAppend
	}
	return replica.ClassBulk
}

// findPeers tells the connections where the other nodes are: as gossip has it of
// those that are alive, else as they have registered, else as they were when
// the site began.
func (h *Hub) findPeers() {
	if !h.joined.Load() {
		return
	}
	h.finding.Lock() // what was found last is told last
	defer h.finding.Unlock()
	nodes := map[int32]peer.Node{}
	names := map[string]int32{}
	for _, f := range h.id.Founders {
		nodes[f.ID], names[f.Name] = peer.Node{Addr: f.Peer}, f.ID
	}
	state := h.meta.State()
	for _, n := range state.Nodes() {
		names[n.Name] = n.ID
		one := peer.Node{Addr: n.Peer, Incarnation: n.Incarnation}
		if one.Addr == "" {
			one.Addr = nodes[n.ID].Addr
		}
		nodes[n.ID] = one
	}
	for _, m := range h.gossip() {
		id, known := names[m.ID]
		if known && m.Site == h.cfg.Node.Site && m.Status == mesh.StatusAlive && m.Peer != "" {
			nodes[id] = peer.Node{Addr: m.Peer, Incarnation: nodes[id].Incarnation}
		}
	}
	if len(state.Nodes()) > 0 {
		for id := range nodes {
			if _, there := state.Node(id); !there {
				delete(nodes, id) // it has left the site
			}
		}
	}
	delete(nodes, h.id.ID)
	h.peers.SetNodes(nodes)
}

// followNodes connects with nodes that the catalog takes in, and lets go of those
// that it takes out, until ctx ends. Gossip alone does not do: it shows a node
// that comes before this one's catalog has it, and has no news afterwards.
func (h *Hub) followNodes(ctx context.Context) error {
	for {
		_, changed := h.meta.machine.Watch()
		h.findPeers()
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// hintFailures passes on which nodes of the site gossip has lost since it was
// last asked. It decides nothing (Invariant 16).
func (h *Hub) hintFailures(members []mesh.Member) {
	failed := map[string]bool{}
	for _, m := range members {
		if m.Site != h.cfg.Node.Site || m.Status != mesh.StatusFailed && m.Status != mesh.StatusLeft {
			continue
		}
		failed[m.ID] = true
		if n, known := h.meta.State().NodeByName(m.ID); known && !h.failed[m.ID] {
			h.set.NodeFailed(n.ID)
		}
	}
	h.failed = failed
}

// gossip is what the mesh last told.
func (h *Hub) gossip() []mesh.Member {
	if m := h.members.Load(); m != nil {
		return *m
	}
	return nil
}

func (h *Hub) dir() string { return filepath.Clean(h.cfg.Node.DataDir) }
