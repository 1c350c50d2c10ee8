package protocol

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/auth"
	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// requestHeader is the shortest request: key, version, correlation ID.
const requestHeader = 8

var (
	// errMalformed ends the connection: what came is no Kafka request.
	errMalformed = errors.New("malformed request")
	// errUnsupported ends the connection, as Kafka does for an API or a
	// version that it never offered.
	errUnsupported = errors.New("unsupported API or version")
)

// request is one request on its way through a handler. Its bytes alias the
// frame.
type request struct {
	api         *api
	version     int16
	correlation int32
	client      string
	body        []byte
	frame       frame
	held        int64    // of the connection's own budget
	local       net.Addr // the address the client came in on
	host        string   // the client's address
	listener    string   // by which it came in
	who         auth.Principal
	login       *login         // nil: the listener asks for none
	fetches     *fetches       // the connection's, of handle alone
	shares      *shareSessions // likewise
	wait        time.Duration  // that a quota of what it changed wants
	peer        bool           // another node of the site asks
	abreast     bool           // the catalog here is as new as the site's was when this came
	handed      int            // bytes of batches that a ShareFetch is answered with
}

// parseRequest reads the header (versions 1 and 2 of KIP-482; the client ID is
// never compact). The error wraps errMalformed or errUnsupported.
func parseRequest(f frame) (*request, error) {
	b := f.bytes
	key, version := int16(binary.BigEndian.Uint16(b)), int16(binary.BigEndian.Uint16(b[2:]))
	r := &request{version: version, correlation: int32(binary.BigEndian.Uint32(b[4:])), frame: f}
	r.api = lookupAPI(key)
	switch {
	case r.api == nil:
		return r, fmt.Errorf("%w: API key %d", errUnsupported, key)
	case !r.api.serves(version) && key != apiVersionsKey:
		return r, fmt.Errorf("%w: %s version %d, want %d to %d", errUnsupported, r.api.name, version, r.api.min, r.api.max)
	}
	if !r.api.serves(version) {
		return r, nil // ApiVersions answers by itself, whatever the rest is
	}
	w := walk{b: b[requestHeader:], left: maxElements}
	r.client = w.nullableString()
	if r.api.flexible(version) {
		w.tags(nil, version)
	}
	if w.bad != "" {
		return r, fmt.Errorf("%w: %s v%d header: %s", errMalformed, r.api.name, version, w.bad)
	}
	r.body = w.b
	if err := r.api.shape.check(r.body, version); err != nil {
		return r, fmt.Errorf("%w: %s v%d: %w", errMalformed, r.api.name, version, err)
	}
	return r, nil
}

// answer is what goes back for a request: exactly one of its fields but close.
type answer struct {
	msg   kmsg.Response
	fetch *fetchAnswer
	later *produceAnswer // known when the appends are committed
	close bool           // the connection ends after it
}

// handler acts on a request. An error ends the connection; whatever a client
// can be told is in the answer. ctx ends with the connection.
type handler func(s *Server, ctx context.Context, r *request) (answer, error)

// decode reads the request's body into a kmsg request.
func decode[T any, P interface {
	*T
	kmsg.Request
}](r *request) (P, error) {
	req := P(new(T))
	req.SetVersion(r.version)
	if err := req.ReadFrom(r.body); err != nil {
		return nil, fmt.Errorf("%w: %s v%d: %w", errMalformed, r.api.name, r.version, err)
	}
	return req, nil
}

// plain makes a handler of a method that takes the decoded request and returns
// the response.
func plain[T any, P interface {
	*T
	kmsg.Request
}](h func(*Server, context.Context, *request, P) kmsg.Response) handler {
	return func(s *Server, ctx context.Context, r *request) (answer, error) {
		req, err := decode[T, P](r)
		if err != nil {
			return answer{}, err
		}
		resp := h(s, ctx, r, req)
		resp.SetVersion(r.version)
		return answer{msg: resp}, nil
	}
}

// addressOf is a node's address for clients of a listener, if it has that one.
func addressOf(n catalog.Node, listener string) (string, bool) {
	if listener == MainListener || listener == "" {
		return n.Kafka, true
	}
	addr, ok := n.Listeners[listener]
	return addr, ok
}

// reachable are the nodes that the request's client can reach: those that have
// the listener it came in on.
func (s *Server) reachable(r *request) (nodes []catalog.Node) {
	for _, n := range s.meta.State().Nodes() {
		if _, ok := addressOf(n, r.listener); ok {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// advertised is the address that the request's client should use for a node.
func (s *Server) advertised(r *request, n catalog.Node) (host string, port int32) {
	addr, ok := addressOf(n, r.listener)
	if !ok {
		return "", -1
	}
	return splitAddr(addr, r.local)
}
