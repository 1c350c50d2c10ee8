package replica

import (
	"errors"
	"fmt"

	"github.com/entrepot-hub/entrepot/record"
	"go.etcd.io/raft/v3"
)

// Follower reads a replica whoever leads it: what is committed as far as this
// node has heard, which its leader has, too (KIP-392).
type Follower struct{ *Replica }

// readable reports whether this replica hears a leader and knows its own
// committed state. Without a leader others may be far ahead, and it does not
// find out.
func (c *core) readable() bool {
	return c.failed == nil && c.role == raft.StateFollower && c.lead != raft.None && c.controlAt <= c.applied
}

// Serving is nil when the replica can be read. Otherwise it wraps
// record.ErrNotLeader, or what the group failed of.
func (f Follower) Serving() error {
	if err := f.view.Load().mayFollow(); err != nil {
		return fmt.Errorf("%s: %w", f.id, err)
	}
	return nil
}

func (v *view) mayFollow() error {
	if v.readable {
		return nil
	}
	err := v.mayServe()
	if errors.Is(err, record.ErrLeaderUnknown) {
		return fmt.Errorf("%w: it hears none", record.ErrNotLeader)
	}
	return err
}

// ReadLate is Replica.ReadLate up to the high watermark that this replica has heard
// of. Above it the error wraps record.ErrOffsetNotAvailable: the leader may have
// more.
func (f Follower) ReadLate(offset int64, maxBytes int) (chunk record.Chunk, err error) {
	v := f.view.Load()
	err = v.mayFollow()
	switch {
	case err != nil:
	case offset < v.offsets.Start:
		err = fmt.Errorf("%w: the partition begins at %d", record.ErrOffsetOutOfRange, v.offsets.Start)
	case offset > v.offsets.HighWatermark:
		err = fmt.Errorf("%w: this replica has heard of %d", record.ErrOffsetNotAvailable, v.offsets.HighWatermark)
	case offset < v.offsets.HighWatermark:
		chunk, err = f.readLog(v, offset, maxBytes, true)
	}
	chunk.Offsets = v.offsets
	if err != nil {
		return chunk, f.readError(offset, err)
	}
	return chunk, nil
}
