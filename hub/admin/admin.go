// Package admin is a node's HTTP side: health and readiness for load balancers,
// metrics for Prometheus, status of topics, mesh, links and jobs as JSON, the
// few verbs an operator needs (pause, resume, stop and restart a job), and one plain
// page at / for people who would rather look.
//
// What it shows it asks of small interfaces (Node, Mesh, Links, Jobs, Samples)
// at the moment of the request; it keeps nothing. A number that is not known is
// shown as "unknown" everywhere, in JSON and on the page, and is NaN in the
// metrics: never 0.
//
// Goroutines: Serve has those of hub/web; all have ended when it returns.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/entrepot-hub/entrepot/hub/web"
)

// Errors by which a Mesh or Jobs tells the server how to answer. Anything else
// is an internal error (500).
var (
	ErrNotFound = errors.New("not found")          // 404
	ErrInvalid  = errors.New("not possible")       // 400: wrong request
	ErrConflict = errors.New("not possible as is") // 409: right request, wrong state
)

// ErrEarly answers who asks something of a node that does not belong to a site
// yet.
var ErrEarly = fmt.Errorf("%w: this node does not belong to a site yet", ErrConflict)

// Sources is whom the server asks. A nil source means that the part does not
// run on this node: its lists are empty.
type Sources struct {
	Node    Node
	Mesh    Mesh
	Links   Links
	Jobs    Jobs
	Site    Site
	Copies  Copies
	Samples []Samples // metrics beyond those made from the four above
}

// Config of a Server.
type Config struct {
	// Registry receives the collectors and is what /metrics shows. Nil: a new
	// one, with Go's and the process's own collectors.
	Registry *prometheus.Registry
	Logger   *slog.Logger     // nil: silent
	Clock    func() time.Time // nil: time.Now
	// Relay stands before the handler of the listener: it passes on what another
	// node of the site has to answer. nil: nothing.
	Relay func(http.Handler) http.Handler
	// OtherJobs are the jobs that other nodes run: all, or what they run of the
	// one that is named. nil: there are none.
	OtherJobs func(ctx context.Context, name string) []Job
}

// Server answers HTTP for one node.
type Server struct {
	cfg     Config
	src     Sources
	clock   func() time.Time
	logger  *slog.Logger
	handler http.Handler
}

// New builds the server and registers its collectors. It fails only if the
// registry refuses them, which means that it was given to two servers.
func New(cfg Config, src Sources) (*Server, error) {
	s := &Server{cfg: cfg, src: src, clock: cfg.Clock, logger: cfg.Logger}
	if s.clock == nil {
		s.clock = time.Now
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	registry := cfg.Registry
	if registry == nil {
		registry = prometheus.NewRegistry()
		registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	if err := registry.Register(collector{src: src, clock: s.clock}); err != nil {
		return nil, fmt.Errorf("admin: register metrics: %w", err)
	}
	s.handler = s.routes(promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		Timeout:       requestTime,
		ErrorHandling: promhttp.ContinueOnError, // one bad sample must not blind the rest
		ErrorLog:      log.New(warnWriter{s.logger}, "", 0),
	}))
	return s, nil
}

// Handler is the server without its listener.
func (s *Server) Handler() http.Handler { return s.handler }

// Nothing that this server answers is large or slow, so a client that needs
// longer is broken or means harm.
const (
	requestTime = 15 * time.Second
	maxBody     = 64 << 10
)

// Serve answers on ln until ctx ends, then lets running requests finish for up
// to 5 s. It owns ln. The error is nil after an ordinary end.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	limits := web.Limits{Read: requestTime, Write: 2 * requestTime, Idle: time.Minute, Header: 16 << 10}
	handler := s.handler
	if s.cfg.Relay != nil {
		handler = s.cfg.Relay(handler)
	}
	if err := limits.Serve(ctx, ln, handler, s.logger); err != nil {
		return fmt.Errorf("admin: serve on %s: %w", ln.Addr(), err)
	}
	return nil
}

// Listen binds addr (host:port; an empty host means every address) and, if that
// fails, says what to do about it.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("admin: %w; free the port, or set listeners.admin.addr to another", err)
	}
	return ln, nil
}

// warnWriter hands on what is wrong with this node's own metrics.
type warnWriter struct{ logger *slog.Logger }

func (w warnWriter) Write(p []byte) (int, error) {
	w.logger.Warn("metrics", "message", string(p))
	return len(p), nil
}
