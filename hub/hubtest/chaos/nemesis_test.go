package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
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
	// whole: only when every node has everything. What one node alone has with
	// another one would be on one node alone.
	whole bool
}

// nemesis draws faults from a seed.
type nemesis struct {
	r    *run
	rng  *rand.Rand
	site *hubtest.Site    // nil: a site of one node
	net  *hubtest.Network // nil: the machine allows none

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
		{kind: "kill -9", nodes: 1, do: func(n *nemesis) {
			one := n.node()
			one.Kill()
			n.wait(0, 4*time.Second)
			one.Start()
		}},
		{kind: "kill -9 of all nodes", nodes: 2, do: func(n *nemesis) {
			for _, one := range n.r.nodes {
				one.Kill()
			}
			n.wait(0, time.Second)
			n.site.Start()
		}},
		{kind: "kill -9 twice in a row", nodes: 1, do: func(n *nemesis) {
			one := n.node()
			one.Kill()
			one.Start()
			n.wait(0, 500*time.Millisecond)
			one.Kill()
			one.Start()
		}},
		{kind: "SIGSTOP", nodes: 1, do: func(n *nemesis) {
			one := n.node()
			one.Stop()
			n.wait(200*time.Millisecond, 7*time.Second)
			one.Cont()
		}},
		{kind: "restart", nodes: 1, do: func(n *nemesis) { n.node().Restart() }},
	}
}

// run strikes until the time is over, and then leaves the site healed. Most
// times, and after the last one, it lets the site prove that it is.
func (n *nemesis) run(length time.Duration) {
	var possible []fault
	all := faults()
	if n.net != nil {
		all = append(all, cuts()...)
	}
	if n.small >= 0 {
		all = append(all, fault{kind: "full disk", nodes: 1, do: (*nemesis).fillDisk})
	}
	all = append(all, operations()...)
	for _, f := range all {
		if len(n.r.nodes) >= f.nodes {
			possible = append(possible, f)
		}
	}
	var deck []fault // each kind comes once before one comes again
	for begin, last := n.r.rec.Now(), false; !last; {
		i := slices.IndexFunc(deck, n.may)
		if i < 0 {
			deck = append(deck, possible...)
			n.rng.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
			i = slices.IndexFunc(deck, n.may)
		}
		one := n.strike(deck[i])
		deck = slices.Delete(deck, i, i+1)
		if last = n.r.rec.Now() >= begin+length; last || n.rng.IntN(3) > 0 {
			n.r.probe(one)
		}
		n.wait(time.Second, 4*time.Second)
	}
}

// may reports whether a fault can be done now.
func (n *nemesis) may(f fault) bool {
	return !f.whole || wholeNow(n.r.nodes[0], loadedBehind) == nil
}

func (n *nemesis) strike(f fault) history.Fault {
	one := history.Fault{Kind: f.kind}
	one.Begin, n.detail = n.r.rec.Now(), ""
	f.do(n)
	one.End, one.Detail = n.r.rec.Now(), n.detail
	n.r.rec.Add(func(h *history.History) { h.Faults = append(h.Faults, one) })
	n.r.t.Logf("%s to %s: %s", one.Begin.Round(time.Millisecond), one.End.Round(time.Millisecond), strings.TrimSpace(f.kind+" "+one.Detail))
	return one
}
