package hub

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/protocol"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/record"
)

// meta joins the catalog, a pure state machine, with the Raft group that
// orders its commands.
type meta struct {
	machine *answers
	group   *replica.Replica
	applied func(ctx context.Context) error // brings the node in line with the present state
	// ask has the node that leads the catalog commit a command (forward.go).
	ask func(ctx context.Context, leader int32, cmd []byte) (index uint64, err error)
	// leader is who leads the catalog as other nodes say, for a node that is no
	// member of its group yet; 0: nobody.
	leader func() int32
}

// State is the present catalog.
func (m *meta) State() *catalog.State { return m.machine.State() }

// Propose commits a command, at whichever node leads the catalog, and returns
// its result once this node is in line with it: a topic that was created can be
// written to, if this node leads it.
func (m *meta) Propose(ctx context.Context, cmd catalog.Command) (any, error) {
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
	return result.Value, m.applied(ctx)
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
func (m *meta) commit(ctx context.Context, cmd []byte) (uint64, error) {
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

func (m *meta) try(ctx context.Context, cmd []byte) (uint64, error) {
	st := m.group.Status()
	if st.Serving {
		return m.propose(ctx, cmd)
	}
	if st.Err != nil {
		return 0, fmt.Errorf("the catalog: %w", st.Err)
	}
	leader := st.Leader
	if leader == 0 {
		leader = m.leader()
	}
	if st.Role == replica.RoleLeader || leader == 0 {
		return 0, fmt.Errorf("%w: %w", errNotProposed, record.ErrLeaderUnknown)
	}
	return m.ask(ctx, leader, cmd)
}

// propose commits a command here.
func (m *meta) propose(ctx context.Context, cmd []byte) (uint64, error) {
	out, err := m.group.Propose(ctx, cmd)
	if err != nil {
		return 0, undecided(err)
	}
	a, ok := out.(answer)
	if !ok {
		panic(fmt.Sprintf("hub: the catalog answered %T, want answer", out))
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

// createTopic proposes a topic that begins here; one that exists is left alone.
func (m *meta) createTopic(ctx context.Context, cmd catalog.CreateTopic) error {
	_, err := m.Propose(ctx, cmd)
	if errors.Is(err, record.ErrTopicExists) {
		return nil
	}
	return err
}

// oldClusterID is the cluster ID of sites that began before they had one: the
// site's name in the form that Kafka's clients show.
func oldClusterID(cfg Config) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "entrepot site %s %d", cfg.Node.Site, cfg.siteID()))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

func now() int64 { return time.Now().UnixMilli() }

// quorum is the catalog's group, where this node leads it.
func (m *meta) quorum(ctx context.Context) (protocol.Quorum, error) {
	members, err := m.group.Progress(ctx)
	st := m.group.Status()
	if err == nil && members == nil {
		err = fmt.Errorf("the catalog: %w", record.ErrNotLeader)
	}
	if err != nil {
		return protocol.Quorum{}, err
	}
	q := protocol.Quorum{Leader: st.Leader, Epoch: st.Offsets.LeaderEpoch, Commit: st.Commit, Last: st.Last}
	for _, p := range members {
		q.Members = append(q.Members, protocol.QuorumMember{Node: p.Node(), ID: p.Member, Learner: p.Learner, Match: p.Match, Active: p.Active})
	}
	return q, nil
}
