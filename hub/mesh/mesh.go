// Package mesh is the gossip between nodes: who is there, in which site, at
// which addresses, and how far away. Every node is in two Serf pools: the LAN
// pool of its own site and the WAN pool of all sites. One address of any other
// site is enough to find all of it: a node takes the LAN members of its own
// site into the WAN pool ("flood join"), and keeps trying addresses that do
// not answer for as long as it runs.
//
// The mesh gives hints. That a member is called failed means that gossip has
// not heard it; nothing may be decided by that which must hold when the
// network is divided.
//
// Goroutines: Run starts one joiner a pool and reports changes itself; all end
// with its context or with Close, and Run waits for them. Serf and memberlist
// start their own, which end soon after Run or Close but cannot be waited for.
package mesh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/serf/serf"
)

// Handler is told of changes.
type Handler interface {
	// Changed receives all members, sorted by site and ID, this node included.
	// Changes that come close together are reported once. It is called from
	// the goroutine of Run, so a slow one delays the next report and nothing
	// else.
	Changed(members []Member)
}

// Mesh is this node's place in both pools.
type Mesh struct {
	cfg     Config
	log     *slog.Logger
	handler Handler
	lan     *pool
	wan     *pool
	wake    chan serf.Event // one stream for both pools; only a hint that something changed
	quit    chan struct{}   // closed by Close
	once    sync.Once
}

// coalesce is how long a change waits for others to be reported with it, and
// recheck how often members are compared without any event: Serf drops events
// rather than wait, and has none for "leaving".
const (
	coalesce = 50 * time.Millisecond
	recheck  = time.Second
)

// eventRoom is the buffer of the event stream. Serf's goroutine blocks for
// ever on a full one that nobody reads, so it must hold what can come between
// the last read and the end of Serf.
const eventRoom = 4096

// Open listens on both pools' addresses and begins to gossip with whoever
// calls; joining others is Run's work. handler may be nil.
//
// Errors name the setting that is wrong, or the address that cannot be had.
func Open(cfg Config, handler Handler) (*Mesh, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("mesh: %w", err)
	}
	m := &Mesh{
		cfg: cfg, log: cfg.Logger, handler: handler,
		wake: make(chan serf.Event, eventRoom), quit: make(chan struct{}),
	}
	var err error
	// The WAN pool first: its address, which may have been picked by the
	// system, is a tag in the LAN pool.
	if m.wan, err = openPool(cfg, poolWAN, "", m.wake); err != nil {
		return nil, fmt.Errorf("mesh: WAN pool: %w", err)
	}
	if m.lan, err = openPool(cfg, poolLAN, m.wan.addr(), m.wake); err != nil {
		m.wan.shutdown()
		return nil, fmt.Errorf("mesh: LAN pool: %w", err)
	}
	return m, nil
}

// Run joins both pools, keeps them joined and reports changes, until ctx ends;
// then it leaves both pools, so that others see "left" and not "failed". It
// returns nil after ctx or Close, and an error if Serf ended by itself.
func (m *Mesh) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { m.lan.keepJoined(ctx, m.quit, func() []string { return nil }) })
	wg.Go(func() { m.wan.keepJoined(ctx, m.quit, m.flood) })
	err := m.report(ctx)
	cancel()
	m.leave()
	m.Close()
	wg.Wait()
	return err
}

// report calls the handler until ctx ends.
func (m *Mesh) report(ctx context.Context) error {
	var last []Member
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	for {
		if now := m.Members(); m.handler != nil && !slices.Equal(now, last) {
			last = now
			m.handler.Changed(slices.Clone(now))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.quit:
			return nil
		case <-m.lan.serf.ShutdownCh():
			return m.ended("LAN")
		case <-m.wan.serf.ShutdownCh():
			return m.ended("WAN")
		case <-tick.C:
		case <-m.wake:
			if !m.settle(ctx) {
				return nil
			}
		}
	}
}

// ended says that a pool is gone although nobody closed it.
func (m *Mesh) ended(pool string) error {
	select {
	case <-m.quit:
		return nil
	default:
		return fmt.Errorf("mesh: the %s pool ended by itself: %w", pool, errors.Join(m.conflictErrors()...))
	}
}

// settle lets events gather; it reports false when ctx ended meanwhile.
func (m *Mesh) settle(ctx context.Context) bool {
	enough := time.NewTimer(coalesce)
	defer enough.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-m.wake:
		case <-enough.C:
			return true
		}
	}
}

// leave tells both pools that this node goes, unless Close came first.
func (m *Mesh) leave() {
	select {
	case <-m.quit:
		return
	default:
	}
	var wg sync.WaitGroup
	for _, p := range []*pool{m.lan, m.wan} {
		wg.Go(func() {
			if err := p.serf.Leave(); err != nil {
				m.log.Debug("mesh: leave", "pool", p.kind, "error", err)
			}
		})
	}
	wg.Wait()
}

// Close ends both pools at once, without leaving them: to others this node has
// failed. Run returns. It may be called more than once, and without Run.
func (m *Mesh) Close() {
	m.once.Do(func() {
		close(m.quit)
		m.lan.shutdown()
		m.wan.shutdown()
	})
}

// LANAddr and WANAddr are the host:port at which others reach this node's
// pools.
func (m *Mesh) LANAddr() string { return m.lan.addr() }

// WANAddr is explained at LANAddr.
func (m *Mesh) WANAddr() string { return m.wan.addr() }

// Members are all nodes known, this one included, each once, sorted by site
// and ID. A node of this site is reported as the LAN pool sees it, which is
// quicker, others as the WAN pool does.
func (m *Mesh) Members() []Member {
	byID := map[string]Member{}
	for _, member := range m.wan.members() {
		byID[member.ID] = member
	}
	for _, member := range m.lan.members() {
		byID[member.ID] = member
	}
	all := make([]Member, 0, len(byID))
	for _, member := range byID {
		all = append(all, member)
	}
	slices.SortFunc(all, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// Sites are the members by site.
func (m *Mesh) Sites() map[string][]Member {
	sites := map[string][]Member{}
	for _, member := range m.Members() {
		sites[member.Site] = append(sites[member.Site], member)
	}
	return sites
}

// Conflicts are the other nodes that were seen to claim this node's name,
// those of the LAN pool first.
func (m *Mesh) Conflicts() []Conflict {
	return append(m.lan.guard.conflicts(), m.wan.guard.conflicts()...)
}

func (m *Mesh) conflictErrors() (errs []error) {
	for _, c := range m.Conflicts() {
		errs = append(errs, errors.New(c.String()))
	}
	return errs
}

// SetCluster tells the LAN pool that this node belongs to a site.
func (m *Mesh) SetCluster(id string) error {
	c := m.cfg
	c.Cluster, c.Nonce = id, ""
	if err := m.lan.serf.SetTags(c.tags(poolLAN, m.wan.addr())); err != nil {
		return fmt.Errorf("mesh: tell the site's cluster ID: %w", err)
	}
	return nil
}

// flood is the WAN addresses of this site's living nodes that the WAN pool
// does not see alive.
func (m *Mesh) flood() (addrs []string) {
	known := map[string]bool{}
	for _, w := range m.wan.members() {
		known[w.ID] = w.Status == StatusAlive
	}
	for _, member := range m.lan.serf.Members() {
		if member.Status == serf.StatusAlive && !known[member.Name] && member.Tags[tagWAN] != "" {
			addrs = append(addrs, member.Tags[tagWAN])
		}
	}
	return addrs
}
