package bootstrap

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/storytest"
)

func TestStories(t *testing.T) {
	storytest.Run(t, func(t *testing.T) func(string, storytest.Args) string {
		return (&world{t: t, nodes: map[string]*node{}}).do
	})
}

// world is some nodes without a network: calls are made at once.
type world struct {
	t     *testing.T
	nodes map[string]*node
	drawn int
}

// node is one process: its machine while it is up, and its disk.
type node struct {
	cfg  Config
	m    *Machine // nil: down
	disk State
	sees []string // nil: all that are up
}

func (w *world) draw() string {
	w.drawn++
	return fmt.Sprintf("r%d", w.drawn)
}

func (w *world) start(name string, expect int) {
	n := w.nodes[name]
	if n == nil {
		n = &node{}
		w.nodes[name] = n
	}
	n.cfg = Config{Name: name, Peer: name + ":7948", Expect: expect, Draw: w.draw}
	n.m = New(n.cfg, n.disk)
	n.save()
}

// save makes the machine's state durable, through its encoding.
func (n *node) save() {
	b, err := Encode(n.m.State())
	if err == nil {
		n.disk, err = DecodeState(b)
	}
	if err != nil {
		panic(err)
	}
}

// view is what gossip shows node n.
func (w *world) view(n *node) []Node {
	var view []Node
	for _, name := range w.names() {
		o := w.nodes[name]
		if o == n || o.m == nil || n.sees != nil && !slices.Contains(n.sees, name) {
			continue
		}
		one := Node{Member: o.m.self(), Expect: o.cfg.Expect}
		if d := o.m.Outcome().Decided; d != nil && o.m.Outcome().BrokerID != 0 {
			one.Cluster = d.Cluster
		}
		view = append(view, one)
	}
	return view
}

func (w *world) names() []string {
	var all []string
	for name := range w.nodes {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func (w *world) do(verb string, a storytest.Args) string {
	name := a.Bare()
	switch verb {
	case "start":
		w.start(name, int(a.Int("expect", 3)))
		return ""
	case "kill":
		w.nodes[name].m = nil
		return ""
	case "wipe":
		w.nodes[name].m, w.nodes[name].disk = nil, State{}
		return ""
	case "sees":
		w.nodes[name].sees = slices.DeleteFunc(strings.Split(a.Get("nodes"), ","), func(s string) bool { return s == "" })
		if a.Get("nodes") == "all" {
			w.nodes[name].sees = nil
		}
		return ""
	case "tick":
		return w.tick(name, strings.Split(a.Get("only"), ","))
	case "show":
		return w.show()
	}
	w.t.Fatalf("unknown verb %q", verb)
	return ""
}

// tick makes a node's calls; with only, those to some.
func (w *world) tick(name string, only []string) string {
	n := w.nodes[name]
	var b strings.Builder
	calls := n.m.Tick(w.view(n))
	n.save()
	for _, c := range calls {
		to := w.nodes[c.To.Name]
		fmt.Fprintf(&b, "%s to %s: ", c.Request.Kind, c.To.Name)
		if to == nil || to.m == nil || only[0] != "" && !slices.Contains(only, c.To.Name) {
			b.WriteString("no answer\n")
			continue
		}
		reply := to.m.Handle(through(w.t, c.Request, DecodeRequest))
		to.save()
		fmt.Fprintf(&b, "%s\n", reply.Verdict)
		n.m.Answered(c, through(w.t, reply, DecodeReply))
		n.save()
	}
	return b.String() + n.outcome()
}

// through is v after its encoding.
func through[T Request | Reply | State](t testing.TB, v T, decode func([]byte) (T, error)) T {
	t.Helper()
	b, err := Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	again, err := decode(b)
	if err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return again
}

func (n *node) outcome() string {
	if n.m == nil {
		return "down"
	}
	o := n.m.Outcome()
	switch {
	case o.Decided == nil:
		return o.Why
	case o.BrokerID == 0:
		return fmt.Sprintf("joins site %s of %s", o.Decided.Cluster, names(o.Decided.Members))
	}
	return fmt.Sprintf("broker %d of site %s with %s", o.BrokerID, o.Decided.Cluster, names(o.Decided.Members))
}

func (w *world) show() string {
	var b strings.Builder
	for _, name := range w.names() {
		fmt.Fprintf(&b, "%s: %s\n", name, w.nodes[name].outcome())
	}
	return b.String()
}
