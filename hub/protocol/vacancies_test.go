package protocol

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// Who asks waits for a leader, and no longer than electionTime; a vacancy that lasts is
// waited for once. The next one is another one.
func TestVacancies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVacancies(nil, nil)
		var filled atomic.Bool
		wait := func(ctx context.Context, partition int32) time.Duration {
			begin := time.Now()
			v.wait(ctx, "t", partition, func() bool { return !filled.Load() })
			return time.Since(begin)
		}
		took := func(what string, got, want time.Duration) {
			t.Helper()
			if got < want || got > want+vacancyLook {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		leads := func(after time.Duration) {
			filled.Store(false)
			time.AfterFunc(after, func() { filled.Store(true) })
		}
		leads(time.Second)
		took("until there is a leader", wait(t.Context(), 0), time.Second)
		leads(2 * time.Second)
		took("the next election", wait(t.Context(), 0), 2*time.Second)

		leads(time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		took("until the client goes", wait(ctx, 0), time.Second)
		took("another client, the rest", wait(t.Context(), 0), electionTime-time.Second)
		took("asked again", wait(t.Context(), 0), 0)
		took("another partition", wait(t.Context(), 1), electionTime)
		took("asked after a while", wait(t.Context(), 0), electionTime)
		if n := len(v.mu.all); n != 2 {
			t.Errorf("%d vacancies are kept, want those of two partitions", n)
		}
		took("of a third", wait(t.Context(), 2), electionTime)
		if n := len(v.mu.all); n != 2 {
			t.Errorf("%d vacancies are kept, want no longer the one that nobody asks about", n)
		}
	})
}

// begun lets a vacancy have begun an hour ago, so that nobody waits any more, or
// in an hour, so that all wait as long as the test takes.
func (v *vacancies) begun(topic string, partition int32, hour time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.forget(time.Now())
	one := vacancy{first: time.Now().Add(hour * time.Hour), last: time.Now().Add(time.Hour)}
	v.mu.all[record.TopicPartition{Topic: topic, Partition: partition}] = one
}

// waits reports whether somebody has found a vacancy.
func (v *vacancies) waits() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.mu.all) > 0
}

// waited sends a request to what has no leader, sees that it waits, lets there be
// one, and returns the answer.
func waited[R kmsg.Response](t *testing.T, c *rawConn, v *vacancies, req kmsg.Request, elect func()) R {
	t.Helper()
	id := c.send(req)
	eventually(t, "somebody waits", v.waits)
	elect()
	return c.receive(req, id).(R)
}

// What is asked of a coordinator whose partition is being elected is answered
// after the election, whatever it is: not every client asks again.
func TestCoordinatorsWaitForAnElection(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "work", 1)
	c := s.dial(t)
	join := ask[*kmsg.JoinGroupResponse](c, joinRequest("g", ""))
	wantCode(t, "join", join.ErrorCode, nil)
	id := "x"
	initX := &kmsg.InitProducerIDRequest{Version: 4, TransactionalID: &id, TransactionTimeoutMillis: 60_000, ProducerID: -1, ProducerEpoch: -1}
	wantCode(t, "a transactional ID", ask[*kmsg.InitProducerIDResponse](c, initX).ErrorCode, nil)
	elected := func(topic, id string, req kmsg.Request) kmsg.Response {
		t.Helper()
		s.setAway(topic, partitionOf(id, 3), true)
		return waited[kmsg.Response](t, c, s.srv.vacant, req, func() { s.setAway(topic, partitionOf(id, 3), false) })
	}
	sync := &kmsg.SyncGroupRequest{Version: 3, Group: "g", MemberID: join.MemberID, Generation: join.Generation}
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: join.MemberID}}
	got := elected(catalog.OffsetsTopic, "g", sync)
	wantCode(t, "of a group", got.(*kmsg.SyncGroupResponse).ErrorCode, nil)
	got = elected(catalog.TransactionsTopic, "x", initX)
	wantCode(t, "of a transactional ID", got.(*kmsg.InitProducerIDResponse).ErrorCode, nil)

	alter := &kmsg.AlterShareGroupOffsetsRequest{GroupID: "s", Topics: []kmsg.AlterShareGroupOffsetsRequestTopic{{
		Topic: "work", Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{{StartOffset: 0}},
	}}}
	wantCode(t, "offsets of a share group", ask[*kmsg.AlterShareGroupOffsetsResponse](c, alter).Topics[0].Partitions[0].ErrorCode, nil)
	got = elected(catalog.OffsetsTopic, "s", alter)
	wantCode(t, "of a share group", got.(*kmsg.AlterShareGroupOffsetsResponse).ErrorCode, nil)

	hb := &kmsg.HeartbeatRequest{Version: 4, Group: "g", MemberID: join.MemberID, Generation: join.Generation}
	log := s.memLog(t, catalog.OffsetsTopic, partitionOf("g", 3))
	log.fallBehind(record.ErrLeaderUnknown)
	wantCode(t, "at a replica that is behind what others tell", ask[*kmsg.HeartbeatResponse](c, hb).ErrorCode, kerr.CoordinatorNotAvailable)
	if s.srv.vacant.waits() {
		t.Error("somebody has waited, though it was known who leads")
	}
	log.fallBehind(nil)
	s.setAway(catalog.OffsetsTopic, partitionOf("g", 3), true)
	s.srv.vacant.begun(catalog.OffsetsTopic, partitionOf("g", 3), -1)
	wantCode(t, "without a leader for long", ask[*kmsg.HeartbeatResponse](c, hb).ErrorCode, kerr.CoordinatorNotAvailable)
}

// A client that is gone waits for nothing, and neither does a server that ends.
func TestNobodyWaitsForAnElection(t *testing.T) {
	s := startSite(t, quick())
	c := s.dial(t)
	wantCode(t, "join", ask[*kmsg.JoinGroupResponse](c, joinRequest("g", "")).ErrorCode, nil)
	p := partitionOf("g", 3)
	s.setAway(catalog.OffsetsTopic, p, true)
	s.srv.vacant.begun(catalog.OffsetsTopic, p, 1)
	find := &kmsg.FindCoordinatorRequest{Version: 4, CoordinatorKeys: []string{"g"}}
	asked := func() *rawConn {
		n := s.srv.Stats().Requests["FindCoordinator"]
		c := s.dial(t)
		c.send(find)
		eventually(t, "it is asked", func() bool { return s.srv.Stats().Requests["FindCoordinator"] > n })
		return c
	}
	_ = c.nc.Close()
	_ = asked().nc.Close()
	eventually(t, "all clients are gone", func() bool { return s.srv.Stats().Connections == 0 })
	c = asked()
	s.stop()
	if n := c.closed(); n != 1 {
		t.Errorf("%d answers at the end, want one", n)
	}
}

// What share groups have is told when every node that keeps some of it can be
// asked, and by one that was asked before something moved to it.
func TestShareOffsetsWhileStatesMove(t *testing.T) {
	ns, topic, group, state := sharingNodes(t)
	c := ns.at(3).dial(t)
	alter := &kmsg.AlterShareGroupOffsetsRequest{GroupID: group, Topics: []kmsg.AlterShareGroupOffsetsRequestTopic{{
		Topic: topic.Name, Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{{StartOffset: 4}},
	}}}
	wantCode(t, "alter", ask[*kmsg.AlterShareGroupOffsetsResponse](c, alter).Topics[0].Partitions[0].ErrorCode, nil)
	v := ns.at(3).srv.vacant
	check := func(what string, got *kmsg.DescribeShareGroupOffsetsResponse) {
		t.Helper()
		wantCode(t, what, got.Groups[0].ErrorCode, nil)
		if len(got.Groups[0].Topics) != 1 || got.Groups[0].Topics[0].Partitions[0].StartOffset != 4 {
			t.Errorf("%s: %+v, want offset 4", what, got.Groups[0])
		}
	}
	describe := &kmsg.DescribeShareGroupOffsetsRequest{Groups: []kmsg.DescribeShareGroupOffsetsRequestGroup{{GroupID: group}}}
	ns.move(t, catalog.ShareStateTopic, state, 0)
	check("while nobody leads the state", waited[*kmsg.DescribeShareGroupOffsetsResponse](t, c, v, describe, func() { ns.move(t, catalog.ShareStateTopic, state, 2) }))
	ns[0].cut(2, true)
	check("while its leader is down", waited[*kmsg.DescribeShareGroupOffsetsResponse](t, c, v, describe, func() { ns.move(t, catalog.ShareStateTopic, state, 3) }))
	ns.move(t, catalog.ShareStateTopic, state, 2)
	v.begun(catalog.ShareStateTopic, state, -1)
	long := ask[*kmsg.DescribeShareGroupOffsetsResponse](c, describe).Groups[0]
	if long.ErrorCode != kerr.CoordinatorNotAvailable.Code || !strings.Contains(*long.ErrorMessage, "nobody in reach") {
		t.Errorf("its leader is down for long: %d %q, want to hear so, and it is not asked", long.ErrorCode, *long.ErrorMessage)
	}
	ns[0].cut(2, false)
	ns.move(t, catalog.ShareStateTopic, state, 3)

	asked := 0
	srv := ns.at(3).srv
	ids := map[string]bool{}
	err := srv.eachKeeper(t.Context(), func() error {
		if asked++; asked == 1 {
			ns.move(t, catalog.ShareStateTopic, state, 2)
			ns.move(t, catalog.ShareStateTopic, state, 3)
		}
		here, err := srv.shareGroupIDsHere(t.Context())
		for id := range here {
			ids[id] = asked > 1
		}
		return err
	}, &kmsg.ListGroupsRequest{Version: 5, TypesFilter: []string{shareType}}, func(kmsg.Response) error { return nil })
	if err != nil || !ids[group] {
		t.Errorf("%v, %v: want the group in the second answer", ids, err)
	}

	ns.move(t, topic.Name, 0, 0)
	got := waited[*kmsg.AlterShareGroupOffsetsResponse](t, c, v, alter, func() { ns.move(t, topic.Name, 0, 2) })
	wantCode(t, "alter while nobody leads the partition", got.Topics[0].Partitions[0].ErrorCode, nil)
}
