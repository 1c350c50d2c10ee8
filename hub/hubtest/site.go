package hubtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Site is a site of several nodes, each a process of its own.
type Site struct {
	Name  string
	Nodes []*Node

	t  testing.TB
	on Ground
}

// Ground is where the nodes of a site stand. The zero value is the loopback
// interface and the test's folder.
type Ground struct {
	Net *Network              // a network of their own
	Dir func(node int) string // a folder for the data of node 0, 1, …; it exists
}

// NewSite writes the files of a site that begins with so many nodes, all on
// this machine, named NAME-1 to NAME-n, each in a zone of its own. It starts
// none.
func NewSite(t testing.TB, name string, nodes int, env ...string) *Site {
	t.Helper()
	return NewSiteOn(t, Ground{}, name, nodes, env...)
}

// NewSiteOn is NewSite on other ground.
func NewSiteOn(t testing.TB, on Ground, name string, nodes int, env ...string) *Site {
	t.Helper()
	s := &Site{Name: name, t: t, on: on}
	dir := t.TempDir()
	for range nodes {
		s.add(dir, nodes, env)
	}
	return s
}

// Add writes the files of one more node, which joins the site when it is
// started.
func (s *Site) Add(env ...string) *Node {
	s.t.Helper()
	return s.add(s.t.TempDir(), 0, env)
}

// add writes a node's files. It finds the site by the first two nodes: of more
// than two one is there.
func (s *Site) add(dir string, expect int, env []string) *Node {
	s.t.Helper()
	p, host, data := Ports(s.t, 7), "127.0.0.1", dir
	var enter []string
	if on := s.on.Net; on != nil {
		host, enter = on.Host(len(s.Nodes)), on.Enter(len(s.Nodes))
	}
	if s.on.Dir != nil {
		data = s.on.Dir(len(s.Nodes))
	}
	addr := func(i int) string { return fmt.Sprintf("%s:%d", host, p[i]) }
	id := fmt.Sprintf("%s-%d", s.Name, len(s.Nodes)+1)
	n := &Node{
		Site: s.Name, ID: id, Kafka: addr(0), Admin: addr(1), WAN: addr(2), Registry: addr(5), Connect: addr(6), Peer: addr(3), LAN: addr(4),
		Dir: filepath.Join(data, id), t: s.t, env: env, enter: enter, file: filepath.Join(dir, id+".yaml"),
	}
	s.Nodes = append(s.Nodes, n)
	var join []string
	for _, seed := range s.Nodes[:min(2, len(s.Nodes))] {
		join = append(join, seed.LAN)
	}
	text := fmt.Sprintf(`node: {id: %s, site: %s, data_dir: %q, zone: zone-%d}
listeners: {kafka: {addr: %q}, admin: {addr: %q}, peer: {addr: %q}, registry: {addr: %q}, connect: {addr: %q}}
mesh: {profile: local, lan: {addr: %q, join: [%s]}, wan: {addr: %q}}
cluster: {bootstrap_expect: %d}
group_delay: 0s
`, id, s.Name, n.Dir, len(s.Nodes), n.Kafka, n.Admin, n.Peer, n.Registry, n.Connect, n.LAN, quoted(join), n.WAN, expect)
	if err := os.WriteFile(n.file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// Set sets a top-level key that the nodes' files do not have, or one within another
// (cluster.fetch_rate), before their start.
func (s *Site) Set(key, value string) {
	s.t.Helper()
	section, within, nested := strings.Cut(key, ".")
	for _, n := range s.Nodes {
		b, err := os.ReadFile(n.file)
		if err != nil {
			s.t.Fatal(err)
		}
		before := string(b)
		text := before + key + ": " + value + "\n"
		if nested {
			text = strings.Replace(before, section+": {", section+": {"+within+": "+value+", ", 1)
		}
		if text == before {
			s.t.Fatalf("%s has no section %s to set %s in", n.file, section, within)
		}
		if err := os.WriteFile(n.file, []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

// Start starts all nodes and waits until each of them serves.
func (s *Site) Start() {
	s.t.Helper()
	for _, n := range s.Nodes {
		n.launch()
	}
	for _, n := range s.Nodes {
		n.await()
	}
}

// Brokers are the addresses of all nodes for clients.
func (s *Site) Brokers() []string {
	var all []string
	for _, n := range s.Nodes {
		all = append(all, n.Kafka)
	}
	return all
}

// Bootstrap is Brokers as tools want it, with commas.
func (s *Site) Bootstrap() string { return strings.Join(s.Brokers(), ",") }

// Stop freezes the node with SIGSTOP: its connections stay open and silent.
func (n *Node) Stop() {
	n.t.Helper()
	if err := n.proc.Signal(syscall.SIGSTOP); err != nil {
		n.t.Fatal(err)
	}
}

// Cont lets a frozen node go on.
func (n *Node) Cont() {
	n.t.Helper()
	if err := n.proc.Signal(syscall.SIGCONT); err != nil {
		n.t.Fatal(err)
	}
}

// Restart ends the node as an operator does and starts it again. It returns
// how long it took until it served.
func (n *Node) Restart() time.Duration {
	n.t.Helper()
	n.Terminate()
	return n.Start()
}

// Terminate asks the node to end, with SIGTERM, and waits for it.
func (n *Node) Terminate() {
	n.t.Helper()
	if err := n.proc.Signal(syscall.SIGTERM); err != nil {
		n.t.Fatal(err)
	}
	if status, err := n.proc.Wait(time.Minute); err != nil || status != 0 {
		n.t.Fatalf("%s: status %d, %v", n.ID, status, err)
	}
	n.before = n.proc.Output()
}

// Wipe removes everything that a node which has ended had on disk.
func (n *Node) Wipe() {
	n.t.Helper()
	if err := os.RemoveAll(n.Dir); err != nil {
		n.t.Fatal(err)
	}
}
