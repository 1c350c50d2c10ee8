package replica

import (
	"context"
	"encoding/binary"

	"github.com/entrepot-hub/entrepot/record"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// A leader that was cut off goes on for a while as if it led: it can append
// nothing, but it would answer from what it has, while the others have elected
// another one and committed more. Who must not be told of less than was
// acknowledged asks first whether this member still leads: by the read index of
// Raft (Ongaro's dissertation, section 6.4), a round of heartbeats, without a
// clock and without a write.

// Confirm returns nil once a majority has said, after the call, that this member
// leads. What it serves after that has everything that was acknowledged anywhere
// before the call. Errors wrap record.ErrNotLeader, record.ErrLeaderUnknown, or
// record.ErrTimeout when ctx ends first.
func (r *Replica) Confirm(ctx context.Context) error {
	return r.wait(ctx, &proposal{kind: propConfirm})
}

// confirming is a question on its way to the other members.
type confirming struct {
	p    *proposal
	term uint64
	ask  uint64 // which one of this core; the answer has it, too
}

// askAll asks the other members for all questions of the step at once.
func (c *core) askAll(props []*proposal) {
	if len(props) == 0 {
		return
	}
	if c.role != raft.StateLeader { // a proposal before them has changed that
		for _, p := range props {
			c.refuse(p, c.notLeader())
		}
		return
	}
	c.asked++
	for _, p := range props {
		c.confirms = append(c.confirms, confirming{p, c.term, c.asked})
	}
	c.rn.ReadIndex(binary.BigEndian.AppendUint64(nil, c.asked))
	c.pump()
}

// confirmed takes that a majority has answered a question: those before it are
// answered with it.
func (c *core) confirmed(states []raft.ReadState) {
	for i := range states {
		ask := binary.BigEndian.Uint64(states[i].RequestCtx)
		for len(c.confirms) > 0 && c.confirms[0].ask <= ask {
			c.out.acks = append(c.out.acks, ack{p: c.confirms[0].p})
			c.confirms = c.confirms[1:]
		}
	}
}

// endConfirms refuses what was asked while this member led and is not answered:
// Raft has forgotten it.
func (c *core) endConfirms() {
	for len(c.confirms) > 0 && (c.role != raft.StateLeader || c.confirms[0].term != c.term) {
		err := c.notLeader()
		if c.role == raft.StateLeader {
			err = record.ErrNotLeader // it was another one in between
		}
		c.refuse(c.confirms[0].p, err)
		c.confirms = c.confirms[1:]
	}
}

// refuseConfirms ends all that is asked.
func (c *core) refuseConfirms(err error) {
	for _, q := range c.confirms {
		c.refuse(q.p, err)
	}
	c.confirms = nil
}

// inBeats reports whether a message goes with the heartbeats of other groups: one
// that asks or answers something does not wait for them.
func inBeats(m *pb.Message) bool {
	return (m.Type == pb.MsgHeartbeat || m.Type == pb.MsgHeartbeatResp) && (len(m.Context) == 0 || isQuiet(m))
}
