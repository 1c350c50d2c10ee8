package mesh

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/serf/serf"
)

// Conflict says that two nodes claim one name. The one that was known first
// stays known; the other is not seen by others until one of them is renamed.
type Conflict struct {
	ID     string    `json:"id"`
	Pool   string    `json:"pool"`
	Addr   string    `json:"addr"` // of the other one
	Self   string    `json:"self"` // this node's address
	First  time.Time `json:"first"`
	Latest time.Time `json:"latest"`
}

// String is the sentence people read.
func (c Conflict) String() string {
	return fmt.Sprintf("two nodes have the id %q: this one at %s and another at %s (%s pool); give one of them another node id",
		c.ID, c.Self, c.Addr, c.Pool)
}

const (
	tellAgain = time.Minute     // a lasting conflict is logged so often
	newClaim  = 5 * time.Minute // a claim after such a silence is another one
)

// guard refuses members that do not belong into the pool, and notices other
// nodes of this node's name. Serf calls it with its locks held, so it must not
// call Serf.
type guard struct {
	id, site, pool string
	log            *slog.Logger
	self           atomic.Value // string: this node's address, once known

	// grace is how long another address may have this node's name before that
	// is a conflict: a node that comes back elsewhere is still known at its
	// former address until the others miss it there.
	grace time.Duration

	mu struct {
		sync.Mutex
		claims map[string]claim // by address
	}
}

type claim struct {
	Conflict
	told time.Time // when it was last logged
}

func newGuard(id, site, pool string, grace time.Duration, log *slog.Logger) *guard {
	g := &guard{id: id, site: site, pool: pool, grace: grace, log: log}
	g.mu.claims = map[string]claim{}
	g.self.Store("")
	return g
}

// NotifyMerge is called with all members of the other side of a join, and with
// each single one that is said to be alive.
func (g *guard) NotifyMerge(members []*serf.Member) error {
	for _, m := range members {
		if err := g.check(m); err != nil {
			return err
		}
		// In a list there may be dead ones: this node's own former address.
		// One alone is alive.
		if len(members) == 1 && m.Name == g.id {
			g.claimed(gossipAddr(m.Addr, m.Port))
		}
	}
	return nil
}

// check says why m cannot be in this pool.
func (g *guard) check(m *serf.Member) error {
	where := gossipAddr(m.Addr, m.Port)
	switch {
	case m.Tags[tagSite] == "" || m.Tags[tagPool] == "":
		return fmt.Errorf("node %q at %s is not a node of this product (it tells no site)", m.Name, where)
	case m.Tags[tagPool] != g.pool:
		return fmt.Errorf("node %q at %s is in the %s pool, this is the %s pool: join its %s address",
			m.Name, where, m.Tags[tagPool], g.pool, g.pool)
	case g.pool == poolLAN && m.Tags[tagSite] != g.site:
		return fmt.Errorf("node %q at %s belongs to site %q, this LAN pool to site %q: join other sites over the WAN pool",
			m.Name, where, m.Tags[tagSite], g.site)
	}
	return nil
}

// claimed notes that a living node at addr has this node's name.
func (g *guard) claimed(addr string) {
	self := g.self.Load().(string)
	if self == "" || addr == self {
		return
	}
	if c, tell := g.note(addr, self, time.Now()); tell {
		g.log.Error("mesh: node name conflict", "node", g.id, "error", c.String())
	}
}

// note remembers the claim of addr and reports whether it is to be told (again).
func (g *guard) note(addr, self string, now time.Time) (c Conflict, tell bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	was, ok := g.mu.claims[addr]
	if !ok || now.Sub(was.Latest) > newClaim {
		was = claim{Conflict: Conflict{ID: g.id, Pool: g.pool, Addr: addr, Self: self, First: now}}
	}
	was.Latest = now
	tell = was.Latest.Sub(was.First) >= g.grace && now.Sub(was.told) >= tellAgain
	if tell {
		was.told = now
	}
	g.mu.claims[addr] = was
	return was.Conflict, tell
}

// conflicts are the claims that lasted, oldest first.
func (g *guard) conflicts() (all []Conflict) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.mu.claims {
		if c.Latest.Sub(c.First) >= g.grace {
			all = append(all, c.Conflict)
		}
	}
	slices.SortFunc(all, func(a, b Conflict) int { return a.First.Compare(b.First) })
	return all
}
