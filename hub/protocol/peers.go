package protocol

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/auth"
	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// Nodes of a site ask each other in Kafka's own protocol: a request is what it
// would be on a connection, without the length in front. What a node asks it
// has allowed its client, so that nothing is judged again.

// answerMargin is how much earlier than the patience of who asks an answer is
// given, with what is known by then.
const answerMargin = 500 * time.Millisecond

// asked are the APIs that one node asks of another.
var asked = [...]int16{
	addPartitionsToTxnAPI.key, writeTxnMarkersAPI.key, electLeadersAPI.key, listOffsetsAPI.key, listGroupsAPI.key, describeQuorumAPI.key,
	initializeShareStateAPI.key, readShareStateAPI.key, writeShareStateAPI.key, deleteShareStateAPI.key, describeShareOffsetsAPI.key,
}

// peers are the calls to other nodes that are on their way.
type peers struct {
	node  int32
	reach Peers

	mu struct {
		sync.Mutex
		ctx   context.Context // of Run; nil: it is not running
		calls sync.WaitGroup
	}
}

func newPeers(cfg Config) *peers {
	p := &peers{node: cfg.Node, reach: cfg.Peers}
	if p.reach == nil {
		p.reach = alone{}
	}
	return p
}

// errNoPeer: the request may have been carried out all the same.
var errNoPeer = errors.New("another node of the site did not answer")

// alone is what a site of one node has in the place of Peers.
type alone struct{}

func (alone) Call(_ context.Context, node int32, _ []byte) ([]byte, error) {
	return nil, fmt.Errorf("node %d is asked, and there are no other nodes", node)
}

func (alone) Up(int32) bool { return true }

// up reports whether a node can be reached; this one can.
func (p *peers) up(node int32) bool { return node == p.node || p.reach.Up(node) }

// other reports whether node is another one than this.
func (p *peers) other(node int32) bool { return node >= 0 && node != p.node }

// run lets calls begin until ctx ends, and waits for them.
func (p *peers) run(ctx context.Context) {
	p.mu.Lock()
	p.mu.ctx = ctx
	p.mu.Unlock()
	<-ctx.Done()
	p.mu.Lock()
	p.mu.ctx = nil
	p.mu.Unlock()
	p.mu.calls.Wait()
}

// start sends a request to another node and calls done once, from any goroutine,
// with what it answers within patience. It does not wait.
func (p *peers) start(node int32, req kmsg.Request, done func(kmsg.Response, error)) {
	p.mu.Lock()
	ctx := p.mu.ctx
	if ctx == nil {
		p.mu.Unlock()
		done(nil, errNotCoordinator) // this node ends, or has only begun
		return
	}
	p.mu.calls.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		done(p.ask(ctx, node, req))
	})
	p.mu.Unlock()
}

// ask sends a request to another node and returns its answer.
func (p *peers) ask(ctx context.Context, node int32, req kmsg.Request) (kmsg.Response, error) {
	const correlation = 1
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, req, correlation)[4:]
	b, err := p.reach.Call(ctx, node, frame)
	if err != nil {
		return nil, fmt.Errorf("%w: node %d: %w", errNoPeer, node, err)
	}
	head := 4
	if req.IsFlexible() {
		head++ // no tags
	}
	if len(b) < head || binary.BigEndian.Uint32(b) != correlation {
		return nil, fmt.Errorf("%w: node %d answers with %d bytes that are no response", errNoPeer, node, len(b))
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if err := resp.ReadFrom(b[head:]); err != nil {
		return nil, fmt.Errorf("%w: node %d: %w", errNoPeer, node, err)
	}
	return resp, nil
}

// askOf is ask for a response of a type.
func askOf[R kmsg.Response](resp kmsg.Response, err error) (R, error) {
	r, ok := resp.(R)
	if err == nil && !ok {
		err = fmt.Errorf("%w: %T is no answer to what was asked", errNoPeer, resp)
	}
	return r, err
}

// brokers are the nodes that the request's client can be sent to: those that are
// up, and those that lead all the same.
func (s *Server) brokers(r *request, leads func(node int32) bool) []catalog.Node {
	return slices.DeleteFunc(s.reachable(r), func(n catalog.Node) bool { return !s.peers.up(n.ID) && !leads(n.ID) })
}

// leadsIn reports whether an answer names the node as a leader.
func leadsIn(resp *kmsg.MetadataResponse, node int32) bool {
	return slices.ContainsFunc(resp.Topics, func(t kmsg.MetadataResponseTopic) bool {
		return slices.ContainsFunc(t.Partitions, func(p kmsg.MetadataResponseTopicPartition) bool { return p.Leader == node })
	})
}

// replicas are those of a partition, those in sync and those offline, as far as
// this node knows.
func (s *Server) replicas(t *catalog.Topic, i int32) (all, inSync, offline []int32) {
	p, told := t.Partitions[i], s.parts.InSync(t.Name, i)
	all, adding := p.AllReplicas(), p.Adding()
	inSync, offline = []int32{}, []int32{}
	for _, n := range all {
		switch {
		case !s.peers.up(n):
			offline = append(offline, n)
		case told != nil && slices.Contains(told, n), told == nil && !slices.Contains(adding, n):
			inSync = append(inSync, n)
		}
	}
	return all, inSync, offline
}

// Answer answers a request of another node of the site, which belongs to it from
// now on. The error says what is wrong with it.
func (s *Server) Answer(ctx context.Context, req []byte) ([]byte, error) {
	if len(req) < requestHeader {
		return nil, fmt.Errorf("%w: %d bytes", errMalformed, len(req))
	}
	r, err := parseRequest(frame{bytes: req})
	if err != nil {
		return nil, err
	}
	if !slices.Contains(asked[:], r.api.key) {
		return nil, fmt.Errorf("%w: nodes do not ask each other for %s", errUnsupported, r.api.name)
	}
	if err := ctx.Err(); err != nil {
		// Who asked has given up and may have asked again: a marker that comes
		// this late could end the transaction after the one that it is for.
		return nil, err
	}
	s.counts[r.api.key].Add(1)
	r.peer, r.who, r.listener = true, auth.Internal(), MainListener
	ctx, cancel := context.WithTimeout(ctx, patience-answerMargin)
	defer cancel()
	a, err := r.api.handle(s, ctx, r)
	if err != nil {
		return nil, err
	}
	return appendResponse(nil, r, a.msg)[4:], nil
}

// failure is the error that a code of another node stands for: the first of the
// table that has it.
func failure(code int16) error {
	if code == 0 {
		return nil
	}
	for i := range codes {
		if codes[i].code.Code == code {
			return fmt.Errorf("another node: %w", codes[i].err)
		}
	}
	return fmt.Errorf("%w: code %d", errNoPeer, code)
}
