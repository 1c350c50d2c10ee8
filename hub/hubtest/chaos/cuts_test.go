package chaos

import (
	"fmt"
	"time"
)

// cuts are the faults of the network between the nodes.
func cuts() []fault {
	return []fault{
		{kind: "cut off from the others", nodes: 3, do: func(n *nemesis) { n.cut(true, true) }},
		{kind: "cut off, sending alone", nodes: 3, do: func(n *nemesis) { n.cut(true, false) }},
		{kind: "cut off, hearing alone", nodes: 3, do: func(n *nemesis) { n.cut(false, true) }},
		{kind: "two of three cut off from each other", nodes: 3, do: func(n *nemesis) {
			i := n.rng.IntN(len(n.r.nodes))
			j := (i + 1) % len(n.r.nodes)
			n.net.Drop(i, j)
			n.net.Drop(j, i)
			n.wait(time.Second, 8*time.Second)
			n.net.Heal()
		}},
		{kind: "cut off again and again", nodes: 3, do: func(n *nemesis) {
			i := n.rng.IntN(len(n.r.nodes))
			for range 4 + n.rng.IntN(8) {
				n.isolate(i, true, true)
				n.wait(100*time.Millisecond, time.Second)
				n.net.Heal()
				n.wait(100*time.Millisecond, time.Second)
			}
		}},
		{kind: "cut off, from clients too", nodes: 3, do: func(n *nemesis) {
			n.net.Unplug(n.rng.IntN(len(n.r.nodes)))
			n.wait(time.Second, 8*time.Second)
			n.net.Heal()
		}},
		{kind: "slow network of a node", nodes: 3, do: func(n *nemesis) {
			n.net.Slow(n.rng.IntN(len(n.r.nodes)), 200+n.rng.IntN(2000))
			n.wait(time.Second, 8*time.Second)
			n.net.Heal()
		}},
	}
}

// cut isolates a node from the others for a while: nothing that it sends
// arrives, or nothing that they send to it, or both.
func (n *nemesis) cut(deaf, mute bool) {
	n.isolate(n.rng.IntN(len(n.r.nodes)), deaf, mute)
	n.wait(time.Second, 8*time.Second)
	n.net.Heal()
}

func (n *nemesis) isolate(i int, deaf, mute bool) {
	n.detail = fmt.Sprintf("node %d", i+1)
	for j := range n.r.nodes {
		if i == j {
			continue
		}
		if mute {
			n.net.Drop(i, j)
		}
		if deaf {
			n.net.Drop(j, i)
		}
	}
}
