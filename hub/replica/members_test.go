package replica

import (
	"log/slog"
	"testing"

	"github.com/entrepot-hub/entrepot/storage"
	pb "go.etcd.io/raft/v3/raftpb"
)

// A leader's entry that could not be applied once it is committed ends the replica
// that is sent it, before it is in its log, and no other.
func TestImpossibleChange(t *testing.T) {
	change := func(cc pb.ConfChangeV2) []byte {
		data, err := cc.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	single := func(kind pb.ConfChangeType, id uint64) []byte {
		return change(pb.ConfChangeV2{Changes: []pb.ConfChangeSingle{{Type: kind, NodeID: id}}})
	}
	for name, entries := range map[string][]pb.Entry{
		"no change at all":          {{Type: pb.EntryConfChangeV2, Data: []byte{1, 2, 3}}},
		"an unknown kind of change": {{Type: pb.EntryConfChangeV2, Data: single(9, 4)}},
		"leave what is not joint":   {{Type: pb.EntryConfChangeV2, Data: change(pb.ConfChangeV2{})}},
		"two changes, then the last voter goes": {
			{Type: pb.EntryConfChangeV2, Data: single(pb.ConfChangeRemoveNode, 3)},
			{Type: pb.EntryConfChangeV2, Data: single(pb.ConfChangeRemoveNode, 2)},
			{Type: pb.EntryConfChangeV2, Data: single(pb.ConfChangeRemoveNode, 1)},
		},
	} {
		core, err := openCore(coreConfig{id: 1, electionTicks: 10, maxInflight: 1 << 20, mostProducers: 10, logger: slog.New(slog.DiscardHandler)}, newMemLog(firstState([]uint64{1, 2, 3})), 0)
		if err != nil {
			t.Fatal(err)
		}
		last := core.tail.index
		for i := range entries {
			entries[i].Index, entries[i].Term = last+1+uint64(i), 7
		}
		out := core.step(&input{msgs: []pb.Message{{Type: pb.MsgApp, From: 2, To: 1, Term: 7, LogTerm: core.tail.term, Index: last, Commit: last + uint64(len(entries)), Entries: entries}}})
		for _, r := range out.rounds {
			if len(r.Entries) > 0 {
				t.Errorf("%s: %d entries are written", name, len(r.Entries))
			}
		}
		if core.failed == nil {
			t.Errorf("%s: the replica goes on", name)
		}
	}
}

// A member that was added may have been in the group before under the same ID and
// have forgotten it all: one that was away since then, and takes it for the voter
// that it was, does not get its vote for a log that lacks what is committed.
func TestJoiningVotesForNobody(t *testing.T) {
	state := func(index, conf uint64, s pb.ConfState) storage.State {
		st := joiningState()
		c := confState{index: conf, state: s}
		var ctl controlState
		st.Index, st.Term, st.Hard = index, 1, storage.HardState{Term: 1, Commit: index}
		st.Conf, st.Control = c.encode(), ctl.encode(machineSnapshot{})
		return st
	}
	learner := pb.ConfState{Voters: []uint64{2, 3}, Learners: []uint64{1}}
	joint := pb.ConfState{Voters: []uint64{2, 3}, VotersOutgoing: []uint64{1, 2}}
	for _, c := range []struct {
		name  string
		first storage.State
		votes bool
	}{
		{"nothing yet", joiningState(), false},
		{"a state below the entry that added it", state(5, 8, learner), false},
		{"a learner that has that entry", state(8, 8, learner), true},
		{"a voter that took a state", state(5, 8, pb.ConfState{Voters: []uint64{1, 2, 3}}), true},
		{"a voter that is to go", state(5, 8, joint), true},
	} {
		for _, kind := range []pb.MessageType{pb.MsgVote, pb.MsgPreVote} {
			core, err := openCore(coreConfig{id: 1, electionTicks: 10, maxInflight: 1 << 20, mostProducers: 10, logger: slog.New(slog.DiscardHandler)}, newMemLog(c.first), 0)
			if err != nil {
				t.Fatal(err)
			}
			out := core.step(&input{msgs: []pb.Message{{Type: kind, From: 2, To: 1, Term: 7, LogTerm: 6, Index: 20}}})
			if answers := len(out.rounds)+len(out.msgs) > 0; answers != c.votes {
				t.Errorf("%s: %v: rounds %v, messages %v, want an answer: %v", c.name, kind, out.rounds, out.msgs, c.votes)
			}
		}
	}
}
