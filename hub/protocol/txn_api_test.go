package protocol

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/txn"
	"github.com/entrepot-hub/entrepot/record"
)

// txnConn speaks for one transactional producer.
type txnConn struct {
	*rawConn
	id string
	p  txn.Producer
}

func (s *site) txnConn(t testing.TB, id string) *txnConn {
	t.Helper()
	c := &txnConn{rawConn: s.dial(t), id: id}
	resp := c.init(5, txn.None)
	wantCode(t, "init", resp.ErrorCode, nil)
	c.p = txn.Producer{ID: resp.ProducerID, Epoch: resp.ProducerEpoch}
	return c
}

func (c *txnConn) init(version int16, has txn.Producer) *kmsg.InitProducerIDResponse {
	c.t.Helper()
	r := kmsg.NewPtrInitProducerIDRequest()
	r.Version, r.TransactionalID, r.TransactionTimeoutMillis = version, &c.id, 60_000
	r.ProducerID, r.ProducerEpoch = has.ID, has.Epoch
	return ask[*kmsg.InitProducerIDResponse](c.rawConn, r)
}

// add asks for partitions of one topic with a version before 4.
func (c *txnConn) add(version int16, p txn.Producer, topic string, partitions ...int32) []int16 {
	c.t.Helper()
	r := kmsg.NewPtrAddPartitionsToTxnRequest()
	r.Version, r.TransactionalID, r.ProducerID, r.ProducerEpoch = version, c.id, p.ID, p.Epoch
	r.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: topic, Partitions: partitions}}
	var codes []int16
	for _, p := range ask[*kmsg.AddPartitionsToTxnResponse](c.rawConn, r).Topics[0].Partitions {
		codes = append(codes, p.ErrorCode)
	}
	return codes
}

func (c *txnConn) endRequest(version int16, p txn.Producer, commit bool) *kmsg.EndTxnRequest {
	r := kmsg.NewPtrEndTxnRequest()
	r.Version, r.TransactionalID, r.ProducerID, r.ProducerEpoch, r.Commit = version, c.id, p.ID, p.Epoch, commit
	return r
}

func (c *txnConn) end(version int16, p txn.Producer, commit bool) int16 {
	c.t.Helper()
	return ask[*kmsg.EndTxnResponse](c.rawConn, c.endRequest(version, p, commit)).ErrorCode
}

// produceIn is a produce of one transactional batch.
func (c *txnConn) produceIn(version int16, topic *catalog.Topic, partition int32, p txn.Producer, seq int32) *kmsg.ProduceRequest {
	b := record.NewBuilder(record.None)
	b.ProducerID, b.ProducerEpoch, b.BaseSequence, b.Transactional = p.ID, p.Epoch, seq, true
	if err := b.Append(record.Record{Timestamp: 1000, Value: fmt.Append(nil, seq)}); err != nil {
		c.t.Fatal(err)
	}
	batch, err := b.Build()
	if err != nil {
		c.t.Fatal(err)
	}
	r := produceRequest(version, topic.Name, topic.ID, batch)
	r.TransactionID = &c.id
	r.Topics[0].Partitions[0].Partition = partition
	return r
}

func (c *txnConn) state() kmsg.DescribeTransactionsResponseTransactionState {
	c.t.Helper()
	r := &kmsg.DescribeTransactionsRequest{TransactionalIDs: []string{c.id}}
	return ask[*kmsg.DescribeTransactionsResponse](c.rawConn, r).TransactionStates[0]
}

func (c *txnConn) eventuallyIs(state txn.State) {
	c.t.Helper()
	eventually(c.t, "the transaction is "+state.String(), func() bool { return c.state().State == state.String() })
}

func TestTransactionalIDsAreChecked(t *testing.T) {
	s := startSite(t, quick())
	c := &txnConn{rawConn: s.dial(t), id: ""}
	wantCode(t, "an empty ID", c.init(5, txn.None).ErrorCode, kerr.InvalidRequest)
	c.id = "x"
	r := kmsg.NewPtrInitProducerIDRequest()
	r.Version, r.TransactionalID = 4, &c.id
	for _, ms := range []int32{0, -1, 15*60*1000 + 1} {
		r.TransactionTimeoutMillis = ms
		wantCode(t, fmt.Sprint("a timeout of ", ms), ask[*kmsg.InitProducerIDResponse](c.rawConn, r).ErrorCode, kerr.InvalidTransactionTimeout)
	}
	wantCode(t, "an epoch without an ID", c.init(4, txn.Producer{ID: -1, Epoch: 2}).ErrorCode, kerr.InvalidRequest)
	stranger := txn.Producer{ID: 5}
	wantCode(t, "add of a stranger", c.end(3, stranger, true), kerr.InvalidProducerIDMapping)
	wantCode(t, "described", c.state().ErrorCode, kerr.TransactionalIDNotFound)
	got := c.init(4, txn.None)
	wantCode(t, "init", got.ErrorCode, nil)
	p := txn.Producer{ID: got.ProducerID}
	if again := c.init(4, txn.None); again.ProducerID != p.ID || again.ProducerEpoch != 1 {
		t.Errorf("the second process got %+v", again)
	}
	wantCode(t, "the first one, v4", c.init(4, p).ErrorCode, kerr.ProducerFenced)
	wantCode(t, "the first one, v3", c.init(3, p).ErrorCode, kerr.InvalidProducerEpoch)
	fc := &kmsg.FindCoordinatorRequest{Version: 4, CoordinatorType: coordinatorOfTransaction, CoordinatorKeys: []string{"x"}}
	if got := ask[*kmsg.FindCoordinatorResponse](c.rawConn, fc).Coordinators[0]; got.ErrorCode != 0 || got.NodeID != 1 {
		t.Errorf("coordinator: %+v", got)
	}
	fc.CoordinatorType = 2
	wantCode(t, "coordinator of share groups", ask[*kmsg.FindCoordinatorResponse](c.rawConn, fc).Coordinators[0].ErrorCode, kerr.InvalidRequest)
}

func TestAddPartitionsInAllVersions(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "t", 3)
	for v := int16(0); v <= 3; v++ {
		c := s.txnConn(t, fmt.Sprint("x", v))
		codes := c.add(v, c.p, "t", 0, 7, 1)
		wantCode(t, "beside one that is not there", codes[0], kerr.OperationNotAttempted)
		wantCode(t, "one that is not there", codes[1], kerr.UnknownTopicOrPartition)
		wantCode(t, "beside one that is not there", codes[2], kerr.OperationNotAttempted)
		for _, code := range c.add(v, c.p, "t", 0, 1) {
			wantCode(t, "good ones", code, nil)
		}
		fenced := kerr.ProducerFenced
		if v < 2 {
			fenced = kerr.InvalidProducerEpoch
		}
		old := c.p
		old.Epoch--
		wantCode(t, "an old epoch", c.add(v, old, "t", 0)[0], fenced)
		old.Epoch += 2
		wantCode(t, "an epoch to come", c.end(v, old, true), fenced)
		wantCode(t, "end", c.end(v, c.p, true), nil)
		c.eventuallyIs(txn.CompleteCommit)
		wantCode(t, "end again", c.end(v, c.p, true), nil)
		wantCode(t, "abort of what is committed", c.end(v, c.p, false), kerr.InvalidTxnState)
	}
	// What brokers ask: several at a time, and without adding.
	a, b := s.txnConn(t, "a"), s.txnConn(t, "b")
	r := kmsg.NewPtrAddPartitionsToTxnRequest()
	for _, c := range []*txnConn{a, b} {
		r.Transactions = append(r.Transactions, kmsg.AddPartitionsToTxnRequestTransaction{
			TransactionalID: c.id, ProducerID: c.p.ID, ProducerEpoch: c.p.Epoch,
			Topics: []kmsg.AddPartitionsToTxnRequestTransactionTopic{{Topic: "t", Partitions: []int32{0, 1}}},
		})
	}
	r.Transactions[1].VerifyOnly = true
	for v, want := range map[int16]*kerr.Error{4: kerr.InvalidTxnState, 5: kerr.TransactionAbortable} {
		r.Version = v
		got := ask[*kmsg.AddPartitionsToTxnResponse](a.rawConn, r).Transactions
		wantCode(t, "added", got[0].Topics[0].Partitions[1].ErrorCode, nil)
		wantCode(t, "verified", got[1].Topics[0].Partitions[1].ErrorCode, want)
	}
	if got := a.state(); got.State != "Ongoing" || len(got.Topics) != 1 || len(got.Topics[0].Partitions) != 2 || got.StartTimestamp <= 0 {
		t.Errorf("%+v", got)
	}
	if got := b.state(); got.State != "Empty" || len(got.Topics) != 0 || got.StartTimestamp != -1 {
		t.Errorf("%+v", got)
	}
}

func TestProduceIsVerified(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 2)
	c := s.txnConn(t, "x")
	for v, want := range map[int16]*kerr.Error{9: kerr.InvalidTxnState, 11: kerr.TransactionAbortable} {
		wantCode(t, fmt.Sprint("not added, v", v), produced(c.rawConn, c.produceIn(v, topic, 0, c.p, 0)).ErrorCode, want)
	}
	none := c.produceIn(9, topic, 0, c.p, 0)
	none.TransactionID = nil
	wantCode(t, "without a transactional ID", produced(c.rawConn, none).ErrorCode, kerr.InvalidRequest)
	other := txn.Producer{ID: c.p.ID + 77}
	wantCode(t, "another producer", produced(c.rawConn, c.produceIn(12, topic, 0, other, 0)).ErrorCode, kerr.InvalidProducerIDMapping)
	wantCode(t, "added, v3", c.add(3, c.p, "t", 0)[0], nil)
	wantCode(t, "v9", produced(c.rawConn, c.produceIn(9, topic, 0, c.p, 0)).ErrorCode, nil)
	wantCode(t, "v12 adds", produced(c.rawConn, c.produceIn(12, topic, 1, c.p, 0)).ErrorCode, nil)
	if got := c.state(); len(got.Topics[0].Partitions) != 2 {
		t.Errorf("%+v", got)
	}
	wantCode(t, "end", c.end(4, c.p, true), nil)
	c.eventuallyIs(txn.CompleteCommit)
	wantCode(t, "behind the end", produced(c.rawConn, c.produceIn(9, topic, 0, c.p, 1)).ErrorCode, kerr.InvalidTxnState)
	zombie := c.p
	c.p.Epoch = c.init(5, txn.None).ProducerEpoch
	wantCode(t, "an old epoch", produced(c.rawConn, c.produceIn(12, topic, 0, zombie, 1)).ErrorCode, kerr.InvalidProducerEpoch)
	if l := s.memLog(t, "t", 0).Offsets(); l.HighWatermark != 2 || l.LastStable != 2 {
		t.Errorf("the log is %+v, want one record and one marker", l)
	}
}

// While the coordinator is asked about one partition, batches for it wait in
// order, and others go on.
func TestOnlyTheFirstBatchWaitsForTheCoordinator(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 2)
	c := s.txnConn(t, "x")
	wantCode(t, "partition 1", produced(c.rawConn, c.produceIn(12, topic, 1, c.p, 0)).ErrorCode, nil)
	states := s.memLog(t, catalog.TransactionsTopic, partitionOf("x", 3))
	states.hold()
	var reqs []*kmsg.ProduceRequest
	for seq := range int32(3) {
		reqs = append(reqs, c.produceIn(12, topic, 0, c.p, seq), c.produceIn(12, topic, 1, c.p, seq+1))
	}
	var ids []int32
	for _, r := range reqs {
		ids = append(ids, c.send(r))
	}
	eventually(t, "the other partition goes on", func() bool { return s.memLog(t, "t", 1).Offsets().HighWatermark == 4 })
	if n := states.heldAppends(); n != 1 {
		t.Errorf("%d writes of the coordinator, want 1", n)
	}
	if l := s.memLog(t, "t", 0).Offsets(); l.HighWatermark != 0 {
		t.Errorf("%d records are in before the partition is part of the transaction", l.HighWatermark)
	}
	states.release()
	for i, r := range reqs {
		got := c.receive(r, ids[i]).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
		if want := int64(i/2 + i%2); got.ErrorCode != 0 || got.BaseOffset != want {
			t.Errorf("answer %d: %+v, want offset %d", i, got, want)
		}
	}
}

// Between the coordinator's word and the append the transaction may end: then
// the partition refuses the batch.
func TestNothingComesBehindTheMarker(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	c := s.txnConn(t, "x")
	wantCode(t, "add", c.add(3, c.p, "t", 0)[0], nil)
	wantCode(t, "produce", produced(c.rawConn, c.produceIn(9, topic, 0, c.p, 0)).ErrorCode, nil)
	log := s.memLog(t, "t", 0)
	done := make(chan error, 1)
	log.EndTransaction(record.TransactionMarker{ProducerID: c.p.ID, ProducerEpoch: c.p.Epoch, CoordinatorEpoch: 1}, func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantCode(t, "behind the marker", produced(c.rawConn, c.produceIn(9, topic, 0, c.p, 1)).ErrorCode, kerr.InvalidTxnState)
	if l := log.Offsets(); l.HighWatermark != 2 || l.LastStable != 2 {
		t.Errorf("%+v", l)
	}
	wantCode(t, "asked anew", produced(c.rawConn, c.produceIn(9, topic, 0, c.p, 1)).ErrorCode, nil)
}

// The marker of a transaction may be late, as after a crash. What the client
// sends for the next one meanwhile waits for it and is taken.
func TestNextTransactionWaitsForALateMarker(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	c := s.txnConn(t, "x")
	wantCode(t, "produce", produced(c.rawConn, c.produceIn(12, topic, 0, c.p, 0)).ErrorCode, nil)
	log := s.memLog(t, "t", 0)
	log.refuse(record.ErrOffline)
	wantCode(t, "end", c.end(5, c.p, true), nil)
	c.eventuallyIs(txn.PrepareCommit)
	next := c.produceIn(12, topic, 0, txn.Producer{ID: c.p.ID, Epoch: c.p.Epoch + 1}, 0)
	id := c.send(next)
	eventually(t, "the batch waits for the coordinator", func() bool {
		waiting := 0
		err := s.srv.txns.onShard(t.Context(), partitionOf("x", 3), func(time.Time, *txnShard) { waiting = len(s.srv.txns.parked) })
		return err == nil && waiting > 0
	})
	log.refuse(nil)
	got := c.receive(next, id).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	wantCode(t, "the next transaction", got.ErrorCode, nil)
	c.eventuallyIs(txn.Ongoing)
}

// The decision is durable before any marker, and what it decided is carried out
// by whoever loads it.
func TestDecisionComesBeforeTheMarkers(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	c := s.txnConn(t, "x")
	wantCode(t, "produce", produced(c.rawConn, c.produceIn(12, topic, 0, c.p, 0)).ErrorCode, nil)
	states, data := s.memLog(t, catalog.TransactionsTopic, partitionOf("x", 3)), s.memLog(t, "t", 0)
	states.hold()
	end := c.endRequest(5, c.p, true)
	id := c.send(end)
	eventually(t, "the decision is on its way", func() bool { return states.heldAppends() == 1 })
	if n := data.Offsets().HighWatermark; n != 1 {
		t.Errorf("%d records in the partition: a marker is there before the decision", n)
	}
	data.hold() // markers are not committed
	states.release()
	wantCode(t, "end", c.receive(end, id).(*kmsg.EndTxnResponse).ErrorCode, nil)
	eventually(t, "the marker is on its way", func() bool { return data.heldAppends() == 1 })
	if got := c.state(); got.State != "PrepareCommit" || got.ProducerEpoch != c.p.Epoch+1 {
		t.Errorf("before the marker is committed: %+v", got)
	}
	// A new coordinator knows the decision, and makes no other. Nobody has to ask.
	states.newEpoch()
	eventually(t, "the marker is written again", func() bool { return data.heldAppends() == 2 })
	if got := c.state(); got.State != "PrepareCommit" {
		t.Errorf("after the load: %+v", got)
	}
	data.release()
	c.eventuallyIs(txn.CompleteCommit)
	if got := s.committed(t, "t", 1); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

// A topic that is deleted in the middle of a transaction keeps nobody waiting;
// a partition without a leader does, until it has one.
func TestMarkersAreWrittenUntilTheyAre(t *testing.T) {
	s := startSite(t, quick())
	gone, stays := s.topic(t, "gone", 1), s.topic(t, "stays", 1)
	c := s.txnConn(t, "x")
	for _, topic := range []*catalog.Topic{gone, stays} {
		wantCode(t, "produce", produced(c.rawConn, c.produceIn(12, topic, 0, c.p, 0)).ErrorCode, nil)
	}
	if _, err := s.Propose(t.Context(), catalog.DeleteTopic{Name: "gone"}); err != nil {
		t.Fatal(err)
	}
	s.setAway("stays", 0, true)
	wantCode(t, "end", c.end(5, c.p, false), nil)
	c.eventuallyIs(txn.PrepareAbort)
	s.setAway("stays", 0, false)
	c.eventuallyIs(txn.CompleteAbort)
	if l := s.memLog(t, "stays", 0).Offsets(); l.LastStable != 2 {
		t.Errorf("%+v", l)
	}
}

func TestWriteTxnMarkers(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	for v := int16(1); v <= 2; v++ {
		c := s.txnConn(t, fmt.Sprint("x", v))
		wantCode(t, "produce", produced(c.rawConn, c.produceIn(12, topic, 0, c.p, 0)).ErrorCode, nil)
		r := kmsg.NewPtrWriteTxnMarkersRequest()
		r.Version = v
		r.Markers = []kmsg.WriteTxnMarkersRequestMarker{{
			ProducerID: c.p.ID, ProducerEpoch: c.p.Epoch - 1, CoordinatorEpoch: -1,
			Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: "t", Partitions: []int32{0, 9}}, {Topic: "nope", Partitions: []int32{0}}},
		}}
		codes := func() (all []int16) {
			for _, topic := range ask[*kmsg.WriteTxnMarkersResponse](c.rawConn, r).Markers[0].Topics {
				for _, p := range topic.Partitions {
					all = append(all, p.ErrorCode)
				}
			}
			return all
		}
		wantCode(t, "an old epoch", codes()[0], kerr.InvalidProducerEpoch)
		r.Markers[0].ProducerEpoch++
		got := codes()
		wantCode(t, "good", got[0], nil)
		wantCode(t, "no such partition", got[1], kerr.UnknownTopicOrPartition)
		wantCode(t, "no such topic", got[2], kerr.UnknownTopicOrPartition)
		if l := s.memLog(t, "t", 0).Offsets(); l.LastStable != l.HighWatermark {
			t.Errorf("%+v", l)
		}
	}
}

func TestListTransactionsFilters(t *testing.T) {
	cfg := quick()
	s := startSite(t, cfg)
	s.topic(t, "t", 1)
	a, b := s.txnConn(t, "a-1"), s.txnConn(t, "b-1")
	wantCode(t, "add", b.add(3, b.p, "t", 0)[0], nil)
	list := func(version int16, change func(*kmsg.ListTransactionsRequest)) (names string) {
		r := kmsg.NewPtrListTransactionsRequest()
		r.Version = version
		change(r)
		resp := ask[*kmsg.ListTransactionsResponse](a.rawConn, r)
		if resp.ErrorCode != 0 {
			return kerr.ErrorForCode(resp.ErrorCode).(*kerr.Error).Message
		}
		for _, x := range resp.TransactionStates {
			names += x.TransactionalID + "=" + x.TransactionState + " "
		}
		return names + fmt.Sprint(resp.UnknownStateFilters)
	}
	for _, c := range []struct {
		version int16
		change  func(*kmsg.ListTransactionsRequest)
		want    string
	}{
		{0, func(*kmsg.ListTransactionsRequest) {}, "a-1=Empty b-1=Ongoing []"},
		{0, func(r *kmsg.ListTransactionsRequest) { r.StateFilters = []string{"Ongoing", "Nope"} }, "b-1=Ongoing [Nope]"},
		{0, func(r *kmsg.ListTransactionsRequest) { r.ProducerIDFilters = []int64{a.p.ID} }, "a-1=Empty []"},
		{1, func(r *kmsg.ListTransactionsRequest) { r.DurationFilterMillis = 60_000 }, "[]"},
		{1, func(r *kmsg.ListTransactionsRequest) { r.DurationFilterMillis = -1 }, "a-1=Empty b-1=Ongoing []"},
		{2, func(r *kmsg.ListTransactionsRequest) { r.TransactionalIDPattern = kmsg.StringPtr("a.*") }, "a-1=Empty []"},
		{2, func(r *kmsg.ListTransactionsRequest) { r.TransactionalIDPattern = kmsg.StringPtr("1") }, "[]"},
		{2, func(r *kmsg.ListTransactionsRequest) { r.TransactionalIDPattern = kmsg.StringPtr("(") }, "INVALID_REGULAR_EXPRESSION"},
	} {
		if got := list(c.version, c.change); got != c.want {
			t.Errorf("v%d: %s, want %s", c.version, got, c.want)
		}
	}
}
