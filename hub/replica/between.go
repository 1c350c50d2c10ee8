package replica

import (
	"fmt"

	"github.com/entrepot-hub/entrepot/record"
	"go.etcd.io/raft/v3"
)

// Between two leaders the old one keeps what it is asked to append: while it
// hands over, and while another is being elected, until it knows who leads next.
// Then it leads on and appends it, or its answer names the new leader, and a
// client goes there at once. Refused earlier, it could name nobody, and clients
// wait for a while before they ask again (KIP-951).

// kept is a proposal that waits for the next leader.
type kept struct {
	p     *proposal
	taken bool // it is in this member's log, and whether it is committed is the next leader's affair
}

// handingOver reports whether this leader lets another one lead.
func (c *core) handingOver() bool {
	return c.role == raft.StateLeader && c.rn.BasicStatus().LeadTransferee != raft.None
}

// keep is called when this member ceases to lead: an idempotent client finds out
// by sending again whether what is pending was committed. If nobody has stood for
// election, too few were heard, and there is nothing to wait for.
func (c *core) keep() {
	var taken []kept
	for c.pending.len() > 0 {
		taken = append(taken, kept{p: c.pending.pop().p, taken: true})
	}
	c.between, c.leaderless, c.kept = true, 0, append(taken, c.kept...)
	if c.rn.BasicStatus().Term == c.term {
		c.leaderless = c.cfg.electionTicks
	}
}

// decideKept ends the time between two leaders: somebody leads, or nobody has
// for an election timeout. What is appended here after all comes before the
// proposals of this step.
func (c *core) decideKept() {
	var refused error
	switch {
	case !c.between, c.handingOver(), c.role != raft.StateLeader && c.lead == raft.None && c.leaderless < c.cfg.electionTicks:
		return
	case c.role != raft.StateLeader:
		refused = c.notLeader()
	}
	var props []*proposal
	for _, k := range c.kept {
		switch {
		case refused != nil:
			c.refuse(k.p, refused)
		case k.taken:
			c.refuse(k.p, fmt.Errorf("%w: node %d is again, after another", record.ErrNotLeader, NodeOf(c.cfg.id)))
		default:
			props = append(props, k.p)
		}
	}
	c.between, c.kept, c.props = false, nil, append(props, c.props...)
}

// refuseKept ends all that waits.
func (c *core) refuseKept(err error) {
	for _, k := range c.kept {
		c.refuse(k.p, err)
	}
	c.between, c.kept = false, nil
}
