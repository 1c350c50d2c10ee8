package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"testing"
	"unsafe"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	pb "go.etcd.io/raft/v3/raftpb"
)

// sampleMessages are one of each kind.
func sampleMessages(t testing.TB) []pb.Message {
	cc := pb.ConfChangeV2{Changes: []pb.ConfChangeSingle{{Type: pb.ConfChangeAddLearnerNode, NodeID: 4}}}
	change, err := cc.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b := batch(t, "a", "b")
	b.SetBaseOffset(1 << 40)
	return []pb.Message{
		{Type: pb.MsgApp, From: 3, To: 1 << 33, Term: 7, LogTerm: 6, Index: 41, Commit: 40, Entries: []pb.Entry{
			{Index: 42, Term: 7},
			{Index: 43, Term: 7, Data: b},
			{Index: 44, Term: 7, Data: EpochBase{Base: 9}.encode()},
			{Index: 45, Term: 7, Type: pb.EntryConfChangeV2, Data: change},
		}},
		{Type: pb.MsgApp, From: 3, To: 1 << 33, Term: 7, LogTerm: 6, Index: 45},
		{Type: pb.MsgAppResp, From: 3, To: 1 << 33, Term: 7, LogTerm: 5, Index: 44, Reject: true, RejectHint: 12, Commit: 3},
		{Type: pb.MsgVote, From: 3, To: 1 << 33, Term: 8, LogTerm: 7, Index: 44, Context: []byte("CampaignTransfer")},
		{Type: pb.MsgSnap, From: 3, To: 1 << 33, Term: 8, Snapshot: &pb.Snapshot{
			Data:     bytes.Repeat([]byte{1, 2}, 100),
			Metadata: pb.SnapshotMetadata{Index: 5, Term: 2, ConfState: pb.ConfState{Voters: []uint64{1, 2}, Learners: []uint64{3}}},
		}},
	}
}

func sampleFrame(t testing.TB) []byte {
	var w frameWriter
	for i, m := range sampleMessages(t) {
		id := clicks(int32(i))
		if i%2 == 1 {
			id = storage.LogID{Topic: "__meta"}
		}
		w.add(keyOf(id), &m)
	}
	return bytes.Join(w.frame(1<<33), nil)
}

func TestFrame(t *testing.T) {
	frame := sampleFrame(t)
	to, got, err := decodeFrame(frame, 3)
	if err != nil || to != 1<<33 {
		t.Fatal(to, err)
	}
	for i, m := range sampleMessages(t) {
		if !reflect.DeepEqual(got[i].msg, m) {
			t.Errorf("message %d: %+v, want %+v", i, got[i].msg, m)
		}
		if name := got[i].group.name; (i%2 == 1) != (name == "__meta") {
			t.Errorf("message %d is of group %q", i, name)
		}
	}
	// The batch is a piece of the frame: nothing was copied.
	p := uintptr(unsafe.Pointer(&got[0].msg.Entries[1].Data[0]))
	if at := uintptr(unsafe.Pointer(&frame[0])); p < at || p >= at+uintptr(len(frame)) {
		t.Error("the batch was copied")
	}
}

// Every bit that changes on the way is found before anything is believed.
func TestFrameChangedOnItsWay(t *testing.T) {
	frame := sampleFrame(t)
	for i := range frame {
		for bit := range 8 {
			bad := bytes.Clone(frame)
			bad[i] ^= 1 << bit
			if _, _, err := decodeFrame(bad, 3); !errors.Is(err, record.ErrCorruptBatch) && !errors.Is(err, record.ErrInvalidRequest) && !errors.Is(err, record.ErrInvalidBatch) {
				t.Fatalf("bit %d of byte %d of %d changed: %v", bit, i, len(frame), err)
			}
		}
		if _, _, err := decodeFrame(frame[:i], 3); err == nil {
			t.Fatalf("a frame cut off at %d of %d is taken", i, len(frame))
		}
	}
}

// What could not be applied once it is committed is refused before it is in a log.
func TestFrameWithImpossibleConfiguration(t *testing.T) {
	entry := func(kind pb.EntryType, data ...byte) pb.Message {
		return pb.Message{Type: pb.MsgApp, Term: 7, Entries: []pb.Entry{{Index: 1, Term: 7, Type: kind, Data: data}}}
	}
	state := func(cs pb.ConfState) pb.Message {
		return pb.Message{Type: pb.MsgSnap, Term: 7, Snapshot: &pb.Snapshot{Data: []byte{1}, Metadata: pb.SnapshotMetadata{Index: 5, Term: 2, ConfState: cs}}}
	}
	for name, m := range map[string]pb.Message{
		"a change that cannot be read":           entry(pb.EntryConfChange, 1, 2, 3),
		"a joint change that cannot be read":     entry(pb.EntryConfChangeV2, 1, 2, 3),
		"a state without voters":                 state(pb.ConfState{Learners: []uint64{3}}),
		"a state with a learner that is a voter": state(pb.ConfState{Voters: []uint64{1, 2}, Learners: []uint64{2}}),
		"a state with a voter that is nobody":    state(pb.ConfState{Voters: []uint64{0, 2}}),
	} {
		var w frameWriter
		w.add(keyOf(clicks(0)), &m)
		if _, _, err := decodeFrame(bytes.Join(w.frame(1), nil), 3); !errors.Is(err, record.ErrInvalidRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(sampleFrame(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		to, msgs, sum, err := parseFrame(b, 3)
		if err != nil {
			return
		}
		binary.BigEndian.PutUint32(b[1:], sum) // chance would not find it
		_, _, _ = decodeFrame(b, 3)            // batches too may be anything
		var w frameWriter
		for i := range msgs {
			w.add(msgs[i].group, &msgs[i].msg)
		}
		if again := bytes.Join(w.frame(to), nil); !bytes.Equal(b, again) {
			t.Fatalf("% x\nis encoded again as\n% x", b, again)
		}
	})
}

func TestMemberID(t *testing.T) {
	for _, c := range []struct {
		node        int32
		incarnation uint32
		member      uint64
	}{{1, 0, 1}, {1, 1, 1<<32 + 1}, {1<<31 - 1, 1<<32 - 1, 1<<64 - 1<<31 - 1}} {
		if m := MemberID(c.node, c.incarnation); m != c.member || NodeOf(m) != c.node {
			t.Errorf("node %d, incarnation %d: member %d of node %d, want %d", c.node, c.incarnation, m, NodeOf(m), c.member)
		}
	}
}
