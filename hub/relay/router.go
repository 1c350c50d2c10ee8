package relay

import (
	"context"
	"fmt"
	"net/http"
)

// Router has requests to a node's HTTP servers answered by the nodes whose
// business they are.
type Router struct {
	reaches func(node int32) bool
	call    func(ctx context.Context, node int32, request []byte) ([]byte, error)
	servers map[byte]http.Handler
}

// NewRouter is one without servers. Of a node other than this reaches says
// whether it is in reach, and call has it answer a request by its Router's
// Answer.
func NewRouter(reaches func(node int32) bool, call func(ctx context.Context, node int32, request []byte) ([]byte, error)) *Router {
	return &Router{reaches: reaches, call: call, servers: map[byte]http.Handler{}}
}

// Before is what stands before a server that all nodes have under one name:
// whose says which node's business a request is. What is nobody's (0), and what
// would be that of a node out of reach, is answered here.
func (r *Router) Before(server byte, whose func(*http.Request) int32) func(http.Handler) http.Handler {
	return func(own http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			node := whose(req)
			if node == 0 || !r.reaches(node) {
				own.ServeHTTP(w, req)
				return
			}
			passOn(w, req, func(ctx context.Context, request []byte) ([]byte, error) {
				return r.call(ctx, node, append([]byte{server}, request...))
			})
		})
	}
}

// Serve names what answers the requests that other nodes pass on to a server. It
// is called before the first of them.
func (r *Router) Serve(server byte, h http.Handler) { r.servers[server] = h }

// Answer answers a request that another node has passed on.
func (r *Router) Answer(ctx context.Context, body []byte) ([]byte, error) {
	if len(body) == 0 || r.servers[body[0]] == nil {
		return nil, fmt.Errorf("this node has no such server")
	}
	return serve(ctx, r.servers[body[0]], body[1:])
}
