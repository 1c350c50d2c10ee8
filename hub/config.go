package hub

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/hub/mesh"
	"github.com/entrepot-hub/entrepot/plugins/host"
)

// Config is one node's file (node.yaml) decoded. Default gives what a file does
// not say.
type Config struct {
	Node      NodeConfig      `yaml:"node"`
	Listeners ListenersConfig `yaml:"listeners"`
	Mesh      MeshConfig      `yaml:"mesh"`
	Cluster   ClusterConfig   `yaml:"cluster"`
	Scrub     ScrubConfig     `yaml:"scrub"`
	Security  SecurityConfig  `yaml:"security"`
	Links     LinksConfig     `yaml:"links"`
	// Jobs are globs of files with topics and connectors, relative to the file
	// that names them.
	Jobs []string `yaml:"jobs"`
	// Plugins are programs with connectors of their own. Their paths are
	// relative to the file that names them.
	Plugins []host.Config `yaml:"plugins"`
	// AutoCreateTopics lets a client's metadata request create the topic it
	// asks for. Default: false, and true with --dev.
	AutoCreateTopics bool `yaml:"auto_create_topics"`
	// GroupDelay is how long a consumer group that was empty waits for more
	// members before it shares out partitions (Kafka's
	// group.initial.rebalance.delay.ms). Default: 3 s, and 0 with --dev.
	GroupDelay time.Duration `yaml:"group_delay"`
	// GroupMigration says which consumer groups with members may change their
	// protocol when clients are restarted with another group.protocol (KIP-848):
	// bidirectional, upgrade, downgrade or disabled.
	GroupMigration string `yaml:"group_migration"`
	// ConsumerGroups is how members of consumer groups (KIP-848) are heard.
	ConsumerGroups ConsumerGroupsConfig `yaml:"consumer_groups"`
}

// ConsumerGroupsConfig are Kafka's group.consumer.session.timeout.ms,
// group.consumer.heartbeat.interval.ms, and the bounds for what is set for one
// group (consumer.session.timeout.ms, consumer.heartbeat.interval.ms).
type ConsumerGroupsConfig struct {
	Session      time.Duration `yaml:"session"`       // a member that is not heard for as long is out; default 45s
	MinSession   time.Duration `yaml:"min_session"`   // default 45s
	MaxSession   time.Duration `yaml:"max_session"`   // default 60s
	Heartbeat    time.Duration `yaml:"heartbeat"`     // how often a member is heard; default 5s
	MinHeartbeat time.Duration `yaml:"min_heartbeat"` // default 5s
	MaxHeartbeat time.Duration `yaml:"max_heartbeat"` // default 15s
}

func (c ConsumerGroupsConfig) timing() (group.Timing, group.TimingBounds) {
	return group.Timing{Session: c.Session, Interval: c.Heartbeat}, group.TimingBounds{
		Min: group.Timing{Session: c.MinSession, Interval: c.MinHeartbeat},
		Max: group.Timing{Session: c.MaxSession, Interval: c.MaxHeartbeat},
	}
}

func (c ConsumerGroupsConfig) validate() error {
	const low, high = 100 * time.Millisecond, 24 * time.Hour
	for _, b := range []struct {
		key      string
		min, max time.Duration
	}{{"min_session", c.MinSession, c.MaxSession}, {"min_heartbeat", c.MinHeartbeat, c.MaxHeartbeat}} {
		if b.min < low || b.max > high || b.min > b.max {
			return wrong(fmt.Sprintf("consumer_groups.%s is %s and its maximum is %s: want %s to %s, the minimum first", b.key, b.min, b.max, low, high), "consumer_groups", b.key)
		}
	}
	t, bounds := c.timing()
	if err := bounds.Check(t); err != nil {
		return wrong(fmt.Sprintf("consumer_groups: %v", err), "consumer_groups")
	}
	return nil
}

// NodeConfig says who the node is and where its data lies.
type NodeConfig struct {
	ID      string `yaml:"id"`       // unique in the mesh
	Site    string `yaml:"site"`     // the datacenter
	SiteID  int32  `yaml:"site_id"`  // 1–32767, unique in the mesh; default: from the site's name
	DataDir string `yaml:"data_dir"` // one volume
	Zone    string `yaml:"zone"`     // rack or availability zone; optional
}

// maxFounders is how many nodes can begin a site together; more join it then.
const maxFounders = 9

// Off as an address turns a listener off that a node can do without.
const Off = "off"

// MeshConfig is the gossip: one pool for the site, one for all sites.
type MeshConfig struct {
	LAN     PoolConfig    `yaml:"lan"`
	WAN     PoolConfig    `yaml:"wan"`
	Key     strict.Secret `yaml:"key"`     // base64 of 16, 24 or 32 bytes; empty: in clear
	Profile string        `yaml:"profile"` // "" or "local" (all nodes on one machine: quicker detection)
}

// PoolConfig is one gossip pool.
type PoolConfig struct {
	Addr      string   `yaml:"addr"`
	Advertise string   `yaml:"advertise"`
	Join      []string `yaml:"join"`
}

// ClusterConfig says how a site begins, and how its nodes share the network.
type ClusterConfig struct {
	// BootstrapExpect is with how many nodes a new site begins, the same at
	// each of them. 0: this node begins none and joins one that is there.
	// Default: 1.
	BootstrapExpect int `yaml:"bootstrap_expect"`
	// FetchRate bounds how many bytes a second this node fetches of logs that it
	// lacks (it was wiped, or partitions move to it), all together, so that
	// clients are served meanwhile. 0: no bound. Default: 64MiB.
	FetchRate strict.Size `yaml:"fetch_rate"`
}

// ScrubConfig says how what is on the disk is read and checked, so that what has
// decayed is repaired before it is needed.
type ScrubConfig struct {
	// Rate is how many bytes a second are read, while the node is not busy. 0:
	// nothing is. Default: 8MiB, a terabyte in a day and a half.
	Rate strict.Size `yaml:"rate"`
	// Every is the time from the end of a pass over everything to the next one.
	// Default: 168h.
	Every time.Duration `yaml:"every"`
}

// Default is the configuration of a single node with the product's ports on
// every interface, but that of Kafka Connect's REST API: who can make connectors
// can have the node read its files and send them somewhere.
func Default() Config {
	return Config{
		Node:      NodeConfig{DataDir: "entrepot-data"},
		Listeners: ListenersConfig{Kafka: KafkaListenerConfig{ListenerConfig: ListenerConfig{Addr: ":9092"}}, Admin: AdminListenerConfig{ListenerConfig: ListenerConfig{Addr: ":8080"}}, Peer: AdminListenerConfig{ListenerConfig: ListenerConfig{Addr: ":7948"}}, Registry: loginListener(":8081"), Connect: loginListener("127.0.0.1:8083")},
		Mesh:      MeshConfig{LAN: PoolConfig{Addr: ":7946"}, WAN: PoolConfig{Addr: ":7947"}},
		Cluster:   ClusterConfig{BootstrapExpect: 1, FetchRate: 64 << 20},
		Scrub:     ScrubConfig{Rate: 8 << 20, Every: 7 * 24 * time.Hour},

		GroupDelay: 3 * time.Second,
		ConsumerGroups: ConsumerGroupsConfig{
			Session: 45 * time.Second, MinSession: 45 * time.Second, MaxSession: 60 * time.Second,
			Heartbeat: 5 * time.Second, MinHeartbeat: 5 * time.Second, MaxHeartbeat: 15 * time.Second,
		},
		GroupMigration: string(group.MigrateBoth),
	}
}

func loginListener(addr string) LoginListenerConfig {
	return LoginListenerConfig{AdminListenerConfig: AdminListenerConfig{ListenerConfig: ListenerConfig{Addr: addr}}}
}

// Dev is a complete site of one node on the loopback interface only.
func Dev() Config {
	c := Default()
	c.Node.ID, c.Node.Site = "dev-1", "dev"
	c.AutoCreateTopics, c.GroupDelay = true, 0
	c.Mesh.Profile = string(mesh.ProfileLocal)
	for _, addr := range []*string{&c.Listeners.Kafka.Addr, &c.Listeners.Admin.Addr, &c.Listeners.Peer.Addr, &c.Listeners.Registry.Addr, &c.Mesh.LAN.Addr, &c.Mesh.WAN.Addr} {
		*addr = "127.0.0.1" + *addr
	}
	return c
}

// Parse decodes a node file over the defaults in base. It starts nothing and
// touches nothing but what ${env:…} and ${file:…} name. Globs in jobs become
// relative to the file's folder.
func Parse(file string, text []byte, base Config, opts strict.Options) (Config, strict.Errors) {
	root, errs := strict.Parse(file, text)
	if len(errs) > 0 {
		return base, errs
	}
	c := base
	if errs = root.Decode(&c, opts); len(errs) > 0 {
		return c, errs
	}
	if err := c.Validate(); err != nil {
		at := root
		var bad *fieldError
		if errors.As(err, &bad) {
			for _, key := range bad.path {
				next, ok := at.Get(key)
				if !ok {
					break
				}
				at = next
			}
		}
		return c, strict.Errors{at.Errorf("%v", err)}
	}
	if errs = c.checkPlugins(root); len(errs) > 0 {
		return c, errs
	}
	for i, glob := range c.Jobs {
		if !filepath.IsAbs(glob) {
			c.Jobs[i] = filepath.Join(filepath.Dir(file), glob)
		}
	}
	for i, p := range c.Plugins {
		if !filepath.IsAbs(p.Path) {
			c.Plugins[i].Path = filepath.Join(filepath.Dir(file), p.Path)
		}
	}
	return c, nil
}

// fieldError is a wrong value with the keys that lead to it.
type fieldError struct {
	path []string
	msg  string
}

func (e *fieldError) Error() string { return e.msg }

func wrong(msg string, path ...string) error { return &fieldError{path: path, msg: msg} }

var nameForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,63}$`)

// Validate finds what is wrong without touching anything.
func (c Config) Validate() error {
	switch {
	case !nameForm.MatchString(c.Node.ID):
		return wrong(fmt.Sprintf("node.id is %q: want 1 to 63 letters, digits, '.', '_' or '-', unique in the mesh, such as fra-1", c.Node.ID), "node", "id")
	case !nameForm.MatchString(c.Node.Site):
		return wrong(fmt.Sprintf("node.site is %q: want the datacenter's name in 1 to 63 letters, digits, '.', '_' or '-', such as fra", c.Node.Site), "node", "site")
	case c.Node.SiteID < 0 || c.Node.SiteID > 32767:
		return wrong(fmt.Sprintf("node.site_id is %d: want 1 to 32767, another one at each site", c.Node.SiteID), "node", "site_id")
	case c.Node.DataDir == "":
		return wrong("node.data_dir is empty: want the folder for this node's data", "node", "data_dir")
	case c.GroupDelay < 0 || c.GroupDelay > time.Minute:
		return wrong(fmt.Sprintf("group_delay is %s: want 0 to 1m", c.GroupDelay), "group_delay")
	case !slices.Contains([]group.Migration{group.MigrateBoth, group.MigrateUp, group.MigrateDown, group.MigrateNone}, group.Migration(c.GroupMigration)):
		return wrong(fmt.Sprintf("group_migration is %q: want bidirectional, upgrade, downgrade or disabled", c.GroupMigration), "group_migration")
	case c.Cluster.BootstrapExpect < 0 || c.Cluster.BootstrapExpect > maxFounders:
		return wrong(fmt.Sprintf("cluster.bootstrap_expect is %d: want the number of nodes with which the site begins, 1 to %d (3 or 5 survive the loss of a node), or 0 to join one", c.Cluster.BootstrapExpect, maxFounders), "cluster", "bootstrap_expect")
	case c.Cluster.BootstrapExpect != 1 && len(c.Mesh.LAN.Join) == 0:
		return wrong(fmt.Sprintf("cluster.bootstrap_expect is %d and mesh.lan.join names nobody: want addresses by which the nodes of the site find each other", c.Cluster.BootstrapExpect), "cluster", "bootstrap_expect")
	case c.Scrub.Every < time.Minute || c.Scrub.Every > 366*24*time.Hour:
		return wrong(fmt.Sprintf("scrub.every is %s: want 1m to 8784h", c.Scrub.Every), "scrub", "every")
	case !slices.Contains([]string{"", string(mesh.ProfileLocal)}, c.Mesh.Profile):
		return wrong(fmt.Sprintf("mesh.profile is %q: want \"local\" or nothing", c.Mesh.Profile), "mesh", "profile")
	}
	for _, l := range []struct{ addr, section, name, key string }{
		{c.Listeners.Admin.Addr, "listeners", "admin", "addr"},
		{c.Listeners.Peer.Addr, "listeners", "peer", "addr"},
		{c.Listeners.Registry.Addr, "listeners", "registry", "addr"},
		{c.Listeners.Connect.Addr, "listeners", "connect", "addr"},
		{c.Mesh.LAN.Addr, "mesh", "lan", "addr"},
		{c.Mesh.WAN.Addr, "mesh", "wan", "addr"},
	} {
		if (l.name == "registry" || l.name == "connect") && l.addr == Off {
			continue
		}
		if _, _, err := net.SplitHostPort(l.addr); err != nil {
			return wrong(fmt.Sprintf("%s.%s.%s is %q: want host:port or :port", l.section, l.name, l.key, l.addr), l.section, l.name, l.key)
		}
	}
	if err := c.validateListeners(); err != nil {
		return err
	}
	if err := c.ConsumerGroups.validate(); err != nil {
		return err
	}
	return c.validateSecurity()
}

// siteID is the configured number of the site, or one drawn from its name.
func (c Config) siteID() int32 {
	if c.Node.SiteID != 0 {
		return c.Node.SiteID
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(c.Node.Site))
	return int32(h.Sum32()%32767) + 1
}

// advertised is what clients are told of a listener bound at addr.
func (l ListenerConfig) advertised(bound net.Addr) string {
	if l.Advertise != "" {
		return l.Advertise
	}
	host, port, err := net.SplitHostPort(bound.String())
	if err != nil {
		return bound.String()
	}
	if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
		return bound.String()
	}
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	return net.JoinHostPort(name, port)
}
