package catalog

import (
	"fmt"
	"maps"
	"math"
	"strings"

	"github.com/entrepot-hub/entrepot/record"
)

// Lease says which node runs a task of a job. It has no time in it: gossip only
// suggests who is alive, and a lease holds until another one is granted. The
// epoch is what keeps a former holder from doing harm: destinations refuse a
// lower one than they have seen.
type Lease struct {
	Node  int32 // 0: nobody
	Epoch int64 // of the newest grant; never goes back
}

// A job of several tasks has a lease for each, so that they can be at several
// nodes. TaskName is the lease's name of the task part of a job of so many; of
// the only one it is the job's.
func TaskName(job string, part, of int) string {
	if of <= 1 {
		return job
	}
	return fmt.Sprintf("%s#%d/%d", job, part, of)
}

// JobOf is the job of a task; no job has # in its name.
func JobOf(task string) string {
	job, _, _ := strings.Cut(task, "#")
	return job
}

// GrantLease gives a task to a node. Its epoch is above those of all tasks that
// the job has or had: what one of them did another may have done before, when
// they were of another number. Result: Lease.
type GrantLease struct {
	Task string
	Node int32
	// After is the epoch of the lease that the proposer has seen; 0: none. If
	// another grant came in between, this one is refused.
	After int64
	// Floor is an epoch that was used for the task before leases were kept
	// here; the grant's is higher.
	Floor int64 `json:",omitempty"`
}

// ReleaseLease says that a node does not run a task any more. One that is not
// the node's at that epoch stays.
type ReleaseLease struct {
	Task  string
	Node  int32
	Epoch int64
}

func (GrantLease) kind() byte   { return kindGrantLease }
func (ReleaseLease) kind() byte { return kindReleaseLease }

// Lease is the newest lease of a task; zero when it never had one.
func (s *State) Lease(task string) Lease { return s.leases[task] }

// Leases are the newest leases of all tasks.
func (s *State) Leases() map[string]Lease { return maps.Clone(s.leases) }

func (s *State) grantLease(c GrantLease) (*State, any, error) {
	if err := checkName("task", c.Task); err != nil {
		return nil, nil, err
	}
	now := s.leases[c.Task]
	newest := max(c.Floor, s.newestOf(JobOf(c.Task)))
	switch _, known := s.Node(c.Node); {
	case !known:
		return nil, nil, fmt.Errorf("%w: task %q cannot go to node %d, which is not registered", record.ErrInvalidRequest, c.Task, c.Node)
	case c.After != now.Epoch:
		return nil, nil, fmt.Errorf("%w: task %q was granted with epoch %d since, the grant knows of epoch %d", record.ErrInvalidRequest, c.Task, now.Epoch, c.After)
	case c.Floor < 0 || newest == math.MaxInt64:
		return nil, nil, fmt.Errorf("%w: task %q cannot have an epoch after %d", record.ErrInvalidRequest, c.Task, newest)
	}
	return s.withLease(c.Task, Lease{Node: c.Node, Epoch: newest + 1})
}

// newestOf is the highest epoch of a job's tasks.
func (s *State) newestOf(job string) (epoch int64) {
	for task, l := range s.leases {
		if JobOf(task) == job {
			epoch = max(epoch, l.Epoch)
		}
	}
	return epoch
}

func (s *State) releaseLease(c ReleaseLease) (*State, any, error) {
	now := s.leases[c.Task]
	if now.Node == 0 || now.Node != c.Node || now.Epoch != c.Epoch {
		return s, nil, nil // somebody else's by now
	}
	return s.withLease(c.Task, Lease{Epoch: now.Epoch})
}

func (s *State) withLease(task string, l Lease) (*State, any, error) {
	next := *s
	next.leases = maps.Clone(s.leases)
	if next.leases == nil {
		next.leases = map[string]Lease{}
	}
	next.leases[task] = l
	return &next, l, nil
}

func (s *State) checkLeases() error {
	for task, l := range s.leases {
		if err := checkName("task", task); err != nil {
			return err
		}
		if l.Epoch < 1 || l.Node < 0 || l.Node > s.lastNode {
			return fmt.Errorf("task %q has lease %+v", task, l)
		}
	}
	return nil
}
