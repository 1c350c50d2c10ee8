package hubtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Network is a network of this machine's own for the nodes of a site: each node
// in a network namespace, with an address that the others and the test reach
// over a bridge. What lies between two nodes can be cut.
type Network struct {
	t      testing.TB
	name   string // of the bridge, and what the others' names begin with
	prefix string // of the addresses: 10.x.y.
	nodes  int
	undo   [][]string // commands that end what was done
}

// NewNetwork makes one for so many nodes. nil, with the reason logged: the
// machine does not allow it. It is taken down with the test.
func NewNetwork(t testing.TB, nodes int) *Network {
	t.Helper()
	n := &Network{t: t, name: fmt.Sprintf("en%d", os.Getpid()), nodes: nodes}
	n.name += fmt.Sprint("x", rand.IntN(10))
	n.prefix = fmt.Sprintf("10.%d.%d.", 64+rand.IntN(128), rand.IntN(256))
	sweep()
	t.Cleanup(n.down)
	if err := n.up(); err != nil {
		t.Logf("no network of its own for each node: %v", err)
		n.down()
		return nil
	}
	return n
}

// sweep takes down what tests left behind that were killed.
func sweep() {
	names, _ := filepath.Glob("/sys/class/net/en[0-9]*x[0-9]")
	spaces, _ := filepath.Glob("/run/netns/en[0-9]*x[0-9]n*")
	for _, path := range append(names, spaces...) {
		name := filepath.Base(path)
		pid, _, _ := strings.Cut(strings.TrimPrefix(name, "en"), "x")
		if _, err := os.Stat("/proc/" + pid); err == nil {
			continue
		}
		if strings.HasPrefix(path, "/run") {
			_ = command("ip", "netns", "del", name)
		} else {
			_ = command("ip", "link", "del", name)
		}
	}
}

func (n *Network) up() error {
	steps := [][]string{
		{"link", "add", n.name, "type", "bridge"}, {"addr", "add", n.prefix + "254/24", "dev", n.name}, {"link", "set", n.name, "up"},
	}
	for i := range n.nodes {
		ns, port := n.namespace(i), fmt.Sprint(n.name, "p", i)
		steps = append(steps,
			[]string{"netns", "add", ns}, []string{"link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", ns},
			[]string{"link", "set", port, "master", n.name, "up"}, []string{"-n", ns, "addr", "add", n.Host(i) + "/24", "dev", "eth0"},
			[]string{"-n", ns, "link", "set", "eth0", "up"}, []string{"-n", ns, "link", "set", "lo", "up"})
	}
	for _, args := range steps {
		if err := command("ip", args...); err != nil {
			return err
		}
	}
	return nil
}

func (n *Network) down() {
	for i := range n.nodes {
		_ = command("ip", "netns", "del", n.namespace(i))
	}
	_ = command("ip", "link", "del", n.name)
}

func (n *Network) namespace(i int) string { return fmt.Sprint(n.name, "n", i) }

// Host is node i's address.
func (n *Network) Host(i int) string { return fmt.Sprint(n.prefix, i+1) }

// Enter is what a command begins with to run where node i is.
func (n *Network) Enter(i int) []string { return []string{"ip", "netns", "exec", n.namespace(i)} }

// Drop lets what node i sends to node j vanish, until Heal. What j sends to i
// arrives.
func (n *Network) Drop(i, j int) {
	n.t.Helper()
	at := []string{"-n", n.namespace(i), "route"}
	n.do("ip", append(at, "replace", "blackhole", n.Host(j)+"/32"), append(at, "del", "blackhole", n.Host(j)+"/32"))
}

// Unplug takes node i off the network until Heal: nobody reaches it, clients
// neither.
func (n *Network) Unplug(i int) {
	n.t.Helper()
	port := fmt.Sprint(n.name, "p", i)
	n.do("ip", []string{"link", "set", port, "down"}, []string{"link", "set", port, "up"})
}

// Slow limits what node i sends to so many kilobits a second, until Heal.
func (n *Network) Slow(i, kbits int) {
	n.t.Helper()
	n.do("tc", []string{"-n", n.namespace(i), "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", fmt.Sprint(kbits, "kbit"), "burst", "32kb", "latency", "500ms"},
		[]string{"-n", n.namespace(i), "qdisc", "del", "dev", "eth0", "root"})
}

// Heal ends everything that was done to the network.
func (n *Network) Heal() {
	n.t.Helper()
	for _, undo := range n.undo {
		if err := command(undo[0], undo[1:]...); err != nil {
			n.t.Error(err)
		}
	}
	n.undo = nil
}

// do does something to the network and keeps what undoes it.
func (n *Network) do(name string, args, undo []string) {
	n.t.Helper()
	if err := command(name, args...); err != nil {
		n.t.Error(err)
		return
	}
	n.undo = append(n.undo, append([]string{name}, undo...))
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
