package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storytest"
)

func TestStories(t *testing.T) {
	storytest.Run(t, func(t *testing.T) func(string, storytest.Args) string {
		e := &env{t: t, state: New()}
		return e.do
	})
}

// env applies a story's commands to a catalog.
type env struct {
	t     *testing.T
	state *State
	placing
	leading
}

func (e *env) do(verb string, a storytest.Args) string {
	switch verb {
	case "show":
		return show(e.state)
	case "task", "member", "place":
		return e.placement(verb, a)
	case "pending", "plan", "loss", "meta", "holds":
		return e.look(verb, a)
	case "group", "node", "transfer":
		return e.lead(verb, a)
	case "settings":
		topic, ok := e.state.Topic(a.Bare())
		if !ok {
			return "no such topic"
		}
		return fmt.Sprintf("%+v", topic.Settings())
	}
	return e.apply(command(e.t, verb, a))
}

// apply puts the command through its encoding, applies it twice to see that
// the answer is the same, and puts the state through its own encoding.
func (e *env) apply(c Command) string {
	e.t.Helper()
	b, err := Encode(c)
	if err != nil {
		e.t.Fatal(err)
	}
	decoded, err := Decode(b)
	if err != nil {
		e.t.Fatalf("decode %s: %v", b, err)
	}
	before := encode(e.t, e.state)
	next, result, err := e.state.Apply(decoded)
	again, _, err2 := e.state.Apply(decoded)
	if !bytes.Equal(encode(e.t, next), encode(e.t, again)) || fmt.Sprint(err) != fmt.Sprint(err2) {
		e.t.Fatalf("%T gave two different states", c)
	}
	if !bytes.Equal(before, encode(e.t, e.state)) {
		e.t.Fatalf("%T changed the state before it", c)
	}
	restored, derr := DecodeState(encode(e.t, next))
	if derr != nil {
		e.t.Fatalf("%T: the state after it cannot be decoded: %v", c, derr)
	}
	if show(restored) != show(next) {
		e.t.Fatalf("%T: the state after it decodes to another:\n%s\nnot\n%s", c, show(restored), show(next))
	}
	e.state = restored
	if err != nil {
		return "error: " + err.Error()
	}
	switch r := result.(type) {
	case nil:
		return "ok"
	case *Topic:
		return showTopic(r)
	case []error:
		return showErrors(r)
	case Registered:
		return fmt.Sprintf("node %d", r.ID) + incarnation(r.Incarnation)
	default:
		return fmt.Sprintf("%+v", r)
	}
}

func encode(t *testing.T, s *State) []byte {
	t.Helper()
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func command(t *testing.T, verb string, a storytest.Args) Command {
	t.Helper()
	switch verb {
	case "site":
		c := SiteInit{Site: a.Get("name"), SiteID: int32(a.Int("id", 0)), Cluster: a.Get("cluster")}
		if f := a.Get("founders"); f != "" {
			for name := range strings.SplitSeq(f, ",") {
				c.Founders = append(c.Founders, Founder{Name: name, Nonce: "dir-of-" + name, Peer: name + ":7948"})
			}
		}
		return c
	case "register":
		return RegisterNode{Name: a.Get("name"), Site: a.Get("site"), Kafka: a.Get("kafka"), Rack: a.Get("rack"),
			Node: int32(a.Int("node", 0)), Incarnation: uint32(a.Int("incarnation", 0)), Nonce: a.Get("nonce"), Wiped: a.Has("wiped")}
	case "create":
		c := CreateTopic{
			Name: a.Bare(), ID: topicID(a.Int("id", 0)), Partitions: int32(a.Int("partitions", 0)), Replicas: int32(a.Int("replicas", 0)),
			Config: config(a), Created: a.Int("at", 0), Assignment: assignment(t, a), Mirror: mirror(a),
		}
		return c
	case "internal":
		return InternalTopic(a.Bare(), topicID(a.Int("id", 0)), int32(a.Int("partitions", 0)), int32(a.Int("replicas", 0)), a.Int("at", 0))
	case "delete":
		return DeleteTopic{Name: a.Bare()}
	case "alter":
		c := AlterTopicConfig{Name: a.Bare(), Set: config(a)}
		if r := a.Get("remove"); r != "" {
			c.Remove = strings.Split(r, ",")
		}
		return c
	case "grow":
		return CreatePartitions{Name: a.Bare(), Count: int32(a.Int("to", 0)), Link: a.Get("as"), Assignment: assignment(t, a)}
	case "producer-ids":
		return AllocateProducerIDs{Count: int32(a.Int("count", 0))}
	case "job":
		return SetJob{Name: a.Bare(), Desired: a.Get("desired")}
	case "grant":
		return GrantLease{Task: a.Bare(), Node: int32(a.Int("node", 0)), After: a.Int("after", 0), Floor: a.Int("floor", 0)}
	case "release":
		return ReleaseLease{Task: a.Bare(), Node: int32(a.Int("node", 0)), Epoch: a.Int("epoch", 0)}
	case "connector":
		return SetConnector{Name: a.Bare(), Config: config(a), New: a.Get("new") == "yes", Desired: a.Get("desired")}
	case "reassign", "cancel", "done", "drain", "undrain", "decommission", "recommission", "replace", "remove":
		return nodeCommand(t, verb, a)
	case "forget":
		return DeleteConnector{Name: a.Bare()}
	case "set-mirror":
		return SetMirror{Name: a.Bare(), Mirror: mirror(a)}
	}
	t.Fatalf("unknown verb %q", verb)
	return nil
}

// config collects the arguments that have a dot or are ours.
func config(a storytest.Args) map[string]string {
	var m map[string]string
	for _, w := range a.Words {
		k, v, ok := strings.Cut(w, "=")
		if ok && (strings.Contains(k, ".") || k == KeyDurability) {
			if m == nil {
				m = map[string]string{}
			}
			m[k] = v
		}
	}
	return m
}

func mirror(a storytest.Args) *Mirror {
	if a.Get("source") == "" {
		return nil
	}
	return &Mirror{Source: a.Get("source"), Link: a.Get("link"), Epoch: a.Int("epoch", 0), State: MirrorState(a.Get("state"))}
}

func assignment(t *testing.T, a storytest.Args) [][]int32 {
	t.Helper()
	v := a.Get("on")
	if v == "" {
		return nil
	}
	var all [][]int32
	for p := range strings.SplitSeq(v, "/") {
		var nodes []int32
		for n := range strings.SplitSeq(p, ",") {
			var id int32
			if _, err := fmt.Sscan(n, &id); err != nil {
				t.Fatal(err)
			}
			nodes = append(nodes, id)
		}
		all = append(all, nodes)
	}
	return all
}

func topicID(n int64) (id record.TopicID) {
	id[15] = byte(n)
	return id
}

func show(s *State) string {
	var b strings.Builder
	name, id := s.Site()
	fmt.Fprintf(&b, "site %q %d\n", name, id)
	for _, n := range s.Nodes() {
		fmt.Fprintf(&b, "node %d %s%s%s at %s\n", n.ID, n.Name, incarnation(n.Incarnation), lifecycle(n), n.Kafka)
	}
	for _, t := range s.Topics() {
		b.WriteString(showTopic(t) + "\n")
	}
	jobs := s.Jobs()
	for _, j := range slices.Sorted(maps.Keys(jobs)) {
		fmt.Fprintf(&b, "job %s %s\n", j, jobs[j])
	}
	leases := s.Leases()
	for _, task := range slices.Sorted(maps.Keys(leases)) {
		fmt.Fprintf(&b, "lease %s node %d epoch %d\n", task, leases[task].Node, leases[task].Epoch)
	}
	for _, c := range slices.Sorted(maps.Keys(s.Connectors())) {
		fmt.Fprintf(&b, "connector %s", c)
		for _, k := range sortedKeys(s.Connectors()[c]) {
			fmt.Fprintf(&b, " %s=%s", k, s.Connectors()[c][k])
		}
		b.WriteString("\n")
	}
	return b.String()
}

// members shows each as node, or node.incarnation.
func members(all []uint64) string {
	var out []string
	for _, m := range all {
		s := fmt.Sprint(memberNode(m))
		if inc := m >> 32; inc > 0 {
			s += fmt.Sprintf(".%d", inc)
		}
		out = append(out, s)
	}
	return strings.Join(out, ",")
}

func incarnation(n uint32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" incarnation %d", n)
}

func showTopic(t *Topic) string {
	s := fmt.Sprintf("topic %s id %d", t.Name, t.ID[15])
	for i, p := range t.Partitions {
		s += fmt.Sprintf(" %d@%v", i, p.Replicas)
		if p.Born != nil {
			s += fmt.Sprintf("(born %s)", members(p.Born))
		}
		if m := p.Move; m != nil {
			s += fmt.Sprintf("(move %d from %s", m.Seq, members(m.From))
			if m.Through != nil {
				s += " through " + members(m.Through)
			}
			s += ")"
		}
	}
	for _, k := range sortedKeys(t.Config) {
		s += " " + k + "=" + t.Config[k]
	}
	if m := t.Mirror; m != nil {
		s += fmt.Sprintf(" mirror of %s by %s epoch %d %s", m.Source, m.Link, m.Epoch, m.State)
	}
	return s
}

func TestDefaultsAreLegal(t *testing.T) {
	names := []string{}
	for _, k := range Keys() {
		names = append(names, k.Name)
		if err := k.Check(k.Default); err != nil {
			t.Errorf("default of %s: %v", k.Name, err)
		}
		if k.Doc == "" || k.Inert != strings.HasPrefix(k.Doc, "No effect") {
			t.Errorf("%s: doc %q, inert %v", k.Name, k.Doc, k.Inert)
		}
	}
	if !slices.IsSorted(names) {
		// durability stands where the alphabet puts it, like every other.
		t.Errorf("the table is not in the order of names: %v", names)
	}
}

func TestUnknownKeyNamesTheNearest(t *testing.T) {
	for _, c := range [][2]string{
		{"retntion.ms", "retention.ms"},
		{"mirror_to", "mirror.to"},
		{"Durability", "durability"},
		{"", "config name \"\""},
		{strings.Repeat("x", 10_000), ""},
	} {
		_, err := LookupKey(c[0])
		if !errors.Is(err, record.ErrInvalidConfig) || !strings.Contains(err.Error(), c[1]) || len(err.Error()) > 300 {
			t.Errorf("%.20q: %v", c[0], err)
		}
	}
}

func TestMachine(t *testing.T) {
	m := NewMachine()
	_, changed := m.Watch()
	apply := func(c Command) Result {
		b, err := Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		return m.Apply(1, b).(Result)
	}
	if r := apply(SiteInit{Site: "east", SiteID: 1}); r.Err != nil {
		t.Fatal(r.Err)
	}
	select {
	case <-changed:
	default:
		t.Error("a watcher was not told")
	}
	if r := apply(RegisterNode{Name: "a", Site: "east"}); r.Err != nil || r.Value != (Registered{ID: 1}) {
		t.Fatalf("%+v", r)
	}
	if r := m.Apply(2, []byte("garbage")).(Result); r.Err == nil {
		t.Error("garbage was applied")
	}
	other := NewMachine()
	if err := other.Restore(m.Snapshot()); err != nil {
		t.Fatal(err)
	}
	if show(other.State()) != show(m.State()) {
		t.Error("the restored catalog differs")
	}
	if err := other.Restore([]byte{9}); err == nil {
		t.Error("a snapshot of another version was restored")
	}
	if err := other.Restore(nil); err != nil || len(other.State().Nodes()) != 0 {
		t.Errorf("empty restore: %v", err)
	}
}

// Ten thousand topics must stay bearable: each command copies two slices of
// pointers.
func BenchmarkCreateTopic(b *testing.B) {
	s := New()
	must := func(c Command) {
		next, _, err := s.Apply(c)
		if err != nil {
			b.Fatal(err)
		}
		s = next
	}
	must(SiteInit{Site: "east", SiteID: 1})
	must(RegisterNode{Name: "a", Site: "east"})
	create := func(i int) CreateTopic {
		var id record.TopicID
		id[0], id[1], id[2], id[3] = byte(i), byte(i>>8), byte(i>>16), 1
		return CreateTopic{Name: fmt.Sprintf("topic.%d", i), ID: id, Partitions: 3, Replicas: 1}
	}
	for i := range 10_000 {
		must(create(i))
	}
	b.ResetTimer()
	for i := range b.N {
		if _, _, err := s.Apply(create(10_000 + i)); err != nil {
			b.Fatal(err)
		}
	}
}
