package catalog

import (
	"fmt"
	"maps"
	"strings"
	"unicode/utf8"

	"github.com/entrepot-hub/entrepot/record"
)

// Apply returns the state after cmd and what the command yields. With an
// error, which wraps one of record's, the state is s itself: a refused command
// is an entry of the log like any other and changes nothing.
func (s *State) Apply(cmd Command) (next *State, result any, err error) {
	if next, result, err = s.apply(cmd); err != nil {
		return s, nil, err
	}
	return next, result, nil
}

func (s *State) apply(cmd Command) (*State, any, error) {
	switch c := cmd.(type) {
	case SiteInit:
		return s.siteInit(c)
	case RegisterNode:
		return s.registerNode(c)
	case CreateTopic:
		return s.createTopic(c)
	case DeleteTopic:
		return s.deleteTopic(c)
	case AlterTopicConfig:
		return s.alterTopicConfig(c)
	case CreatePartitions:
		return s.createPartitions(c)
	case AllocateProducerIDs:
		return s.allocateProducerIDs(c)
	case SetJob:
		return s.setJob(c)
	case SetMirror:
		return s.setMirror(c)
	case CreateACLs:
		return s.createACLs(c)
	case DeleteACLs:
		return s.deleteACLs(c)
	case AlterScram:
		return s.alterScram(c)
	case AlterQuota:
		return s.alterQuota(c)
	case AlterGroupConfig:
		return s.alterGroupConfig(c)
	case GrantLease:
		return s.grantLease(c)
	case ReleaseLease:
		return s.releaseLease(c)
	case SetConnector:
		return s.setConnector(c)
	case DeleteConnector:
		return s.deleteConnector(c)
	case AlterPartitionReassignments:
		return s.alterPartitionReassignments(c)
	case CompleteMove:
		return s.completeMove(c)
	case DrainNode:
		return s.drainNode(c)
	case DecommissionNode:
		return s.decommissionNode(c)
	case ReplaceNode:
		return s.replaceNode(c)
	case RemoveNode:
		return s.removeNode(c)
	}
	return nil, nil, fmt.Errorf("%w: catalog command %T", record.ErrInvalidRequest, cmd)
}

// Producer IDs are siteID << 48 | counter (10-log-and-replication.md, rule 17).
const (
	maxSiteID       = 1<<15 - 1
	producerBits    = 48
	maxProducerIDs  = 1 << 20 // in one block
	producerCounter = int64(1)<<producerBits - 1
)

func (s *State) allocateProducerIDs(c AllocateProducerIDs) (*State, any, error) {
	switch {
	case s.siteID == 0:
		return nil, nil, fmt.Errorf("%w: producer IDs before the site has its ID", record.ErrInvalidRequest)
	case c.Count < 1 || c.Count > maxProducerIDs:
		return nil, nil, fmt.Errorf("%w: a block of %d producer IDs, want 1 to %d", record.ErrInvalidRequest, c.Count, maxProducerIDs)
	case s.producer > producerCounter-int64(c.Count):
		return nil, nil, fmt.Errorf("%w: the site has used up its 2^%d producer IDs", record.ErrInvalidRequest, producerBits)
	}
	block := ProducerIDs{First: int64(s.siteID)<<producerBits | s.producer, Count: c.Count}
	next := *s
	next.producer += int64(c.Count)
	return &next, block, nil
}

func (s *State) setJob(c SetJob) (*State, any, error) {
	if err := checkName("job", c.Name); err != nil {
		return nil, nil, err
	}
	next := *s
	next.jobs = maps.Clone(s.jobs)
	switch c.Desired {
	case JobRunning: // the default is not kept
		delete(next.jobs, c.Name)
	case JobPaused, JobStopped:
		if next.jobs == nil {
			next.jobs = map[string]string{}
		}
		next.jobs[c.Name] = c.Desired
	default:
		return nil, nil, fmt.Errorf("%w: job %q cannot be %q, want %s, %s or %s", record.ErrInvalidRequest, c.Name, c.Desired, JobRunning, JobPaused, JobStopped)
	}
	return &next, nil, nil
}

// maxName bounds names of sites, nodes, links and jobs, in bytes.
const maxName = 249

func checkName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: the %s has no name", record.ErrInvalidRequest, what)
	case len(name) > maxName:
		return fmt.Errorf("%w: the name of the %s has %d bytes, the most is %d", record.ErrInvalidRequest, what, len(name), maxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%w: the name %q of the %s has characters that cannot be printed", record.ErrInvalidRequest, name, what)
	}
	return nil
}
