package replica

import (
	"fmt"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	pb "go.etcd.io/raft/v3/raftpb"
)

// toRaft and fromRaft map entries without copying payloads: the data of a Raft
// entry is the record batch itself, or a control payload. Only configuration
// changes, which Raft marks by type, lose or gain the two bytes that mark them
// on disk.

func toRaft(e *storage.Entry) pb.Entry {
	r := pb.Entry{Index: e.Index, Term: e.Term, Data: e.Payload}
	if e.Kind == storage.KindControl && len(e.Payload) >= 2 {
		switch e.Payload[1] {
		case subConfChange:
			r.Type, r.Data = pb.EntryConfChange, e.Payload[2:]
		case subConfChangeV2:
			r.Type, r.Data = pb.EntryConfChangeV2, e.Payload[2:]
		}
	}
	return r
}

// fromRaft leaves BaseOffset and LeaderEpoch of control entries to the caller,
// who knows what is before them.
func fromRaft(r *pb.Entry) (storage.Entry, error) {
	e := storage.Entry{Index: r.Index, Term: r.Term, Kind: storage.KindControl, Payload: r.Data}
	switch {
	case r.Type == pb.EntryConfChange:
		e.Payload = append(control(subConfChange), r.Data...)
	case r.Type == pb.EntryConfChangeV2:
		e.Payload = append(control(subConfChangeV2), r.Data...)
	case len(r.Data) == 0:
		e.Payload = nil
	case r.Data[0] < 0x80:
		b := record.Batch(r.Data)
		if len(b) < record.BatchHeaderSize {
			return e, fmt.Errorf("entry %d: %w: %d bytes", r.Index, record.ErrInvalidBatch, len(b))
		}
		e.Kind, e.BaseOffset, e.LeaderEpoch = storage.KindData, b.BaseOffset(), b.LeaderEpoch()
	case isConfChange(r.Data):
		return e, fmt.Errorf("entry %d is a configuration change that Raft does not know as one", r.Index)
	case r.Data[0] != controlMark:
		return e, fmt.Errorf("entry %d begins with %#x: neither a batch nor a control entry", r.Index, r.Data[0])
	}
	return e, nil
}

func isConfChange(payload []byte) bool {
	return len(payload) >= 2 && payload[0] == controlMark && (payload[1] == subConfChange || payload[1] == subConfChangeV2)
}

func isCommand(payload []byte) bool {
	return len(payload) >= 2 && payload[0] == controlMark && payload[1] == subCommand
}

func decodeConfChange(payload []byte) (pb.ConfChangeV2, error) {
	var v2 pb.ConfChangeV2
	if payload[1] == subConfChangeV2 {
		if err := v2.Unmarshal(payload[2:]); err != nil {
			return v2, fmt.Errorf("decode configuration change: %w", err)
		}
		return v2, nil
	}
	var v1 pb.ConfChange
	if err := v1.Unmarshal(payload[2:]); err != nil {
		return v2, fmt.Errorf("decode configuration change: %w", err)
	}
	return v1.AsV2(), nil
}
