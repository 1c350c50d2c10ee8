package bootstrap

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Config is who the node is.
type Config struct {
	Name   string
	Peer   string // host:port for calls
	Zone   string
	Expect int           // nodes that a new site begins with; 0: only join one
	Draw   func() string // a new random text: cluster IDs, nonces
}

// Machine is one node's part in the beginning of a site. After each call of a
// method, State has to be durable before anything that the call returned, or
// that Outcome says, leaves the node or is acted on.
type Machine struct {
	cfg      Config
	state    State
	view     []Node
	accepted map[string]bool // who has accepted the proposal that this node owns
	told     map[string]bool // who knows what is decided
	why      string          // what stands in the way, for people
}

// New is a machine that goes on from what was saved.
func New(cfg Config, saved State) *Machine {
	m := &Machine{cfg: cfg, state: saved, accepted: map[string]bool{}, told: map[string]bool{}}
	if m.state.Nonce == "" {
		m.state.Nonce = cfg.Draw()
	}
	return m
}

// State is what has to be durable now. Nothing in it may be changed.
func (m *Machine) State() State { return m.state }

// Outcome is how far it is.
type Outcome struct {
	Decided  *Proposal // nil: not decided yet, as far as this node knows
	BrokerID int32     // of this node in Decided; 0: it has to join the site
	Why      string    // what it waits for, for people
}

// Outcome tells whether there is a site.
func (m *Machine) Outcome() Outcome {
	if d := m.state.Decided; d != nil {
		return Outcome{Decided: d, BrokerID: d.BrokerID(m.cfg.Name, m.state.Nonce)}
	}
	return Outcome{Why: m.why}
}

// Tick takes what gossip shows now, of nodes that are alive, and returns what to
// ask whom. It is called every second or so and when the view changes.
func (m *Machine) Tick(view []Node) []Call {
	m.view = view
	if m.state.Decided != nil {
		return m.tellOthers()
	}
	m.why = ""
	var calls []Call
	for _, n := range view {
		if n.Cluster != "" {
			calls = append(calls, Call{n.Member, Request{Ask, m.state.Held}})
		}
	}
	begun := len(calls) > 0
	if begun {
		m.why = "a node of the site was found and is asked to let this one join"
	}
	if h := m.state.Held; h != nil && !m.owns(h) {
		m.why = fmt.Sprintf("this node has accepted that the site begins with %s; node %q decides it", names(h.Members), h.Owner)
		asked := map[string]bool{}
		for _, c := range calls {
			asked[c.To.Name] = true
		}
		return append(calls, m.each(h, Request{Ask, h}, asked)...)
	}
	m.review(begun)
	h := m.state.Held
	if h == nil {
		return calls
	}
	m.accepted[m.cfg.Name] = true
	m.decide()
	if m.state.Decided != nil {
		return append(calls, m.tellOthers()...)
	}
	return append(calls, m.each(h, Request{Propose, h}, m.accepted)...)
}

// review drops this node's own proposal when another one is wanted by now, and
// makes one when it is this node's turn.
func (m *Machine) review(begun bool) {
	want := m.want()
	if h := m.state.Held; h != nil && (begun || want != nil && !slices.Equal(want, h.Members)) {
		m.state.Held = nil
	}
	if m.state.Held != nil || begun || want == nil {
		return
	}
	if want[0].Name != m.cfg.Name {
		m.why = fmt.Sprintf("waits for node %q, the first by name, to propose a site of %s", want[0].Name, names(want))
		return
	}
	m.accepted = map[string]bool{}
	m.state.Held = &Proposal{Cluster: m.cfg.Draw(), Owner: m.cfg.Name, Members: want}
}

// want are the nodes with which a site would begin by what this node sees: of
// those that are in none and expect as many, the first by name. nil: too few,
// or they do not fit together.
func (m *Machine) want() []Member {
	if m.cfg.Expect < 1 {
		m.why = cmp.Or(m.why, "cluster.bootstrap_expect is 0: waits for a node of the site")
		return nil
	}
	all := []Member{m.self()}
	for _, n := range m.view {
		switch {
		case n.Cluster != "" || n.Expect == 0 || n.is(m.cfg.Name, m.state.Nonce):
		case n.Name == m.cfg.Name:
			m.why = fmt.Sprintf("the node at %s is called %q as well: give one another node.id", n.Peer, n.Name)
			return nil
		case n.Expect != m.cfg.Expect:
			m.why = fmt.Sprintf("node %q begins a site with %d nodes, this one with %d: set cluster.bootstrap_expect alike", n.Name, n.Expect, m.cfg.Expect)
			return nil
		default:
			all = append(all, n.Member)
		}
	}
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	if len(all) < m.cfg.Expect {
		m.why = fmt.Sprintf("waits until it sees %d nodes, sees %s", m.cfg.Expect, names(all))
		return nil
	}
	all = all[:m.cfg.Expect]
	for i := 1; i < len(all); i++ {
		if all[i].Name == all[i-1].Name {
			m.why = fmt.Sprintf("the nodes at %s and %s are both called %q: give one another node.id", all[i-1].Peer, all[i].Peer, all[i].Name)
			return nil
		}
	}
	return all
}

func (m *Machine) self() Member {
	return Member{Name: m.cfg.Name, Nonce: m.state.Nonce, Peer: m.cfg.Peer, Zone: m.cfg.Zone}
}

func (m *Machine) owns(p *Proposal) bool {
	return p.Owner == m.cfg.Name && p.BrokerID(m.cfg.Name, m.state.Nonce) != 0
}

// decide takes the decision when all have accepted: only the owner may.
func (m *Machine) decide() {
	h := m.state.Held
	var missing []Member
	for _, one := range h.Members {
		if !m.accepted[one.Name] {
			missing = append(missing, one)
		}
	}
	if len(missing) > 0 {
		m.why = fmt.Sprintf("the site begins with %s once %s has accepted", names(h.Members), names(missing))
		return
	}
	m.state.Held, m.state.Decided = nil, h
}

// each is a request to all others of a proposal but those that are done.
func (m *Machine) each(p *Proposal, r Request, done map[string]bool) []Call {
	var calls []Call
	for _, to := range p.Members {
		if to.Name != m.cfg.Name && !done[to.Name] {
			calls = append(calls, Call{to, r})
		}
	}
	return calls
}

// tellOthers tells the others of a decision that this node is in. Whoever is not
// reached asks.
func (m *Machine) tellOthers() []Call {
	d := m.state.Decided
	if d.BrokerID(m.cfg.Name, m.state.Nonce) == 0 {
		return nil
	}
	return m.each(d, Request{Tell, d}, m.told)
}

// Handle answers another node.
func (m *Machine) Handle(r Request) Reply {
	reply := Reply{Nonce: m.state.Nonce}
	if r.Proposal != nil {
		if err := r.Proposal.check(); err != nil {
			reply.Verdict, reply.Why = Busy, err.Error()
			return reply
		}
	}
	if r.Kind == Tell && r.Proposal != nil && m.state.Decided == nil {
		if err := m.learn(r.Proposal, false); err != nil {
			reply.Verdict, reply.Why = Busy, err.Error()
			return reply
		}
	}
	p := r.Proposal
	switch {
	case m.state.Decided != nil:
		reply.Verdict, reply.Decided = Decided, m.state.Decided
	case p == nil:
		reply.Verdict = Open
	case p.BrokerID(m.cfg.Name, m.state.Nonce) == 0:
		reply.Verdict = Stranger
		reply.Why = fmt.Sprintf("node %q has another data directory by now, or is another node of the same name", m.cfg.Name)
	case r.Kind == Propose:
		reply.Verdict, reply.Why = m.accept(p)
	case m.owns(p) && (m.state.Held == nil || m.state.Held.Cluster != p.Cluster):
		reply.Verdict = Dropped
	default:
		reply.Verdict = Open
	}
	return reply
}

// accept holds a proposal unless it holds another one.
func (m *Machine) accept(p *Proposal) (Verdict, string) {
	switch h := m.state.Held; {
	case h != nil && h.equal(p):
		return Accepted, ""
	case h != nil:
		return Busy, fmt.Sprintf("node %q has accepted another proposal, of node %q", m.cfg.Name, h.Owner)
	case p.Owner == m.cfg.Name:
		return Busy, "a proposal of this node that it has dropped"
	case len(p.Members) != m.cfg.Expect:
		return Busy, fmt.Sprintf("node %q begins a site with %d nodes, the proposal has %d: set cluster.bootstrap_expect alike", m.cfg.Name, m.cfg.Expect, len(p.Members))
	}
	m.state.Held = p
	return Accepted, ""
}

// Answered takes the reply to a call. One that does not come is left out.
func (m *Machine) Answered(c Call, r Reply) {
	h := m.state.Held
	switch {
	case r.Verdict == Decided && r.Decided != nil:
		if m.state.Decided != nil {
			m.told[c.To.Name] = m.told[c.To.Name] || m.state.Decided.equal(r.Decided)
			return
		}
		dead := h == nil || m.owns(h) || h.meets(r.Decided) || h.BrokerID(c.To.Name, r.Nonce) != 0
		if err := m.learn(r.Decided, dead); err != nil {
			m.why = fmt.Sprintf("node %q: %v", c.To.Name, err)
		}
	case h == nil || c.Request.Proposal == nil || c.Request.Proposal.Cluster != h.Cluster:
		// of a proposal that is not held any more
	case r.Verdict == Stranger && c.To.Name == h.Owner && !m.owns(h):
		m.why = fmt.Sprintf("node %q has lost its data directory while the site began: empty the data directories of %s, which hold nothing yet", h.Owner, names(h.Members))
	case r.Verdict == Dropped && c.To.Name == h.Owner && c.To.Nonce == r.Nonce:
		m.state.Held = nil
	case r.Verdict == Accepted && c.Request.Kind == Propose && m.owns(h) && h.BrokerID(c.To.Name, r.Nonce) != 0:
		m.accepted[c.To.Name] = true
		m.decide()
	case r.Why != "":
		m.why = r.Why
	}
}

// learn takes over what others have decided. dead says that the proposal which
// this node holds cannot be decided any more if d is another one.
func (m *Machine) learn(d *Proposal, dead bool) error {
	if err := d.check(); err != nil {
		return err
	}
	h := m.state.Held
	held := h != nil && h.equal(d)
	switch {
	case held:
	case d.BrokerID(m.cfg.Name, m.state.Nonce) != 0:
		// It was decided with this directory's word, of which it knows nothing:
		// it is a copy from before, and its votes may have been given.
		return fmt.Errorf("the site has this data directory as a founder, and it knows nothing of it: it is an old copy; empty it, then the node joins anew")
	case h != nil && !dead && !h.meets(d):
		return fmt.Errorf("there is a site %s that has no node in common with %s, which this node has accepted", d.Cluster, names(h.Members))
	}
	m.state.Held, m.state.Decided = nil, d
	return nil
}

func names(members []Member) string {
	all := make([]string, len(members))
	for i, m := range members {
		all[i] = m.Name
	}
	return strings.Join(all, ", ")
}
