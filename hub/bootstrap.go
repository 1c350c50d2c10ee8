package hub

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/hub/bootstrap"
	"github.com/entrepot-hub/entrepot/hub/identity"
	"github.com/entrepot-hub/entrepot/hub/mesh"
	"github.com/entrepot-hub/entrepot/hub/peer"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// bootstrapFile keeps this node's part in the beginning of a site until it
// belongs to one.
const bootstrapFile = "bootstrap.json"

const (
	bootstrapEvery = 200 * time.Millisecond // between two looks at what gossip shows
	bootstrapCall  = 2 * time.Second        // how long another node may take to answer
)

// beginning drives this node's part in the beginning of a site: what the machine
// says is on the disk before any of it is told or acted on.
type beginning struct {
	mu struct {
		sync.Mutex
		machine *bootstrap.Machine // nil for a node that belongs to a site
		saved   []byte
	}
}

// openBeginning goes on with what the directory of a node without an identity
// has.
func (h *Hub) openBeginning() error {
	text, _, err := identity.ReadFile(vfs.OS(), path.Join(h.dir(), bootstrapFile))
	if err != nil {
		return err
	}
	saved, err := bootstrap.DecodeState(text)
	if err != nil {
		return fmt.Errorf("%s: %w", bootstrapFile, err)
	}
	b := &h.beginning
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.saved = text
	b.mu.machine = bootstrap.New(bootstrap.Config{
		Name: h.cfg.Node.ID, Peer: h.Peer(), Zone: h.cfg.Node.Zone, Expect: h.cfg.Cluster.BootstrapExpect, Draw: identity.NewNonce,
	}, saved)
	return h.saveBeginning()
}

// saveBeginning makes the machine's state durable. The lock is held: nothing of
// it may be told before.
func (h *Hub) saveBeginning() error {
	b := &h.beginning
	text, err := bootstrap.Encode(b.mu.machine.State())
	if err != nil || bytes.Equal(text, b.mu.saved) {
		return err
	}
	if err := identity.WriteFile(vfs.OS(), h.dir(), bootstrapFile, text); err != nil {
		return err
	}
	b.mu.saved = text
	return nil
}

// nonce is what gossip tells of a node that belongs to no site yet.
func (h *Hub) nonce() string {
	h.beginning.mu.Lock()
	defer h.beginning.mu.Unlock()
	if m := h.beginning.mu.machine; m != nil {
		return m.State().Nonce
	}
	return ""
}

// becomeSomebody begins a site together with others, or joins the one that they
// have, for as long as it takes.
func (h *Hub) becomeSomebody(ctx context.Context) error {
	if h.isSomebody() {
		return nil
	}
	tick := time.NewTicker(bootstrapEvery)
	defer tick.Stop()
	for {
		done, err := h.stepBeginning(ctx)
		if err != nil {
			return fmt.Errorf("begin or join the site: %w", err)
		}
		if done {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	h.log.Info("this node belongs to a site", "site", h.cfg.Node.Site, "node", h.cfg.Node.ID, "broker", h.id.ID, "incarnation", h.id.Incarnation, "cluster", h.id.Cluster)
	if err := errors.Join(h.peers.SetSelf(h.peerIdentity()), h.mesh.SetCluster(h.id.Cluster)); err != nil {
		return err
	}
	return h.join(ctx)
}

// stepBeginning does one round of questions. It reports whether the node has its
// identity.
func (h *Hub) stepBeginning(ctx context.Context) (done bool, err error) {
	calls, err := h.beginningCalls()
	if err != nil {
		return false, err
	}
	var wg sync.WaitGroup
	failed := make([]error, len(calls))
	for i, c := range calls {
		wg.Go(func() { failed[i] = h.askBeginning(ctx, c) })
	}
	wg.Wait()
	h.beginning.mu.Lock()
	out := h.beginning.mu.machine.Outcome()
	nonce := h.beginning.mu.machine.State().Nonce
	h.beginning.mu.Unlock()
	switch why := cmp.Or(out.Why, "waits for other nodes of the site"); {
	case out.Decided == nil:
		if err := errors.Join(failed...); err != nil {
			why += fmt.Sprintf(" (%v)", err)
		}
		h.notReady(why)
		return false, nil
	case out.BrokerID > 0:
		id := identity.New(out.Decided.Cluster, h.cfg.Node.Site, h.cfg.Node.ID, out.BrokerID, founders(out.Decided))
		id.Nonce = nonce
		return true, h.settleBeginning(id)
	}
	id, err := h.joinSite(ctx, out.Decided, nonce)
	if err != nil {
		h.notReady(err.Error())
		return false, nil
	}
	return true, h.settleBeginning(id)
}

// settleBeginning writes the identity. From now on this node answers for its
// site.
func (h *Hub) settleBeginning(id identity.Node) error {
	h.beginning.mu.Lock()
	defer h.beginning.mu.Unlock()
	if err := h.settle(id); err != nil {
		return err
	}
	h.beginning.mu.machine = nil
	if err := vfs.OS().Remove(path.Join(h.dir(), bootstrapFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// beginningCalls lets the machine look at what gossip shows.
func (h *Hub) beginningCalls() ([]bootstrap.Call, error) {
	var view []bootstrap.Node
	for _, m := range h.gossip() {
		if m.Site != h.cfg.Node.Site || m.Status != mesh.StatusAlive || m.ID == h.cfg.Node.ID || m.Peer == "" || m.Nonce == "" && m.Cluster == "" {
			continue
		}
		view = append(view, bootstrap.Node{
			Member: bootstrap.Member{Name: m.ID, Nonce: m.Nonce, Peer: m.Peer}, Expect: m.Expect, Cluster: m.Cluster,
		})
	}
	h.beginning.mu.Lock()
	defer h.beginning.mu.Unlock()
	calls := h.beginning.mu.machine.Tick(view)
	return calls, h.saveBeginning()
}

func (h *Hub) askBeginning(ctx context.Context, c bootstrap.Call) error {
	body, err := bootstrap.Encode(c.Request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, bootstrapCall)
	defer cancel()
	out, err := h.peers.CallAddr(ctx, c.To.Peer, callBootstrap, body)
	if err != nil {
		return err
	}
	reply, err := bootstrap.DecodeReply(out)
	if err != nil {
		return fmt.Errorf("node %s: %w", c.To.Name, err)
	}
	h.beginning.mu.Lock()
	defer h.beginning.mu.Unlock()
	h.beginning.mu.machine.Answered(c, reply)
	return h.saveBeginning()
}

// bootstrapCalled answers another node that begins a site or looks for one.
func (h *Hub) bootstrapCalled(_ peer.Peer, body []byte) ([]byte, error) {
	ask, err := bootstrap.DecodeRequest(body)
	if err != nil {
		return nil, err
	}
	h.beginning.mu.Lock()
	defer h.beginning.mu.Unlock()
	m := h.beginning.mu.machine
	if m == nil {
		m = bootstrap.New(bootstrap.Config{Name: h.cfg.Node.ID, Peer: h.Peer(), Draw: identity.NewNonce}, bootstrap.State{Nonce: h.id.Nonce, Decided: proposal(h.id)})
		return bootstrap.Encode(m.Handle(ask))
	}
	reply := m.Handle(ask)
	if err := h.saveBeginning(); err != nil {
		return nil, err
	}
	return bootstrap.Encode(reply)
}

func founders(p *bootstrap.Proposal) []identity.Founder {
	all := make([]identity.Founder, len(p.Members))
	for i, m := range p.Members {
		all[i] = identity.Founder{ID: int32(i + 1), Name: m.Name, Peer: m.Peer, Zone: m.Zone, Nonce: m.Nonce}
	}
	return all
}

// noNonce stands for that of a directory from before there were any.
const noNonce = "none"

// proposal is how the site of a node began.
func proposal(id identity.Node) *bootstrap.Proposal {
	p := &bootstrap.Proposal{Cluster: id.Cluster, Owner: id.Founders[0].Name}
	for _, f := range id.Founders {
		p.Members = append(p.Members, bootstrap.Member{Name: f.Name, Nonce: cmp.Or(f.Nonce, noNonce), Peer: f.Peer, Zone: f.Zone})
	}
	return p
}
