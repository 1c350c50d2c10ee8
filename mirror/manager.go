package mirror

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Manager holds a link for each source site.
type Manager struct {
	cfg  Config
	site Site
	kick chan struct{}

	mu struct {
		sync.Mutex
		links map[string]*link // by source site
	}
}

// New returns a manager without links; its configuration must be valid.
func New(cfg Config, site Site) (*Manager, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m := &Manager{cfg: cfg.withDefaults(), site: site, kick: make(chan struct{}, 1)}
	m.mu.links = map[string]*link{}
	return m, nil
}

// SetSources tells which sites are there and where. It may be called at any
// time. A site that is no longer named keeps its link and its last addresses:
// that gossip does not hear a site does not mean that it cannot be reached,
// and its mirrors are here all the same.
func (m *Manager) SetSources(sources []Source) {
	for _, s := range sources {
		if s.Site == m.cfg.Site || s.Site == "" {
			continue
		}
		if err := m.link(s.Site).setBrokers(s.Brokers); err != nil {
			m.cfg.Logger.Warn("mirror: source not usable", "site", s.Site, "error", err)
		}
	}
	m.poke()
}

// link of a source site, made if there is none.
func (m *Manager) link(site string) *link {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.mu.links[site]
	if k == nil {
		l := DefaultLink(site)
		l.OnGap = m.cfg.OnGap
		k = newLink(m.cfg, l, m.site)
		m.mu.links[site] = k
	}
	return k
}

func (m *Manager) poke() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// all links by site.
func (m *Manager) all() []*link {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]*link, 0, len(m.mu.links))
	for _, k := range m.mu.links {
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b *link) int { return strings.Compare(a.name, b.name) })
	return list
}

// Run mirrors until ctx ends. It is called once.
func (m *Manager) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	started := map[*link]bool{}
	tick := time.NewTicker(m.cfg.Poll)
	defer tick.Stop()
	for {
		mirrors := m.site.Mirrors()
		for _, t := range mirrors {
			m.link(t.SourceSite)
		}
		for _, k := range m.all() {
			k.know(mirrors)
			if !started[k] {
				started[k] = true
				wg.Go(func() { k.run(ctx) })
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.kick:
		case <-tick.C:
		}
	}
}

// Status of all links, by name.
func (m *Manager) Status() []LinkStatus {
	all := m.all()
	list := make([]LinkStatus, len(all))
	for i, k := range all {
		list[i] = k.status()
	}
	return list
}

// Pause stops asking the link's source for records, of one topic or of all
// with "". What has been fetched is still appended.
func (m *Manager) Pause(link, topic string) error { return m.pause(link, topic, true) }

// Resume undoes Pause. A partition that had stopped at a gap or as DIVERGED
// looks again.
func (m *Manager) Resume(link, topic string) error { return m.pause(link, topic, false) }

func (m *Manager) pause(name, topic string, stop bool) error {
	var known []string
	for _, k := range m.all() {
		if k.name == name {
			return k.pause(topic, stop)
		}
		known = append(known, k.name)
	}
	return fmt.Errorf("mirror: no link %q; there are: %s", name, strings.Join(known, ", "))
}
