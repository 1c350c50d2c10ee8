package protocol

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/txn"
	"github.com/entrepot-hub/entrepot/record"
)

// nodes are the servers of one site.
type nodes []*site

// at is the node with a broker ID.
func (ns nodes) at(id int32) *site { return ns[id-1] }

// spread makes a topic whose partitions are led by the nodes in turn, with a
// replica at each.
func (ns nodes) spread(t testing.TB, name string) *catalog.Topic {
	t.Helper()
	cmd, err := ns[0].srv.newTopic(name, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range ns {
		var replicas []int32
		for j := range ns {
			replicas = append(replicas, int32((i+j)%len(ns)+1))
		}
		cmd.Assignment = append(cmd.Assignment, replicas)
	}
	v, err := ns[0].Propose(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	return v.(*catalog.Topic)
}

// move lets a node lead a partition.
func (ns nodes) move(t testing.TB, topic string, p, to int32) {
	t.Helper()
	if err := ns[0].memSite.move(topic, p, to); err != nil {
		t.Fatal(err)
	}
}

// coordinator is the node that FindCoordinator names, asked for until there is
// one.
func (ns nodes) coordinator(t testing.TB, kind int8, key string) *site {
	t.Helper()
	var id int32
	c := ns[0].dial(t)
	eventually(t, "a coordinator of "+key, func() bool {
		req := &kmsg.FindCoordinatorRequest{Version: 4, CoordinatorType: kind, CoordinatorKeys: []string{key}}
		got := ask[*kmsg.FindCoordinatorResponse](c, req).Coordinators[0]
		id = got.NodeID
		return got.ErrorCode == 0
	})
	return ns.at(id)
}

// keyAt is a group or a transactional ID whose coordinator is node.
func (ns nodes) keyAt(t testing.TB, kind int8, prefix string, node int32) string {
	t.Helper()
	for i := range 100 {
		key := fmt.Sprintf("%s-%d", prefix, i)
		if ns.coordinator(t, kind, key).id == node {
			return key
		}
	}
	t.Fatalf("no key with its coordinator at node %d", node)
	return ""
}

func (ns nodes) client(t testing.TB, opts ...kgo.Opt) *kgo.Client { return ns[0].client(t, opts...) }

// The markers of a transaction go to whatever nodes lead its partitions, and so
// do those of what it commits for a group that another node coordinates.
func TestTransactionOverNodes(t *testing.T) {
	ns := nodes(startNodes(t, 3, quick()))
	ns.spread(t, "in")
	ns.spread(t, "out")
	ctx := testContext(t)
	id := ns.keyAt(t, coordinatorOfTransaction, "x", 1)
	g := ns.keyAt(t, coordinatorOfGroup, "g", 2)
	plain := ns.client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for p := range int32(3) {
		if err := plain.ProduceSync(ctx, &kgo.Record{Topic: "in", Partition: p, Value: []byte("v")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	s, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(ns[2].addr), kgo.TransactionalID(id), kgo.ConsumerGroup(g), kgo.ConsumeTopics("in"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequireStableFetchOffsets(),
		kgo.MetadataMinAge(10*time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond }),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	seen := 0
	for seen < 3 {
		fs := s.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			t.Fatal(err)
		}
		if err := s.Begin(); err != nil {
			t.Fatal(err)
		}
		for _, r := range fs.Records() {
			seen++
			s.Produce(ctx, &kgo.Record{Topic: "out", Partition: r.Partition, Value: r.Value}, nil)
		}
		if ok, err := s.End(ctx, kgo.TryCommit); err != nil || !ok {
			t.Fatalf("committed %v: %v", ok, err)
		}
	}
	for p := range int32(3) {
		l := ns[0].memLog(t, "out", p)
		eventually(t, fmt.Sprintf("the marker of out-%d", p), func() bool {
			o := l.Offsets()
			return o.HighWatermark == 2 && o.LastStable == 2
		})
	}
	adm := ns.at(2).admin(t)
	got, err := adm.FetchOffsets(ctx, g)
	if err != nil || got.Error() != nil || len(got.KOffsets()["in"]) != 3 {
		t.Errorf("offsets of the group: %+v: %v", got, err)
	}
}

// A decision that was made at a node that leads no more is carried out by the
// one that leads then, also when the leader of a partition cannot be reached at
// first. An old coordinator's marker ends nothing.
func TestTransactionCoordinatorMoves(t *testing.T) {
	ns := nodes(startNodes(t, 3, quick()))
	ns.spread(t, "t")
	id := ns.keyAt(t, coordinatorOfTransaction, "x", 1)
	c := ns.at(1).txnConn(t, id)
	for p, code := range c.add(3, c.p, "t", 0, 1, 2) {
		wantCode(t, fmt.Sprint("add ", p), code, nil)
	}
	for p := range int32(3) {
		appendIn(t, ns[0].memLog(t, "t", p), inTransaction(t, c.p.ID, 0, "v"))
	}
	ns[0].cut(3, true)
	wantCode(t, "end", c.end(3, c.p, true), nil)
	for p := range int32(2) {
		eventually(t, "the marker where it can be written", func() bool {
			return ns[0].memLog(t, "t", p).Offsets().LastStable == 2
		})
	}
	n := partitionOf(id, quick().TransactionsPartitions)
	ns.move(t, catalog.TransactionsTopic, n, 2)
	if o := ns[0].memLog(t, "t", 2).Offsets(); o.LastStable != 0 {
		t.Fatalf("partition 2 is stable to %d though its leader was not reached", o.LastStable)
	}
	ns[0].cut(3, false)
	eventually(t, "the marker of the node that could not be reached", func() bool {
		return ns[0].memLog(t, "t", 2).Offsets().LastStable == 2
	})
	wantCode(t, "the old coordinator", c.end(3, c.p, true), kerr.NotCoordinator)
	d := &txnConn{rawConn: ns.at(2).dial(t), id: id, p: c.p}
	d.eventuallyIs(txn.CompleteCommit)
	done := make(chan error, 1)
	ns.at(1).srv.marks.write(record.TopicPartition{Topic: "t", Partition: 0}, record.TransactionMarker{
		ProducerID: c.p.ID, ProducerEpoch: c.p.Epoch, CoordinatorEpoch: 0,
	}, func(err error) { done <- err })
	if err := <-done; code(err) != kerr.TransactionCoordinatorFenced.Code {
		t.Errorf("a marker of an older coordinator: %v", err)
	}
}

// A marker that a leader did not write, as it has been deposed since, goes to
// the one that follows it.
func TestMarkerFollowsTheLeader(t *testing.T) {
	ns := nodes(startNodes(t, 3, quick()))
	ns.spread(t, "t")
	id := ns.keyAt(t, coordinatorOfTransaction, "x", 1)
	c := ns.at(1).txnConn(t, id)
	wantCode(t, "add", c.add(3, c.p, "t", 1)[0], nil)
	l := ns[0].memLog(t, "t", 1)
	appendIn(t, l, inTransaction(t, c.p.ID, 0, "v"))
	l.hold()
	wantCode(t, "end", c.end(3, c.p, true), nil)
	eventually(t, "the marker waits at node 2", func() bool { return l.heldAppends() == 1 })
	ns.move(t, "t", 1, 3) // and the marker is lost
	eventually(t, "the marker at node 3", func() bool { return l.Offsets().LastStable == 2 })
	c.eventuallyIs(txn.CompleteCommit)
}

// A partition's leader asks the coordinator at another node whether a producer
// may append, and takes the word of one that was given (KIP-890).
func TestProduceAsksTheCoordinatorsNode(t *testing.T) {
	ns := nodes(startNodes(t, 2, quick()))
	topic := ns.spread(t, "t")
	id := ns.keyAt(t, coordinatorOfTransaction, "x", 1)
	c := ns.at(1).txnConn(t, id)
	leader := ns.at(2).dial(t)
	produce := func(version int16, seq int32) int16 {
		req := produceRequest(version, "t", topic.ID, inTransactionOf(t, c.p, seq, "v"))
		req.TransactionID = &id
		req.Topics[0].Partitions[0].Partition = 1
		return ask[*kmsg.ProduceResponse](leader, req).Topics[0].Partitions[0].ErrorCode
	}
	wantCode(t, "not added, v11", produce(11, 0), kerr.TransactionAbortable)
	ns[0].cut(1, true)
	wantCode(t, "nobody to ask", produce(11, 0), kerr.NotEnoughReplicas)
	ns[0].cut(1, false)
	wantCode(t, "added by it, v12", produce(12, 0), nil)
	wantCode(t, "again in the transaction", produce(12, 1), nil)
	if got := c.state().State; got != txn.Ongoing.String() {
		t.Errorf("the transaction is %s at its coordinator", got)
	}
	ns[0].cut(2, true) // the marker does not come
	wantCode(t, "end", c.end(5, c.p, false), nil)
	old := c.p
	c.p.Epoch++
	asks := func() int64 { return ns.at(1).srv.Stats().Requests["AddPartitionsToTxn"] }
	before := asks()
	next := make(chan int16)
	go func() { next <- produce(12, 0) }()
	eventually(t, "the next transaction waits for the marker", func() bool { return asks() > before })
	ns[0].cut(2, false)
	wantCode(t, "in the next transaction", <-next, nil)
	wantCode(t, "end of the next transaction", c.end(5, c.p, true), nil)
	eventually(t, "both markers", func() bool { return ns[0].memLog(t, "t", 1).Offsets().LastStable == 5 })
	c.p = old
	wantCode(t, "the old epoch", produce(12, 2), kerr.InvalidProducerEpoch)
}

// A group's coordinator is where its partition is led, and nowhere else: the old
// one sends everybody away, those who wait included, and the new one has what
// was committed, also when the first one gets it back.
func TestGroupCoordinatorMoves(t *testing.T) {
	ns := nodes(startNodes(t, 3, quick()))
	topic := ns.spread(t, "t")
	g := ns.keyAt(t, coordinatorOfGroup, "g", 1)
	n := partitionOf(g, quick().OffsetsPartitions)
	commit := func(node int32, offset int64) int16 {
		req := &kmsg.OffsetCommitRequest{Version: 9, Group: g, Generation: -1, Topics: []kmsg.OffsetCommitRequestTopic{{
			Topic: topic.Name, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: offset, LeaderEpoch: -1}}}}}
		return ask[*kmsg.OffsetCommitResponse](ns.at(node).dial(t), req).Topics[0].Partitions[0].ErrorCode
	}
	offset := func(node int32) (int64, int16) {
		req := &kmsg.OffsetFetchRequest{Version: 8, Groups: []kmsg.OffsetFetchRequestGroup{{Group: g, Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: topic.Name, Partitions: []int32{0}}}}}}
		got := ask[*kmsg.OffsetFetchResponse](ns.at(node).dial(t), req).Groups[0]
		if got.ErrorCode != 0 {
			return -1, got.ErrorCode
		}
		return got.Topics[0].Partitions[0].Offset, 0
	}
	wantOffset := func(what string, node int32, want int64) {
		t.Helper()
		if got, code := offset(node); got != want || code != 0 {
			t.Errorf("%s: %d, error %d, want %d", what, got, code, want)
		}
	}
	wantCode(t, "commit", commit(1, 7), nil)
	wantCode(t, "elsewhere", commit(2, 8), kerr.NotCoordinator)

	waits := ns.at(1).dial(t)
	join := joinRequest(g, "")
	join.Version = 3 // without a member ID it is not sent away first
	join.RebalanceTimeoutMillis, join.SessionTimeoutMillis = 60_000, 60_000
	first := ask[*kmsg.JoinGroupResponse](waits, join)
	wantCode(t, "join", first.ErrorCode, nil)
	sync := &kmsg.SyncGroupRequest{Version: 3, Group: g, Generation: first.Generation, MemberID: first.MemberID,
		GroupAssignment: []kmsg.SyncGroupRequestGroupAssignment{{MemberID: first.MemberID, MemberAssignment: []byte("all")}}}
	wantCode(t, "sync", ask[*kmsg.SyncGroupResponse](waits, sync).ErrorCode, nil)
	second := ns.at(1).dial(t)
	parked := second.send(join) // waits for the first one to join again
	eventually(t, "the group waits for its member", func() bool {
		got := ask[*kmsg.DescribeGroupsResponse](ns.at(1).dial(t), &kmsg.DescribeGroupsRequest{Version: 5, Groups: []string{g}})
		return got.Groups[0].State == "PreparingRebalance"
	})
	ns.move(t, catalog.OffsetsTopic, n, 2)
	wantCode(t, "who waited", second.receive(join, parked).(*kmsg.JoinGroupResponse).ErrorCode, kerr.NotCoordinator)
	wantOffset("at the new one", 2, 7)
	wantCode(t, "the old one", commit(1, 9), kerr.NotCoordinator)
	wantCode(t, "commit at the new one", commit(2, 10), kerr.UnknownMemberID) // it has the member
	wantCode(t, "leave", ask[*kmsg.LeaveGroupResponse](ns.at(2).dial(t), &kmsg.LeaveGroupRequest{Version: 3, Group: g, Members: []kmsg.LeaveGroupRequestMember{{MemberID: first.MemberID}}}).ErrorCode, nil)
	eventually(t, "a group without members", func() bool { return commit(2, 11) == 0 })
	ns.move(t, catalog.OffsetsTopic, n, 1)
	wantOffset("when the first one has it back", 1, 11)
	ns.move(t, catalog.OffsetsTopic, n, 2)
	wantCode(t, "commit while the first one does not look", commit(2, 12), nil)
	ns.move(t, catalog.OffsetsTopic, n, 1)
	wantOffset("when the first one has it back again", 1, 12)
}

// What a coordinator wants written under one leadership is not written under
// another one: between them somebody else may have had the group.
func TestCoordinatorWritesUnderItsLeadershipAlone(t *testing.T) {
	ns := nodes(startNodes(t, 2, quick()))
	topic := ns.spread(t, "t")
	g := ns.keyAt(t, coordinatorOfGroup, "g", 1)
	n := partitionOf(g, quick().OffsetsPartitions)
	log, err := memNode{ns[0].memSite, 1}.Partition(catalog.OffsetsTopic, n)
	if err != nil {
		t.Fatal(err)
	}
	epoch := log.Offsets().LeaderEpoch
	ns.move(t, catalog.OffsetsTopic, n, 2)
	ns.move(t, catalog.OffsetsTopic, n, 1)
	done := make(chan error, 1)
	log.AppendFenced([]record.Batch{batch(t, record.None, "x")}, epoch, -1, func(_ []record.Appended, err error) { done <- err })
	if err := coordinatorError(<-done); code(err) != kerr.NotCoordinator.Code {
		t.Errorf("%v, want NOT_COORDINATOR", err)
	}
	// And a commit that waits for its write is not said to be done.
	l := ns[0].memLog(t, catalog.OffsetsTopic, n)
	c := ns.at(1).dial(t)
	req := &kmsg.OffsetCommitRequest{Version: 9, Group: g, Generation: -1, Topics: []kmsg.OffsetCommitRequestTopic{{
		Topic: topic.Name, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 1, LeaderEpoch: -1}}}}}
	wantCode(t, "commit", ask[*kmsg.OffsetCommitResponse](c, req).Topics[0].Partitions[0].ErrorCode, nil)
	l.hold()
	sent := c.send(req)
	eventually(t, "the commit waits", func() bool { return l.heldAppends() == 1 })
	ns.move(t, catalog.OffsetsTopic, n, 2)
	wantCode(t, "commit that was lost", c.receive(req, sent).(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode, kerr.NotCoordinator)
}

// Nodes do not answer each other what is for clients.
func TestAnswerIsForNodes(t *testing.T) {
	s := startSite(t, quick())
	for name, req := range map[string][]byte{
		"nothing":     nil,
		"a fragment":  {0, 27, 0},
		"no such API": kmsg.NewRequestFormatter().AppendRequest(nil, &kmsg.MetadataRequest{Version: 12}, 1)[4:],
		"half of one": kmsg.NewRequestFormatter().AppendRequest(nil, markersRequest([]retry{{}}, 1), 1)[4:30],
	} {
		if b, err := s.srv.Answer(context.Background(), req); err == nil {
			t.Errorf("%s: answered with %d bytes", name, len(b))
		}
	}
}

// The offsets of a topic that is deleted through another node are not those of
// the topic that has its name next.
func TestOffsetsOfAnOlderTopic(t *testing.T) {
	ns := nodes(startNodes(t, 2, quick()))
	ns.spread(t, "t")
	g := ns.keyAt(t, coordinatorOfGroup, "g", 1)
	c := ns.at(1).dial(t)
	commit := &kmsg.OffsetCommitRequest{Version: 9, Group: g, Generation: -1, Topics: []kmsg.OffsetCommitRequestTopic{{
		Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 7, LeaderEpoch: -1}}}}}
	wantCode(t, "commit", ask[*kmsg.OffsetCommitResponse](c, commit).Topics[0].Partitions[0].ErrorCode, nil)
	offset := func() int64 {
		req := &kmsg.OffsetFetchRequest{Version: 8, Groups: []kmsg.OffsetFetchRequestGroup{{Group: g, Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", Partitions: []int32{0}}}}}}
		return ask[*kmsg.OffsetFetchResponse](c, req).Groups[0].Topics[0].Partitions[0].Offset
	}
	if got := offset(); got != 7 {
		t.Fatalf("committed 7, fetched %d", got)
	}
	gone := &kmsg.DeleteTopicsRequest{Version: 5, TopicNames: []string{"t"}}
	wantCode(t, "delete", ask[*kmsg.DeleteTopicsResponse](ns.at(2).dial(t), gone).Topics[0].ErrorCode, nil)
	cmd := catalog.CreateTopic{Name: "t", ID: record.TopicID{9}, Partitions: 1, Replicas: 1, Created: time.Now().Add(time.Hour).UnixMilli()}
	if _, err := ns[1].Propose(t.Context(), cmd); err != nil {
		t.Fatal(err)
	}
	if got := offset(); got != -1 {
		t.Errorf("in the next topic of the name: %d, want none", got)
	}
}

// What handlers tell apart is still told apart when another node has said it.
func TestErrorsOfOtherNodes(t *testing.T) {
	for _, want := range []error{
		record.ErrUnknownTopic, record.ErrNotLeader, record.ErrProducerFenced, record.ErrCoordinatorFenced, record.ErrTimeout,
		errLoading, errNotCoordinator, errNoCoordinator, txn.ErrConcurrent, txn.ErrFenced, txn.ErrNotAdded, txn.ErrUnknownProducer, errLedAlready, errNotEligible,
	} {
		if got := failure(code(want)); !errors.Is(got, want) {
			t.Errorf("%q comes as %q", want, got)
		}
	}
	for _, err := range []error{errNoCoordinator, errNotCoordinator, errLoading, txn.ErrConcurrent} {
		wantCode(t, "to a producer: "+err.Error(), code(produceError(failure(code(err)), 9)), kerr.NotEnoughReplicas)
	}
}

// A request that was given up is not begun: its marker may have been asked for
// again, and its producer may be in the next transaction.
func TestGivenUpIsNotAnswered(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "t", 1)
	l := s.memLog(t, "t", 0)
	appendIn(t, l, inTransaction(t, 7, 0, "open"))
	m := retry{m: txn.Marker{TopicPartition: record.TopicPartition{Topic: "t"}, Producer: txn.Producer{ID: 7}}}
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, markersRequest([]retry{m}, 0), 1)[4:]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := l.Offsets().HighWatermark
	if _, err := s.srv.Answer(ctx, frame); !errors.Is(err, context.Canceled) {
		t.Errorf("answered with %v", err)
	}
	if _, err := s.srv.Answer(t.Context(), frame); err != nil {
		t.Fatal(err)
	}
	if got := l.Offsets().HighWatermark - before; got != 1 {
		t.Errorf("%d markers, want the second one's", got)
	}
}

// A topic is made once and its client hears so, though the leader of the catalog
// that was asked for it is gone before it says whether it did.
func TestCreateTopicOverAChangeOfTheCatalogsLeader(t *testing.T) {
	s := startSite(t, quick())
	c := s.dial(t)
	create := func(name string, lost ...bool) int16 {
		s.memSite.mu.Lock()
		s.memSite.mu.lost = lost
		s.memSite.mu.Unlock()
		req := &kmsg.CreateTopicsRequest{Version: 7, TimeoutMillis: 5000, Topics: []kmsg.CreateTopicsRequestTopic{{Topic: name, NumPartitions: 2, ReplicationFactor: 1}}}
		return ask[*kmsg.CreateTopicsResponse](c, req).Topics[0].ErrorCode
	}
	wantCode(t, "it was in the log", create("done", true), nil)
	wantCode(t, "it was not", create("undone", false), nil)
	wantCode(t, "the next one is gone, too", create("twice", false, false), nil)
	wantCode(t, "it is somebody else's", create("done", false), kerr.TopicAlreadyExists)
	s.memSite.mu.Lock()
	s.memSite.mu.deletes = true
	s.memSite.mu.Unlock()
	wantCode(t, "it was, and is deleted since", create("deleted", true), nil)
	if topic, ok := s.State().Topic("deleted"); ok {
		t.Errorf("a topic that was deleted is made a second time: %+v", topic)
	}
	s.memSite.mu.Lock()
	s.memSite.mu.skips = true
	clear(s.memSite.mu.made)
	s.memSite.mu.Unlock()
	wantCode(t, "nobody knows whether it was", create("unknown", false), kerr.RequestTimedOut)
	for _, name := range []string{"done", "undone", "twice"} {
		if topic, ok := s.State().Topic(name); !ok || len(topic.Partitions) != 2 {
			t.Errorf("topic %s: %+v", name, topic)
		}
	}
}

// Clients are not sent to a coordinator that is gone: they would dial a port that
// is closed. They hear of the next one, or that there is none for long.
func TestFindCoordinatorThatIsDown(t *testing.T) {
	ns := nodes(startNodes(t, 3, quick()))
	g := ns.keyAt(t, coordinatorOfGroup, "g", 2)
	req := &kmsg.FindCoordinatorRequest{Version: 4, CoordinatorType: coordinatorOfGroup, CoordinatorKeys: []string{g}}
	find := func(at int32) int16 {
		return ask[*kmsg.FindCoordinatorResponse](ns.at(at).dial(t), req).Coordinators[0].ErrorCode
	}
	p, v := partitionOf(g, 3), ns[0].srv.vacant
	ns[0].cut(2, true)
	wantCode(t, "it says itself that it is there", find(2), nil)
	c := ns[0].dial(t)
	got := waited[*kmsg.FindCoordinatorResponse](t, c, v, req, func() { ns.move(t, catalog.OffsetsTopic, p, 3) }).Coordinators[0]
	if got.NodeID != 3 || got.ErrorCode != 0 {
		t.Errorf("while the coordinator is down: %+v, want the next one", got)
	}
	ns.move(t, catalog.OffsetsTopic, p, 2)
	v.begun(catalog.OffsetsTopic, p, -1)
	wantCode(t, "the coordinator is down for long", find(1), kerr.CoordinatorNotAvailable)
	ns[0].cut(2, false)
	wantCode(t, "it is back", find(1), nil)
}
