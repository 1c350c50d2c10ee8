package replica

import (
	"errors"
	"testing"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"go.etcd.io/raft/v3"
)

// A fetched log takes the place of the own one only while nothing can have been
// acknowledged that it does not hold.
func TestMayBecome(t *testing.T) {
	end := storage.State{Index: 50, Term: 4}
	for name, c := range map[string]struct {
		change func(*core)
		want   error
	}{
		"behind":                                   {func(*core) {}, nil},
		"a longer end of an older term":            {func(c *core) { c.tail.index = 80 }, nil},
		"a later leader":                           {func(c *core) { c.term = 6 }, record.ErrNotLeader},
		"an older term: the offer is not known":    {func(c *core) { c.term = 4 }, record.ErrNotLeader},
		"it stands for election":                   {func(c *core) { c.role = raft.StatePreCandidate }, record.ErrNotLeader},
		"a round is on its way":                    {func(c *core) { c.inflight.push(inflight{}) }, errNotNow},
		"more is committed":                        {func(c *core) { c.hard.Commit = 50 }, errNotNeeded},
		"more was acknowledged to the same leader": {func(c *core) { c.tail.term, c.tail.index = 5, 50 }, errNotNeeded},
		"it has failed":                            {func(c *core) { c.failed = record.ErrOffline }, record.ErrOffline},
	} {
		one := &core{term: 5}
		one.tail.index, one.tail.term, one.hard.Commit = 20, 3, 10
		c.change(one)
		if err := one.mayBecome(5, end); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// Term and vote stay this member's own; a higher term of the leader comes
// without a vote.
func TestOwnHard(t *testing.T) {
	own := storage.HardState{Term: 5, Vote: 2, Commit: 9}
	for term, want := range map[uint64]storage.HardState{
		4: {Term: 5, Vote: 2, Commit: 30}, 5: {Term: 5, Vote: 2, Commit: 30}, 6: {Term: 6, Commit: 30},
	} {
		if got := ownHard(own, term, 30); got != want {
			t.Errorf("leader's term %d: %+v, want %+v", term, got, want)
		}
	}
}
