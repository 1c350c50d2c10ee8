package protocol

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/share"
	"github.com/entrepot-hub/entrepot/record"
)

func shareFetchOf(group, member string, epoch int32, topic record.TopicID) *kmsg.ShareFetchRequest {
	r := kmsg.NewPtrShareFetchRequest()
	r.Version, r.GroupID, r.MemberID, r.ShareSessionEpoch = 2, &group, &member, epoch
	r.MaxBytes, r.MaxRecords = 1<<20, 100
	r.Topics = []kmsg.ShareFetchRequestTopic{{TopicID: topic, Partitions: []kmsg.ShareFetchRequestTopicPartition{{}}}}
	return r
}

func shareAckOf(group, member string, epoch int32, topic record.TopicID, acks ...share.Ack) *kmsg.ShareAcknowledgeRequest {
	r := kmsg.NewPtrShareAcknowledgeRequest()
	r.Version, r.GroupID, r.MemberID, r.ShareSessionEpoch = 2, &group, &member, epoch
	p := kmsg.NewShareAcknowledgeRequestTopicPartition()
	for _, a := range acks {
		p.AcknowledgementBatches = append(p.AcknowledgementBatches, kmsg.ShareAcknowledgeRequestTopicPartitionAcknowledgementBatch{FirstOffset: a.First, LastOffset: a.Last, AcknowledgeTypes: a.Types})
	}
	r.Topics = []kmsg.ShareAcknowledgeRequestTopic{{TopicID: topic, Partitions: []kmsg.ShareAcknowledgeRequestTopicPartition{p}}}
	return r
}

// held are the records of a fetch's answer, as first-last×deliveries.
func held(resp *kmsg.ShareFetchResponse) (all []string) {
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				all = append(all, kerr.ErrorForCode(p.ErrorCode).Error())
			}
			for _, a := range p.AcquiredRecords {
				all = append(all, fmt.Sprintf("%d-%dx%d", a.FirstOffset, a.LastOffset, a.DeliveryCount))
			}
		}
	}
	return all
}

func wantHeld(t *testing.T, resp *kmsg.ShareFetchResponse, want ...string) {
	t.Helper()
	if got := held(resp); resp.ErrorCode != 0 || !slices.Equal(got, want) {
		t.Errorf("error %d, handed out %v, want %v", resp.ErrorCode, got, want)
	}
}

func setGroup(t *testing.T, c *rawConn, group string, kv ...string) int16 {
	t.Helper()
	req := &kmsg.IncrementalAlterConfigsRequest{Version: 1, Resources: []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeGroupConfig, ResourceName: group}}}
	for i := 0; i < len(kv); i += 2 {
		req.Resources[0].Configs = append(req.Resources[0].Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: kv[i], Value: &kv[i+1]})
	}
	return ask[*kmsg.IncrementalAlterConfigsResponse](c, req).Resources[0].ErrorCode
}

// sharing is a site with a topic of ten records and a group that begins at the
// oldest.
func sharing(t *testing.T) (*site, *catalog.Topic, *rawConn) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	c := s.dial(t)
	wantCode(t, "produce", ask[*kmsg.ProduceResponse](c, produceRequest(13, "", topic.ID, batch(t, record.None, "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"))).Topics[0].Partitions[0].ErrorCode, nil)
	wantCode(t, "earliest", setGroup(t, c, "s", catalog.GroupShareReset, "earliest"), nil)
	return s, topic, c
}

// lead makes topic t and all partitions of the share state begin a new
// leadership, so that what is not in the logs of the state is gone.
func (s *site) lead(t *testing.T) {
	t.Helper()
	topic, ok := s.State().Topic(catalog.ShareStateTopic)
	if !ok {
		t.Fatal("no share state")
	}
	for p := range topic.Partitions {
		s.memLog(t, catalog.ShareStateTopic, int32(p)).newEpoch()
	}
	s.memLog(t, "t", 0).newEpoch()
}

// shareState is the log that keeps a window; the topic must be there.
func (s *site) shareState(t *testing.T, k shareKey) *memLog {
	t.Helper()
	topic, ok := s.State().Topic(catalog.ShareStateTopic)
	if !ok {
		t.Fatal("no share state")
	}
	return s.memLog(t, catalog.ShareStateTopic, partitionOf(k.name(), int32(len(topic.Partitions))))
}

// What was acknowledged is never delivered again, also after the state was read
// anew; what was held is, and its deliveries are counted on.
func TestShareStateIsDurable(t *testing.T) {
	s, topic, a := sharing(t)
	wantHeld(t, ask[*kmsg.ShareFetchResponse](a, shareFetchOf("s", "a", 0, topic.ID)), "0-9x1")
	ack := ask[*kmsg.ShareAcknowledgeResponse](a, shareAckOf("s", "a", 1, topic.ID, share.Ack{First: 0, Last: 3, Types: []int8{share.Accept}},
		share.Ack{First: 4, Last: 6, Types: []int8{share.Release, share.Accept, share.Reject}}))
	wantCode(t, "acknowledge", ack.Topics[0].Partitions[0].ErrorCode, nil)
	b := s.dial(t)
	wantHeld(t, ask[*kmsg.ShareFetchResponse](b, shareFetchOf("s", "b", 0, topic.ID)), "4-4x2")
	s.lead(t)
	wantHeld(t, ask[*kmsg.ShareFetchResponse](b, shareFetchOf("s", "b", 1, topic.ID)), "4-4x2", "7-9x2")
	late := ask[*kmsg.ShareAcknowledgeResponse](a, shareAckOf("s", "a", 2, topic.ID, share.Ack{First: 7, Last: 7, Types: []int8{share.Accept}}))
	wantCode(t, "acknowledge what b holds", late.Topics[0].Partitions[0].ErrorCode, kerr.InvalidRecordState)
	offsets := ask[*kmsg.DescribeShareGroupOffsetsResponse](b, &kmsg.DescribeShareGroupOffsetsRequest{Version: 1, Groups: []kmsg.DescribeShareGroupOffsetsRequestGroup{{GroupID: "s"}}}).Groups[0]
	if p := offsets.Topics[0].Partitions[0]; p.StartOffset != 4 || p.Lag != 4 {
		t.Errorf("%+v, want start 4 and lag 4", p)
	}
}

// A group that begins at the end has its beginning kept before it is answered:
// what comes next is not passed over after a crash.
func TestShareBeginningIsDurable(t *testing.T) {
	s, topic, a := sharing(t)
	wantHeld(t, ask[*kmsg.ShareFetchResponse](a, shareFetchOf("late", "a", 0, topic.ID)))
	produce := ask[*kmsg.ProduceResponse](a, produceRequest(13, "", topic.ID, batch(t, record.None, "10")))
	wantCode(t, "produce", produce.Topics[0].Partitions[0].ErrorCode, nil)
	s.lead(t)
	wantHeld(t, ask[*kmsg.ShareFetchResponse](a, shareFetchOf("late", "a", 1, topic.ID)), "10-10x1")
}

// Nor is a member told of a beginning that is still being written for another
// one.
func TestShareBeginningIsDurableForAll(t *testing.T) {
	s, topic, a := sharing(t)
	wantHeld(t, ask[*kmsg.ShareFetchResponse](a, shareFetchOf("s", "a", 0, topic.ID)), "0-9x1") // makes the topic of the state
	log := s.shareState(t, shareKey{"late", topic.ID, 0})
	log.hold()
	first, second := shareFetchOf("late", "a", 0, topic.ID), shareFetchOf("late", "b", 0, topic.ID)
	firstID := a.send(first)
	eventually(t, "the first one waits", func() bool { return log.heldAppends() == 1 })
	b := s.dial(t)
	secondID := b.send(second)
	eventually(t, "the second one is at work", func() bool { return s.srv.Stats().Requests["ShareFetch"] == 3 })
	k := shareKey{"late", topic.ID, 0}
	s.srv.windows.mu.Lock()
	if s.srv.windows.live(k) != nil {
		t.Error("there is a window before its beginning is durable")
	}
	s.srv.windows.mu.Unlock()
	log.release()
	wantHeld(t, a.receive(first, firstID).(*kmsg.ShareFetchResponse))
	wantHeld(t, b.receive(second, secondID).(*kmsg.ShareFetchResponse))
	before := log.Offsets().HighWatermark
	wantHeld(t, ask[*kmsg.ShareFetchResponse](b, shareFetchOf("late", "b", 1, topic.ID)))
	if after := log.Offsets().HighWatermark; after != before {
		t.Errorf("%d records of the state after a third look, %d before, though it is durable", after, before)
	}
}

// What a request acknowledges in several topics is written at once: it waits as
// long as for one.
func TestShareAcknowledgesTopicsTogether(t *testing.T) {
	s, topic, c := sharing(t)
	wantHeld(t, ask[*kmsg.ShareFetchResponse](c, shareFetchOf("s", "a", 0, topic.ID)), "0-9x1")
	one := s.shareState(t, shareKey{"s", topic.ID, 0})
	other, two := topic, one
	for i := 0; two == one; i++ { // until another log keeps the state
		other = s.topic(t, fmt.Sprint("t", i), 1)
		two = s.shareState(t, shareKey{"s", other.ID, 0})
	}
	produced(c, produceRequest(13, "", other.ID, batch(t, record.None, "0")))
	wantHeld(t, ask[*kmsg.ShareFetchResponse](c, shareFetchOf("s", "a", 1, other.ID)), "0-0x1")
	one.hold()
	two.hold()
	req := shareAckOf("s", "a", 2, topic.ID, share.Ack{First: 0, Last: 9, Types: []int8{share.Accept}})
	req.Topics = append(req.Topics, shareAckOf("s", "a", 2, other.ID, share.Ack{First: 0, Last: 0, Types: []int8{share.Accept}}).Topics...)
	req.Topics[1].Partitions = append(req.Topics[1].Partitions, kmsg.ShareAcknowledgeRequestTopicPartition{Partition: 9})
	id := c.send(req)
	eventually(t, "both are being written", func() bool { return one.heldAppends() == 1 && two.heldAppends() == 1 })
	two.release()
	one.release()
	resp := c.receive(req, id).(*kmsg.ShareAcknowledgeResponse)
	if len(resp.Topics) != 2 || resp.Topics[0].TopicID != topic.ID || resp.Topics[1].TopicID != other.ID {
		t.Fatalf("%+v", resp.Topics)
	}
	wantCode(t, "first topic", resp.Topics[0].Partitions[0].ErrorCode, nil)
	wantCode(t, "second topic", resp.Topics[1].Partitions[0].ErrorCode, nil)
	wantCode(t, "its partition 9", resp.Topics[1].Partitions[1].ErrorCode, kerr.UnknownTopicOrPartition)
}

// Who forgets a partition may name it in the same request, to acknowledge what
// it still holds of it. It is handed no more of it: nobody would look at that.
func TestShareForgetsWhatItAcknowledges(t *testing.T) {
	s, topic, a := sharing(t)
	first := shareFetchOf("s", "a", 0, topic.ID)
	first.MaxRecords = 4
	wantHeld(t, ask[*kmsg.ShareFetchResponse](a, first), "0-3x1")
	last := shareFetchOf("s", "a", 1, topic.ID)
	last.Topics[0].Partitions[0].AcknowledgementBatches = []kmsg.ShareFetchRequestTopicPartitionAcknowledgementBatch{{FirstOffset: 0, LastOffset: 3, AcknowledgeTypes: []int8{share.Accept}}}
	last.ForgottenTopicsData = []kmsg.ShareFetchRequestForgottenTopicsData{{TopicID: topic.ID, Partitions: []int32{0}}}
	got := ask[*kmsg.ShareFetchResponse](a, last)
	wantHeld(t, got)
	wantCode(t, "acknowledge", got.Topics[0].Partitions[0].AcknowledgeErrorCode, nil)
	none := shareFetchOf("s", "a", 2, topic.ID)
	none.Topics = nil
	wantHeld(t, ask[*kmsg.ShareFetchResponse](a, none))
	b := s.dial(t)
	wantHeld(t, ask[*kmsg.ShareFetchResponse](b, shareFetchOf("s", "b", 0, topic.ID)), "4-9x1")
}

// A session ends with its connection, and what its member held comes to those
// who wait for it.
func TestShareSessionEndsWithItsConnection(t *testing.T) {
	s, topic, a := sharing(t)
	wantHeld(t, ask[*kmsg.ShareFetchResponse](a, shareFetchOf("s", "a", 0, topic.ID)), "0-9x1")
	b := s.dial(t)
	waits := shareFetchOf("s", "b", 0, topic.ID)
	waits.MaxWaitMillis = 10_000
	id := b.send(waits)
	_ = a.nc.Close()
	wantHeld(t, b.receive(waits, id).(*kmsg.ShareFetchResponse), "0-9x2")
	c := s.dial(t)
	for epoch, want := range map[int32]*kerr.Error{1: kerr.ShareSessionNotFound, -1: kerr.ShareSessionNotFound} {
		wantCode(t, "fetch without a session", ask[*kmsg.ShareFetchResponse](c, shareFetchOf("s", "c", epoch, topic.ID)).ErrorCode, want)
	}
	wantCode(t, "acknowledge with epoch 0", ask[*kmsg.ShareAcknowledgeResponse](c, shareAckOf("s", "c", 0, topic.ID)).ErrorCode, kerr.InvalidShareSessionEpoch)
	wantCode(t, "b's next epoch but one", ask[*kmsg.ShareFetchResponse](b, shareFetchOf("s", "b", 2, topic.ID)).ErrorCode, kerr.InvalidShareSessionEpoch)
}

// What a member gives back or acknowledges with its last words holds, though it
// does not wait for the answer.
func TestShareHearsLastWords(t *testing.T) {
	s, topic, a := sharing(t)
	wantHeld(t, ask[*kmsg.ShareFetchResponse](a, shareFetchOf("s", "a", 0, topic.ID)), "0-9x1")
	k := shareKey{"s", topic.ID, 0}
	s.srv.windows.release(k, "a")
	wantHeld(t, ask[*kmsg.ShareFetchResponse](a, shareFetchOf("s", "b", 0, topic.ID)), "0-9x2")
	s.srv.windows.acknowledge(k, "b", time.Minute, []share.Ack{{First: 0, Last: 9, Types: []int8{share.Release}}}, false)
	wantHeld(t, ask[*kmsg.ShareFetchResponse](a, shareFetchOf("s", "c", 0, topic.ID)), "0-9x3")
}

// A failed write is told, and what it would have kept did not happen.
func TestShareWriteFails(t *testing.T) {
	s, topic, a := sharing(t)
	wantHeld(t, ask[*kmsg.ShareFetchResponse](a, shareFetchOf("s", "a", 0, topic.ID)), "0-9x1")
	log := s.shareState(t, shareKey{"s", topic.ID, 0})
	log.refuse(record.ErrDiskFull)
	ack := ask[*kmsg.ShareAcknowledgeResponse](a, shareAckOf("s", "a", 1, topic.ID, share.Ack{First: 0, Last: 9, Types: []int8{share.Accept}}))
	if ack.Topics[0].Partitions[0].ErrorCode == 0 {
		t.Error("acknowledged though nothing was written")
	}
	log.refuse(nil)
	wantHeld(t, ask[*kmsg.ShareFetchResponse](a, shareFetchOf("s", "a", 2, topic.ID)), "0-9x1")
}

// Groups of one protocol keep the others out, and lists tell them apart.
func TestShareGroupsAmongOthers(t *testing.T) {
	s, topic, c := sharing(t)
	hb := func(group, member string, epoch int32) *kmsg.ShareGroupHeartbeatResponse {
		return ask[*kmsg.ShareGroupHeartbeatResponse](c, &kmsg.ShareGroupHeartbeatRequest{Version: 1, GroupID: group, MemberID: member, MemberEpoch: epoch, SubscribedTopicNames: []string{"t"}})
	}
	first := hb("s", "a", 0)
	wantCode(t, "join", first.ErrorCode, nil)
	if a := first.Assignment; a == nil || len(a.TopicPartitions) != 1 || a.TopicPartitions[0].TopicID != topic.ID {
		t.Errorf("assigned %+v", a)
	}
	wantCode(t, "second member", hb("s", "b", 0).ErrorCode, nil)
	wantCode(t, "stranger", hb("s", "x", 3).ErrorCode, kerr.UnknownMemberID)
	wantCode(t, "far epoch", hb("s", "a", 77).ErrorCode, kerr.FencedMemberEpoch)
	ask[*kmsg.OffsetCommitResponse](c, samples(t, topic)[8])
	wantCode(t, "join a classic group", hb("g", "a", 0).ErrorCode, kerr.GroupIDNotFound)
	d := ask[*kmsg.ShareGroupDescribeResponse](c, &kmsg.ShareGroupDescribeRequest{Version: 1, GroupIDs: []string{"s", "g", "none"}}).Groups
	wantCode(t, "describe", d[0].ErrorCode, nil)
	if len(d[0].Members) != 2 || d[0].GroupState != "Stable" || d[1].ErrorCode != kerr.GroupIDNotFound.Code || d[2].ErrorCode != kerr.GroupIDNotFound.Code {
		t.Errorf("%+v", d)
	}
	remove := func() int16 {
		return ask[*kmsg.DeleteGroupsResponse](c, &kmsg.DeleteGroupsRequest{Version: 2, Groups: []string{"s"}}).Groups[0].ErrorCode
	}
	wantCode(t, "delete with members", remove(), kerr.NonEmptyGroup)
	ask[*kmsg.ShareFetchResponse](c, shareFetchOf("s", "a", 0, topic.ID))
	hb("s", "a", -1)
	hb("s", "b", -1)
	l := ask[*kmsg.ListGroupsResponse](c, &kmsg.ListGroupsRequest{Version: 5, TypesFilter: []string{"share"}}).Groups
	if len(l) != 1 || l[0].Group != "s" || l[0].GroupType != "share" || l[0].GroupState != "Empty" {
		t.Errorf("%+v", l)
	}
	wantCode(t, "delete", remove(), nil)
	wantCode(t, "delete again", remove(), kerr.GroupIDNotFound)
	s.lead(t)
	wantCode(t, "delete after it was read anew", remove(), kerr.GroupIDNotFound)
	nameless := ask[*kmsg.AlterShareGroupOffsetsResponse](c, &kmsg.AlterShareGroupOffsetsRequest{Topics: []kmsg.AlterShareGroupOffsetsRequestTopic{{
		Topic: "t", Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{{StartOffset: 1}}}}})
	wantCode(t, "offsets of a group without a name", nameless.ErrorCode, kerr.InvalidGroupID)
	wantCode(t, "bad setting", setGroup(t, c, "s", catalog.GroupShareReset, "middle"), kerr.InvalidConfig)
}

// Whatever is in a record, it is refused or read as something that can be
// written.
func FuzzShareState(f *testing.F) {
	w := share.NewWindow(5, share.Default())
	w.Acquire(time.Unix(0, 0), "a", 3, time.Second, 5, []share.Range{{First: 5, Last: 20}, {First: 21, Last: 21, Skip: true}})
	_ = w.Acknowledge(time.Unix(0, 0), "a", time.Second, []share.Ack{{First: 6, Last: 6, Types: []int8{share.Accept}}}, false)
	f.Add(shareValue(&shareState{Window: w, leader: 1}, 0))
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeShare(b, share.Default())
		if err != nil {
			return
		}
		one := shareValue(got, 0)
		again, err := decodeShare(one, share.Default())
		if err != nil || !bytes.Equal(shareValue(again, 0), one) {
			t.Fatalf("%x is read as what cannot be kept: %v", b, err)
		}
	})
}

// Under the name of a share group that has offsets no other group is made, also
// when it has no members and after its state was read anew.
func TestShareGroupKeepsItsName(t *testing.T) {
	s, topic, c := sharing(t)
	wantHeld(t, ask[*kmsg.ShareFetchResponse](c, shareFetchOf("s", "a", 0, topic.ID)), "0-9x1")
	commit := func() int16 {
		req := &kmsg.OffsetCommitRequest{Version: 9, Group: "s", Generation: -1, Topics: []kmsg.OffsetCommitRequestTopic{{
			Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 1}}}}}
		return ask[*kmsg.OffsetCommitResponse](c, req).Topics[0].Partitions[0].ErrorCode
	}
	for _, anew := range []bool{false, true} {
		if anew {
			s.lead(t)
		}
		join := ask[*kmsg.JoinGroupResponse](c, joinRequest("s", ""))
		wantCode(t, fmt.Sprintf("join, read anew %v", anew), join.ErrorCode, kerr.GroupIDNotFound)
		wantCode(t, fmt.Sprintf("commit, read anew %v", anew), commit(), kerr.GroupIDNotFound)
	}
	gone := ask[*kmsg.DeleteGroupsResponse](c, &kmsg.DeleteGroupsRequest{Version: 2, Groups: []string{"s"}})
	wantCode(t, "delete", gone.Groups[0].ErrorCode, nil)
	wantCode(t, "commit after the share group is gone", commit(), nil)
}

// What a share group has is kept for the retention of offsets from its last
// use on, and members have time to come back after a start.
func TestShareOffsetsExpire(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	cfg := Default()
	cfg.Clock = func() time.Time { return now }
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	c := newShares(cfg, nil, s, nil)
	sh := c.shard(0)
	unused, fresh, gone := shareKey{group: "unused", topic: topic.ID}, shareKey{group: "fresh", topic: topic.ID}, shareKey{group: "gone"}
	sh.states[unused] = &shareState{Window: share.NewWindow(0, cfg.Share), written: now.UnixMilli()}
	sh.states[fresh] = &shareState{Window: share.NewWindow(0, cfg.Share)} // its first write is on its way
	sh.states[gone] = &shareState{Window: share.NewWindow(0, cfg.Share)}
	now = now.Add(cfg.Group.Retention - time.Hour)
	c.tick(now, sh, true)
	if len(sh.states) != 2 || !sh.dirty[gone] {
		t.Fatalf("an hour before their end there are %v", sh.states)
	}
	now = now.Add(2 * time.Hour)
	c.tick(now, sh, true)
	if sh.states[unused] != nil || sh.states[fresh] == nil {
		t.Errorf("an hour after their end there are %v", sh.states)
	}
	if !sh.dirty[unused] {
		t.Error("the end of a state is not written")
	}
	c.live(sh, map[shareKey]*shareState{unused: {Window: share.NewWindow(0, cfg.Share), written: 1}})
	c.tick(now, sh, true)
	if len(sh.states) != 1 {
		t.Error("a state expired as soon as it was loaded")
	}
	now = now.Add(comeBack + time.Second)
	c.tick(now, sh, true)
	if len(sh.states) != 0 {
		t.Error("a state that nobody came back to stays")
	}
}

// stores counts what is written, and keeps nothing.
type stores struct{ n atomic.Int32 }

func (s *stores) look(context.Context, shareKey, int32) (shareFound, error) {
	return shareFound{there: true}, nil
}
func (s *stores) begin(context.Context, shareKey, int32, int64) error { return nil }
func (s *stores) store(context.Context, shareKey, int32, int32, int64, []share.Batch) error {
	s.n.Add(1)
	return nil
}

// A group that is at rest and has members keeps its state: the window is written
// in time, though nothing was acknowledged.
func TestShareWindowInUseIsWritten(t *testing.T) {
	var now atomic.Int64
	cfg := quick()
	cfg.Clock = func() time.Time { return time.Unix(now.Load(), 0) }
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	kept := &stores{}
	c := newShareWindows(cfg, s, s, kept)
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer wg.Wait()
	defer stop()
	wg.Go(func() { c.run(ctx) })
	log, k := s.memLog(t, "t", 0), shareKey{"s", topic.ID, 0}
	use := func() {
		t.Helper()
		if _, err := c.next(ctx, k, share.DefaultSettings(), log); err != nil {
			t.Fatal(err)
		}
	}
	use()
	now.Add(int64(cfg.Group.Retention/time.Second)/2 - 1)
	use()
	if n := kept.n.Load(); n != 0 {
		t.Errorf("written %d times before half of its time is over", n)
	}
	now.Add(2)
	use()
	eventually(t, "it is written", func() bool { return kept.n.Load() == 1 })
	use()
	if n := kept.n.Load(); n != 1 {
		t.Errorf("written %d times, want 1", n)
	}
}
