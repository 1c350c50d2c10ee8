package replica

import (
	"log/slog"
	"testing"

	"github.com/entrepot-hub/entrepot/storytest"
)

// lineMachine counts commands.
type lineMachine struct{ n int }

func (m *lineMachine) Apply(uint64, []byte) any { m.n++; return nil }
func (m *lineMachine) Snapshot() []byte         { return nil }
func (m *lineMachine) Restore([]byte) error     { m.n = 0; return nil }

// The last voter of a group with a machine comes back. Its configuration is that of
// the commit, but the machine is behind, and the change that made it the only voter
// is among what is applied again: it leads nevertheless, with no more than one tick.
func TestLastVoterOfAMachineComesBack(t *testing.T) {
	e := &cluster{t: t, nodes: map[uint64]*member{}, cut: map[uint64]bool{}, auto: true, now: 1_000_000}
	story := func(verb string, words ...string) { e.do(verb, storytest.Args{Words: words}) }
	story("nodes", "count=2")
	story("campaign", "n1")
	story("remove-voter", "n1", "id=2")
	m := e.nodes[1]
	m.log.crash()
	c, err := openCore(coreConfig{id: 1, machine: &lineMachine{}, electionTicks: 10, maxInflight: 8 << 20, mostProducers: 100, logger: slog.New(slog.DiscardHandler)}, m.log, e.now)
	if err != nil {
		t.Fatal(err)
	}
	m.core = c
	e.step(m, input{})
	e.settle()
	if !c.serving() {
		t.Errorf("%v at entry %d of %d: %s", c.role, c.applied, c.tail.index, c.rn.Status())
	}
}
