package entry

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
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/identity"
	"github.com/entrepot-hub/entrepot/hub/mesh"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// bootstrapFile keeps this node's part in the beginning of a site until it
// belongs to one.
const bootstrapFile = "bootstrap.json"

const (
	bootstrapEvery = 200 * time.Millisecond // between two looks at what gossip shows
	bootstrapCall  = 2 * time.Second        // how long another node may take to answer
)

// openBeginning goes on with what the directory of a node without an identity
// has. The lock is held.
func (e *Entry) openBeginning() error {
	text, _, err := identity.ReadFile(vfs.OS(), path.Join(e.cfg.Dir, bootstrapFile))
	if err != nil {
		return err
	}
	saved, err := bootstrap.DecodeState(text)
	if err != nil {
		return fmt.Errorf("%s: %w", bootstrapFile, err)
	}
	e.mu.saved = text
	e.mu.machine = bootstrap.New(bootstrap.Config{
		Name: e.cfg.Name, Peer: e.cfg.Peer, Zone: e.cfg.Zone, Expect: e.cfg.Expect, Draw: identity.NewNonce,
	}, saved)
	return e.save()
}

// save makes the machine's state durable. The lock is held: nothing of
// it may be told before.
func (e *Entry) save() error {
	text, err := bootstrap.Encode(e.mu.machine.State())
	if err != nil || bytes.Equal(text, e.mu.saved) {
		return err
	}
	if err := identity.WriteFile(vfs.OS(), e.cfg.Dir, bootstrapFile, text); err != nil {
		return err
	}
	e.mu.saved = text
	return nil
}

// Nonce is what gossip tells of a node that belongs to no site yet.
func (e *Entry) Nonce() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m := e.mu.machine; m != nil {
		return m.State().Nonce
	}
	return ""
}

// Become begins a site together with others, or joins the one that they have,
// for as long as it takes. It tells waits what it waits for.
func (e *Entry) Become(ctx context.Context, others Others, as catalog.RegisterNode, waits func(why string)) error {
	tick := time.NewTicker(bootstrapEvery)
	defer tick.Stop()
	for {
		done, err := e.step(ctx, others, as, waits)
		if err != nil {
			return fmt.Errorf("begin or join the site: %w", err)
		}
		if done {
			id, _ := e.Identity()
			e.cfg.Logger.Info("this node belongs to a site", "site", id.Site, "node", id.Name, "broker", id.ID, "incarnation", id.Incarnation, "cluster", id.Cluster)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// step does one round of questions. It reports whether the node has its
// identity.
func (e *Entry) step(ctx context.Context, others Others, as catalog.RegisterNode, waits func(why string)) (done bool, err error) {
	calls, err := e.calls(others.Gossip())
	if err != nil {
		return false, err
	}
	var wg sync.WaitGroup
	failed := make([]error, len(calls))
	for i, c := range calls {
		wg.Go(func() { failed[i] = e.ask(ctx, others, c) })
	}
	wg.Wait()
	e.mu.Lock()
	out := e.mu.machine.Outcome()
	nonce := e.mu.machine.State().Nonce
	e.mu.Unlock()
	switch why := cmp.Or(out.Why, "waits for other nodes of the site"); {
	case out.Decided == nil:
		if err := errors.Join(failed...); err != nil {
			why += fmt.Sprintf(" (%v)", err)
		}
		waits(why)
		return false, nil
	case out.BrokerID > 0:
		id := identity.New(out.Decided.Cluster, e.cfg.Site, e.cfg.Name, out.BrokerID, founders(out.Decided))
		id.Nonce = nonce
		return true, e.belong(id)
	}
	id, err := e.join(ctx, others, out.Decided, as, nonce)
	if err != nil {
		waits(err.Error())
		return false, nil
	}
	return true, e.belong(id)
}

// belong writes the identity. From now on this node answers for its
// site.
func (e *Entry) belong(id identity.Node) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.settle(id); err != nil {
		return e.ofDir(err)
	}
	e.mu.machine = nil
	if err := vfs.OS().Remove(path.Join(e.cfg.Dir, bootstrapFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// calls lets the machine look at what gossip shows.
func (e *Entry) calls(gossip []mesh.Member) ([]bootstrap.Call, error) {
	var view []bootstrap.Node
	for _, m := range gossip {
		if m.Site != e.cfg.Site || m.Status != mesh.StatusAlive || m.ID == e.cfg.Name || m.Peer == "" || m.Nonce == "" && m.Cluster == "" {
			continue
		}
		view = append(view, bootstrap.Node{
			Member: bootstrap.Member{Name: m.ID, Nonce: m.Nonce, Peer: m.Peer}, Expect: m.Expect, Cluster: m.Cluster,
		})
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	calls := e.mu.machine.Tick(view)
	return calls, e.save()
}

func (e *Entry) ask(ctx context.Context, others Others, c bootstrap.Call) error {
	body, err := bootstrap.Encode(c.Request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, bootstrapCall)
	defer cancel()
	out, err := others.CallAddr(ctx, c.To.Peer, MethodBegin, body)
	if err != nil {
		return err
	}
	reply, err := bootstrap.DecodeReply(out)
	if err != nil {
		return fmt.Errorf("node %s: %w", c.To.Name, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.machine.Answered(c, reply)
	return e.save()
}

// Answer answers another node that begins a site or looks for one.
func (e *Entry) Answer(body []byte) ([]byte, error) {
	ask, err := bootstrap.DecodeRequest(body)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.mu.machine
	if m == nil {
		m = bootstrap.New(bootstrap.Config{Name: e.cfg.Name, Peer: e.cfg.Peer, Draw: identity.NewNonce}, bootstrap.State{Nonce: e.mu.id.Nonce, Decided: proposal(e.mu.id)})
		return bootstrap.Encode(m.Handle(ask))
	}
	reply := m.Handle(ask)
	if err := e.save(); err != nil {
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
