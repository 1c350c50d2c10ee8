package catalog

import (
	"sync"
)

// Machine keeps the present State for the Raft group `__meta`, which applies
// its committed commands to it one after the other. The state may be read from
// any goroutine.
type Machine struct {
	mu struct {
		sync.Mutex
		state   *State
		changed chan struct{} // closed when state is replaced
	}
}

// Result is what Machine.Apply yields: of a refused command the error.
type Result struct {
	Value any
	Err   error
}

// NewMachine is a Machine with an empty catalog.
func NewMachine() *Machine {
	m := &Machine{}
	m.mu.state, m.mu.changed = New(), make(chan struct{})
	return m
}

// State is the present catalog.
func (m *Machine) State() *State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.state
}

// Watch returns the present catalog and a channel that is closed once it has
// been replaced.
func (m *Machine) Watch() (*State, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.state, m.mu.changed
}

// Apply applies one committed, encoded command. It yields a Result.
func (m *Machine) Apply(_ uint64, cmd []byte) any {
	c, err := Decode(cmd)
	if err != nil {
		return Result{Err: err}
	}
	next, value, err := m.State().Apply(c)
	m.set(next)
	return Result{Value: value, Err: err}
}

// Snapshot encodes the present catalog. It panics if the catalog cannot be
// encoded, which no command can bring about.
func (m *Machine) Snapshot() []byte {
	b, err := m.State().Encode()
	if err != nil {
		panic("catalog: a state that was applied cannot be encoded: " + err.Error())
	}
	return b
}

// Restore replaces the catalog by one that Snapshot wrote; empty is the empty
// catalog.
func (m *Machine) Restore(b []byte) error {
	if len(b) == 0 {
		m.set(New())
		return nil
	}
	s, err := DecodeState(b)
	if err != nil {
		return err
	}
	m.set(s)
	return nil
}

func (m *Machine) set(s *State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s == m.mu.state {
		return
	}
	m.mu.state = s
	close(m.mu.changed)
	m.mu.changed = make(chan struct{})
}
