// Package entry is how a node comes to be one of a site: who it is by its data
// directory, how it begins a site with others or joins the one that they have,
// how it takes others in, and what it tells the site of itself.
//
// Goroutines: a node that begins a site asks the others at once, and waits for
// the answers.
package entry

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"sync"

	"github.com/entrepot-hub/entrepot/hub/bootstrap"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/identity"
	"github.com/entrepot-hub/entrepot/hub/mesh"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// What nodes ask of each other here.
const (
	MethodBegin = "bootstrap" // to begin a site together
	MethodJoin  = "join"      // to become a node of the site
)

// Config is a node that is to be of a site.
type Config struct {
	Site   string
	SiteID int32
	Name   string
	Zone   string
	Peer   string // its address for other nodes
	Dir    string // its data directory
	Expect int    // with how many nodes a site begins; 0: it joins one
	// HasCatalog says that the directory has a catalog.
	HasCatalog bool
	Logger     *slog.Logger
}

// Others are the other nodes as one sees them that may belong to no site yet.
type Others interface {
	// Gossip is what the mesh last told.
	Gossip() []mesh.Member
	// CallAddr asks the node at an address something.
	CallAddr(ctx context.Context, addr, method string, body []byte) ([]byte, error)
}

// Catalog is the site's.
type Catalog interface {
	State() *catalog.State
	Propose(ctx context.Context, cmd catalog.Command) (any, error)
}

// Entry is this node's. Its methods may be called from any goroutine.
type Entry struct {
	cfg Config
	mu  struct {
		sync.Mutex
		id      identity.Node      // zero before the node belongs to a site
		settled bool               // id is on the disk
		machine *bootstrap.Machine // nil for a node that belongs to a site
		saved   []byte             // of the machine, on the disk
	}
}

// Open finds out who this node is. A directory without an identity is that of a
// site of one node from before there were identities, if it has a catalog;
// otherwise this node begins a site, alone or with others.
func Open(cfg Config) (*Entry, error) {
	e := &Entry{cfg: cfg}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e, e.ofDir(e.open())
}

func (e *Entry) open() error {
	id, ok, err := identity.Read(vfs.OS(), e.cfg.Dir)
	if err == nil && ok {
		err = id.Matches(e.cfg.Site, e.cfg.Name)
	}
	if err != nil {
		return err
	}
	self := []identity.Founder{{ID: 1, Name: e.cfg.Name, Peer: e.cfg.Peer}}
	switch {
	case ok:
		e.mu.id, e.mu.settled = id, true
	case e.cfg.HasCatalog:
		// It is written down once the catalog has said that the name is right.
		e.mu.id = identity.New(e.oldCluster(), e.cfg.Site, e.cfg.Name, 1, self)
	case e.cfg.Expect == 1:
		self[0].Nonce = identity.NewNonce()
		id := identity.New(identity.NewCluster(), e.cfg.Site, e.cfg.Name, 1, self)
		id.Nonce = self[0].Nonce
		return e.settle(id)
	default:
		return e.openBeginning()
	}
	return nil
}

// settle makes this node somebody for ever. The lock is held.
func (e *Entry) settle(id identity.Node) error {
	if err := identity.Write(vfs.OS(), e.cfg.Dir, id); err != nil {
		return err
	}
	e.mu.id, e.mu.settled = id, true
	return nil
}

// Identity is who the node is; ok is false as long as it belongs to no site.
func (e *Entry) Identity() (id identity.Node, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mu.id, e.mu.id.ID != 0
}

// ofDir says of an error, if it is one, whose directory it is about.
func (e *Entry) ofDir(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("node.data_dir %s: %w", e.cfg.Dir, err)
}

// oldCluster is the cluster ID of sites that began before they had one: the
// site's name in the form that Kafka's clients show.
func (e *Entry) oldCluster() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "entrepot site %s %d", e.cfg.Site, e.cfg.SiteID))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
