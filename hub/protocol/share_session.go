package protocol

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/share"
	"github.com/entrepot-hub/entrepot/record"
)

// Faults of share sessions.
var (
	errShareSession      = errors.New("the connection has no such share session")
	errShareSessionEpoch = errors.New("not the next epoch of the share session")
	errShareSessionLimit = errors.New("as many share sessions as there may be")
)

// A share session (KIP-932) belongs to its connection and to a member: which
// partitions the member fetches here. It ends with the connection, and what the
// member holds of them is taken back.
type shareSession struct {
	group, member string
	epoch         int32 // of the next request
	parts         []sharePart
	has           map[sharePart]bool
}

// sharePart is a partition of a topic by its ID.
type sharePart struct {
	topic     record.TopicID
	partition int32
}

// shareSessions are a connection's.
type shareSessions []*shareSession

// maxShareSessions of one connection, and partitions in one. Clients have one
// session, with what their member is assigned.
const (
	maxShareSessions = 16
	maxShareParts    = 10_000
)

// Epochs of requests that begin and end a session.
const (
	shareBegins = 0
	shareEnds   = -1
)

func (all shareSessions) find(group, member string) *shareSession {
	for _, s := range all {
		if s.group == group && s.member == member {
			return s
		}
	}
	return nil
}

// shareSession returns the session of a request, and moves it to its next epoch.
func (r *request) shareSession(group, member string, epoch int32, begins bool) (*shareSession, error) {
	if r.shares == nil {
		return nil, errShareSession
	}
	s := r.shares.find(group, member)
	switch {
	case epoch == shareBegins && !begins:
		return nil, errShareSessionEpoch
	case epoch == shareBegins:
		r.shares.drop(s)
		if len(*r.shares) >= maxShareSessions {
			return nil, errShareSessionLimit
		}
		s = &shareSession{group: group, member: member, epoch: 1, has: map[sharePart]bool{}}
		*r.shares = append(*r.shares, s)
		return s, nil
	case s == nil:
		return nil, errShareSession
	case epoch == shareEnds:
		return s, nil
	case epoch != s.epoch:
		return nil, errShareSessionEpoch
	}
	if s.epoch++; s.epoch <= 0 {
		s.epoch = 1
	}
	return s, nil
}

func (all *shareSessions) drop(s *shareSession) {
	*all = slices.DeleteFunc(*all, func(o *shareSession) bool { return o == s })
}

// change adds and takes out what a request names. What it names for both is out:
// a client names a partition that it no longer fetches once more, to acknowledge
// what it still holds.
func (s *shareSession) change(req *kmsg.ShareFetchRequest) error {
	out := map[sharePart]bool{}
	for _, t := range req.ForgottenTopicsData {
		for _, p := range t.Partitions {
			out[sharePart{t.TopicID, p}] = true
		}
	}
	s.parts = slices.DeleteFunc(s.parts, func(p sharePart) bool { return out[p] })
	for p := range out {
		delete(s.has, p)
	}
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			one := sharePart{t.TopicID, p.Partition}
			switch {
			case s.has[one] || out[one]:
			case len(s.parts) >= maxShareParts:
				return fmt.Errorf("%w: %d partitions in one", errShareSessionLimit, maxShareParts)
			default:
				s.has[one] = true
				s.parts = append(s.parts, one)
			}
		}
	}
	return nil
}

// releaseShares takes back what a session's member holds.
func (s *Server) releaseShares(x *shareSession) {
	for _, p := range x.parts {
		s.windows.release(shareKey{x.group, p.topic, p.partition}, x.member)
	}
}

// endShareSessions ends those of a connection that is gone.
func (s *Server) endShareSessions(all shareSessions) {
	for _, x := range all {
		s.releaseShares(x)
	}
}

// shareAcks are what a request says of the records of one partition.
type shareAcks struct {
	part sharePart
	acks []share.Ack
	err  error
}

// acknowledgeShares takes over what a member says. Each part gets its outcome,
// durable if it is nil.
func (s *Server) acknowledgeShares(ctx context.Context, r *request, x *shareSession, all []shareAcks, renew bool) {
	lock := shareSettings(s.meta.State(), x.group).Lock
	waits := make([]func(context.Context) error, len(all))
	for i := range all {
		a := &all[i]
		k := shareKey{x.group, a.part.topic, a.part.partition}
		if _, a.err = s.sharedLog(r, a.part); a.err == nil {
			waits[i] = s.windows.acknowledge(k, x.member, lock, a.acks, renew)
		}
	}
	for i, wait := range waits {
		if wait != nil {
			all[i].err = shareFault(wait(ctx))
		}
	}
}

// sharedLog finds a partition that the request's client may read.
func (s *Server) sharedLog(r *request, p sharePart) (Partition, error) {
	t, err := s.findFor(r, catalog.OpRead, s.meta.State(), true, "", p.topic)
	if err != nil {
		return nil, err
	}
	return s.partition(t, p.partition)
}

// shareLeader is who leads a partition, as an answer with a fault of leadership
// tells it; -1 and -1 in any other.
func (s *Server) shareLeader(p sharePart, fault int16) (leader, epoch int32) {
	if t, ok := s.meta.State().TopicByID(p.topic); ok && isLeadership(fault) {
		return s.parts.Leader(t.Name, p.partition)
	}
	return -1, -1
}

// shareFault is err for a client of a share-partition: trouble with the
// partition that keeps the state looks like that of the one that is fetched,
// which makes every client come again.
func shareFault(err error) error {
	if err == nil || errors.Is(err, share.ErrRequest) || errors.Is(err, share.ErrRecordState) {
		return err
	}
	return record.ErrNotLeader
}

// checkShareMember: Kafka wants member IDs of a UUID's length at most.
func checkShareMember(group, member string) error {
	if group == "" || member == "" || len(member) > 36 {
		return record.ErrInvalidRequest
	}
	return nil
}

// lockMillis is the lock's length as answers tell it.
func lockMillis(d time.Duration) int32 { return int32(d.Milliseconds()) }
