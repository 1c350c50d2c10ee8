package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"testing"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	pb "go.etcd.io/raft/v3/raftpb"
)

func sampleBeats() beatFrame {
	g, meta := keyOf(clicks(3)), keyOf(storage.LogID{Topic: "__meta"})
	return beatFrame{to: 1<<32 + 2, run: 1 << 60, tick: 900, echo: 899, beats: []beat{
		beatOf(g, &pb.Message{Type: pb.MsgHeartbeat, Term: 3, Commit: 70}),
		beatOf(meta, &pb.Message{Type: pb.MsgHeartbeat, Term: 3, Commit: 70, Context: quietMark}),
		beatOf(g, &pb.Message{Type: pb.MsgHeartbeatResp, Term: 4}),
		beatOf(meta, &pb.Message{Type: pb.MsgHeartbeatResp, Term: 4, Context: quietMark}),
		{group: g, kind: beatGone},
	}}
}

func TestBeatFrame(t *testing.T) {
	want := sampleBeats()
	frame := want.encode()
	got, err := decodeBeats(frame)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v %v, want %+v", got, err, want)
	}
	m := got.beats[3].message(7, 8)
	if want := (pb.Message{Type: pb.MsgHeartbeatResp, From: 7, To: 8, Term: 4, Context: quietMark}); !reflect.DeepEqual(m, want) {
		t.Errorf("%+v, want %+v", m, want)
	}
	for i := range frame {
		bad := bytes.Clone(frame)
		bad[i] ^= 1
		if _, err := decodeBeats(bad); !errors.Is(err, record.ErrCorruptBatch) && !errors.Is(err, record.ErrInvalidRequest) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
}

func FuzzBeats(f *testing.F) {
	s := sampleBeats()
	f.Add(s.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < frameHead {
			return
		}
		b = bytes.Clone(b)
		binary.BigEndian.PutUint32(b[1:], record.CRC(b[frameHead:])) // chance would not find it
		got, err := decodeBeats(b)
		if err != nil {
			return
		}
		if again := got.encode(); !bytes.Equal(b, again) {
			t.Fatalf("% x\nis encoded again as\n% x", b, again)
		}
	})
}
