package protocol

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
)

// fleet are consumers of one group that commit what they have worked on before
// they let go of a partition. A record that comes twice is one of those whose
// commit failed.
type fleet struct {
	t     *testing.T
	s     *site
	mu    sync.Mutex
	seen  map[string]int
	again map[string]bool // not committed: may come again
	wg    sync.WaitGroup
	n     int // produced
}

// worker is one of them.
type worker struct {
	*kgo.Client
	n atomic.Int64 // records
}

func (f *fleet) start(opts ...kgo.Opt) *worker {
	w := &worker{Client: f.s.client(f.t, append([]kgo.Opt{
		kgo.ConsumerGroup("g"), kgo.ConsumeTopics("work"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.HeartbeatInterval(50 * time.Millisecond), kgo.SessionTimeout(6 * time.Second),
		kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
	}, opts...)...)}
	f.wg.Go(func() {
		for {
			fs := w.PollFetches(context.Background())
			f.work(w, fs.Records())
			w.AllowRebalance()
			if fs.IsClientClosed() {
				return
			}
		}
	})
	return w
}

func (f *fleet) work(w *worker, rs []*kgo.Record) {
	if len(rs) == 0 {
		return
	}
	err := w.CommitRecords(context.Background(), rs...)
	f.mu.Lock()
	defer f.mu.Unlock()
	w.n.Add(int64(len(rs)))
	for _, r := range rs {
		key := string(r.Key)
		if f.seen[key]++; f.seen[key] > 1 && !f.again[key] {
			f.t.Errorf("record %s came again, though it was committed", key)
		}
		f.again[key] = err != nil
	}
}

func (f *fleet) stop(w *worker) { w.CloseAllowingRebalance() }

// produce adds some records.
func (f *fleet) produce() {
	produceN(f.t, f.s, "work", f.n, 200)
	f.n += 200
}

// all produces until each worker got something, and waits until every record
// was seen.
func (f *fleet) all(ws []*worker) {
	f.t.Helper()
	for _, w := range ws {
		w.n.Store(0)
	}
	eventually(f.t, "all workers work", func() bool {
		f.produce()
		return !slices.ContainsFunc(ws, func(w *worker) bool { return w.n.Load() == 0 })
	})
	eventually(f.t, "all records are seen", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.seen) == f.n
	})
}

// listed is the type and the state of the group.
func (f *fleet) listed() (kind, state string) {
	r := kmsg.NewPtrListGroupsRequest()
	r.Version = 5
	for _, g := range ask[*kmsg.ListGroupsResponse](f.s.dial(f.t), r).Groups {
		if g.Group == "g" {
			return g.GroupType, g.GroupState
		}
	}
	return "", ""
}

// Members are restarted one by one with the other protocol, there and back, in
// the middle of the work.
func TestGroupMovesToTheConsumerProtocolAndBack(t *testing.T) {
	for name, balancer := range map[string]kgo.GroupBalancer{"eager": kgo.RangeBalancer(), "cooperative": kgo.CooperativeStickyBalancer()} {
		t.Run(name, func(t *testing.T) {
			s := startSite(t, nextGen())
			s.topic(t, "work", 6)
			f := &fleet{t: t, s: s, seen: map[string]int{}, again: map[string]bool{}}
			classic := []kgo.Opt{kgo.Balancers(balancer)}
			next := []kgo.Opt{kgo.ServerSideBalancer(), kgo.Balancers(balancer)}
			var ws []*worker
			for range 3 {
				ws = append(ws, f.start(classic...))
			}
			f.all(ws)
			for _, to := range [][]kgo.Opt{next, classic} {
				for i := range ws {
					old := ws[i]
					f.produce() // while they move
					f.stop(old)
					ws[i] = f.start(to...)
					f.all(ws)
					if i == 1 { // two of three: a change of leadership in between
						s.memLog(t, catalog.OffsetsTopic, partitionOf("g", 3)).newEpoch()
						f.all(ws)
					}
				}
				want := map[bool]string{true: "consumer", false: "classic"}[len(to) == 2]
				eventually(t, "the group is a "+want+" group", func() bool {
					kind, state := f.listed()
					return kind == want && state == "Stable"
				})
			}
			for _, w := range ws {
				f.stop(w)
			}
			f.wg.Wait()
			offsets, err := s.admin(t).FetchOffsets(testContext(t), "g")
			if err != nil {
				t.Fatal(err)
			}
			sum, open := int64(0), 0
			offsets.Each(func(o kadm.OffsetResponse) { sum += o.At })
			twice := 0
			for key, times := range f.seen {
				if times > 1 {
					twice++
				}
				if f.again[key] {
					open++
				}
			}
			if sum < int64(f.n-open) || sum > int64(f.n) {
				t.Errorf("the committed offsets sum to %d, of %d records %d were not committed", sum, f.n, open)
			}
			t.Logf("%d records, %d of them twice after a commit that failed", f.n, twice)
		})
	}
}

// A group of both kinds shows who uses which protocol.
func TestMixedGroupIsDescribed(t *testing.T) {
	s := startSite(t, nextGen())
	s.topic(t, "work", 4)
	f := &fleet{t: t, s: s, seen: map[string]int{}, again: map[string]bool{}}
	ws := []*worker{f.start(kgo.Balancers(kgo.RangeBalancer())), f.start(kgo.Balancers(kgo.RangeBalancer()), kgo.ServerSideBalancer())}
	eventually(t, "both have partitions", func() bool { return owners(t, s, "g", 4) == 2 })
	kinds := map[int8]int{}
	for _, m := range describeConsumers(t, s, "g").Members {
		kinds[m.MemberType]++
	}
	if kinds[0] != 1 || kinds[1] != 1 {
		t.Errorf("types of members: %v, want one of each", kinds)
	}
	f.all(ws)
	for _, w := range ws {
		f.stop(w)
	}
	f.wg.Wait()
}

// Where the policy forbids it, a group with members keeps its protocol.
func TestMigrationPolicyIsKept(t *testing.T) {
	cfg := nextGen()
	cfg.Group.Migration = group.MigrateNone
	s := startSite(t, cfg)
	s.topic(t, "work", 2)
	f := &fleet{t: t, s: s, seen: map[string]int{}, again: map[string]bool{}}
	w := f.start(kgo.Balancers(kgo.RangeBalancer()))
	f.all([]*worker{w})
	r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	r.Version, r.Group, r.MemberID, r.RebalanceTimeoutMillis = 1, "g", "m", 5000
	r.SubscribedTopicNames, r.Topics = []string{"work"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	if got := ask[*kmsg.ConsumerGroupHeartbeatResponse](s.dial(t), r); got.ErrorCode != code(group.ErrOtherProtocol) {
		t.Errorf("a heartbeat in a classic group: %d, %v", got.ErrorCode, got.ErrorMessage)
	}
	if kind, state := f.listed(); kind != "classic" || state != "Stable" {
		t.Errorf("the group is %s and %s", kind, state)
	}
	f.stop(w)
	f.wg.Wait()
}
