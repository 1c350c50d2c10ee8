package protocol

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// Fetch: v4-18
//
// Behaviour:
//   - Long poll: answered when min bytes are there, on any error, or after the
//     wait the client asks for, at most Limits.FetchWait.
//   - The first batch found is returned whatever its size; it may begin before
//     the offset asked for.
//   - An answer has no more than pays on the way to the client (fetches.room),
//     and each begins with the partition after the last one that had records.
//   - Sessions (v7+, KIP-227): one for each connection. A fetch that goes on with
//     it names what is new, and is answered with what has changed.
//   - read_committed never goes beyond the last stable offset, and lists the
//     aborted transactions that the batches answered have to do with; the list
//     is null for read_uncommitted.
//   - Leader epochs are checked (KIP-320), a diverging one is answered with
//     where it ended (v12+).
//   - A consumer that says where it is (client.rack, v11+) is sent by the leader
//     to a follower in that rack that has everything, unless the leader is there,
//     too; a follower serves it what is committed as far as it has heard, and
//     sends it back to the leader for what is beyond after the wait (KIP-392; an
//     error, OFFSET_NOT_AVAILABLE, only where no leader is known). Without a rack
//     only the leader serves.
//   - Replicas are not served: replication is not done by Fetch.
//
// Version notes:
//   - v5: log start offset; v9: leader epoch; v11: rack; v12: flexible
//   - v13: topic IDs; v15: replica ID tagged; v16: leaders named; v17, v18: tags
//     of followers only
var fetchAPI = api{
	key: 1, name: "Fetch", min: 4, max: 18,
	shape: body(12,
		fixed(4).to(14), fixed(4), fixed(4), fixed(4), fixed(1), fixed(4).from(7), fixed(4).from(7),
		array(str().to(12), fixed(16).from(13), array(
			fixed(4), fixed(4).from(9), fixed(8), fixed(4).from(12), fixed(8).from(5), fixed(4))),
		array(str().to(12), fixed(16).from(13), list(fixed(4))).from(7),
		str().from(11)).tagged(tagShapes{1: {structure(fixed(4), fixed(8))}}),
	needs:  needs(on(catalog.OpRead, catalog.ResourceTopic)),
	handle: (*Server).fetch,
}

const readCommitted = 1

func (s *Server) fetch(ctx context.Context, r *request) (answer, error) {
	req, err := decode[kmsg.FetchRequest](r)
	if err != nil {
		return answer{}, err
	}
	f := newFetch(s, r, req)
	all := begins(req)
	session, err := s.session(&r.fetches.session, req)
	if err != nil {
		f.answer.err = err
		return answer{fetch: f.answer}, nil
	}
	f.resolve(r)
	f.parts = r.fetches.turn(f.parts)
	wait := min(time.Duration(max(req.MaxWaitMillis, 0))*time.Millisecond, s.cfg.Limits.FetchWait)
	f.poll(ctx, wait)
	f.refuseAhead()
	r.fetches.note(f.parts)
	if session != nil {
		session.tell(f.answer, all)
	}
	f.answer.held = f.answer.memory()
	s.answers.Add(f.answer.held)
	return answer{fetch: f.answer}, nil
}

// fetch is one Fetch request at work.
type fetch struct {
	s       *Server
	req     *kmsg.FetchRequest
	answer  *fetchAnswer
	parts   []*fetchPart
	limit   int // bytes of the whole answer
	left    int // of limit
	settled bool
}

// fetchPart is one partition of it.
type fetchPart struct {
	req      *kmsg.FetchRequestTopicPartition
	topic    *catalog.Topic
	log      Reader
	follower bool  // log is one
	ahead    error // the follower has not come as far yet
	out      *fetchedPart
	changed  <-chan struct{}
}

func newFetch(s *Server, r *request, req *kmsg.FetchRequest) *fetch {
	limit := min(s.cfg.Limits.Fetch, max(r.fetches.room(), int(req.MinBytes)))
	f := &fetch{s: s, req: req, limit: min(max(int(req.MaxBytes), 0), limit)}
	if s.answers.Load() >= s.cfg.Limits.Answers {
		f.limit = 0 // one batch, so that every client gets on
	}
	f.answer = &fetchAnswer{committed: req.IsolationLevel == readCommitted}
	f.answer.broker = func(id int32) (kmsg.FetchResponseBroker, bool) { return s.fetchBroker(r, id) }
	return f
}

// resolve finds the partitions asked for.
func (f *fetch) resolve(r *request) {
	st := f.s.meta.State()
	f.answer.topics = make([]fetchedTopic, len(f.req.Topics))
	for i := range f.req.Topics {
		rt, out := &f.req.Topics[i], &f.answer.topics[i]
		out.name, out.id = rt.Topic, rt.TopicID
		out.parts = make([]fetchedPart, len(rt.Partitions))
		t, err := f.s.findFor(r, catalog.OpRead, st, f.req.Version >= 13, rt.Topic, rt.TopicID)
		for j := range rt.Partitions {
			p := &fetchPart{req: &rt.Partitions[j], topic: t, out: &out.parts[j]}
			p.out.reset(p.req.Partition)
			if err != nil {
				f.refuse(p, err)
				continue
			}
			f.locate(p)
			f.parts = append(f.parts, p)
		}
	}
}

// locate finds one partition's log: that of the leader, or for a consumer that
// has said where it is the follower's at this node. The leader sends such a
// consumer to a follower in its rack, if there is one.
func (f *fetch) locate(p *fetchPart) {
	rack := f.rack()
	if rack != "" {
		if p.log = f.s.follower(p.topic, p.req.Partition); p.log != nil {
			p.follower = true
			return
		}
	}
	log, err := f.s.partition(p.topic, p.req.Partition)
	if err == nil && rack != "" && f.prefer(p, log, rack) {
		return
	}
	if err != nil {
		f.refuse(p, err)
		return
	}
	p.log = log
}

// refuse ends a partition with an error, which is answered at once.
func (f *fetch) refuse(p *fetchPart, err error) {
	p.out.reset(p.req.Partition)
	err = fetchFault(err)
	if p.follower && f.sendBack(p, err) {
		return
	}
	p.out.code = code(err)
	f.settled = true
	if p.topic != nil && p.out.code != 0 && isLeadership(p.out.code) {
		p.out.leader, p.out.leaderEpoch = f.s.parts.Leader(p.topic.Name, p.req.Partition)
	}
}

// fetchFault is err in the codes that Java's consumer knows in the answer to a
// Fetch: LEADER_NOT_AVAILABLE, which it takes everywhere else, ends it.
func fetchFault(err error) error {
	if errors.Is(err, record.ErrLeaderUnknown) {
		return fmt.Errorf("%w: %v", record.ErrNotLeader, err)
	}
	return err
}

// read fills all partitions from what the logs have now.
// watched says that it goes on to wait for what changes after this.
func (f *fetch) read(watched bool) (total int) {
	f.left = f.limit
	for _, p := range f.parts {
		if p.log == nil {
			continue
		}
		if watched {
			p.changed = p.log.Changed() // before the read: what comes after it is not missed
		}
		n := f.readPart(p, total == 0)
		f.left -= n
		total += n
	}
	f.answer.size = int64(total)
	return total
}

// readPart reads one partition; first says that no batch was found yet, so that
// one is returned whatever its size.
func (f *fetch) readPart(p *fetchPart, first bool) int {
	p.out.reset(p.req.Partition)
	limit := min(f.left, max(int(p.req.PartitionMaxBytes), 0))
	if f.left <= 0 && !first {
		return f.skipPart(p)
	}
	chunk, err := p.log.ReadLate(p.req.FetchOffset, max(limit, 1))
	p.out.release, p.out.open = chunk.Release, chunk.Open
	p.ahead = nil
	if err == nil || errors.Is(err, record.ErrOffsetOutOfRange) || errors.Is(err, record.ErrOffsetNotAvailable) {
		// The partition can be served, so its epochs can be trusted, and they
		// say more than the offset.
		if e := checkEpoch(p.req.CurrentLeaderEpoch, chunk.Offsets.LeaderEpoch); f.req.Version >= 9 && e != nil {
			err = e
		} else if f.diverges(p) {
			return 0
		}
	}
	if errors.Is(err, record.ErrOffsetNotAvailable) {
		p.ahead, err = err, nil // it may come within the wait
	}
	if err != nil {
		f.refuse(p, err)
		return 0
	}
	p.out.offsets = chunk.Offsets
	p.out.batches = chunk.Batches
	if f.answer.committed {
		p.out.batches = below(p.out.batches, chunk.Offsets.LastStable)
	}
	if !first && len(p.out.batches) > 0 {
		p.out.batches = within(p.out.batches, limit)
		if len(p.out.batches) == 0 && limit == f.left {
			f.left = 0 // full: the other logs would be read for nothing, too
		}
	}
	if f.answer.committed {
		if p.out.aborted, err = abortedIn(p.log, p.out.batches); err != nil {
			f.refuse(p, err)
			return 0
		}
	}
	return p.out.bytes()
}

// skipPart answers a partition that has no room left in the answer: the client
// asks for it again.
func (f *fetch) skipPart(p *fetchPart) int {
	if err := p.log.Serving(); err != nil {
		f.refuse(p, err)
		return 0
	}
	p.out.offsets = p.log.Offsets()
	return 0
}

// diverges compares the epoch of the client's last record with the log's
// (KIP-595): where it ended below what the client has read, the client's
// records are not in this log. An epoch that the log does not know says
// nothing; only the offset can be judged then.
func (f *fetch) diverges(p *fetchPart) bool {
	if f.req.Version < 12 || p.req.LastFetchedEpoch < 0 {
		return false
	}
	end := p.log.EpochEnd(p.req.LastFetchedEpoch)
	if end.Epoch < 0 || end.End < 0 || end.Epoch == p.req.LastFetchedEpoch && end.End >= p.req.FetchOffset {
		return false
	}
	o := p.log.Offsets()
	p.out.offsets = o
	p.out.diverging, p.out.divergingEnd = end.Epoch, end.End
	f.settled = true
	return true
}

// below cuts off the batches at or above offset.
func below(batches []record.Batch, offset int64) []record.Batch {
	for i, b := range batches {
		if b.BaseOffset() >= offset {
			return batches[:i]
		}
	}
	return batches
}

// abortedIn lists the aborted transactions that a reader of the batches must
// know. The batches count as a whole: a client skips what it did not ask for
// only after that.
func abortedIn(log Reader, batches []record.Batch) ([]record.AbortedTransaction, error) {
	if !slices.ContainsFunc(batches, record.Batch.IsTransactional) {
		return nil, nil
	}
	return log.Aborted(batches[0].BaseOffset(), batches[len(batches)-1].NextOffset())
}

// within cuts off the batches beyond limit bytes.
func within(batches []record.Batch, limit int) []record.Batch {
	for i, b := range batches {
		if limit -= b.Size(); limit < 0 {
			return batches[:i]
		}
	}
	return batches
}

// fetchBroker is the address of a leader that an answer names.
func (s *Server) fetchBroker(r *request, id int32) (kmsg.FetchResponseBroker, bool) {
	b := kmsg.NewFetchResponseBroker()
	n, ok := s.meta.State().Node(id)
	if ok {
		b.NodeID, b.Rack = id, rack(n)
		b.Host, b.Port = s.advertised(r, n)
	}
	return b, ok
}
