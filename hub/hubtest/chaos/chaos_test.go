package chaos

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
)

// TestChaosOneNode does to a site of one node what can be done to it: kills and
// freezes. ENTREPOT_CHAOS_TIME is how long, ENTREPOT_CHAOS_SEED draws the
// same faults again.
func TestChaosOneNode(t *testing.T) {
	n := hubtest.NewNode(t, "solo", t.TempDir(), nil, nil, nil)
	n.Configure("group_delay: 0s")
	n.Start()
	chaos(t, []*hubtest.Node{n}, nil, nil, 20*time.Second)
}

// chaos is one run: faults for so long, then healing, then the checks.
func chaos(t *testing.T, nodes []*hubtest.Node, site *hubtest.Site, net *hubtest.Network, length time.Duration) {
	t.Helper()
	if text := os.Getenv("ENTREPOT_CHAOS_TIME"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("ENTREPOT_CHAOS_TIME: %v", err)
		}
	}
	seed := setting(t, "ENTREPOT_CHAOS_SEED", rand.Uint64())
	t.Logf("ENTREPOT_CHAOS_SEED=%d", seed)
	r := newRun(t, nodes, seed)
	stopFeed, stop := r.begin()
	defer stop()
	r.pause(2 * time.Second)
	healed := (&nemesis{r: r, rng: r.random("nemesis"), site: site, net: net}).run(length)
	r.probe(healed)
	stopFeed()
	r.drain()
	stop()
	r.settle()
	r.drain()
	r.readTopics()
	r.readAll()
	r.stopNodes()
	r.report()
}

// TestChaos does to a site of three nodes what can be done to it: nodes are
// killed, frozen, restarted and cut off from each other, and their disks fill
// up.
func TestChaos(t *testing.T) {
	net := hubtest.NewNetwork(t, 3)
	site := hubtest.NewSiteOn(t, hubtest.Ground{Net: net}, "chaos", 3)
	site.Start()
	chaos(t, site.Nodes, site, net, 70*time.Second)
}
