package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/entrepot-hub/entrepot/hub/admin"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/connect"
	"github.com/entrepot-hub/entrepot/hub/registry"
	"github.com/entrepot-hub/entrepot/hub/relay"
)

// The HTTP servers of a node whose requests are passed on: the first byte of
// such a call.
const (
	relayRegistry byte = 'r'
	relayConnect  byte = 'c'
	relayAdmin    byte = 'a'
)

// relayed has each request answered by the node whose business it is; 0, this
// node and one that is out of reach leave it here.
func (h *Hub) relayed(server byte, whose func(*http.Request) int32) func(http.Handler) http.Handler {
	return func(own http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !h.begun.Load() || !h.several() {
				own.ServeHTTP(w, r)
				return
			}
			node := whose(r)
			if node == 0 || node == h.id.ID || !h.nodes.up(node) {
				own.ServeHTTP(w, r)
				return
			}
			relay.Pass(w, r, func(ctx context.Context, request []byte) ([]byte, error) {
				return h.peers.Call(ctx, node, callRelay, append([]byte{server}, request...))
			})
		})
	}
}

// relayCalled answers a request that another node has passed on.
func (h *Hub) relayCalled(ctx context.Context, body []byte) ([]byte, error) {
	if len(body) == 0 || h.passed[body[0]] == nil {
		return nil, fmt.Errorf("node %s has no such server", h.cfg.Node.ID)
	}
	return relay.Serve(ctx, h.passed[body[0]], body[1:])
}

// schemaWriter is the node that writes schemas: the leader of their topic, and
// of the catalog as long as there is none (docs/adr/0005-one-writer-for-schemas.md).
// Every node reads by itself.
func (h *Hub) schemaWriter(r *http.Request) int32 {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return 0
	}
	if _, there := h.meta.State().Topic(registry.Topic); there {
		leader, _ := partitions{h}.Leader(registry.Topic, 0)
		return max(leader, 0)
	}
	leader, _ := h.meta.group.Leader()
	return leader
}

// runs is the node that runs the connector that a path names between prefix and
// a slash, or 0.
func (h *Hub) runs(path, prefix string) int32 {
	rest, ok := strings.CutPrefix(path, prefix)
	name, _, deeper := strings.Cut(rest, "/")
	if !ok || name == "" || !deeper {
		return 0
	}
	s := h.meta.State()
	return h.divided(s)[name].at(s, name)[0] // who has the first task speaks for all
}

// connectWorker is who answers a request of Kafka Connect's API: what the
// catalog keeps every node does, what concerns a connector at work the node
// that runs it.
func (h *Hub) connectWorker(r *http.Request) int32 {
	if strings.HasSuffix(r.URL.Path, "/config") {
		return 0
	}
	return h.runs(r.URL.Path, "/connectors/")
}

// jobWorker is who answers a request of the admin API.
func (h *Hub) jobWorker(r *http.Request) int32 { return h.runs(r.URL.Path+"/", "/v1/jobs/") }

// fromOthers asks all other nodes that are in reach, or the ones of only, and
// hands take what each answers, one after the other.
func fromOthers[T any](ctx context.Context, h *Hub, method string, only []int32, take func(node int32, answer T)) {
	ctx, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, n := range h.meta.State().Nodes() {
		if n.ID == h.id.ID || !h.nodes.up(n.ID) || only != nil && !slices.Contains(only, n.ID) {
			continue
		}
		wg.Go(func() {
			var one T
			b, err := h.peers.Call(ctx, n.ID, method, nil)
			if err == nil {
				err = json.Unmarshal(b, &one)
			}
			if err != nil {
				h.log.Debug("a node does not answer", "node", n.Name, "method", method, "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			take(n.ID, one)
		})
	}
	wg.Wait()
}

// otherJobs are those that other nodes run: all, or what they have of the one
// of a name.
func (h *Hub) otherJobs(ctx context.Context, name string) (all []admin.Job) {
	if !h.begun.Load() || !h.several() {
		return nil
	}
	var only []int32
	if name != "" {
		if only = h.holders(name); len(only) == 0 {
			return nil
		}
	}
	s := h.meta.State()
	known := h.divided(s)
	fromOthers(ctx, h, callJobs, only, func(node int32, jobs []admin.Job) {
		for _, j := range jobs {
			if (name == "" || j.Name == name) && slices.Contains(known[j.Name].at(s, j.Name), node) {
				all = append(all, j)
			}
		}
	})
	return all
}

// elsewhere adds to the connectors that this node runs those that it does not,
// or not alone: as those that run them show them, and the others unassigned.
func (h *Hub) elsewhere(here []connect.Connector) []connect.Connector {
	if !h.begun.Load() || !h.several() {
		return here
	}
	s := h.meta.State()
	known, all, at := h.divided(s), here, map[string]int{}
	for i, c := range here {
		at[c.Name] = i
	}
	fromOthers(context.Background(), h, callConnectors, nil, func(node int32, connectors []connect.Connector) {
		for _, c := range connectors {
			i, there := at[c.Name]
			switch {
			case !slices.Contains(known[c.Name].at(s, c.Name), node):
			case !there:
				at[c.Name] = len(all)
				all = append(all, c)
			case known[c.Name].parts > 1:
				all[i].Join(c)
			}
		}
	})
	for name, config := range s.Connectors() {
		if _, there := at[name]; there {
			continue
		}
		c := connect.Connector{Name: name, State: connect.Unassigned, Config: config}
		if s.Job(name) == catalog.JobStopped {
			c.State = connect.Stopped
		}
		if p, err := connect.FindPlugin(h.deps.Registry, config["connector.class"]); err == nil {
			c.Kind, c.Type = p.Kind, p.Type
		}
		all = append(all, c)
	}
	return all
}
