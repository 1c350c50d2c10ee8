package replica

import (
	"errors"
	"fmt"
	"math"

	"github.com/entrepot-hub/entrepot/storage"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// entryLog is what the core reads of its log. *storage.Log is one.
type entryLog interface {
	First() storage.State
	Whole() uint64
	StateBefore(index uint64) (storage.State, error)
	Tip() storage.State
	Hard() storage.HardState
	Last() (index, term uint64)
	Term(index uint64) (uint64, error)
	Entries(lo, hi uint64, maxBytes int) ([]storage.Entry, error)
	Replay(from uint64, fn func(storage.Entry) error) error
}

// raftLog is the log as Raft reads it. Raft has no way to bear an error of the
// disk: err keeps it, and the core gives up when Raft panics over it.
type raftLog struct {
	log         entryLog
	window      *window
	first, last uint64 // first index in the log, last index handed to it
	hard        storage.HardState
	conf        pb.ConfState // as of the index applied at open
	snapshot    func() (storage.State, pb.ConfState, error)
	byFiles     func() bool // see coreConfig
	err         error
}

var _ raft.Storage = (*raftLog)(nil)

func (l *raftLog) InitialState() (pb.HardState, pb.ConfState, error) {
	return pb.HardState{Term: l.hard.Term, Vote: l.hard.Vote, Commit: l.hard.Commit}, l.conf, nil
}

func (l *raftLog) FirstIndex() (uint64, error) { return l.first, nil }
func (l *raftLog) LastIndex() (uint64, error)  { return l.last, nil }

func (l *raftLog) Term(i uint64) (uint64, error) {
	if e, ok := l.window.get(i); ok {
		return e.Term, nil
	}
	t, err := l.log.Term(i)
	return t, l.fail(err)
}

func (l *raftLog) Entries(lo, hi, maxSize uint64) ([]pb.Entry, error) {
	if lo > l.window.partial {
		if _, ok := l.window.get(lo); ok {
			return l.recent(lo, hi, maxSize), nil
		}
	}
	stored, err := l.log.Entries(lo, hi, int(min(maxSize, math.MaxInt)))
	if err != nil {
		return nil, l.fail(err)
	}
	out := make([]pb.Entry, len(stored))
	for i := range stored {
		out[i] = toRaft(&stored[i])
	}
	return out, nil
}

func (l *raftLog) recent(lo, hi, maxSize uint64) []pb.Entry {
	out := make([]pb.Entry, 0, hi-lo)
	var size uint64
	for i := lo; i < hi; i++ {
		e, ok := l.window.get(i)
		if !ok {
			break
		}
		if size += uint64(len(e.Payload)); size > maxSize && len(out) > 0 {
			break
		}
		out = append(out, toRaft(e))
	}
	return out
}

// Snapshot is what a follower that is behind the log's start begins from
// (Invariant 12). The segments that follow bring the rest.
func (l *raftLog) Snapshot() (pb.Snapshot, error) {
	st, conf, err := l.snapshot()
	if err != nil {
		return pb.Snapshot{}, l.fail(err)
	}
	if l.log.Whole() > st.Index+1 || l.byFiles != nil && l.byFiles() {
		// Messages have no holes, and are a slow way for a large log.
		return l.files(conf)
	}
	return pb.Snapshot{
		Data:     encodeSnapshot(st),
		Metadata: pb.SnapshotMetadata{ConfState: conf, Index: st.Index, Term: st.Term},
	}, nil
}

// files is a snapshot that says only that there are files to be fetched. Raft
// waits with a follower that was sent one until it has an entry from which
// messages can go on.
func (l *raftLog) files(conf pb.ConfState) (pb.Snapshot, error) {
	index := l.log.Whole() - 1
	term, err := l.log.Term(index)
	if err != nil {
		return pb.Snapshot{}, l.fail(err)
	}
	return pb.Snapshot{Data: []byte{snapshotFiles}, Metadata: pb.SnapshotMetadata{ConfState: conf, Index: index, Term: term}}, nil
}

// fail translates the log's errors into Raft's and keeps those that Raft does
// not know.
func (l *raftLog) fail(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, storage.ErrCompacted):
		return raft.ErrCompacted
	case errors.Is(err, storage.ErrUnavailable):
		return raft.ErrUnavailable
	}
	l.err = fmt.Errorf("read the log: %w", err)
	return l.err
}
