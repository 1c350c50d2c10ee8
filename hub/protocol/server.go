// Package protocol is the Kafka server: connections, the table of APIs
// (apis.go) and one numbered file for each of them. It knows no disk and no
// Raft: partitions and the catalog are interfaces declared here (ports.go) and
// joined to the real ones by package hub. README.md maps the files.
//
// Goroutines: Run owns the loops of the three coordinators and of the windows of
// share groups, their loads and writes and the calls to other nodes, each of which
// ends within seconds. Serve owns
// the accept loop and, like ServeConn, three goroutines for each connection: one reads
// frames, one handles them in order, one writes answers in order. A connection
// ends when its client closes it, when it misbehaves or is idle for too long,
// or when the context ends; Serve and ServeConn return after all of theirs.
package protocol

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// Server answers Kafka clients. Make it with New; Run must be running for
// consumer groups and transactions to work.
type Server struct {
	cfg     Config
	parts   Partitions
	meta    Meta
	log     *slog.Logger
	table   []*api
	groups  *coordinator
	txns    *transactions
	marks   markers
	open    *openTransactions
	shares  *shares
	states  shareNodes
	windows *shareWindows
	peers   *peers
	vacant  *vacancies

	requests  *budget // bytes of requests that are read and not yet answered
	strangers *budget // those of clients that are not logged in yet
	answers   atomic.Int64

	sessionIDs   atomic.Int32 // of Fetch sessions
	sessionParts atomic.Int64 // partitions in them

	refused   atomic.Int64 // logins that failed
	built     atomic.Pointer[builtRules]
	quotas    quotas
	loud      pacedLog                 // of what strangers can bring about
	throttled atomic.Int64             // answers to clients above their quota
	counts    [maxKey + 1]atomic.Int64 // requests by API
	conns     connTable
	pids      producerIDs
}

// New returns a Server. cfg must be valid.
func New(cfg Config, parts Partitions, meta Meta) *Server {
	if err := cfg.Validate(); err != nil {
		panic("protocol: " + err.Error())
	}
	s := &Server{cfg: cfg, parts: parts, meta: meta, log: cfg.Logger, table: apis[:]}
	s.requests, s.strangers = newBudget(cfg.Limits.InFlight), newBudget(cfg.Limits.Strangers)
	s.peers = newPeers(cfg)
	s.vacant = newVacancies(parts, s.peers)
	s.groups = newCoordinator(cfg, parts, meta, s.vacant)
	s.open = newOpenTransactions()
	s.shares = newShares(cfg, parts, meta, s.vacant)
	s.states = shareNodes{parts: parts, here: s.shares, peers: s.peers}
	s.windows = newShareWindows(cfg, parts, meta, s.states)
	s.groups.shared = s.keepsShare
	s.marks = markers{parts: parts, meta: meta, groups: s.groups, open: s.open}
	s.txns = newTransactions(cfg, parts, meta, s.vacant, s.marks, s.peers)
	s.conns.mu.perIP = map[string]int{}
	s.pids.turn = make(chan struct{}, 1)
	return s
}

// Run keeps the coordinators going until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.peers.run(ctx) })
	wg.Go(func() { s.txns.run(ctx) })
	wg.Go(func() { s.shares.run(ctx) })
	wg.Go(func() { s.windows.run(ctx) })
	s.groups.run(ctx)
	return nil
}

// Serve accepts connections from a listener until ctx ends, then closes it and
// lets the requests that were read come to their end. It returns an error only
// if the listener fails before that.
func (s *Server) Serve(ctx context.Context, door Listener) error {
	ln := door.Net
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		nc, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = nc.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept Kafka connections on %s: %w", ln.Addr(), err)
		case err != nil:
			// Out of descriptors, or a client that is gone already: the
			// listener itself is well.
			s.log.Warn("cannot accept a connection", "addr", ln.Addr().String(), "error", err)
			if !pause(ctx, 50*time.Millisecond) {
				return nil
			}
			continue
		}
		door.prepare(nc)
		wg.Go(func() { s.serveConn(ctx, &door, nc) })
	}
}

// ServeConn serves one connection of the hub itself, such as a pipe of its own
// jobs, which may do everything. It closes it at its end or that of ctx.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) { s.serveConn(ctx, nil, nc) }

// serveConn serves a connection that came in by a door; nil is that of the hub
// itself. Connections beyond the limits are closed at once.
func (s *Server) serveConn(ctx context.Context, door *Listener, nc net.Conn) {
	ip := remoteIP(nc)
	if !s.conns.enter(ip, s.cfg.Limits) {
		_ = nc.Close()
		return
	}
	defer s.conns.leave(ip)
	newConn(s, door, nc).serve(ctx)
}

// connTable counts the open connections.
type connTable struct {
	mu struct {
		sync.Mutex
		total   int
		perIP   map[string]int
		refused int64
	}
}

func (t *connTable) enter(ip string, l Limits) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.total >= l.Conns || (ip != "" && t.mu.perIP[ip] >= l.ConnsPerIP) {
		t.mu.refused++
		return false
	}
	t.mu.total++
	if ip != "" {
		t.mu.perIP[ip]++
	}
	return true
}

func (t *connTable) leave(ip string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.total--
	if ip == "" {
		return
	}
	if t.mu.perIP[ip]--; t.mu.perIP[ip] == 0 {
		delete(t.mu.perIP, ip)
	}
}

// remoteIP is the client's address without its port; empty for connections
// that have none, such as in-memory pipes.
func remoteIP(nc net.Conn) string {
	host, _, err := net.SplitHostPort(nc.RemoteAddr().String())
	if err != nil {
		return ""
	}
	return host
}

// Stats is what the server counts, for metrics.
type Stats struct {
	Connections  int
	Refused      int64 // connections beyond a limit
	FailedLogins int64
	Throttled    int64            // answers to clients above their quota
	RequestBytes int64            // held by requests in flight
	AnswerBytes  int64            // held by Fetch answers in flight
	Requests     map[string]int64 // by API name, since the start
}

// Stats returns the present counts.
func (s *Server) Stats() Stats {
	st := Stats{RequestBytes: s.requests.used(), AnswerBytes: s.answers.Load(), FailedLogins: s.refused.Load(), Throttled: s.throttled.Load(), Requests: map[string]int64{}}
	s.conns.mu.Lock()
	st.Connections, st.Refused = s.conns.mu.total, s.conns.mu.refused
	s.conns.mu.Unlock()
	for _, a := range apis {
		if n := s.counts[a.key].Load(); n > 0 {
			st.Requests[a.name] = n
		}
	}
	return st
}

// pause waits, and reports whether ctx let it.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// newUUID draws a random ID in the form that Kafka's member IDs have.
func newUUID(rand io.Reader) (string, error) {
	id, err := record.NewTopicID(rand)
	if err != nil {
		return "", err
	}
	h := id.Hex()
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:], nil
}
