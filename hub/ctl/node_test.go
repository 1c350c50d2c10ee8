package ctl

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/hub/admin"
)

// fakeSite is a site of two nodes, and notes what is done to them.
type fakeSite struct {
	admin.Site // what is not asked for here
	done       []string
	rate       int64
}

func (*fakeSite) Nodes(context.Context) ([]admin.SiteNode, error) {
	return []admin.SiteNode{
		{ID: 1, Name: "fra-1", Zone: "a", Version: "0.1.0", State: "up", Leads: 4, Replicas: 9, Behind: admin.Known(2048)},
		{ID: 2, Name: "fra-2", Incarnation: 3, State: "down", Replicas: 9, Quarantined: 1},
	}, nil
}

func (*fakeSite) Groups(context.Context) ([]admin.Group, error) {
	return []admin.Group{{Topic: "clicks", Partition: 2, Node: 1, Role: "leader", Leader: 1, Term: 7, Commit: 90, Last: 91, Behind: admin.Known(0)}}, nil
}

func (*fakeSite) Moves(context.Context) ([]admin.Move, error) {
	return []admin.Move{{Topic: "clicks", Partition: 2, Replicas: []int32{1, 3}, Adding: []int32{3}, Removing: []int32{2}, State: "moving", Doing: "add node 3 as a learner", Behind: admin.Known(1 << 20), Left: admin.Known(130.4)}}, nil
}

func (s *fakeSite) Act(_ context.Context, node string, action admin.NodeAction, with string) (admin.NodeActed, error) {
	if node == "nobody" {
		return admin.NodeActed{}, fmt.Errorf("node %q: %w in the site", node, admin.ErrNotFound)
	}
	s.done = append(s.done, strings.TrimSpace(fmt.Sprintf("%s %s %s", action, node, with)))
	return admin.NodeActed{Node: node, Done: "done", Moves: 2}, nil
}

func (s *fakeSite) FetchRate() int64      { return s.rate }
func (s *fakeSite) SetFetchRate(to int64) { s.rate = to }

func (s *fakeSite) Rebalance(_ context.Context, dry bool) ([]admin.Wish, error) {
	s.done = append(s.done, fmt.Sprintf("rebalance dry=%v", dry))
	return nil, nil
}

// TestNodeCommands: what they show, and what they ask for.
func TestNodeCommands(t *testing.T) {
	site := &fakeSite{}
	f := &fakeNode{}
	s, err := admin.New(admin.Config{}, admin.Sources{Node: f, Site: site, Copies: site})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	for _, c := range []struct{ args, want string }{
		{"node list", "fra-1"},
		{"node list", "2.0 KiB"},
		{"node list --json", `"incarnation": 3`},
		{"node status", "fra-2"},
		{"node status --groups", "clicks          2     1  leader       1     7      90    91"},
		{"node moves", "1.0 MiB  2m10s  add node 3 as a learner"},
		{"node drain fra-1", "fra-1: done (2 partitions; see 'entrepot node moves')\n"},
		{"node drain fra-1 --off", "fra-1: done"},
		{"node decommission fra-2", "fra-2: done"},
		{"node decommission fra-2 --cancel", "fra-2: done"},
		{"node replace fra-2 --with fra-3", "fra-2: done"},
		{"node remove fra-2", "fra-2: done"},
		{"node rebalance", "the nodes have alike, nothing moves\n"},
		{"node fetch-rate", "no bound\n"},
		{"node fetch-rate 16MiB", "16.0 MiB a second\n"},
		{"node fetch-rate --json", `"bytes_per_second": 16777216`},
	} {
		if out := mustRun(t, append(strings.Fields(c.args), "--admin", server.URL)...); !strings.Contains(out, c.want) {
			t.Errorf("%s:\n%s\nlacks:\n%s", c.args, out, c.want)
		}
	}
	want := "drain fra-1,undrain fra-1,decommission fra-2,recommission fra-2,replace fra-2 fra-3,remove fra-2,rebalance dry=false"
	if got := strings.Join(site.done, ","); got != want {
		t.Errorf("done %s, want %s", got, want)
	}
	for args, part := range map[string]string{
		"node drain nobody":   "not found",
		"node replace fra-2":  "--with NODE",
		"node drain":          "one argument (NODE)",
		"node fetch-rate 1x":  `RATE: want a size such as 64KiB`,
		"node fetch-rate 1 2": "one RATE at most",
	} {
		if r := run(t, Deps{}, append(strings.Fields(args), "--admin", server.URL)...); r.status == 0 || !strings.Contains(r.stderr, part) {
			t.Errorf("%s: %+v", args, r)
		}
	}
}
