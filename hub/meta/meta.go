// Package meta is the site's catalog as a node has it: the pure state machine
// joined with the Raft group that orders its commands, which any node proposes
// and the group's leader commits.
//
// Goroutines: none.
package meta

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

// Config is what a catalog asks of its node.
type Config struct {
	// Born are the first members of the group. Joins says that this node comes
	// to it later, Alone that no other node has ever been of it.
	Born         []uint64
	Joins, Alone bool
	// Applied brings the node in line with the present state.
	Applied func(ctx context.Context) error
	// Ask hands a command to the node that leads the catalog, which answers as
	// Answer does there.
	Ask func(ctx context.Context, leader int32, cmd []byte) ([]byte, error)
	// Leader is who leads the catalog as other nodes say, for a node that is no
	// member of its group yet; 0: nobody.
	Leader func() int32
}

// Catalog is this node's.
type Catalog struct {
	cfg     Config
	machine *answers
	group   *replica.Replica
}

// Open brings the group of the catalog up.
func Open(set *replica.Set, cfg Config) (*Catalog, error) {
	m := &Catalog{cfg: cfg, machine: newAnswers()}
	var err error
	m.group, err = set.Add(replica.Spec{ID: storage.LogID{Topic: catalog.MetaGroup}, Born: cfg.Born, Joins: cfg.Joins, Alone: cfg.Alone, Machine: m.machine})
	if err != nil {
		return nil, fmt.Errorf("the catalog: %w", err)
	}
	return m, nil
}

// State is the present catalog.
func (m *Catalog) State() *catalog.State { return m.machine.State() }

// Watch is the present catalog, and a channel that is closed when it changes.
func (m *Catalog) Watch() (*catalog.State, <-chan struct{}) { return m.machine.Watch() }

// Voters are the members of the group that decide, as far as this node knows.
func (m *Catalog) Voters() []uint64 { return m.group.Members().Voters }

// Quorum is the group and how far its members are, where this node leads it.
func (m *Catalog) Quorum(ctx context.Context) (replica.Status, []replica.Progress, error) {
	members, err := m.group.Progress(ctx)
	if err == nil && members == nil {
		err = fmt.Errorf("the catalog: %w", record.ErrNotLeader)
	}
	return m.group.Status(), members, err
}

// Leader is who leads the catalog, as far as this node knows; 0: nobody.
func (m *Catalog) Leader() int32 {
	if leader, _ := m.group.Leader(); leader != 0 {
		return leader
	}
	return m.cfg.Leader()
}

// Propose commits a command, at whichever node leads the catalog, and returns
// its result once this node is in line with it: a topic that was created can be
// written to, if this node leads it.
func (m *Catalog) Propose(ctx context.Context, cmd catalog.Command) (any, error) {
	b, err := catalog.Encode(cmd)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTime)
	defer cancel()
	index, err := m.commit(ctx, b)
	if err != nil {
		return nil, err
	}
	result, err := m.machine.wait(ctx, index, m.group)
	if err != nil {
		return nil, err
	}
	if result.Err != nil {
		return nil, result.Err
	}
	return result.Value, m.cfg.Applied(ctx)
}

// proposeTime is how long a command of the catalog may take: an election, or
// two, and a disk that is busy.
const proposeTime = 30 * time.Second

// proposeAgain is the time between two looks for a leader.
const proposeAgain = 50 * time.Millisecond

// errNotProposed says that a command is surely not in the log.
var errNotProposed = errors.New("the command was not proposed")

// commit has a command committed and returns its index. It waits for a leader;
// what a leader was asked for, and has not answered, it does not ask again.
func (m *Catalog) commit(ctx context.Context, cmd []byte) (uint64, error) {
	for {
		changed := m.group.Changed()
		index, err := m.try(ctx, cmd)
		if !errors.Is(err, errNotProposed) {
			return index, err
		}
		wait := time.NewTimer(proposeAgain)
		select {
		case <-changed:
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return 0, fmt.Errorf("the catalog: %w: %w", record.ErrTimeout, err)
		}
		wait.Stop()
	}
}

func (m *Catalog) try(ctx context.Context, cmd []byte) (uint64, error) {
	st := m.group.Status()
	if st.Serving {
		return m.propose(ctx, cmd)
	}
	if st.Err != nil {
		return 0, fmt.Errorf("the catalog: %w", st.Err)
	}
	leader := st.Leader
	if leader == 0 {
		leader = m.cfg.Leader()
	}
	if st.Role == replica.RoleLeader || leader == 0 {
		return 0, fmt.Errorf("%w: %w", errNotProposed, record.ErrLeaderUnknown)
	}
	out, err := m.cfg.Ask(ctx, leader, cmd)
	return asked(leader, out, err)
}

// propose commits a command here.
func (m *Catalog) propose(ctx context.Context, cmd []byte) (uint64, error) {
	out, err := m.group.Propose(ctx, cmd)
	if err != nil {
		return 0, undecided(err)
	}
	a, ok := out.(answer)
	if !ok {
		panic(fmt.Sprintf("meta: the catalog answered %T, want answer", out))
	}
	return a.index, nil
}

// undecided says of an error of the catalog's group what it means for a command:
// a leader that is replaced does not know whether its successor has it.
func undecided(err error) error {
	if errors.Is(err, record.ErrNotLeader) || errors.Is(err, record.ErrLeaderUnknown) {
		return fmt.Errorf("the catalog: %w: its leader changed, whether the command is in the log is not known: %v", record.ErrTimeout, err) //nolint:errorlint // for who asked it is nothing else
	}
	return err
}

// Insist does what has to be proposed to the catalog until it is decided: for as
// long as the group has no leader, or this node's copy is damaged and not mended
// yet from another one's. Whether it is asked again then, again says.
func Insist(ctx context.Context, propose func() error, again func(why error) bool) error {
	for {
		err := propose()
		if err == nil || !errors.Is(err, record.ErrTimeout) && !errors.Is(err, record.ErrQuarantined) || !again(err) {
			return err
		}
		wait := time.NewTimer(proposeAgain)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return err
		}
	}
}
