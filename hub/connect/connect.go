// Package connect is the REST API of Kafka Connect over the site's connectors,
// so that consoles and scripts that are made for that keep working: make,
// change, pause, resume, stop, restart and delete connectors, their status,
// tasks and offsets, and what can be made. docs/connect-rest.md has the whole.
//
// A configuration is flat here: its keys are the paths of a jobs file, with
// dots (plugin.go, nest.go, flat.go). It is kept as it was sent, so that
// references stay references; secrets that are written out are never shown.
//
// Goroutines: Serve has those of hub/web; all have ended when it returns.
package connect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/hub/web"
)

// Site is what the API shows and changes. Its errors wrap those below, or a
// *Rejected.
type Site interface {
	// Connectors are all, by name.
	Connectors() []Connector
	// Check says what is wrong with a configuration, without changing anything.
	Check(ctx context.Context, name string, flat map[string]string) []Issue
	// Put makes a connector or gives it another configuration; desired is how a
	// new one begins (running, paused, stopped), or empty.
	Put(ctx context.Context, name string, flat map[string]string, desired string, isNew bool) error
	Delete(ctx context.Context, name string) error
	Act(ctx context.Context, name string, a Action) error
	Offsets(ctx context.Context, name string) ([]Offset, error)
	// SetOffsets moves a stopped connector, ResetOffsets has it begin anew.
	SetOffsets(ctx context.Context, name string, to []Offset) error
	ResetOffsets(ctx context.Context, name string) error
}

// Connector is one connector of the site.
type Connector struct {
	Name, Kind, Type string
	Config           map[string]string // flat, with its secrets
	File             string            // the jobs file that it is from; "" when it was made here
	State            State
	Trace            string // what went wrong last; of a connector that runs it is over
	Topics           []string
	Tasks            []Task
}

// Join adds what another node runs of the connector. What does not run says how
// it is, and why.
func (c *Connector) Join(o Connector) {
	c.Tasks = append(c.Tasks, o.Tasks...)
	slices.SortFunc(c.Tasks, func(a, b Task) int { return strings.Compare(a.Name, b.Name) }) // the same numbers at every node
	if c.State == Running && o.State != Running || c.State != Failed && o.State == Failed {
		c.State, c.Trace = o.State, o.Trace
	}
	for _, topic := range o.Topics {
		if !slices.Contains(c.Topics, topic) {
			c.Topics = append(c.Topics, topic)
		}
	}
}

// Task is one split of a source or partition of a sink.
type Task struct {
	Name  string
	Trace string // why it waits
}

// State is one of Kafka Connect's.
type State string

// The states.
const (
	Unassigned State = "UNASSIGNED"
	Running    State = "RUNNING"
	Paused     State = "PAUSED"
	Stopped    State = "STOPPED"
	Restarting State = "RESTARTING"
	Failed     State = "FAILED"
)

// Action is what can be asked of a connector.
type Action string

// The actions.
const (
	Pause   Action = "pause"
	Resume  Action = "resume"
	Stop    Action = "stop"
	Restart Action = "restart"
)

// Offset is how far one part of a connector is: a split of a source, with its
// position in base64, or a partition of a sink.
type Offset struct {
	Split    string
	Position connectors.Position
	Where    string // the position for people

	Topic     string
	Partition int32
	Offset    int64
}

// Errors of a Site.
var (
	ErrUnknown    = errors.New("there is no such connector")
	ErrExists     = errors.New("there is a connector of this name")
	ErrOfFile     = errors.New("the connector is of a jobs file")
	ErrNotStopped = errors.New("the connector is not stopped")
)

// Rejected is a configuration that cannot be taken.
type Rejected struct{ Issues []Issue }

func (r *Rejected) Error() string {
	text := fmt.Sprintf("Connector configuration is invalid and contains the following %d error(s):", len(r.Issues))
	for _, i := range r.Issues {
		text += "\n"
		if i.Key != "" {
			text += i.Key + ": "
		}
		text += i.Message
	}
	return text
}

// Config of an API.
type Config struct {
	Site      Site
	Registry  connectors.Registry
	ClusterID string
	Version   string
	Worker    string       // host:port, told as the worker of every task
	Logger    *slog.Logger // nil: silent
	// Login checks the user and password of each request; nil: nobody is asked.
	Login func(ctx context.Context, user, password string) error
	// Relay stands before the handler of the listener: it passes on what another
	// node of the site has to answer. nil: nothing.
	Relay func(http.Handler) http.Handler
}

// API answers Kafka Connect's requests.
type API struct {
	cfg     Config
	refused atomic.Int64
}

// New makes an API.
func New(cfg Config) *API {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	return &API{cfg: cfg}
}

// Serve answers on ln, which it owns, until ctx ends.
func (a *API) Serve(ctx context.Context, ln net.Listener) error {
	handler := a.Handler()
	if a.cfg.Relay != nil {
		handler = a.cfg.Relay(handler)
	}
	if err := web.Serve(ctx, ln, handler, a.cfg.Logger); err != nil {
		return fmt.Errorf("connect: serve on %s: %w", ln.Addr(), err)
	}
	return nil
}

// FailedLogins counts the logins that were refused.
func (a *API) FailedLogins() int64 { return a.refused.Load() }

// guard asks for a login, if there is one, and turns away what a page of
// another origin makes a browser send.
func (a *API) guard(next http.Handler) http.Handler {
	return http.NewCrossOriginProtection().Handler(web.Login{
		Realm: "connectors", Check: a.cfg.Login, Failed: func() { a.refused.Add(1) },
		Refuse: a.handle(func(*request) (any, error) { return nil, fail(http.StatusUnauthorized, "HTTP 401 Unauthorized") }),
	}.Guard(next))
}
