package protocol

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/record"
)

// A consumer that says where it is reads from the follower there, which never
// gives more than the leader has told it, and from the leader where there is no
// follower that has everything (KIP-392).
func TestFetchFromTheNearest(t *testing.T) {
	ns := nodes(startNodes(t, 3, quick()))
	topic := ns.spread(t, "t")
	l := ns[0].memLog(t, "t", 0)
	for i := range 4 {
		appendIn(t, l, batch(t, record.None, fmt.Sprint(i)))
	}
	leader, follower := ns.at(1).dial(t), ns.at(2).dial(t)
	fetch := func(c *rawConn, version int16, rack string, offset int64) kmsg.FetchResponseTopicPartition {
		f := fetchRequest(version, "t", topic.ID, offset)
		f.Rack = rack
		return fetched(c, f)
	}
	check := func(what string, got kmsg.FetchResponseTopicPartition, preferred int32, batches int) {
		t.Helper()
		bs, err := record.SplitBatches(got.RecordBatches)
		if got.ErrorCode != 0 || got.PreferredReadReplica != preferred || err != nil || len(bs) != batches {
			t.Errorf("%s: error %d, sent to %d, %d batches (%v), want %d and %d", what, got.ErrorCode, got.PreferredReadReplica, len(bs), err, preferred, batches)
		}
	}
	check("in a follower's rack", fetch(leader, 12, "r2", 0), 2, 0)
	check("in the leader's rack", fetch(leader, 12, "r1", 0), -1, 4)
	check("in no node's rack", fetch(leader, 12, "r9", 0), -1, 4)
	check("without a rack", fetch(leader, 12, "", 0), -1, 4)
	check("at the follower", fetch(follower, 12, "r2", 0), -1, 4)
	wantCode(t, "at a follower without a rack", fetch(follower, 12, "", 0).ErrorCode, kerr.NotLeaderForPartition)
	wantCode(t, "at a follower before v11", fetch(follower, 10, "r2", 0).ErrorCode, kerr.NotLeaderForPartition)

	l.hear(2, 2)
	check("what the follower has heard of", fetch(follower, 12, "r2", 0), -1, 2)
	check("at its end", fetch(follower, 12, "r2", 2), -1, 0)
	check("beyond it", fetch(follower, 12, "r2", 3), 1, 0)
	l.hear(2, deaf)
	check("by one that hears no leader", fetch(follower, 12, "r2", 0), 1, 0)
	l.hear(2, 2)
	ns.move(t, "t", 0, 0)
	wantCode(t, "without a leader", fetch(follower, 12, "r2", 3).ErrorCode, kerr.NotLeaderForPartition)
	ns.move(t, "t", 0, 1)
	appendIn(t, ns[0].memLog(t, "t", 0), inTransaction(t, 7, 0, "open"))
	l.hear(2, -1)
	f := fetchRequest(12, "t", topic.ID, 0)
	f.Rack, f.IsolationLevel = "r2", readCommitted
	check("what is stable there", fetched(follower, f), -1, 4)
	for epoch, want := range map[int32]*kerr.Error{1: kerr.FencedLeaderEpoch, 9: kerr.UnknownLeaderEpoch} {
		f := fetchRequest(12, "t", topic.ID, 0)
		f.Rack, f.Topics[0].Partitions[0].CurrentLeaderEpoch = "r2", epoch
		wantCode(t, fmt.Sprintf("epoch %d at the follower", epoch), fetched(follower, f).ErrorCode, want)
		wantCode(t, fmt.Sprintf("epoch %d at the leader", epoch), fetched(leader, f).ErrorCode, want)
	}
	// What comes within the wait is answered.
	l.hear(2, 4)
	f = fetchRequest(12, "t", topic.ID, 5)
	f.Rack, f.MaxWaitMillis = "r2", 20_000
	sent := follower.send(f)
	go l.hear(2, -1)
	appendIn(t, l, batch(t, record.None, "late"))
	check("what comes within the wait", follower.receive(f, sent).(*kmsg.FetchResponse).Topics[0].Partitions[0], -1, 1)
}

// One that is behind, or down, is not named.
func TestNearestHasEverything(t *testing.T) {
	ns := nodes(startNodes(t, 3, quick()))
	ns.spread(t, "t")
	l := ns[0].memLog(t, "t", 0)
	appendIn(t, l, batch(t, record.None, "v"))
	s := ns[0].srv
	topic, _ := ns[0].State().Topic("t")
	nearest := func() int32 { return s.nearest(topic, 0, "r3") }
	l.hear(3, 0)
	if got := nearest(); got != -1 {
		t.Errorf("node %d, which is behind", got)
	}
	l.hear(3, -1)
	ns[0].cut(3, true)
	if got := nearest(); got != -1 {
		t.Errorf("node %d, which is down", got)
	}
	ns[0].cut(3, false)
	if got := nearest(); got != 3 {
		t.Errorf("node %d, want 3", got)
	}
}

// A real consumer follows, and goes on at the leader when its follower cannot
// serve it.
func TestConsumerReadsFromTheNearest(t *testing.T) {
	ns := nodes(startNodes(t, 3, quick()))
	ns.spread(t, "t")
	ctx := testContext(t)
	l := ns[0].memLog(t, "t", 0)
	cl := ns.client(t, kgo.Rack("r2"), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"t": {0: kgo.NewOffset().AtStart()}}), kgo.FetchMaxWait(100*time.Millisecond))
	read := func(want string) {
		t.Helper()
		for {
			fs := cl.PollFetches(ctx)
			if ctx.Err() != nil {
				t.Fatalf("%s does not come: %v", want, fs.Err())
			}
			for _, r := range fs.Records() {
				if string(r.Value) == want {
					return
				}
			}
		}
	}
	for i := range 3 {
		appendIn(t, l, batch(t, record.None, fmt.Sprint(i)))
		read(fmt.Sprint(i))
	}
	if got := ns.at(2).srv.Stats().Requests["Fetch"]; got == 0 {
		t.Error("nothing was fetched from the follower")
	}
	l.hear(2, deaf)
	appendIn(t, l, batch(t, record.None, "after"))
	read("after")
}
