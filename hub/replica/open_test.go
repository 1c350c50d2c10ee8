package replica

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/entrepot-hub/entrepot/storage"
	pb "go.etcd.io/raft/v3/raftpb"
)

// A round waited for room on the disk, with the commit of its time. When there
// was room a new segment had to begin with it, and its header has the machine as
// it was by then: at a higher entry.
func TestOpenWithASnapshotAboveTheWrittenCommit(t *testing.T) {
	log := newMemLog(firstState([]uint64{1, 2, 3}))
	round := storage.Round{Hard: &storage.HardState{Term: 1, Commit: 3}}
	for i := range uint64(5) {
		round.Entries = append(round.Entries, storage.Entry{
			Index: 2 + i, Term: 1, Kind: storage.KindControl, Payload: append(control(subCommand), fmt.Sprint(i)...),
		})
	}
	log.write(round)
	conf := confState{index: 1}
	conf.state.Voters = []uint64{1, 2, 3}
	var ctl controlState
	log.write(storage.Round{Before: &storage.Aux{
		Conf: conf.encode(), Control: ctl.encode(machineSnapshot{5, []byte("0 1 2 3 ")}), Producers: (&producers{}).encode(),
	}})
	m := &simMachine{}
	c, err := openCore(coreConfig{id: 1, machine: m, electionTicks: 10, maxInflight: 1 << 20, mostProducers: 10, logger: slog.New(slog.DiscardHandler)}, log, 0)
	if err != nil {
		t.Fatal(err)
	}
	if c.applied != 5 || c.hard.Commit != 5 || string(m.list) != "0 1 2 3 " {
		t.Errorf("applied %d, commit %d, the machine has %q", c.applied, c.hard.Commit, m.list)
	}
	// Others learn what is committed from its votes, which name the entry by its term:
	// the last voter stood still for good where they did not (seed 64600).
	out := c.step(&input{msgs: []pb.Message{{Type: pb.MsgPreVote, From: 2, To: 1, Term: 2, LogTerm: 1, Index: 6}}})
	i := slices.IndexFunc(out.msgs, func(m pb.Message) bool { return m.Type == pb.MsgPreVoteResp })
	if i < 0 || out.msgs[i].Commit != 5 || out.msgs[i].RejectHint != 1 {
		t.Errorf("asked for its vote it says %+v, want one that names entry 5 of term 1", out.msgs)
	}
}
