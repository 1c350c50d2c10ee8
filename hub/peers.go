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
	"github.com/entrepot-hub/entrepot/hub/entry"
	"github.com/entrepot-hub/entrepot/hub/jobs"
	"github.com/entrepot-hub/entrepot/hub/peer"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/hub/status"
)

// What nodes ask of each other.
const (
	callPropose = "propose" // a command for the catalog
	callRelay   = "relay"   // an HTTP request that is its business
	callKafka   = "kafka"   // what the Kafka servers of a site ask of each other
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

// copies is how fast this node fetches logs that it lacks.
type copies struct{ h *Hub }

// FetchRate implements admin.Copies.
func (c copies) FetchRate() int64 { return c.h.peers.BulkRate() }

// SetFetchRate implements admin.Copies.
func (c copies) SetFetchRate(bytesPerSecond int64) { c.h.peers.SetBulkRate(bytesPerSecond) }

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
	noticeEnding  byte = 'E' // it ends, and is not to lead anything more
)

// notice takes what another node tells.
func (h *Hub) notice(from int32, b []byte) error {
	switch {
	case len(b) > 0 && b[0] == noticeLeaders:
		return h.announcer.Heard(from, b[1:])
	case len(b) > 0 && b[0] == noticeJobs:
		return h.placing.Heard(from, b[1:])
	case len(b) > 0 && b[0] == noticeEnding:
		h.nodes.Ends(from)
	}
	return nil // of a later version
}

// tell hands a node a notice; false: it was not sent.
func (h *Hub) tell(node int32, kind byte, text []byte) bool {
	return h.peers.Send(node, peer.Control, net.Buffers{{kind}, text})
}

// Call implements peer.Handler.
func (p peerHandler) Call(ctx context.Context, from peer.Peer, method string, body []byte) ([]byte, error) {
	h := p.h
	if method == entry.MethodBegin {
		return h.entry.Answer(body)
	}
	if strings.HasPrefix(method, replica.Methods) && from.Registered() && h.joined.Load() {
		return h.set.Answer(ctx, method, body)
	}
	if !h.joined.Load() {
		return nil, fmt.Errorf("node %s does not serve yet", h.cfg.Node.ID)
	}
	switch {
	case method == entry.MethodJoin:
		return h.entry.TakeIn(ctx, site{h.meta, h.status}, from.Name, body)
	case !from.Registered():
	case method == callPropose:
		return h.meta.Answer(ctx, body)
	case method == status.Method:
		return json.Marshal(h.status.Report(ctx))
	case method == jobs.MethodJobs:
		return json.Marshal(h.jobs.Admin().Jobs())
	case method == jobs.MethodConnectors:
		return json.Marshal(h.jobs.Here())
	case method == jobs.MethodSteer:
		return nil, h.jobs.Steered(body)
	case method == callRelay:
		return h.relay.Answer(ctx, body)
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
		p.h.announcer.Link(to.Node, up)
		p.h.nodes.Set(to.Node, up)
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
func (p kafkaPeers) Up(node int32) bool { return p.h.nodes.Up(node) }

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

func (h *Hub) dir() string { return filepath.Clean(h.cfg.Node.DataDir) }
