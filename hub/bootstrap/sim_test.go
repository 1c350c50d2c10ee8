package bootstrap

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "the one seed to simulate; 0: sim.seeds of them")
	simSeeds = flag.Uint64("sim.seeds", 800, "how many seeds to simulate")
)

// TestSimulation lets nodes find each other in a bad network: calls are lost,
// late and doubled, processes are killed at any point, each sees what it sees,
// one may lose its disk. There are never two decisions; and when everybody is
// up and hears everybody, there is one and everybody knows it.
func TestSimulation(t *testing.T) {
	first, last := uint64(1), *simSeeds
	if *simSeed != 0 {
		first, last = *simSeed, *simSeed
	}
	for seed := first; seed <= last; seed++ {
		(&sim{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), world: world{t: t, nodes: map[string]*node{}}, lives: map[string]int{}}).run()
		if t.Failed() {
			return
		}
	}
}

type sim struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand
	world
	expect  int
	wiped   bool
	net     []packet
	lives   map[string]int // processes so far: an answer is for the one that asked
	cluster string         // what was decided
	found   *Proposal
}

// packet is a call on its way, or its reply.
type packet struct {
	from  string
	life  int
	call  Call
	reply *Reply
}

func (s *sim) fail(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("seed %d (go test -run Simulation ./hub/bootstrap -sim.seed %d): %s\n%s", s.seed, s.seed, fmt.Sprintf(format, args...), s.show())
}

func (s *sim) run() {
	s.expect = 1 + s.rng.IntN(5)
	count := s.expect
	if s.expect > 1 {
		count += s.rng.IntN(s.expect) // fewer than two sites' worth
	}
	mayWipe := s.expect >= 3 && count == s.expect && s.rng.IntN(3) == 0
	for i := range count {
		s.start(string(rune('a'+i)), s.expect)
	}
	for range 40 + s.rng.IntN(300) {
		s.event(mayWipe)
		s.check()
	}
	s.heal()
	for range 40 {
		for _, name := range s.names() {
			s.send(name, s.view(s.nodes[name]))
			for len(s.net) > 0 {
				s.deliver(0)
			}
			s.check()
		}
	}
	if s.wiped && s.found == nil {
		return // its owner lost it; a person has to begin anew
	}
	for _, name := range s.names() {
		o := s.nodes[name].m.Outcome()
		if o.Decided == nil {
			s.fail("%s knows of no decision", name)
		}
		in := false
		for _, m := range o.Decided.Members {
			in = in || m.Name == name
		}
		if !s.wiped && in != (o.BrokerID != 0) {
			s.fail("%s is broker %d", name, o.BrokerID)
		}
	}
}

func (s *sim) pick() string { all := s.names(); return all[s.rng.IntN(len(all))] }

func (s *sim) event(mayWipe bool) {
	switch name := s.pick(); s.rng.IntN(12) {
	case 0, 1, 2:
		s.send(name, s.guess(name))
	case 3:
		s.kill(name)
	case 4, 5:
		if s.nodes[name].m == nil {
			s.start(name, s.expect)
		}
	case 6:
		if mayWipe && !s.wiped && s.rng.IntN(20) == 0 {
			s.wiped = true
			s.kill(name)
			s.nodes[name].disk = State{}
		}
	default:
		if len(s.net) > 0 {
			s.deliver(s.rng.IntN(len(s.net)))
		}
	}
}

func (s *sim) kill(name string) {
	s.nodes[name].m = nil
	s.lives[name]++
}

// guess is a wrong or old view.
func (s *sim) guess(name string) []Node {
	var view []Node
	for _, one := range s.view(s.nodes[name]) {
		switch s.rng.IntN(6) {
		case 0:
		case 1:
			one.Cluster = ""
			view = append(view, one)
		default:
			view = append(view, one)
		}
	}
	return view
}

func (s *sim) send(name string, view []Node) {
	n := s.nodes[name]
	if n.m == nil {
		return
	}
	calls := n.m.Tick(view)
	if !s.keep(name) {
		return
	}
	for _, c := range calls {
		s.net = append(s.net, packet{from: name, life: s.lives[name], call: c})
	}
}

// keep makes a node's state durable, or ends its process before or after that;
// then nothing leaves it.
func (s *sim) keep(name string) bool {
	switch n := s.nodes[name]; s.rng.IntN(30) {
	case 0:
		s.kill(name)
		return false
	case 1:
		n.save()
		s.kill(name)
		return false
	default:
		n.save()
		return true
	}
}

// deliver hands over one packet, which may be lost on the way or come again.
func (s *sim) deliver(i int) {
	p := s.net[i]
	if s.rng.IntN(6) != 0 {
		s.net = append(s.net[:i:i], s.net[i+1:]...)
	}
	if s.rng.IntN(8) == 0 {
		return
	}
	if p.reply != nil {
		if n := s.nodes[p.from]; n.m != nil && s.lives[p.from] == p.life {
			n.m.Answered(p.call, *p.reply)
			s.keep(p.from)
		}
		return
	}
	to := s.nodes[p.call.To.Name]
	if to.m == nil {
		return
	}
	reply := to.m.Handle(through(s.t, p.call.Request, DecodeRequest))
	if s.keep(p.call.To.Name) {
		p.reply = &reply
		s.net = append(s.net, p)
	}
}

// heal lets everybody be up and hear everybody from now on.
func (s *sim) heal() {
	s.rng = rand.New(quiet{})
	s.net = nil
	for _, name := range s.names() {
		if s.nodes[name].m == nil {
			s.start(name, s.expect)
		}
	}
}

// quiet is chance that never does harm: each draw is the highest there is.
type quiet struct{}

func (quiet) Uint64() uint64 { return 1<<64 - 1 }

// check looks for a second decision, in memory and on disks.
func (s *sim) check() {
	for _, name := range s.names() {
		n := s.nodes[name]
		states := []State{n.disk}
		if n.m != nil {
			states = append(states, n.m.State())
		}
		for _, one := range states {
			d := one.Decided
			if d == nil {
				continue
			}
			if s.found == nil {
				s.found = d
			}
			if !s.found.equal(d) {
				s.fail("two decisions: %+v and %+v", s.found, d)
			}
			if len(d.Members) != s.expect {
				s.fail("a site of %d nodes, want %d", len(d.Members), s.expect)
			}
		}
	}
}
