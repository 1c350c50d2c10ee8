package replica

import (
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"
)

// Raft tells followers of a commit at once: each gets a note, an append without
// entries, and answers it. A record by itself costs as many messages for that as
// for its own way. The next append says the same, and so does the heartbeat of the
// next tick, which is how Raft recovers from a note that is lost. So a partition's
// leader spares it, unless somebody waits at that follower for what is committed,
// as consumers do that read there (KIP-392): its acknowledgements say so. Apache
// Kafka's followers hear of the high watermark with what they fetch next.

// waitMark is the context of an acknowledgement of a member where somebody waits.
var waitMark = []byte("waits") //nolint:gochecknoglobals // a constant

// spares reports whether a message is a note that need not be sent. Raft writes
// appends without entries for other reasons, too: to probe a follower, after a
// heartbeat or a refusal, and those are not spared.
func (c *core) spares(m *pb.Message) bool {
	return c.counting && m.Type == pb.MsgApp && len(m.Entries) == 0 && c.cfg.machine == nil &&
		c.serving() && len(c.conf.pending) == 0 && len(c.conf.state.VotersOutgoing) == 0 && !slices.Contains(c.waiting, m.To)
}

// acknowledged has Raft count acknowledgements: what it sends meanwhile without
// entries are notes.
func (c *core) acknowledged(count func()) {
	c.counting = true
	count()
	c.pump()
	c.counting = false
}

// hearsWaiting takes what an acknowledgement says beside itself.
func (c *core) hearsWaiting(m *pb.Message) {
	waits := string(m.Context) == string(waitMark)
	m.Context = nil
	switch i := slices.Index(c.waiting, m.From); {
	case waits && i < 0:
		c.waiting = append(c.waiting, m.From)
	case !waits && i >= 0:
		c.waiting = slices.Delete(c.waiting, i, i+1)
	}
}

// tellWaiting adds to acknowledgements that somebody waits here.
func (c *core) tellWaiting() {
	for i := range c.out.msgs {
		if m := &c.out.msgs[i]; m.Type == pb.MsgAppResp && !m.Reject {
			m.Context = waitMark
		}
	}
}
