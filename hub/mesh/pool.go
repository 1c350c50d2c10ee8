package mesh

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

// pool is one Serf pool and what this node does in it.
type pool struct {
	kind  string // poolLAN or poolWAN
	seeds []string
	t     timings
	serf  *serf.Serf
	guard *guard
	log   *slog.Logger
}

// openPool listens and starts Serf.
func openPool(cfg Config, kind, wanAddr string, events chan<- serf.Event) (*pool, error) {
	where := cfg.LAN
	if kind == poolWAN {
		where = cfg.WAN
	}
	tags := cfg.tags(kind, wanAddr)
	if err := checkTags(tags); err != nil {
		return nil, err
	}
	p := &pool{kind: kind, seeds: where.Join, t: cfg.Profile.timings(kind), log: cfg.Logger}
	sc := p.t.serfConfig()
	sc.NodeName, sc.Tags, sc.EventCh = cfg.ID, tags, events
	if err := where.apply(sc); err != nil {
		return nil, err
	}
	key, err := decodeKey(cfg.Key)
	if err != nil {
		return nil, err
	}
	sc.MemberlistConfig.SecretKey = key
	lines := log.New(newLogLines(cfg.Logger, kind), "", 0)
	sc.Logger, sc.MemberlistConfig.Logger = lines, lines
	sc.LogOutput, sc.MemberlistConfig.LogOutput = nil, nil
	p.guard = newGuard(cfg.ID, cfg.Site, kind, p.t.conflict, cfg.Logger)
	sc.Merge = p.guard
	if sc.SnapshotPath, err = snapshotPath(cfg.SnapshotDir, kind); err != nil {
		return nil, err
	}
	transport, err := listen(sc.MemberlistConfig)
	if err != nil {
		return nil, fmt.Errorf("listen on %s (TCP and UDP): %w", where.Bind, err)
	}
	if p.serf, err = serf.Create(sc); err != nil {
		return nil, errors.Join(fmt.Errorf("start Serf: %w", err), transport.Shutdown())
	}
	p.guard.self.Store(p.addr())
	return p, nil
}

// listen opens the sockets and puts them into ml. Serf would do so itself, but
// when it cannot it leaves a goroutine behind for ever.
func listen(ml *memberlist.Config) (*memberlist.NetTransport, error) {
	open := func() (*memberlist.NetTransport, error) {
		return memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{ml.BindAddr}, BindPort: ml.BindPort, Logger: ml.Logger,
		})
	}
	nt, err := open()
	// A free port is picked for TCP; UDP may have it taken.
	for tries := 1; err != nil && ml.BindPort == 0 && tries < 10; tries++ {
		nt, err = open()
	}
	if err != nil {
		return nil, err
	}
	if ml.BindPort == 0 {
		ml.BindPort = nt.GetAutoBindPort()
	}
	if ml.AdvertisePort == 0 {
		ml.AdvertisePort = ml.BindPort
	}
	if _, _, err := nt.FinalAdvertiseAddr(ml.AdvertiseAddr, ml.AdvertisePort); err != nil {
		return nil, errors.Join(err, nt.Shutdown())
	}
	ml.Transport = nt
	return nt, nil
}

func snapshotPath(dir, kind string) (string, error) {
	if dir == "" {
		return "", nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("directory for known members: %w", err)
	}
	return filepath.Join(dir, "members-"+kind+".snapshot"), nil
}

// apply sets the addresses; names are resolved, since gossip carries numbers.
func (w Pool) apply(sc *serf.Config) error {
	ml := sc.MemberlistConfig
	host, port, err := resolve(w.Bind)
	if err != nil {
		return err
	}
	ml.BindAddr, ml.BindPort, ml.AdvertisePort = host, port, port
	if w.Advertise == "" {
		return nil
	}
	ml.AdvertiseAddr, ml.AdvertisePort, err = resolve(w.Advertise)
	return err
}

// resolve splits host:port into an IP and a port.
func resolve(addr string) (ip string, port int, err error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: want host:port", addr)
	}
	if port, err = strconv.Atoi(service); err != nil {
		return "", 0, fmt.Errorf("address %q: the port is not a number", addr)
	}
	if host == "" {
		return "0.0.0.0", port, nil
	}
	found, err := net.ResolveIPAddr("ip", host)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: %w", addr, err)
	}
	return found.IP.String(), port, nil
}

// addr is the host:port that others are told.
func (p *pool) addr() string {
	n := p.serf.Memberlist().LocalNode()
	return gossipAddr(n.Addr, n.Port)
}

// members of the pool in no order.
func (p *pool) members() []Member {
	all := p.serf.Members()
	out := make([]Member, len(all))
	for i, m := range all {
		out[i] = memberOf(m, p.kind)
	}
	return out
}

func (p *pool) has(id string) bool {
	for _, m := range p.serf.Members() {
		if m.Name == id {
			return true
		}
	}
	return false
}

func (p *pool) shutdown() {
	if err := p.serf.Shutdown(); err != nil {
		p.log.Debug("mesh: shutdown", "pool", p.kind, "error", err)
	}
}

// alive are the gossip addresses of living members, this node included.
func (p *pool) alive() map[string]bool {
	addrs := map[string]bool{}
	for _, m := range p.serf.Members() {
		if m.Status == serf.StatusAlive {
			addrs[gossipAddr(m.Addr, m.Port)] = true
		}
	}
	return addrs
}

// missing are those of the wanted addresses at which no living member is.
func (p *pool) missing(ctx context.Context, wanted []string) (addrs []string) {
	alive := p.alive()
	for _, w := range wanted {
		if !anyAlive(ctx, w, alive) {
			addrs = append(addrs, w)
		}
	}
	return addrs
}

// anyAlive resolves addr, which may be a name of several machines.
func anyAlive(ctx context.Context, addr string, alive map[string]bool) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ips, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return false
	}
	for _, ip := range ips {
		if alive[net.JoinHostPort(ip, port)] {
			return true
		}
	}
	return false
}
