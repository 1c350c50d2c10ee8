package hubtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// siteNode is a node of a site as the admin API shows it.
type siteNode struct {
	Name     string `json:"node"`
	Replicas int    `json:"replicas"`
}

// group is a node's copy of a partition as the admin API shows it.
type group struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Node      int32  `json:"node"`
	Role      string `json:"role"`
	Behind    any    `json:"behind_bytes"`
}

// whole says what is missing until no partition moves, every copy is there, and
// none lacks more than what is on its way under load. more is asked about each
// node.
func (s *Site) whole(more ...func(siteNode) error) error {
	at := s.running()
	if at == nil {
		return fmt.Errorf("no node runs")
	}
	var moves []json.RawMessage
	var nodes []siteNode
	var groups []group
	for path, into := range map[string]any{"moves": &moves, "nodes": &nodes, "groups": &groups} {
		if err := at.get("/v1/site/"+path, into); err != nil {
			return err
		}
	}
	if len(moves) > 0 {
		return fmt.Errorf("%d moves, one is %s", len(moves), moves[0])
	}
	for _, n := range nodes {
		for _, f := range more {
			if err := f(n); err != nil {
				return err
			}
		}
	}
	for _, g := range groups {
		if g.Role != "leader" && g.Role != "follower" && g.Role != "learner" {
			return fmt.Errorf("%s-%d on node %d is %s", g.Topic, g.Partition, g.Node, g.Role)
		}
		if b, ok := g.Behind.(float64); !ok || b > 1<<20 {
			return fmt.Errorf("%s-%d on node %d, a %s, lacks %v", g.Topic, g.Partition, g.Node, g.Role, g.Behind)
		}
	}
	return nil
}

// running is a node whose process runs.
func (s *Site) running() *Node {
	for _, n := range s.Nodes {
		if n.proc != nil && !n.proc.Ended() {
			return n
		}
	}
	return nil
}

// Leader is the node that leads a partition, as soon as there is one.
func (s *Site) Leader(admin *kadm.Client, topic string, partition int32) (found *Node) {
	s.t.Helper()
	Until(s.t, time.Minute, fmt.Sprintf("%s-%d has a leader", topic, partition), func() error {
		m, err := admin.Metadata(s.t.Context(), topic)
		if err != nil {
			return err
		}
		p := m.Topics[topic].Partitions[partition]
		for _, b := range m.Brokers {
			for _, n := range s.Nodes {
				if b.NodeID == p.Leader && n.Kafka == fmt.Sprintf("%s:%d", b.Host, b.Port) {
					found = n
					return nil
				}
			}
		}
		return fmt.Errorf("%+v", p)
	})
	return found
}

// get asks the node's admin API.
func (n *Node) get(path string, into any) error { return n.Ask(http.MethodGet, path, into) }

// Ask has the node's admin API answer, or do, something. into may be nil.
func (n *Node) Ask(method, path string, into any) error { return n.send(method, path, "", into) }

// SetFetchRate changes the node's cluster.fetch_rate until its next start.
func (n *Node) SetFetchRate(bytesPerSecond int64) error {
	return n.send(http.MethodPut, "/v1/fetch-rate", fmt.Sprintf(`{"bytes_per_second": %d}`, bytesPerSecond), nil)
}

func (n *Node) send(method, path, content string, into any) error {
	req, err := http.NewRequest(method, "http://"+n.Admin+path, strings.NewReader(content))
	if err != nil {
		return err
	}
	client := http.Client{Timeout: 20 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, body)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}

// admin has the node's admin API do something.
func (n *Node) admin(t testing.TB, method, path string) {
	t.Helper()
	if err := n.Ask(method, path, nil); err != nil {
		t.Fatal(err)
	}
}
