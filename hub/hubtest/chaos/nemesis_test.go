package chaos

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
	"github.com/entrepot-hub/entrepot/hub/hubtest/history"
)

// fault is something that the nemesis does to a site, for a while, and undoes.
type fault struct {
	kind string
	// nodes is how many nodes the site has to have.
	nodes int
	do    func(*nemesis)
}

// nemesis draws faults from a seed.
type nemesis struct {
	r    *run
	rng  *rand.Rand
	site *hubtest.Site    // nil: a site of one node
	net  *hubtest.Network // nil: the machine allows none
	end  time.Duration    // of the last fault

	detail string // to whom it is done
	// small is the index of the node whose disk is small, and folder where it
	// is; -1: none is.
	small  int
	folder string
}

// some is a time of the nemesis's choice.
func (n *nemesis) some(low, high time.Duration) time.Duration {
	return low + time.Duration(n.rng.Int64N(int64(high-low)))
}

// node is a node of the nemesis's choice.
func (n *nemesis) node() *hubtest.Node {
	i := n.rng.IntN(len(n.r.nodes))
	n.detail = fmt.Sprintf("node %d", i+1)
	return n.r.nodes[i]
}

// wait lets a fault last.
func (n *nemesis) wait(low, high time.Duration) { n.r.pause(n.some(low, high)) }

// faults are those of the processes.
func faults() []fault {
	return []fault{
		{"kill -9", 1, func(n *nemesis) {
			one := n.node()
			one.Kill()
			n.wait(0, 4*time.Second)
			one.Start()
		}},
		{"kill -9 of all nodes", 2, func(n *nemesis) {
			for _, one := range n.r.nodes {
				one.Kill()
			}
			n.wait(0, time.Second)
			n.site.Start()
		}},
		{"kill -9 twice in a row", 1, func(n *nemesis) {
			one := n.node()
			one.Kill()
			one.Start()
			n.wait(0, 500*time.Millisecond)
			one.Kill()
			one.Start()
		}},
		{"SIGSTOP", 1, func(n *nemesis) {
			one := n.node()
			one.Stop()
			n.wait(200*time.Millisecond, 7*time.Second)
			one.Cont()
		}},
		{"restart", 1, func(n *nemesis) { n.node().Restart() }},
	}
}

// run strikes until the time is over, and then leaves the site healed. It
// returns when that was.
func (n *nemesis) run(length time.Duration) time.Duration {
	var possible []fault
	all := faults()
	if n.net != nil {
		all = append(all, cuts()...)
	}
	if n.small >= 0 {
		all = append(all, fault{"full disk", 1, (*nemesis).fillDisk})
	}
	all = append(all, operations()...)
	for _, f := range all {
		if len(n.r.nodes) >= f.nodes {
			possible = append(possible, f)
		}
	}
	var deck []fault // each kind comes once before one comes again
	for until := n.r.rec.Now() + length; n.r.rec.Now() < until; {
		if len(deck) == 0 {
			deck = append(deck, possible...)
			n.rng.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		n.strike(deck[0])
		deck = deck[1:]
		n.wait(time.Second, 4*time.Second)
	}
	return n.end
}

func (n *nemesis) strike(f fault) {
	one := history.Fault{Kind: f.kind}
	one.Begin, n.detail = n.r.rec.Now(), ""
	f.do(n)
	one.End, one.Detail = n.r.rec.Now(), n.detail
	n.end = one.End
	n.r.rec.Add(func(h *history.History) { h.Faults = append(h.Faults, one) })
	n.r.t.Logf("%s to %s: %s", one.Begin.Round(time.Millisecond), one.End.Round(time.Millisecond), strings.TrimSpace(f.kind+" "+one.Detail))
}
