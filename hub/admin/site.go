package admin

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Site tells about all nodes of the site and steers them.
type Site interface {
	// Nodes are those of the site, by ID, asked for what they have.
	Nodes(ctx context.Context) ([]SiteNode, error)
	// Groups are the copies of partitions on all nodes that answer, by topic,
	// partition and node.
	Groups(ctx context.Context) ([]Group, error)
	// Moves are the partitions that are not where they shall be.
	Moves(ctx context.Context) ([]Move, error)
	// Act does what an operator asked of a node. ErrNotFound: there is no such
	// node. ErrConflict: it cannot be done as things are.
	Act(ctx context.Context, node string, action NodeAction, with string) (NodeActed, error)
	// Rebalance moves replicas so that nodes have alike, or with dry only tells
	// what it would move.
	Rebalance(ctx context.Context, dry bool) ([]Wish, error)
	// SetReplicas gives every partition of a topic so many copies, and returns
	// what will move.
	SetReplicas(ctx context.Context, topic string, count int) ([]Wish, error)
}

// SiteNode is one node of the site.
type SiteNode struct {
	ID          int32  `json:"id"` // broker ID
	Name        string `json:"node"`
	Zone        string `json:"zone,omitempty"`
	Version     string `json:"version,omitempty"` // empty: it does not answer
	Incarnation uint32 `json:"incarnation"`
	// State is "up", "down" (it does not answer), "draining" or "leaving".
	State       string  `json:"state"`
	Replicas    int     `json:"replicas"` // copies of partitions that it has, or is to have
	Leads       int     `json:"leads"`
	Behind      Measure `json:"behind_bytes"` // what its copies lack, as their leaders know
	Quarantined int     `json:"quarantined"`
	// Unwritable and Lost are partitions that could not be written any more, and
	// of those, partitions that would be gone, if this node were lost beside
	// those that are down.
	Unwritable int     `json:"unwritable_without"`
	Lost       int     `json:"lost_without"`
	Groups     []Group `json:"groups,omitempty"`
}

// Group is a node's copy of a partition.
type Group struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Node      int32   `json:"node"`
	Role      string  `json:"role"` // leader, follower, learner, candidate, quarantined, failed
	Leader    int32   `json:"leader"`
	Term      uint64  `json:"term"`
	Commit    uint64  `json:"commit"`
	Applied   uint64  `json:"applied"`
	Last      uint64  `json:"last"`         // index of the last entry in its log
	Behind    Measure `json:"behind_bytes"` // as the leader knows
	Reason    string  `json:"reason,omitempty"`
	// Fetching is there while it comes as files.
	Fetching *Fetching `json:"fetching,omitempty"`
}

// Fetching is how much of a copy has come as files.
type Fetching struct {
	DoneBytes int64   `json:"done_bytes"`
	OfBytes   int64   `json:"of_bytes"`
	Left      Measure `json:"left_seconds"` // at the pace so far
}

// Move is a partition on its way to other nodes.
type Move struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Replicas  []int32 `json:"replicas"` // wanted
	Adding    []int32 `json:"adding"`
	Removing  []int32 `json:"removing"`
	// State is "moving", "waiting" (for its turn), "blocked" (a node that is to
	// get a copy is down) or "stalled" (most members have lost their data).
	State  string  `json:"state"`
	Doing  string  `json:"doing,omitempty"`
	Behind Measure `json:"behind_bytes"` // what the new copies lack
	// Left is when they will have come, at the pace so far; not known while they
	// wait or come as messages.
	Left Measure `json:"left_seconds"`
}

// Wish is where a partition shall go.
type Wish struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	From      []int32 `json:"from"` // brokers, the preferred leader first
	To        []int32 `json:"to"`
}

// NodeAction is a verb on a node of the site.
type NodeAction string

// The actions, as they stand in the URL.
const (
	DrainNode        NodeAction = "drain"
	UndrainNode      NodeAction = "undrain"
	DecommissionNode NodeAction = "decommission"
	RecommissionNode NodeAction = "recommission"
	ReplaceNode      NodeAction = "replace"
	RemoveNode       NodeAction = "remove"
)

// NodeActed is what came of an action.
type NodeActed struct {
	Node  string `json:"node"`
	Done  string `json:"done"` // in words
	Moves int    `json:"moves"`
}

// siteRoutes adds what concerns all nodes.
func (s *Server) siteRoutes(mux *http.ServeMux) {
	get := func(path string, h func(*http.Request) (any, error)) { mux.Handle(path, answer(http.MethodGet, h)) }
	get("/v1/site/nodes", func(r *http.Request) (any, error) { return ask(s, r, Site.Nodes) })
	get("/v1/site/groups", func(r *http.Request) (any, error) { return ask(s, r, Site.Groups) })
	get("/v1/site/moves", func(r *http.Request) (any, error) { return ask(s, r, Site.Moves) })
	mux.Handle("/v1/site/nodes/{node}/{action}", answer(http.MethodPost, s.actNode))
	mux.Handle("/v1/site/rebalance", answer(http.MethodPost, s.rebalance))
	mux.Handle("/v1/site/topics/{topic}/replicas", answer(http.MethodPost, s.setReplicas))
	get("/v1/site/rebalance/plan", func(r *http.Request) (any, error) {
		return ask(s, r, func(site Site, ctx context.Context) ([]Wish, error) { return site.Rebalance(ctx, true) })
	})
}

// siteTime is how long all nodes of a site may take to answer.
const siteTime = 10 * time.Second

var errNoSite = fmt.Errorf("%w: this node belongs to no site", ErrConflict)

func ask[T any](s *Server, r *http.Request, of func(Site, context.Context) ([]T, error)) (any, error) {
	if s.src.Site == nil {
		return []T{}, nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), siteTime)
	defer cancel()
	all, err := of(s.src.Site, ctx)
	return list(all), err
}

func (s *Server) actNode(r *http.Request) (any, error) {
	node, action := r.PathValue("node"), NodeAction(r.PathValue("action"))
	switch action {
	case DrainNode, UndrainNode, DecommissionNode, RecommissionNode, ReplaceNode, RemoveNode:
	default:
		return nil, fmt.Errorf("action %q: %w; there are drain, undrain, decommission, recommission, replace and remove", action, ErrNotFound)
	}
	if s.src.Site == nil {
		return nil, errNoSite
	}
	with := r.URL.Query().Get("with")
	if (action == ReplaceNode) != (with != "") {
		return nil, badRequest("with=NODE belongs to replace, and replace wants it")
	}
	done, err := s.src.Site.Act(r.Context(), node, action, with)
	if err != nil {
		return nil, fmt.Errorf("%s node %q: %w", action, node, err)
	}
	s.logger.Info("node steered", "node", node, "action", string(action), "client", r.RemoteAddr)
	return done, nil
}

func (s *Server) setReplicas(r *http.Request) (any, error) {
	if s.src.Site == nil {
		return nil, errNoSite
	}
	count, err := strconv.Atoi(r.URL.Query().Get("count"))
	if err != nil || count < 1 {
		return nil, badRequest(fmt.Sprintf("count=%.20s: want a number of replicas, 1 or more", r.URL.Query().Get("count")))
	}
	topic := r.PathValue("topic")
	wishes, err := s.src.Site.SetReplicas(r.Context(), topic, count)
	if err != nil {
		return nil, err
	}
	s.logger.Info("replicas of a topic set", "topic", topic, "replicas", count, "client", r.RemoteAddr)
	return list(wishes), nil
}

func (s *Server) rebalance(r *http.Request) (any, error) {
	if s.src.Site == nil {
		return nil, errNoSite
	}
	wishes, err := s.src.Site.Rebalance(r.Context(), false)
	if err != nil {
		return nil, err
	}
	if len(wishes) == 0 {
		return NodeActed{Done: "the nodes have alike, nothing moves"}, nil
	}
	return NodeActed{Done: "replicas are being evened out", Moves: len(wishes)}, nil
}
