package protocol

import (
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/quota"
)

// quotas is the book of the present quotas, made when one is first needed.
type quotas struct {
	mu struct {
		sync.Mutex
		of   *catalog.Security
		book *quota.Book
	}
}

// charge is a book's Charge for one request.
func (q *quotas) charge(x *catalog.Security, now time.Time, r *request, used map[string]float64) (wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.of != x {
		if q.mu.book == nil {
			q.mu.book = quota.New(nil)
		}
		q.mu.book.Set(x.Quotas)
		q.mu.of = x
	}
	for kind, amount := range used {
		wait = max(wait, q.mu.book.Charge(now, r.who.Name, r.client, kind, amount))
	}
	return wait
}

// mayMutate refuses a strict client that has used up its quota of partitions. Its
// versions of an API know the error, which says when to try again; a client
// before KIP-599 gets through, and is throttled afterwards.
func (s *Server) mayMutate(r *request, strict bool) error {
	x := s.meta.State().Security()
	if !strict || len(x.Quotas) == 0 {
		return nil
	}
	wait := s.quotas.charge(x, s.cfg.Clock(), r, map[string]float64{catalog.QuotaMutation: 0})
	if wait == 0 {
		return nil
	}
	r.wait = max(r.wait, wait)
	return fmt.Errorf("%w of partitions created and deleted, try again in %v", errQuota, wait.Round(time.Millisecond))
}

// mutated charges partitions that were created or deleted.
func (s *Server) mutated(r *request, partitions int) {
	x := s.meta.State().Security()
	if len(x.Quotas) > 0 && partitions > 0 {
		r.wait = max(r.wait, s.quotas.charge(x, s.cfg.Clock(), r, map[string]float64{catalog.QuotaMutation: float64(partitions)}))
	}
}

// parkedTime is what a request that may wait for others is charged at most.
const parkedTime = time.Millisecond

// throttle charges a handled request to the quotas of its client, tells it in
// the answer how long it is to be quiet, and returns that.
func (s *Server) throttle(r *request, a answer, took time.Duration) time.Duration {
	x := s.meta.State().Security()
	if len(x.Quotas) == 0 {
		return 0
	}
	switch r.api.key {
	case 1, 11, 14, 68, 78: // Fetch, JoinGroup, SyncGroup, ConsumerGroupHeartbeat, ShareFetch
		took = min(took, parkedTime)
	}
	used := map[string]float64{catalog.QuotaRequest: 100 * took.Seconds()}
	if a.later != nil {
		used[catalog.QuotaProduce] = float64(len(r.frame.bytes))
	}
	switch {
	case a.fetch != nil:
		used[catalog.QuotaFetch] = float64(a.fetch.size)
	case r.handed > 0:
		used[catalog.QuotaFetch] = float64(r.handed)
	}
	wait := max(r.wait, s.quotas.charge(x, s.cfg.Clock(), r, used))
	if wait == 0 {
		return 0
	}
	s.throttled.Add(1)
	ms := int32(max(1, wait.Milliseconds()))
	switch {
	case a.later != nil:
		a.later.resp.ThrottleMillis = ms
	case a.fetch != nil:
		a.fetch.throttle = ms
	default:
		if t, ok := a.msg.(kmsg.SetThrottleResponse); ok {
			t.SetThrottle(ms)
		}
	}
	return wait
}
