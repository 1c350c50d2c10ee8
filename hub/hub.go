// Package hub is one node: it opens the parts, joins them and ends them in
// order. It holds no logic of its own beyond what two parts need to meet.
//
// Goroutines: Run starts every part's Run in one of three layers (layer.go),
// ends the layers from the outside in, and returns when all have ended. A node
// that begins a site asks the others at once, and waits for the answers.
package hub

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/hub/admin"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/connect"
	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/hub/identity"
	"github.com/entrepot-hub/entrepot/hub/leaders"
	"github.com/entrepot-hub/entrepot/hub/mesh"
	"github.com/entrepot-hub/entrepot/hub/peer"
	"github.com/entrepot-hub/entrepot/hub/protocol"
	"github.com/entrepot-hub/entrepot/hub/registry"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/mirror"
	"github.com/entrepot-hub/entrepot/plugins/host"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
	"github.com/entrepot-hub/entrepot/stream"
)

// Deps is what a node gets from outside.
type Deps struct {
	Registry   connectors.Registry
	Logger     *slog.Logger // nil: silent
	Version    string
	References strict.Options    // where ${env:…} and ${file:…} in jobs files are looked up
	JobsText   map[string][]byte // jobs files given as text, by name, beside those of the config
}

// Hub is one node. Make it with Open, then call Run once.
type Hub struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	started time.Time
	jobs    *stream.Jobs
	id      identity.Node // zero before the node belongs to a site

	beginning beginning // of a node that does not

	doors      []protocol.Listener // the main one first
	adminLn    net.Listener
	peerLn     net.Listener
	registryLn net.Listener // nil: the registry is off
	connectLn  net.Listener // nil: the REST API for connectors is off
	mesh       *mesh.Mesh
	members    atomic.Pointer[[]mesh.Member] // as gossip has them
	failed     map[string]bool               // of them, those that it has lost; of the mesh's goroutine
	store      *storage.Store
	peers      *peer.Peers
	finding    sync.Mutex // held while the peers are told where nodes are
	growing    sync.Mutex // held while node.json is changed
	leaders    *leaders.Table
	set        *replica.Set
	meta       *meta
	topics     *topics
	server     *protocol.Server
	pipe       *pipe
	announcer  *announcer
	nodes      *reach
	mover      *mover
	leading    *leading
	placing    placing
	links      *mirror.Manager
	runner     *stream.Runner
	admin      *admin.Server
	registry   *registry.Registry
	connect    *connect.API
	connectors connectorsView
	plugins    *host.Host
	passed     map[byte]http.Handler // that answer what other nodes pass on

	broken atomic.Pointer[map[string]error] // connectors of the catalog that cannot be read
	ready  atomic.Pointer[string]           // why the node does not serve yet; nil: it does
	joined atomic.Bool                      // the parts that stand on the store are there
	begun  atomic.Bool                      // the catalog's group is there
}

// Open reads the jobs files, takes the ports and the data directory, in this
// order: what can go wrong without touching data goes wrong first. Errors of
// jobs files are strict.Errors.
func Open(ctx context.Context, cfg Config, deps Deps) (*Hub, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Hub{cfg: cfg, deps: deps, log: deps.Logger, started: time.Now()}
	h.notReady("starting")
	h.connectors = newConnectorsView(h)
	h.broken.Store(&map[string]error{})
	for _, step := range []func(context.Context) error{h.openPlugins, h.readJobs, h.listen, h.openStore, h.openIdentity, h.openMesh, h.openPeers, h.openAdmin, h.joinIfSomebody} {
		if err := step(ctx); err != nil {
			h.close()
			return nil, err
		}
	}
	return h, nil
}

// readJobs parses and judges all jobs files; nothing is started if one is wrong.
func (h *Hub) readJobs(ctx context.Context) error {
	files, err := h.jobsFiles()
	if err != nil {
		return err
	}
	jobs, errs := stream.Parse(files, h.deps.Registry, h.deps.References)
	if len(errs) > 0 {
		return errs
	}
	errs, warnings := jobs.Validate(ctx, connectors.ProbeNone)
	if len(errs) > 0 {
		return errs
	}
	for _, w := range warnings {
		h.log.Warn(w.Message, "file", w.File, "line", w.Line, "job", w.Job, "hint", w.Hint)
	}
	h.jobs = jobs
	return nil
}

func (h *Hub) openMesh(context.Context) error {
	key, err := h.cfg.Mesh.Key.Reveal()
	if err != nil {
		return fmt.Errorf("mesh.key: %w", err)
	}
	h.mesh, err = mesh.Open(mesh.Config{
		ID: h.cfg.Node.ID, Site: h.cfg.Node.Site, Version: h.deps.Version,
		Kafka: h.address(cmp.Or(h.cfg.Links.Listener, protocol.MainListener)), Admin: h.Admin(), Peer: h.Peer(),
		Expect: h.cfg.Cluster.BootstrapExpect, Cluster: h.id.Cluster, Nonce: h.nonce(),
		LAN:     mesh.Pool{Bind: h.cfg.Mesh.LAN.Addr, Advertise: h.cfg.Mesh.LAN.Advertise, Join: h.cfg.Mesh.LAN.Join},
		WAN:     mesh.Pool{Bind: h.cfg.Mesh.WAN.Addr, Advertise: h.cfg.Mesh.WAN.Advertise, Join: h.cfg.Mesh.WAN.Join},
		Key:     key,
		Profile: mesh.Profile(h.cfg.Mesh.Profile),
		Logger:  h.log.With("part", "mesh"),
	}, meshChanged{h})
	if err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	return nil
}

func (h *Hub) openStore(context.Context) error {
	var err error
	h.store, err = storage.Open(vfs.OS(), filepath.Clean(h.cfg.Node.DataDir), storage.Config{
		Owner: h.cfg.Node.ID, Logger: h.log.With("part", "storage"),
	})
	if err != nil {
		return fmt.Errorf("node.data_dir %s: %w", h.cfg.Node.DataDir, err)
	}
	return nil
}

// join builds the parts that stand on the store and hands each what it asks of
// the others.
func (h *Hub) join(context.Context) error {
	var err error
	rc := replica.Config{
		Member: h.member(), Transport: transport{h}, Source: otherLogs{h}, FetchRate: -1, // what is fetched is bounded where it is received
		ScrubRate: int64(h.cfg.Scrub.Rate), ScrubEvery: h.cfg.Scrub.Every, Logger: h.log.With("part", "replica"),
	}
	if rc.ScrubRate == 0 {
		rc.ScrubRate = -1
	}
	if h.set, err = replica.Open(rc, h.store); err != nil {
		return err
	}
	h.meta = &meta{machine: newAnswers(), ask: h.askLeader, leader: h.metaLeader}
	h.topics = &topics{self: h.member(), set: h.set, meta: h.meta, log: h.log}
	h.meta.applied = h.topics.follow
	h.leaders, h.nodes = leaders.New(), newReach(h.id.ID)
	h.announcer = newAnnouncer(h)
	h.mover = &mover{set: h.set, meta: h.meta, nodes: h.nodes, log: h.log.With("part", "moves")}
	h.leading = &leading{
		node: h.id.ID, set: h.set, meta: h.meta, nodes: h.nodes, table: h.leaders,
		planner: catalog.NewLeaders(catalog.DefaultLeaderLimits()), log: h.log.With("part", "leaders"),
	}

	pc := protocol.Default()
	pc.Node, pc.ClusterID, pc.AutoCreate = h.id.ID, h.id.Cluster, h.cfg.AutoCreateTopics
	pc.Group.Migration = group.Migration(h.cfg.GroupMigration)
	pc.Group.InitialDelay, pc.LogDir = h.cfg.GroupDelay, h.cfg.Node.DataDir
	pc.Group.Consumer, pc.Group.Bounds = h.cfg.ConsumerGroups.timing()
	pc.Logger = h.log.With("part", "kafka")
	pc.Authorize = h.cfg.Security.authorize()
	pc.Peers = kafkaPeers{h}
	pc.Quorum = h.meta.quorum
	if pc.SASL, err = h.logins(); err != nil {
		return err
	}
	h.server = protocol.New(pc, partitions{h}, h.meta)
	h.pipe = &pipe{serve: h.server.ServeConn, own: []string{h.Kafka()}}

	mc := mirror.Config{Site: h.cfg.Node.Site, Logger: h.log.With("part", "mirror")}
	if err := h.linkSecurity(&mc); err != nil {
		return err
	}
	if h.links, err = mirror.New(mc, site{h}); err != nil {
		return err
	}
	h.runner, err = stream.New(stream.Config{
		Dial: h.pipe.dial, Seeds: []string{h.Kafka()}, Site: h.cfg.Node.Site, Claim: h.claimJob, Logger: h.log.With("part", "jobs"),
	})
	if err != nil {
		return err
	}
	sc := registry.Config{
		Dial: h.pipe.dial, Seeds: []string{h.Kafka()}, ClusterID: h.id.Cluster, Version: h.deps.Version, Logger: h.log.With("part", "registry"),
		Relay: h.relayed(relayRegistry, h.schemaWriter),
	}
	if h.cfg.Listeners.Registry.Login {
		sc.Login = passwords(pc.SASL)
	}
	h.registry = registry.New(sc)
	cc := connect.Config{
		Site: h.connectors, Registry: h.deps.Registry, ClusterID: h.id.Cluster, Version: h.deps.Version, Worker: h.Connect(), Logger: h.log.With("part", "connect"),
		Relay: h.relayed(relayConnect, h.connectWorker),
	}
	if h.cfg.Listeners.Connect.Login {
		cc.Login = passwords(pc.SASL)
	}
	h.connect = connect.New(cc)
	h.passed = map[byte]http.Handler{relayRegistry: h.registry.Handler(), relayConnect: h.connect.Handler(), relayAdmin: h.admin.Handler()}
	h.joined.Store(true)
	return nil
}

// joinIfSomebody builds the rest at once if the node knows who it is; otherwise
// Run does when it has found out.
func (h *Hub) joinIfSomebody(ctx context.Context) error {
	if !h.isSomebody() {
		return nil
	}
	return h.join(ctx)
}

func (h *Hub) openAdmin(context.Context) (err error) {
	h.admin, err = admin.New(admin.Config{Logger: h.log.With("part", "admin"), Relay: h.relayed(relayAdmin, h.jobWorker), OtherJobs: h.otherJobs},
		admin.Sources{Node: nodeView{h}, Mesh: meshView{h}, Links: linksView{h}, Jobs: jobsView{h}, Site: siteView{h}, Samples: []admin.Samples{siteSamples{h}, scrubSamples{h}, kafkaSamples{h}, registrySamples{h}, connectSamples{h}}})
	return err
}

// Run serves until ctx ends or a part fails. Then other nodes are let lead what
// this one leads, the jobs drain into a server that still answers, the server
// answers what it has read into logs that are still written, and the logs are
// closed last.
func (h *Hub) Run(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	logs, server, edge := newLayer(fail), newLayer(fail), newLayer(fail)

	logs.run("storage", h.store.Run)
	logs.run("peers", func(ctx context.Context) error { return h.peers.Run(ctx, h.peerLn) })
	edge.run("admin", func(ctx context.Context) error { return h.admin.Serve(ctx, h.adminLn) })
	edge.run("mesh", h.mesh.Run)
	err := h.becomeSomebody(ctx)
	if err == nil {
		logs.run("replicas", h.set.Run)
		server.run("leaders", h.announcer.run)
		server.run("nodes", h.followNodes)
		err = h.begin(ctx)
	}
	if err == nil {
		h.pipe.ctx = server.ctx
		server.run("groups", h.server.Run)
		for _, d := range h.doors {
			server.run("listener "+d.Name, func(ctx context.Context) error { return h.server.Serve(ctx, d) })
		}
		edge.run("links", h.links.Run)
		edge.run("jobs", h.runner.Run)
		server.run("topics", h.topics.run)
		server.run("moves", h.mover.run)
		edge.run("preferred leaders", h.leading.run)
		if h.registryLn != nil {
			edge.run("schemas", h.registry.Run)
			edge.run("schema registry", func(ctx context.Context) error { return h.registry.Serve(ctx, h.registryLn) })
		}
		if err = h.insist(ctx, func() error { return h.startJobs(ctx) }); err == nil && h.connectLn != nil { // who asks earlier would see no connectors
			edge.run("connect", func(ctx context.Context) error { return h.connect.Serve(ctx, h.connectLn) })
		}
		if err == nil {
			edge.run("placement of jobs", h.placeJobs)
		}
	}
	if err != nil {
		fail(err)
	} else {
		h.ready.Store(nil)
		h.log.Info("serving", "site", h.cfg.Node.Site, "node", h.cfg.Node.ID, "kafka", h.Kafka(), "admin", h.Admin())
		<-ctx.Done()
	}
	h.notReady("stopping")
	h.drain()
	edge.stop()
	server.stop()
	h.pipe.wait()
	logs.stop()
	h.close()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// begin brings the catalog up and with it every partition that it names.
func (h *Hub) begin(ctx context.Context) error {
	h.notReady("reading the catalog")
	group, err := h.set.Add(replica.Spec{
		ID: storage.LogID{Topic: catalog.MetaGroup}, Born: h.id.Members(), Joins: h.id.Grown, Alone: !h.several(), Machine: h.meta.machine,
	})
	if err != nil {
		return fmt.Errorf("the catalog: %w", err)
	}
	h.meta.group = group
	h.begun.Store(true)
	if err := h.introduce(ctx); err != nil {
		return err
	}
	h.notReady("opening the partitions")
	h.topics.open(ctx, h.store.Logs())
	return nil
}

func (h *Hub) notReady(why string) { h.ready.Store(&why) }

// close gives back what Open took; parts that were not opened are nil.
func (h *Hub) close() {
	for _, d := range h.doors {
		_ = d.Net.Close()
	}
	for _, ln := range []net.Listener{h.adminLn, h.peerLn, h.registryLn, h.connectLn} {
		if ln != nil {
			_ = ln.Close()
		}
	}
	if h.plugins != nil {
		h.plugins.Close()
	}
	if h.mesh != nil {
		h.mesh.Close()
	}
	if h.store != nil {
		if err := h.store.Close(); err != nil {
			h.log.Error("close the data directory", "error", err)
		}
	}
}

// Kafka is the address that clients are told, host:port.
func (h *Hub) Kafka() string { return h.address(protocol.MainListener) }

// Admin is the address of the console and the admin API, host:port.
func (h *Hub) Admin() string { return h.cfg.Listeners.Admin.advertised(h.adminLn.Addr()) }

// Peer is the address for the other nodes of the site, host:port.
func (h *Hub) Peer() string { return h.cfg.Listeners.Peer.advertised(h.peerLn.Addr()) }

// Registry is the address of the schema registry, host:port; empty when it is
// off.
func (h *Hub) Registry() string {
	if h.registryLn == nil {
		return ""
	}
	return h.cfg.Listeners.Registry.advertised(h.registryLn.Addr())
}

// Connect is the address of the Kafka-Connect-compatible REST API, host:port;
// empty when it is off.
func (h *Hub) Connect() string {
	if h.connectLn == nil {
		return ""
	}
	return h.cfg.Listeners.Connect.advertised(h.connectLn.Addr())
}

// WAN is the address at which other sites find this one's gossip.
func (h *Hub) WAN() string { return h.mesh.WANAddr() }

// Jobs is the status of the node's connectors.
func (h *Hub) Jobs() []stream.JobStatus {
	if !h.joined.Load() {
		return nil
	}
	return h.runner.Status()
}

// Offsets is what this node has of a partition; zero while it has none.
func (h *Hub) Offsets(topic string, partition int32) record.Offsets {
	if !h.joined.Load() {
		return record.Offsets{}
	}
	if r, ok := h.set.Get(record.TopicPartition{Topic: topic, Partition: partition}); ok {
		return r.Offsets()
	}
	return record.Offsets{}
}

// Has reports whether the site has the topic.
func (h *Hub) Has(topic string) bool {
	if !h.joined.Load() {
		return false
	}
	_, ok := h.meta.State().Topic(topic)
	return ok
}

// newTopicID draws an ID for a topic that begins here.
func newTopicID() (record.TopicID, error) { return record.NewTopicID(rand.Reader) }
