// Package hub is one node: it opens the parts, joins them and ends them in
// order. It holds no logic of its own beyond what two parts need to meet.
//
// Goroutines: Run starts every part's Run in one of three layers (layer.go),
// ends the layers from the outside in, and returns when all have ended.
package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/hub/admin"
	"github.com/entrepot-hub/entrepot/hub/auth"
	"github.com/entrepot-hub/entrepot/hub/connect"
	"github.com/entrepot-hub/entrepot/hub/destination"
	"github.com/entrepot-hub/entrepot/hub/entry"
	"github.com/entrepot-hub/entrepot/hub/finding"
	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/hub/identity"
	"github.com/entrepot-hub/entrepot/hub/jobs"
	"github.com/entrepot-hub/entrepot/hub/leaders"
	"github.com/entrepot-hub/entrepot/hub/leading"
	"github.com/entrepot-hub/entrepot/hub/mesh"
	"github.com/entrepot-hub/entrepot/hub/meta"
	"github.com/entrepot-hub/entrepot/hub/moves"
	"github.com/entrepot-hub/entrepot/hub/peer"
	"github.com/entrepot-hub/entrepot/hub/pipe"
	"github.com/entrepot-hub/entrepot/hub/placing"
	"github.com/entrepot-hub/entrepot/hub/protocol"
	"github.com/entrepot-hub/entrepot/hub/reach"
	"github.com/entrepot-hub/entrepot/hub/registry"
	"github.com/entrepot-hub/entrepot/hub/relay"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/hub/status"
	"github.com/entrepot-hub/entrepot/hub/topics"
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
	cfg  Config
	deps Deps
	log  *slog.Logger
	id   identity.Node // zero before the node belongs to a site

	doors      []protocol.Listener // the main one first
	adminLn    net.Listener
	peerLn     net.Listener
	registryLn net.Listener // nil: the registry is off
	connectLn  net.Listener // nil: the REST API for connectors is off
	mesh       *mesh.Mesh
	finder     *finding.Finder
	store      *storage.Store
	entry      *entry.Entry
	peers      *peer.Peers
	leaders    *leaders.Table
	set        *replica.Set
	meta       *meta.Catalog
	topics     *topics.Topics
	sasl       *auth.SASL
	server     *protocol.Server
	pipe       *pipe.Pipe
	announcer  *leading.Announcer
	nodes      *reach.Nodes
	moves      *moves.Mover
	transfers  *leading.Transfers
	placing    *placing.Placing
	links      *mirror.Manager
	runner     *stream.Runner
	admin      *admin.Server
	status     *status.View
	registry   *registry.Registry
	connect    *connect.API
	jobs       *jobs.Jobs
	plugins    *host.Host
	relay      *relay.Router

	ready  atomic.Pointer[string] // why the node does not serve yet; nil: it does
	joined atomic.Bool            // the parts that stand on the store are there
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
	h := &Hub{cfg: cfg, deps: deps, log: deps.Logger}
	h.notReady("starting")
	h.relay, h.finder = h.relays(), finding.New(cfg.Node.Site)
	for _, step := range []func(context.Context) error{h.openPlugins, h.openJobs, h.listen, h.openStore, h.openEntry, h.openMesh, h.openPeers, h.openAdmin, h.joinIfSomebody} {
		if err := step(ctx); err != nil {
			h.close()
			return nil, err
		}
	}
	return h, nil
}

func (h *Hub) openJobs(ctx context.Context) (err error) {
	h.jobs, err = jobs.Open(ctx, jobs.Config{
		Globs: h.cfg.Jobs, Texts: h.deps.JobsText, Registry: h.deps.Registry, References: h.deps.References,
		AutoCreate: h.cfg.AutoCreateTopics, Logger: h.log,
	})
	return err
}

func (h *Hub) openMesh(context.Context) error {
	key, err := h.cfg.Mesh.Key.Reveal()
	if err != nil {
		return fmt.Errorf("mesh.key: %w", err)
	}
	h.mesh, err = mesh.Open(mesh.Config{
		ID: h.cfg.Node.ID, Site: h.cfg.Node.Site, Version: h.deps.Version,
		Kafka: h.address(cmp.Or(h.cfg.Links.Listener, protocol.MainListener)), Admin: h.Admin(), Peer: h.Peer(),
		Expect: h.cfg.Cluster.BootstrapExpect, Cluster: h.id.Cluster, Nonce: h.entry.Nonce(),
		LAN:     mesh.Pool{Bind: h.cfg.Mesh.LAN.Addr, Advertise: h.cfg.Mesh.LAN.Advertise, Join: h.cfg.Mesh.LAN.Join},
		WAN:     mesh.Pool{Bind: h.cfg.Mesh.WAN.Addr, Advertise: h.cfg.Mesh.WAN.Advertise, Join: h.cfg.Mesh.WAN.Join},
		Key:     key,
		Profile: mesh.Profile(h.cfg.Mesh.Profile),
		Logger:  h.log.With("part", "mesh"),
	}, h.finder)
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
	for _, build := range []func() error{h.joinReplicas, h.joinCatalog, h.joinKafka, h.joinClients} {
		if err := build(); err != nil {
			return err
		}
	}
	h.joinHTTP()
	h.finder.Begin(finding.Parts{Self: h.id, Catalog: h.meta, Nodes: h.peers.SetNodes, Failed: h.set.NodeFailed, Sites: h.links.SetSources})
	h.jobs.Begin(jobs.Parts{
		Node: h.id.ID, Name: h.cfg.Node.ID, Catalog: h.meta, Topics: h.topics, Placing: h.placing, Reach: h.nodes, Call: h.peers.Call, Runner: h.runner, Several: h.several,
	})
	h.status.Begin(status.Parts{
		Node: h.id.ID, Member: h.member(), Cluster: h.id.Cluster, Set: h.set, Catalog: h.meta, Moves: h.moves, Reach: h.nodes,
		Leaders: h.leaders, Leader: partitions{h}.Leader, Links: h.links,
	})
	h.joined.Store(true)
	return nil
}

func (h *Hub) joinReplicas() (err error) {
	rc := replica.Config{
		Member: h.member(), Transport: transport{h}, Source: otherLogs{h}, FetchRate: -1, // what is fetched is bounded where it is received
		ScrubRate: int64(h.cfg.Scrub.Rate), ScrubEvery: h.cfg.Scrub.Every, Logger: h.log.With("part", "replica"),
	}
	if rc.ScrubRate == 0 {
		rc.ScrubRate = -1
	}
	h.set, err = replica.Open(rc, h.store)
	return err
}

// joinCatalog makes the catalog and what follows from it and from who is in reach.
func (h *Hub) joinCatalog() (err error) {
	h.leaders, h.nodes = leaders.New(), reach.New(h.id.ID, h.peers.Call, h.log)
	h.meta, err = meta.Open(h.set, meta.Config{
		Born: h.id.Members(), Joins: h.id.Grown, Alone: !h.id.Several(),
		Applied: func(ctx context.Context) error { return h.topics.Follow(ctx) }, Leader: func() int32 { return leading.OfCatalog(h.leaders) },
		Ask: func(ctx context.Context, leader int32, cmd []byte) ([]byte, error) {
			return h.peers.Call(ctx, leader, callPropose, cmd)
		},
	})
	if err != nil {
		return err
	}
	h.topics = topics.New(h.member(), h.set, h.meta, h.log)
	h.moves = moves.New(h.set, h.meta, h.nodes, h.log.With("part", "moves"))
	h.placing = placing.New(placing.Config{
		Node: h.id.ID, Files: h.jobs.InFiles(), Parts: h.jobs.PartsOf, Most: stream.MaxTasks, Catalog: h.meta, Reach: h.nodes, Left: h.finder.Left, Several: h.several, Log: h.log,
	})
	lc := leading.Config{
		Node: h.id.ID, Set: h.set, State: h.meta.State, Reach: h.nodes, Table: h.leaders, Log: h.log.With("part", "leaders"),
		Tell:   func(node int32, text []byte) bool { return h.tell(node, noticeLeaders, text) },
		Greet:  func(node int32) bool { return h.tell(node, noticeJobs, h.placing.Notice()) },
		Ending: func(node int32) { h.tell(node, noticeEnding, nil) },
	}
	h.announcer, h.transfers = leading.NewAnnouncer(lc), leading.NewTransfers(lc)
	return nil
}

func (h *Hub) joinKafka() error {
	pc := protocol.Default()
	pc.Node, pc.ClusterID, pc.AutoCreate = h.id.ID, h.id.Cluster, h.cfg.AutoCreateTopics
	pc.Group.Migration = group.Migration(h.cfg.GroupMigration)
	pc.Group.InitialDelay, pc.LogDir = h.cfg.GroupDelay, h.cfg.Node.DataDir
	pc.Group.Consumer, pc.Group.Bounds = h.cfg.ConsumerGroups.timing()
	pc.Logger = h.log.With("part", "kafka")
	pc.Authorize = h.cfg.Security.authorize()
	pc.Peers, pc.Quorum = kafkaPeers{h}, h.quorum
	var err error
	if h.sasl, err = h.logins(); err != nil {
		return err
	}
	pc.SASL = h.sasl
	h.server = protocol.New(pc, partitions{h}, h.meta)
	h.pipe = pipe.New(h.server.ServeConn, h.Kafka())
	return nil
}

// joinClients makes those of Kafka servers: links and jobs.
func (h *Hub) joinClients() error {
	mc := mirror.Config{Site: h.cfg.Node.Site, Logger: h.log.With("part", "mirror")}
	if err := h.linkSecurity(&mc); err != nil {
		return err
	}
	var err error
	if h.links, err = mirror.New(mc, destination.Site{Catalog: h.meta, Set: h.set, Replicas: h.topics.Replicas}); err != nil {
		return err
	}
	h.runner, err = stream.New(stream.Config{
		Dial: h.pipe.Dial, Seeds: []string{h.Kafka()}, Site: h.cfg.Node.Site, Claim: h.lease, Logger: h.log.With("part", "jobs"),
	})
	return err
}

func (h *Hub) joinHTTP() {
	sc := registry.Config{
		Dial: h.pipe.Dial, Seeds: []string{h.Kafka()}, ClusterID: h.id.Cluster, Version: h.deps.Version, Logger: h.log.With("part", "registry"),
		Relay: h.relay.Before(relayRegistry, h.schemaWriter),
	}
	if h.cfg.Listeners.Registry.Login {
		sc.Login = h.sasl.Password
	}
	h.registry = registry.New(sc)
	cc := connect.Config{
		Site: h.jobs.Connect(), Registry: h.deps.Registry, ClusterID: h.id.Cluster, Version: h.deps.Version, Worker: h.Connect(), Logger: h.log.With("part", "connect"),
		Relay: h.relay.Before(relayConnect, h.jobs.WhoseConnect),
	}
	if h.cfg.Listeners.Connect.Login {
		cc.Login = h.sasl.Password
	}
	h.connect = connect.New(cc)
	h.relay.Serve(relayRegistry, h.registry.Handler())
	h.relay.Serve(relayConnect, h.connect.Handler())
	h.relay.Serve(relayAdmin, h.admin.Handler())
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
	h.status = status.New(status.Config{
		Node: h.cfg.Node.ID, Site: h.cfg.Node.Site, Version: h.deps.Version, Kafka: h.Kafka(), DataDir: h.cfg.Node.DataDir,
		Started: time.Now(), Ready: h.isReady, Scrub: h.cfg.Scrub.Rate > 0, Store: h.store, Mesh: h.mesh, Peers: h.peers,
	})
	h.admin, err = admin.New(admin.Config{Logger: h.log.With("part", "admin"), Relay: h.relay.Before(relayAdmin, h.jobs.WhoseAdmin), OtherJobs: h.jobs.Others},
		admin.Sources{Node: h.status, Mesh: h.status, Links: h.status, Jobs: h.jobs.Admin(), Site: h.status, Copies: copies{h}, Samples: []admin.Samples{h.status, kafkaSamples{h}, registrySamples{h}, connectSamples{h}}})
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
		server.run("leaders", h.announcer.Run)
		server.run("nodes", h.finder.Run)
		err = h.begin(ctx)
	}
	if err == nil {
		h.pipe.Begin(server.ctx)
		server.run("groups", h.server.Run)
		for _, d := range h.doors {
			server.run("listener "+d.Name, func(ctx context.Context) error { return h.server.Serve(ctx, d) })
		}
		edge.run("links", h.links.Run)
		edge.run("jobs", h.runner.Run)
		server.run("topics", h.topics.Run)
		server.run("moves", h.moves.Run)
		edge.run("preferred leaders", h.transfers.Run)
		if h.registryLn != nil {
			edge.run("schemas", h.registry.Run)
			edge.run("schema registry", func(ctx context.Context) error { return h.registry.Serve(ctx, h.registryLn) })
		}
		if err = h.insist(ctx, func() error { return h.jobs.Start(ctx) }); err == nil && h.connectLn != nil { // who asks earlier would see no connectors
			edge.run("connect", func(ctx context.Context) error { return h.connect.Serve(ctx, h.connectLn) })
		}
		if err == nil {
			edge.run("placement of jobs", h.jobs.Run)
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
	if h.joined.Load() && h.several() {
		h.transfers.Drain()
	}
	edge.stop()
	server.stop()
	h.pipe.Wait()
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
	if err := h.entry.Introduce(ctx, h.meta, h.addresses(), h.insist); err != nil {
		return err
	}
	h.notReady("opening the partitions")
	h.topics.Open(ctx, h.store.Logs())
	return nil
}

func (h *Hub) notReady(why string) { h.ready.Store(&why) }

func (h *Hub) isReady() error {
	if why := h.ready.Load(); why != nil {
		return errors.New(*why)
	}
	return nil
}

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
