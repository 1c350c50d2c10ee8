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
	chaos(t, []*hubtest.Node{n}, &nemesis{small: -1}, 20*time.Second)
}

// chaos is one run: faults for so long, then healing, then the checks.
func chaos(t *testing.T, nodes []*hubtest.Node, n *nemesis, length time.Duration) {
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
	t.Cleanup(r.cutShort)
	stopFeed, stop := r.begin()
	defer stop()
	r.pause(2 * time.Second)
	n.r, n.rng = r, r.random("nemesis")
	n.run(length)
	stopFeed()
	r.drain()
	stop()
	r.settle()
	r.drain()
	r.readTopics()
	r.readAll()
	r.whole()
	r.stopNodes()
	r.report()
}

// TestChaos does to a site of three nodes what can be done to it: nodes are
// killed, frozen, restarted, wiped and cut off from each other, the disk of one
// fills up, and leaders and replicas are moved.
func TestChaos(t *testing.T) {
	on, small := ground(t)
	site := hubtest.NewSiteOn(t, on, "chaos", 3)
	site.Start()
	n := &nemesis{site: site, net: on.Net, small: 2, folder: small}
	if small == "" {
		n.small = -1
	}
	chaos(t, site.Nodes, n, 3*time.Minute)
}
