package replica

import (
	"encoding/binary"
	"fmt"

	"github.com/entrepot-hub/entrepot/storage"
	pb "go.etcd.io/raft/v3/raftpb"
)

// The first byte of the data of a Raft snapshot message.
const (
	snapshotVersion = 1 // a state follows
	snapshotFiles   = 2 // nothing follows: the log's segments are to be fetched
)

func ofFiles(s *pb.Snapshot) bool {
	return s != nil && len(s.Data) == 1 && s.Data[0] == snapshotFiles
}

// snapshot is the state that a follower behind the log's start begins from:
// that before the first segment, or of a machine group, whose log is of no use
// without its machine, that at the last entry applied.
//
// The configuration is the present one, which may be of an entry that the
// follower is yet to get: Raft takes no snapshot in whose configuration the
// follower is missing, and one that was added lately is missing in the old one.
// To act under it early is safe. It is committed, so nobody without its entry
// can win an election under it.
func (c *core) snapshot() (storage.State, pb.ConfState, error) {
	st := c.log.log.First()
	if c.cfg.machine != nil {
		term, err := c.log.Term(c.applied)
		if err != nil {
			return st, pb.ConfState{}, err
		}
		none := producers{}
		st = storage.State{Index: c.applied, Term: term, NextOffset: c.hw}
		st.Control, st.Producers = c.control.encode(c.machineSnapshot()), none.encode()
	}
	conf := confState{index: c.conf.index, state: c.conf.state}
	st.Conf = conf.encode()
	return st, conf.state, nil
}

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
