package protocol

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/share"
	"github.com/entrepot-hub/entrepot/record"
)

// ShareFetch: v1-2 (KIP-932)
//
// Behaviour:
//   - Hands the member records that nobody holds, at most MaxRecords, and holds
//     them for it. Acknowledgements that come with it are done first; they are
//     durable when it is answered.
//   - Whole batches are sent; which of their records are meant is beside them.
//   - Long poll as for Fetch, until the first record is there.
//   - A session (epoch 0 begins, -1 ends) belongs to the connection.
//   - Records of open and aborted transactions are delivered
//     (share.isolation.level=read_uncommitted, Kafka's default); markers are not.
//
// Version notes:
//   - v1: most records; v2: renewal (KIP-1222), acquire mode (KIP-1206; batches
//     are split by records in both)
var shareFetchAPI = api{
	key: 78, name: "ShareFetch", min: 1, max: 2,
	shape: body(0, str(), str(), fixed(4), fixed(4), fixed(4), fixed(4), fixed(4).from(1), fixed(4).from(1), fixed(1).from(2), fixed(1).from(2),
		array(fixed(16), array(fixed(4), fixed(4).to(0), array(fixed(8), fixed(8), list(fixed(1))))),
		array(fixed(16), list(fixed(4)))),
	needs:  needs(on(catalog.OpRead, catalog.ResourceGroup), on(catalog.OpRead, catalog.ResourceTopic)),
	handle: plain[kmsg.ShareFetchRequest]((*Server).shareFetch),
}

func (s *Server) shareFetch(ctx context.Context, r *request, req *kmsg.ShareFetchRequest) kmsg.Response {
	resp := kmsg.NewPtrShareFetchResponse()
	group, member := orEmpty(req.GroupID), orEmpty(req.MemberID)
	set := shareSettings(s.meta.State(), group)
	resp.AcquisitionLockTimeoutMillis = lockMillis(set.Lock)
	err := s.mayGroup(r, catalog.OpRead, group)
	if err == nil {
		err = checkShareFetch(group, member, req)
	}
	var x *shareSession
	if err == nil {
		x, err = r.shareSession(group, member, req.ShareSessionEpoch, true)
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	f := &shareFetch{s: s, r: r, req: req, x: x, set: set, out: resp, topics: map[record.TopicID]int{}, parts: map[sharePart]int{}}
	f.run(ctx)
	return resp
}

func checkShareFetch(group, member string, req *kmsg.ShareFetchRequest) error {
	if err := checkShareMember(group, member); err != nil {
		return fmt.Errorf("%w: group %q, member %q", err, group, member)
	}
	if !req.IsRenewAck {
		return nil
	}
	if req.MaxBytes != 0 || req.MinBytes != 0 || req.MaxRecords != 0 || req.MaxWaitMillis != 0 {
		return fmt.Errorf("%w: a renewal fetches nothing", record.ErrInvalidRequest)
	}
	return nil
}

// shareFetch is one ShareFetch request at work.
type shareFetch struct {
	s     *Server
	r     *request
	req   *kmsg.ShareFetchRequest
	x     *shareSession
	set   share.Settings
	out   *kmsg.ShareFetchResponse
	got   bool // something to answer at once
	watch []<-chan struct{}

	topics map[record.TopicID]int // in out
	parts  map[sharePart]int      // in their topics
}

func (f *shareFetch) run(ctx context.Context) {
	acks := f.acks()
	f.s.acknowledgeShares(ctx, f.r, f.x, acks, f.req.IsRenewAck)
	for _, a := range acks {
		p := f.part(a.part)
		p.AcknowledgeErrorCode, p.AcknowledgeErrorMessage = code(a.err), message(a.err)
	}
	switch {
	case f.req.ShareSessionEpoch == shareEnds:
		f.s.releaseShares(f.x)
		f.r.shares.drop(f.x)
	case f.req.IsRenewAck:
	default:
		if err := f.x.change(f.req); err != nil {
			f.out.ErrorCode, f.out.ErrorMessage = code(err), message(err)
			return
		}
		f.poll(ctx)
	}
}

func (f *shareFetch) acks() (all []shareAcks) {
	for _, t := range f.req.Topics {
		for _, p := range t.Partitions {
			if len(p.AcknowledgementBatches) == 0 {
				continue
			}
			a := shareAcks{part: sharePart{t.TopicID, p.Partition}}
			for _, b := range p.AcknowledgementBatches {
				a.acks = append(a.acks, share.Ack{First: b.FirstOffset, Last: b.LastOffset, Types: b.AcknowledgeTypes})
			}
			all = append(all, a)
		}
	}
	return all
}

// poll looks for records until there are some, a fault, or the wait is over.
func (f *shareFetch) poll(ctx context.Context) {
	wait := min(time.Duration(max(f.req.MaxWaitMillis, 0))*time.Millisecond, f.s.cfg.Limits.FetchWait)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for f.read(ctx); !f.got && f.await(ctx, timer.C); f.read(ctx) {
	}
}

// await waits for a change of any partition; false: no more waiting.
func (f *shareFetch) await(ctx context.Context, timeout <-chan time.Time) bool {
	cases := []reflect.SelectCase{
		{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(timeout)},
		{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ctx.Done())},
	}
	for _, ch := range f.watch[:min(len(f.watch), maxSelect-len(cases))] {
		cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ch)})
	}
	i, _, _ := reflect.Select(cases)
	return i > 1
}

// maxShareBytes bounds one answer: it is a copy, unlike that of a Fetch.
const maxShareBytes = 8 << 20

// read goes over the session's partitions, each time from another one on.
func (f *shareFetch) read(ctx context.Context) {
	f.watch = f.watch[:0]
	records := int64(f.req.MaxRecords)
	if records <= 0 {
		records = 500 // max.poll.records of Kafka's consumer
	}
	left := min(max(int(f.req.MaxBytes), 1), f.s.cfg.Limits.Fetch, maxShareBytes)
	n := len(f.x.parts)
	for i := range n {
		if records <= 0 || left <= 0 {
			return
		}
		p := f.x.parts[(i+int(f.x.epoch))%n]
		held, size, err := f.readPart(ctx, p, records, left)
		if err != nil {
			out := f.part(p)
			err = fetchFault(err)
			out.ErrorCode, out.ErrorMessage = code(err), message(err)
			out.CurrentLeader.LeaderID, out.CurrentLeader.LeaderEpoch = f.s.shareLeader(p, out.ErrorCode)
			f.got = true
			continue
		}
		records -= held
		left -= size
		f.r.handed += size
	}
}

// readPart hands out records of one partition.
func (f *shareFetch) readPart(ctx context.Context, p sharePart, most int64, limit int) (records int64, size int, err error) {
	log, err := f.s.sharedLog(f.r, p)
	if err != nil {
		return 0, 0, err
	}
	if err := log.Serving(); err != nil {
		return 0, 0, err
	}
	changed := log.Changed() // before the read: what comes after it is not missed
	k := shareKey{f.x.group, p.topic, p.partition}
	at, err := f.s.windows.next(ctx, k, f.set, log)
	if err != nil {
		return 0, 0, shareFault(err)
	}
	f.watch = append(f.watch, at.changed)
	if !at.room {
		return 0, 0, nil
	}
	f.watch = append(f.watch, changed)
	if o := log.Offsets(); at.offset >= o.HighWatermark {
		return 0, 0, nil
	}
	chunk, err := log.Read(at.offset, limit)
	if err != nil {
		return 0, 0, err
	}
	if chunk.Release != nil {
		defer chunk.Release()
	}
	held := f.s.windows.acquire(f.x.member, most, f.set.Lock, at, ranges(chunk.Batches))
	if len(held) == 0 {
		return 0, 0, nil
	}
	return f.hand(f.part(p), held, chunk.Batches)
}

// ranges are what batches cover.
func ranges(batches []record.Batch) []share.Range {
	rs := make([]share.Range, len(batches))
	for i, b := range batches {
		rs[i] = share.Range{First: b.BaseOffset(), Last: b.LastOffset(), Skip: b.IsControl()}
	}
	return rs
}

// hand puts what is held, and the batches that have it, into the answer.
func (f *shareFetch) hand(out *kmsg.ShareFetchResponseTopicPartition, held []share.Held, batches []record.Batch) (records int64, size int, err error) {
	f.got = true
	for _, h := range held {
		a := kmsg.NewShareFetchResponseTopicPartitionAcquiredRecord()
		a.FirstOffset, a.LastOffset, a.DeliveryCount = h.First, h.Last, h.Count
		out.AcquiredRecords = append(out.AcquiredRecords, a)
		records += h.Last - h.First + 1
	}
	first, last := held[0].First, held[len(held)-1].Last
	out.Records = slices.Concat(slices.DeleteFunc(slices.Clone(batches), func(b record.Batch) bool {
		return b.LastOffset() < first || b.BaseOffset() > last
	})...)
	return records, len(out.Records), nil
}

// part is a partition's place in the answer.
func (f *shareFetch) part(p sharePart) *kmsg.ShareFetchResponseTopicPartition {
	ti, ok := f.topics[p.topic]
	if !ok {
		ti = len(f.out.Topics)
		f.topics[p.topic] = ti
		t := kmsg.NewShareFetchResponseTopic()
		t.TopicID = p.topic
		f.out.Topics = append(f.out.Topics, t)
	}
	t := &f.out.Topics[ti]
	pi, ok := f.parts[p]
	if !ok {
		pi = len(t.Partitions)
		f.parts[p] = pi
		o := kmsg.NewShareFetchResponseTopicPartition()
		o.Partition = p.partition
		o.CurrentLeader.LeaderID, o.CurrentLeader.LeaderEpoch = -1, -1
		t.Partitions = append(t.Partitions, o)
	}
	return &t.Partitions[pi]
}
