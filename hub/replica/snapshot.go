package replica

import (
	"encoding/binary"
	"fmt"

	"github.com/entrepot-hub/entrepot/storage"
	pb "go.etcd.io/raft/v3/raftpb"
)

// snapshotVersion is the first byte of the data of a Raft snapshot message.
const snapshotVersion = 1

// encodeSnapshot writes a segment header's state, without its hard state,
// which is the sender's own.
func encodeSnapshot(s storage.State) []byte {
	b := binary.AppendUvarint([]byte{snapshotVersion}, uint64(s.NextOffset))
	b = appendString(b, string(s.Conf))
	b = appendString(b, string(s.Control))
	return appendString(b, string(s.Producers))
}

// decodeSnapshot reads what encodeSnapshot wrote and nothing else. The state's
// hard state is left to the caller.
func decodeSnapshot(s *pb.Snapshot) (storage.State, error) {
	st := storage.State{Index: s.Metadata.Index, Term: s.Metadata.Term}
	if len(s.Data) == 0 || s.Data[0] != snapshotVersion {
		return st, fmt.Errorf("snapshot of %d bytes does not begin with version %d, the one this node reads", len(s.Data), snapshotVersion)
	}
	d := decoder{b: s.Data[1:]}
	st.NextOffset = d.int64()
	st.Conf, st.Control, st.Producers = d.bytes(), d.bytes(), d.bytes()
	if err := d.end(); err != nil {
		return st, fmt.Errorf("snapshot: %w", err)
	}
	return st, nil
}
