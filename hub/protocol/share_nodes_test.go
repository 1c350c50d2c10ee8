package protocol

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/share"
	"github.com/entrepot-hub/entrepot/record"
)

// sharingNodes are three nodes with a topic of one partition and ten records,
// led by node 1, and a group that begins at the oldest, which node 3 coordinates
// and whose state for that partition is led by node 2. It returns the partition of
// the state, too.
func sharingNodes(t *testing.T) (ns nodes, topic *catalog.Topic, group string, state int32) {
	t.Helper()
	ns = nodes(startNodes(t, 3, quick()))
	topic = ns[0].topic(t, "t", 1)
	ns.move(t, "t", 0, 1)
	c := ns[0].dial(t)
	produced(c, produceRequest(13, "", topic.ID, batch(t, record.None, "0", "1", "2", "3", "4", "5", "6", "7", "8", "9")))
	group = ns.keyAt(t, coordinatorOfGroup, "s", 3)
	wantCode(t, "earliest", setGroup(t, c, group, catalog.GroupShareReset, "earliest"), nil)
	if _, err := ns[0].srv.shares.partitions(t.Context()); err != nil {
		t.Fatal(err)
	}
	site, _ := ns[0].State().Topic(catalog.ShareStateTopic)
	for p := range site.Partitions {
		ns.move(t, catalog.ShareStateTopic, int32(p), 3)
	}
	state = partitionOf(shareKey{group, topic.ID, 0}.name(), int32(len(site.Partitions)))
	ns.move(t, catalog.ShareStateTopic, state, 2)
	return ns, topic, group, state
}

// heldSoon asks until a member is handed something, as clients do while leaders
// move.
func heldSoon(t *testing.T, c *rawConn, group, member string, topic record.TopicID, want ...string) {
	t.Helper()
	var got []string
	eventually(t, fmt.Sprint("a member holds ", want), func() bool {
		got = held(ask[*kmsg.ShareFetchResponse](c, shareFetchOf(group, member, 0, topic)))
		return fmt.Sprint(got) == fmt.Sprint(want)
	})
}

// A group shares a partition though another node keeps its state, goes on while
// the state moves, and where it was when the partition moves.
func TestShareStateAtAnotherNode(t *testing.T) {
	ns, topic, group, state := sharingNodes(t)
	accept := func(c *rawConn, member string, epoch int32, first, last int64) int16 {
		ack := ask[*kmsg.ShareAcknowledgeResponse](c, shareAckOf(group, member, epoch, topic.ID, share.Ack{First: first, Last: last, Types: []int8{share.Accept}}))
		return ack.Topics[0].Partitions[0].ErrorCode
	}
	a := ns.at(1).dial(t)
	wantHeld(t, ask[*kmsg.ShareFetchResponse](a, shareFetchOf(group, "a", 0, topic.ID)), "0-9x1")
	wantCode(t, "acknowledge", accept(a, "a", 1, 0, 2), nil)
	if hw := ns[0].memLog(t, catalog.ShareStateTopic, state).Offsets().HighWatermark; hw == 0 {
		t.Error("nothing was written at the node that keeps the state")
	}
	ns.move(t, catalog.ShareStateTopic, state, 3)
	wantCode(t, "acknowledge after the state moved", accept(a, "a", 2, 3, 4), nil)
	ns.move(t, catalog.ShareStateTopic, state, 0)
	req := shareAckOf(group, "a", 3, topic.ID, share.Ack{First: 5, Last: 5, Types: []int8{share.Accept}})
	id := a.send(req)
	eventually(t, "the acknowledgement is at work", func() bool { return ns.at(1).srv.Stats().Requests["ShareAcknowledge"] == 3 })
	ns.move(t, catalog.ShareStateTopic, state, 2)
	wantCode(t, "acknowledge while nobody led the state", a.receive(req, id).(*kmsg.ShareAcknowledgeResponse).Topics[0].Partitions[0].ErrorCode, nil)

	ns.move(t, "t", 0, 2)
	wantCode(t, "acknowledge at the leader before", accept(a, "a", 4, 6, 6), kerr.NotLeaderForPartition)
	b := ns.at(2).dial(t)
	heldSoon(t, b, group, "b", topic.ID, "6-9x2")
	ns.move(t, "t", 0, 3)
	c := ns.at(3).dial(t)
	heldSoon(t, c, group, "c", topic.ID, "6-9x2")
}

// What a leader has read nobody below its epoch can write any more, also after
// the state was read anew by another node; nor can anybody who has read it before
// an operator reset it.
func TestShareStateIsFenced(t *testing.T) {
	ns, topic, group, state := sharingNodes(t)
	ctx := testContext(t)
	k, at := shareKey{group, topic.ID, 0}, ns.at(1).srv.states
	if err := at.begin(ctx, k, 0, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := at.look(ctx, k, 7); err != nil {
		t.Fatal(err)
	}
	ns.move(t, catalog.ShareStateTopic, state, 3)
	wantErr := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	wantErr("an old leader writes", at.store(ctx, k, 0, 6, 5, nil), record.ErrFencedEpoch)
	_, err := at.look(ctx, k, 6)
	wantErr("an old leader reads", err, record.ErrFencedEpoch)
	wantErr("the leader writes", at.store(ctx, k, 0, 7, 5, nil), nil)
	wantErr("begin again", at.begin(ctx, k, 0, 3), nil)
	wantErr("a reset", at.begin(ctx, k, 1, 2), nil)
	wantErr("the leader writes what it had", at.store(ctx, k, 0, 7, 6, nil), errShareState)
	wantErr("a reset that comes late", at.begin(ctx, k, 0, 0), errShareState)
	if found, err := at.look(ctx, k, 8); err != nil || found.start != 2 || found.epoch != 1 {
		t.Errorf("%+v, %v: want start 2 in epoch 1", found, err)
	}
	wantErr("remove", at.remove(ctx, k), nil)
	wantErr("write what was removed", at.store(ctx, k, 1, 8, 2, nil), errShareState)
	if found, err := at.look(ctx, k, 8); err != nil || found.there {
		t.Errorf("%+v, %v: want nothing", found, err)
	}
}

// Operators see and change what a group has at any node, by the node that
// coordinates the group, and nobody else lists it.
func TestShareGroupsOfTheSite(t *testing.T) {
	ns, topic, group, _ := sharingNodes(t)
	home := ns.coordinator(t, coordinatorOfGroup, group)
	other := ns.at(home.id%3 + 1)
	a, c := ns.at(1).dial(t), home.dial(t)
	wantHeld(t, ask[*kmsg.ShareFetchResponse](a, shareFetchOf(group, "a", 0, topic.ID)), "0-9x1")
	ack := ask[*kmsg.ShareAcknowledgeResponse](a, shareAckOf(group, "a", 1, topic.ID, share.Ack{First: 0, Last: 5, Types: []int8{share.Accept}}))
	wantCode(t, "acknowledge", ack.Topics[0].Partitions[0].ErrorCode, nil)
	describe := func() []kmsg.DescribeShareGroupOffsetsResponseGroupTopic {
		req := &kmsg.DescribeShareGroupOffsetsRequest{Version: 1, Groups: []kmsg.DescribeShareGroupOffsetsRequestGroup{{GroupID: group}}}
		return ask[*kmsg.DescribeShareGroupOffsetsResponse](c, req).Groups[0].Topics
	}
	if got := describe(); len(got) != 1 || len(got[0].Partitions) != 1 || got[0].Partitions[0].StartOffset != 6 || got[0].Partitions[0].Lag != 4 {
		t.Errorf("%+v, want start 6 and lag 4", got)
	}
	// Only the lag needs the leaders of what is shared.
	told := func() int64 { return ns.at(1).srv.Stats().Requests["ListOffsets"] }
	before := told()
	list := func(at *site) int {
		req := &kmsg.ListGroupsRequest{Version: 5, TypesFilter: []string{"share"}}
		return len(ask[*kmsg.ListGroupsResponse](at.dial(t), req).Groups)
	}
	if h, o := list(home), list(other); h != 1 || o != 0 {
		t.Errorf("the coordinator lists %d share groups, another node %d", h, o)
	}
	wantCode(t, "join a classic group of the name", ask[*kmsg.JoinGroupResponse](c, joinRequest(group, "")).ErrorCode, kerr.GroupIDNotFound)
	d := ask[*kmsg.ShareGroupDescribeResponse](c, &kmsg.ShareGroupDescribeRequest{Version: 1, GroupIDs: []string{group}}).Groups[0]
	wantCode(t, "describe", d.ErrorCode, nil)
	if n := told() - before; before == 0 || n != 0 {
		t.Errorf("the leader of the partition was asked %d times for the lag, and %d times afterwards", before, n)
	}

	alter := &kmsg.AlterShareGroupOffsetsRequest{GroupID: group, Topics: []kmsg.AlterShareGroupOffsetsRequestTopic{{
		Topic: "t", Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{{StartOffset: 2}}}}}
	wantCode(t, "alter", ask[*kmsg.AlterShareGroupOffsetsResponse](c, alter).Topics[0].Partitions[0].ErrorCode, nil)
	wantHeld(t, ask[*kmsg.ShareFetchResponse](a, shareFetchOf(group, "b", 0, topic.ID)), "2-9x1")
	remove := &kmsg.DeleteShareGroupOffsetsRequest{GroupID: group, Topics: []kmsg.DeleteShareGroupOffsetsRequestTopic{{Topic: "t"}}}
	wantCode(t, "remove the offsets of a topic", ask[*kmsg.DeleteShareGroupOffsetsResponse](c, remove).Topics[0].ErrorCode, nil)
	wantHeld(t, ask[*kmsg.ShareFetchResponse](a, shareFetchOf(group, "c", 0, topic.ID)), "0-9x1")
	gone := &kmsg.DeleteGroupsRequest{Version: 2, Groups: []string{group}}
	wantCode(t, "delete", ask[*kmsg.DeleteGroupsResponse](c, gone).Groups[0].ErrorCode, nil)
	if got := describe(); len(got) != 0 {
		t.Errorf("after its end the group has %+v", got)
	}
}

// Who asks for a window before the server runs waits for it, or hears that it is
// not there any more.
func TestShareWindowBeforeTheServerRuns(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	c := newShareWindows(quick(), s, s, &stores{})
	k := shareKey{"s", topic.ID, 0}
	errs := make(chan error, 2)
	open := func(leader int32) {
		_, err := c.open(t.Context(), k, leader, 0)
		errs <- err
	}
	has := func(leader int32) func() bool {
		return func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.mu.all[k] != nil && c.mu.all[k].leader == leader
		}
	}
	go open(1)
	eventually(t, "the first one waits", has(1))
	go open(2)
	eventually(t, "the second one waits", has(2))
	if err := <-errs; !errors.Is(err, record.ErrNotLeader) {
		t.Errorf("a leader of before: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { c.run(ctx) })
	if err := <-errs; err != nil {
		t.Error(err)
	}
	stop()
	wg.Wait()
	if _, err := c.open(t.Context(), k, 3, 0); !errors.Is(err, errNotCoordinator) {
		t.Errorf("after the end: %v", err)
	}
}
