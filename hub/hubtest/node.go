package hubtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Node is one node of a test's site: its file, its ports, and the process
// that runs it at present. Killed and started again it keeps all of them.
type Node struct {
	Site  string
	ID    string // its name in the mesh
	Kafka string // host:port
	Admin string // host:port
	// Registry is where the schema registry answers, host:port.
	Registry string
	// Connect is where the REST API for connectors answers, host:port.
	Connect string
	WAN     string // host:port of its gossip between sites
	LAN     string // host:port of its gossip in the site
	Peer    string // host:port for the other nodes of its site
	Dir     string // data directory

	t    testing.TB
	dev  bool // started with --dev, its file laid over that
	file string
	env  []string
	// enter is what its command begins with, to run on a network of its own.
	enter []string
	proc  *Process

	ended  []*Process // the runs before this one
	before string     // what the run printed that Terminate has ended
}

// NewNode writes the file of a node that is a site of its own, with its data
// in dir, the given WAN addresses to join and jobs files to run. It does not
// start it.
func NewNode(t testing.TB, site, dir string, join, jobs, env []string) *Node {
	t.Helper()
	p := Ports(t, 7)
	addr := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", p[i]) }
	n := &Node{Site: site, ID: site + "-1", Kafka: addr(0), Admin: addr(1), WAN: addr(2), Registry: addr(5), Connect: addr(6), Peer: addr(3), LAN: addr(4), Dir: filepath.Join(dir, site), t: t, env: env}
	text := fmt.Sprintf(`node: {id: %[1]s-1, site: %[1]s, data_dir: %[2]q}
listeners: {kafka: {addr: "%[3]s"}, admin: {addr: "%[4]s"}, peer: {addr: "%[5]s"}, registry: {addr: "%[10]s"}, connect: {addr: "%[11]s"}}
mesh: {profile: local, lan: {addr: "%[6]s"}, wan: {addr: "%[7]s", join: [%[8]s]}}
jobs: [%[9]s]
`, site, n.Dir, n.Kafka, n.Admin, addr(3), addr(4), n.WAN, quoted(join), quoted(jobs), n.Registry, n.Connect)
	n.file = filepath.Join(dir, site+".yaml")
	if err := os.WriteFile(n.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return n
}

// Login gives the node, before its start, one more listener, on which clients
// log in by SASL as one of the users (name to password), and returns its
// address.
func (n *Node) Login(users map[string]string) string {
	n.t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", Ports(n.t, 1)[0])
	text, err := os.ReadFile(n.file)
	if err != nil {
		n.t.Fatal(err)
	}
	listener := fmt.Sprintf("listeners: {extra: {login: {addr: %q, sasl: [PLAIN, SCRAM-SHA-256, SCRAM-SHA-512]}}, ", addr)
	with := strings.Replace(string(text), "listeners: {", listener, 1) + "security:\n  users:\n"
	for name, password := range users {
		with += fmt.Sprintf("    %s: %q\n", name, password)
	}
	if err := os.WriteFile(n.file, []byte(with), 0o600); err != nil {
		n.t.Fatal(err)
	}
	return addr
}

// Advertise makes the node, before its start, tell clients that it is at addr,
// where something forwards to it.
func (n *Node) Advertise(addr string) {
	n.t.Helper()
	text, err := os.ReadFile(n.file)
	if err == nil {
		at := fmt.Sprintf("addr: %q", n.Kafka)
		err = os.WriteFile(n.file, []byte(strings.Replace(string(text), at, fmt.Sprintf("%s, advertise: %q", at, addr), 1)), 0o600)
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// Configure adds keys, in YAML, to the node's file, before its start.
func (n *Node) Configure(keys string) {
	n.t.Helper()
	text, err := os.ReadFile(n.file)
	if err == nil {
		err = os.WriteFile(n.file, []byte(string(text)+keys+"\n"), 0o600)
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

func quoted(all []string) string {
	s := ""
	for i, one := range all {
		if i > 0 {
			s += ", "
		}
		s += fmt.Sprintf("%q", one)
	}
	return s
}

// Start starts the node and returns how long it took until it served.
func (n *Node) Start() time.Duration {
	n.t.Helper()
	begin := time.Now()
	n.launch()
	n.await()
	return time.Since(begin)
}

// launch starts the process, which may have others to wait for.
func (n *Node) launch() {
	n.t.Helper()
	args := []string{"serve", "-c", n.file}
	if n.dev {
		args = append(args, "--dev")
	}
	if n.proc != nil {
		n.ended = append(n.ended, n.proc)
	}
	n.proc = start(n.t, n.enter, n.env, args...)
}

// await waits until the node serves.
func (n *Node) await() {
	n.t.Helper()
	Until(n.t, time.Minute, n.ID+" serves", func() error {
		if n.proc.Ended() {
			n.t.Fatalf("%s ended by itself:\n%s", n.ID, n.proc.Output())
		}
		return Ready(n.Admin)
	})
}

// Kill sends SIGKILL to the node.
func (n *Node) Kill() { n.proc.Kill() }

// Output is what all runs of the node have printed so far.
func (n *Node) Output() string {
	var all strings.Builder
	for _, p := range append(slices.Clone(n.ended), n.proc) {
		fmt.Fprintf(&all, "%s\n", p.Output())
	}
	return all.String()
}

// Process is the run of the node at present.
func (n *Node) Process() *Process { return n.proc }
