package replica

import (
	"bytes"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
)

// What comes from a disk or a peer must not panic, must not take memory that
// it does not bring along, and has one encoding: what decodes encodes to the
// same bytes.

func FuzzControl(f *testing.F) {
	for _, c := range []ControlEntry{
		LogStart{1 << 40}, MirrorStart{"link", "fra", 7}, MirrorStop{8}, ReadOnly{true}, ReadOnly{}, EpochBase{48},
	} {
		f.Add(c.encode())
	}
	f.Add([]byte{controlMark, subCommand, 1, 2})
	f.Add([]byte{controlMark, subMirrorStart, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeControl(b)
		if err != nil || c == nil {
			return
		}
		if again := c.encode(); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to %+v, which encodes to %x", b, c, again)
		}
	})
}

func FuzzControlState(f *testing.F) {
	s := controlState{epochBase: 3, logStart: 99, mirror: Mirror{"l", "fra", 2, true}, lineage: []epochStart{{2, 0}, {5, 70}}}
	f.Add(s.encode(machineSnapshot{}))
	f.Add((&controlState{readOnly: true}).encode(machineSnapshot{9, []byte("catalog")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, snap, err := decodeControlState(b)
		if err != nil || len(b) == 0 {
			return
		}
		if again := s.encode(snap); !bytes.Equal(again, b) {
			t.Fatalf("%x encodes to %x", b, again)
		}
	})
}

func FuzzProducers(f *testing.F) {
	var ps producers
	for i := range int32(7) {
		ps.observe(idempotent(f, 5, 0, 2*i, "a", "b"), 1000)
		ps.observe(idempotent(f, 6, int16(i), 0, "a"), 1000)
		b := transactional(f, 7, 0, i, "a")
		b.SetBaseOffset(int64(10 * i))
		ps.observe(b, 1000)
		if i%3 == 0 {
			ps.observe(marker(7, 0, i == 0, int64(10*i+1)), 1000)
		}
	}
	f.Add(ps.encode())
	f.Add([]byte{1, 1, 5, 3, 7, 1, 0, 1, 9})
	f.Add([]byte{producersVersion, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		ps, err := decodeProducers(b)
		if err != nil || len(b) == 0 {
			return
		}
		again := ps.encode()
		if b[0] == producersVersion && !bytes.Equal(again, b) {
			t.Fatalf("%x encodes to %x", b, again)
		}
		if twice, err := decodeProducers(again); err != nil || !bytes.Equal(twice.encode(), again) {
			t.Fatalf("%x, from version %d, decodes to %+v: %v", again, b[0], twice, err)
		}
		ps.info()
		for i, a := range ps.aborted.txns {
			if a.first < 0 || a.first >= a.marker || i > 0 && a.marker <= ps.aborted.txns[i-1].marker {
				t.Fatalf("aborted transaction %d is %+v", i, a)
			}
		}
	})
}

func FuzzConf(f *testing.F) {
	c := confState{index: 4, state: pb.ConfState{Voters: []uint64{1, 2, 3}, Learners: []uint64{9}}}
	f.Add(c.encode())
	change := pb.ConfChangeV2{Changes: []pb.ConfChangeSingle{{Type: pb.ConfChangeAddNode, NodeID: 4}}}
	data, err := change.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	c.pending = []confChange{{7, append(control(subConfChangeV2), data...)}}
	f.Add(c.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeConf(b)
		if err != nil {
			return
		}
		if again := c.encode(); !bytes.Equal(again, b) {
			t.Fatalf("%x encodes to %x", b, again)
		}
	})
}

func FuzzSnapshot(f *testing.F) {
	f.Add(encodeSnapshot(firstState([]uint64{1})))
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := decodeSnapshot(&pb.Snapshot{Data: b})
		if err != nil {
			return
		}
		if again := encodeSnapshot(st); !bytes.Equal(again, b) {
			t.Fatalf("%x encodes to %x", b, again)
		}
		_, _, _, _ = decodeState(st, 0)
	})
}

// An entry from a peer, whatever its bytes, is refused or observed.
func FuzzEntry(f *testing.F) {
	f.Add([]byte(batch(f, "a")), false)
	f.Add([]byte(idempotent(f, 5, 3, 7, "a")), false)
	f.Add([]byte(marker(5, 3, true, 9)), false)
	f.Add(LogStart{5}.encode(), false)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, data []byte, conf bool) {
		r := pb.Entry{Index: 2, Term: 1, Data: data}
		if conf {
			r.Type = pb.EntryConfChangeV2
		}
		e, err := fromRaft(&r)
		if err != nil {
			return
		}
		if back := toRaft(&e); back.Type != r.Type || !bytes.Equal(back.Data, r.Data) {
			t.Fatalf("%+v became %+v", r, back)
		}
		c := confState{state: pb.ConfState{Voters: []uint64{1, 2, 3}, Learners: []uint64{4}}}
		if c.observe(e.Index, e.Payload) == nil && c.fold(e.Index) != nil {
			t.Fatalf("%x was observed and cannot be applied", e.Payload)
		}
		s := logState{index: 1, term: 1}
		if err := s.observe(&e, 1); err != nil {
			return
		}
		if s.next < 0 {
			t.Fatalf("the next offset is %d", s.next)
		}
		// A segment header with what was observed must be readable.
		if _, _, err := decodeControlState(s.control.encode(machineSnapshot{})); err != nil {
			t.Fatal(err)
		}
		if _, err := decodeProducers(s.producers.encode()); err != nil {
			t.Fatal(err)
		}
	})
}
