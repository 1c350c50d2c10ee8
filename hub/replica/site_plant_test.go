package replica

import (
	"math"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
	pb "go.etcd.io/raft/v3/raftpb"
)

// sitePlant is a mistake that a test builds in to see that the simulation
// notices it. Nothing of it is in the code that it tests.
type sitePlant struct {
	faults   func() func(*vfs.Op) error  // of a node's disk, fresh for each start
	log      func(*siteReplica) entryLog // what the core reads
	opened   func(*siteReplica)          // after the core was opened
	stepped  func(*siteReplica, *output)
	round    func(*siteReplica, *storage.Round) bool // whether it is taken for durable once written
	sent     func(*siteReplica, *pb.Message)
	received func(*siteReplica, *pb.Message)
	truncate func(*siteReplica) // a log that is damaged
	deaf     bool               // the silence of a node wakes nobody
}

func (p *sitePlant) logOf(r *siteReplica) entryLog {
	if p.log != nil {
		return p.log(r)
	}
	return r.log
}

// TestSiteSimulationNotices plants one mistake after the other; docs/simulation.md
// has the table of what was noticed when.
func TestSiteSimulationNotices(t *testing.T) {
	const within = 1000
	for _, p := range []struct {
		name  string
		plant sitePlant
	}{
		{"acknowledge before the majority", sitePlant{sent: answeredForAll}},
		{"acknowledge before the sync", sitePlant{round: doneAtOnce}},
		{"vote not synced", sitePlant{faults: skipVotes}},
		{"votes asked for before the own one is durable", sitePlant{stepped: askAtOnce}},
		{"a committed record cut off", sitePlant{truncate: cutOff}},
		{"applied twice after a restart", sitePlant{log: snapshotOneBack}},
		{"an old leader's append accepted", sitePlant{received: takeAppend}},
		{"no sync of the directory", sitePlant{faults: skipSyncDir}},
		{"recovery without the first syncfs", sitePlant{faults: skipSyncFS}},
		{"acting under a change of membership before its commit is durable", sitePlant{opened: actAtOnce}},
		{"a vote for a candidate with a shorter log", sitePlant{received: voteForAll}},
		{"the silence of a node wakes nobody", sitePlant{deaf: true}},
		{"a leader that is sure of itself", sitePlant{sent: confirmedByAll}},
	} {
		t.Run(p.name, func(t *testing.T) {
			seed, err, _ := runSites(1, within, p.plant)
			if err == nil {
				t.Fatalf("not noticed in %d seeds", within)
			}
			text := strings.SplitN(err.Error(), "\n", 2)[0]
			t.Logf("noticed with seed %d: %s", seed, text[:min(len(text), 220)])
		})
	}
}

// answeredForAll lets a leader think that what it sends has arrived and is
// durable.
func answeredForAll(r *siteReplica, m *pb.Message) {
	if n := len(m.Entries); m.Type == pb.MsgApp && n > 0 {
		r.in.msgs = append(r.in.msgs, pb.Message{Type: pb.MsgAppResp, From: m.To, To: r.member, Term: m.Term, Index: m.Entries[n-1].Index})
	}
}

// confirmedByAll lets a leader think that the others have said that it leads.
func confirmedByAll(r *siteReplica, m *pb.Message) {
	if m.Type == pb.MsgHeartbeat && !inBeats(m) {
		r.in.msgs = append(r.in.msgs, pb.Message{Type: pb.MsgHeartbeatResp, From: m.To, To: r.member, Term: m.Term, Context: m.Context})
	}
}

// doneAtOnce says which rounds are taken for durable once they are written: all.
func doneAtOnce(*siteReplica, *storage.Round) bool { return true }

// siteStateFrame is the length of a frame with a term and a vote.
const siteStateFrame = 72

// skipVotes leaves out the syncs of files to which nothing but single state
// frames was written.
func skipVotes() func(*vfs.Op) error {
	other := map[string]bool{}
	return func(op *vfs.Op) error {
		switch {
		case op.Kind == vfs.OpWrite:
			other[op.Name] = other[op.Name] || op.Len != siteStateFrame
		case op.Kind == vfs.OpSync && !other[op.Name]:
			return vfs.ErrSkip
		case op.Kind == vfs.OpSync:
			delete(other, op.Name)
		}
		return nil
	}
}

// askAtOnce sends what asks for votes without waiting for the own one.
func askAtOnce(r *siteReplica, out *output) {
	q := &r.core.inflight
	for i := q.head; i < len(q.buf); i++ {
		f := &q.buf[i]
		for len(f.responses) > 0 && f.responses[0].Type == pb.MsgVote {
			out.msgs, f.responses = append(out.msgs, f.responses[0]), f.responses[1:]
		}
	}
}

// cutOff makes a log of what is before the damage, as if the power had taken
// the rest.
func cutOff(r *siteReplica) {
	last, _ := r.log.Last()
	entries, _ := r.log.Entries(log0(r.log)+1, last+1, 1<<30)
	first, hard := r.log.First(), r.log.Hard()
	if err := r.n.store.Remove(r.g.id); err != nil {
		return
	}
	log, err := r.n.store.Create(r.g.id, first)
	if err != nil {
		return
	}
	hard.Commit = min(hard.Commit, first.Index+uint64(len(entries)))
	if err := log.Append(storage.Round{Hard: &hard, Entries: entries}); err != nil {
		return
	}
	r.n.store.Step(r.n.clock())
	r.log, r.acked = log, 0
}

// oneBack is a log whose newest header has its machine's snapshot one entry too
// low.
type oneBack struct{ *storage.Log }

func (l oneBack) Tip() storage.State {
	st := l.Log.Tip()
	ctl, snap, err := decodeControlState(st.Control)
	if err != nil || snap.index <= l.First().Index {
		return st
	}
	snap.index--
	st.Control = ctl.encode(snap)
	return st
}

func snapshotOneBack(r *siteReplica) entryLog {
	if r.g.machine {
		return oneBack{r.log}
	}
	return r.log
}

func takeAppend(r *siteReplica, m *pb.Message) {
	if m.Type == pb.MsgApp {
		m.Term = max(m.Term, r.core.rn.BasicStatus().Term)
	}
}

func voteForAll(_ *siteReplica, m *pb.Message) {
	if m.Type == pb.MsgVote || m.Type == pb.MsgPreVote {
		m.LogTerm = math.MaxUint64
	}
}

func skipSyncDir() func(*vfs.Op) error { return skipping(vfs.OpSyncDir) }
func skipSyncFS() func(*vfs.Op) error  { return skipping(vfs.OpSyncFS) }

// skipping pretends that operations on what is in the data directory were done.
func skipping(kind vfs.OpKind) func(*vfs.Op) error {
	return func(op *vfs.Op) error {
		if op.Kind == kind && (kind == vfs.OpSyncFS || strings.HasPrefix(op.Name, "data/")) {
			return vfs.ErrSkip
		}
		return nil
	}
}

func actAtOnce(r *siteReplica) { r.core.durableCommit = math.MaxUint64 }
