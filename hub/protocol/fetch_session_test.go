package protocol

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// fetcher is a client with a session on one connection.
type fetcher struct {
	c         *rawConn
	id, epoch int32
}

// fetch names the partitions of a topic that are new, and those to forget; it
// returns which partitions the answer has.
func (f *fetcher) fetch(topic string, offsets map[int32]int64, forget ...int32) *kmsg.FetchResponse {
	r := kmsg.NewPtrFetchRequest()
	r.Version, r.MinBytes, r.MaxBytes, r.MaxWaitMillis = 12, 1, 1<<20, 0
	r.SessionID, r.SessionEpoch = f.id, f.epoch
	rt := kmsg.FetchRequestTopic{Topic: topic}
	for p, o := range offsets {
		one := kmsg.NewFetchRequestTopicPartition()
		one.Partition, one.FetchOffset, one.PartitionMaxBytes = p, o, 1<<20
		rt.Partitions = append(rt.Partitions, one)
	}
	slices.SortFunc(rt.Partitions, func(a, b kmsg.FetchRequestTopicPartition) int { return int(a.Partition - b.Partition) })
	if len(rt.Partitions) > 0 {
		r.Topics = append(r.Topics, rt)
	}
	if len(forget) > 0 {
		r.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{{Topic: topic, Partitions: forget}}
	}
	resp := ask[*kmsg.FetchResponse](f.c, r)
	if resp.ErrorCode == 0 && f.epoch >= 0 {
		f.id = resp.SessionID
		f.epoch++
	}
	return resp
}

func partitionsOf(r *kmsg.FetchResponse) (ps []int32) {
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			ps = append(ps, p.Partition)
		}
	}
	slices.Sort(ps)
	return ps
}

func TestFetchSessionTellsWhatChanged(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "t", 4)
	produce := func(p int32) {
		t.Helper()
		r := produceRequest(9, "t", record.TopicID{}, batch(t, record.None, "v"))
		r.Topics[0].Partitions[0].Partition = p
		wantCode(t, "produce", produced(s.dial(t), r).ErrorCode, nil)
	}
	f := &fetcher{c: s.dial(t)}
	want := func(what string, r *kmsg.FetchResponse, ps ...int32) {
		t.Helper()
		if got := partitionsOf(r); r.ErrorCode != 0 || !slices.Equal(got, ps) {
			t.Errorf("%s: error %d, partitions %v, want %v", what, r.ErrorCode, got, ps)
		}
		if r.SessionID == 0 || r.SessionID != f.id {
			t.Errorf("%s: session %d, want %d", what, r.SessionID, f.id)
		}
	}
	want("the first fetch", f.fetch("t", map[int32]int64{0: 0, 1: 0, 2: 0}), 0, 1, 2)
	want("nothing new", f.fetch("", nil))
	produce(1)
	r := f.fetch("", nil)
	want("records", r, 1)
	if len(r.Topics[0].Partitions[0].RecordBatches) == 0 {
		t.Error("the records are not there")
	}
	want("the same again: it was not read on", f.fetch("", nil), 1)
	want("read on", f.fetch("t", map[int32]int64{1: 1}))
	want("a new partition", f.fetch("t", map[int32]int64{3: 0}), 3)
	produce(0)
	produce(3)
	want("one is forgotten", f.fetch("t", nil, 0), 3)
	want("a start that has changed", func() *kmsg.FetchResponse {
		f.fetch("t", map[int32]int64{3: 1})
		if err := s.memLog(t, "t", 1).SetLogStart(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		return f.fetch("", nil)
	}(), 1)

	// An error is told each time, and its end once.
	want("an offset that is not there", f.fetch("t", map[int32]int64{2: 9}), 2)
	want("still not", f.fetch("", nil), 2)
	want("the end of the error", f.fetch("t", map[int32]int64{2: 0}), 2)
	want("nothing new", f.fetch("", nil))
	s.setAway("t", 2, true)
	want("no leader", f.fetch("", nil), 2)
	s.setAway("t", 2, false)
	want("a leader", f.fetch("", nil), 2)
}

func TestFetchSessionsEnd(t *testing.T) {
	cfg := quick()
	cfg.Limits.Sessions = 4
	s := startSite(t, cfg)
	topic := s.topic(t, "t", 4)
	all := map[int32]int64{0: 0, 1: 0, 2: 0}
	f := &fetcher{c: s.dial(t)}
	f.fetch("t", all)
	wrong := *f
	wrong.epoch = 5
	wantCode(t, "an epoch left out", wrong.fetch("", nil).ErrorCode, kerr.InvalidFetchSessionEpoch)
	other := &fetcher{c: s.dial(t), id: f.id, epoch: 1}
	wantCode(t, "another connection's", other.fetch("", nil).ErrorCode, kerr.FetchSessionIDNotFound)
	byID := fetchRequest(13, "", topic.ID, 0)
	byID.SessionID, byID.SessionEpoch = f.id, f.epoch
	wantCode(t, "by ID", ask[*kmsg.FetchResponse](f.c, byID).ErrorCode, kerr.FetchSessionTopicIDError)
	if r := f.fetch("", nil); r.ErrorCode != 0 {
		t.Errorf("refusals ended the session: %d", r.ErrorCode)
	}

	// The limit is of all connections together.
	second := &fetcher{c: s.dial(t)}
	if r := second.fetch("t", all); r.SessionID != 0 || len(partitionsOf(r)) != 3 {
		t.Errorf("above the limit: session %d with %v", r.SessionID, partitionsOf(r))
	}
	f.epoch = -1
	if r := f.fetch("t", all); r.SessionID != 0 || len(partitionsOf(r)) != 3 {
		t.Errorf("the last fetch: session %d with %v", r.SessionID, partitionsOf(r))
	}
	second.epoch = 0
	if r := second.fetch("t", all); r.SessionID == 0 {
		t.Error("no session though another one ended")
	}
	_ = second.c.nc.Close()
	eventually(t, "the session ends with its connection", func() bool { return s.srv.sessionParts.Load() == 0 })

	third := &fetcher{c: s.dial(t)}
	third.fetch("t", all)
	wantCode(t, "within the limit", third.fetch("t", map[int32]int64{3: 0}).ErrorCode, nil)
	wantCode(t, "one for another", third.fetch("t", map[int32]int64{4: 0}, 3).ErrorCode, nil)
	wantCode(t, "grown beyond it", third.fetch("t", map[int32]int64{5: 0}).ErrorCode, kerr.FetchSessionIDNotFound)
	if n := s.srv.sessionParts.Load(); n != 0 {
		t.Errorf("%d partitions are still counted", n)
	}
	wrap := fetchSession{epoch: math.MaxInt32}
	if wrap.following() != 1 {
		t.Errorf("after the last epoch comes %d", wrap.following())
	}
}

// With an answer that has room for one batch, each partition has its turn, also for
// a client without a session that names them in the same order each time.
func TestFetchIsFair(t *testing.T) {
	t.Run("session", func(t *testing.T) { inTurn(t, 0) })
	t.Run("none", func(t *testing.T) { inTurn(t, -1) })
}

func inTurn(t *testing.T, epoch int32) {
	t.Helper()
	s := startSite(t, quick())
	s.topic(t, "t", 3)
	for p := range int32(3) {
		r := produceRequest(9, "t", record.TopicID{}, batch(t, record.None, "v"))
		r.Topics[0].Partitions[0].Partition = p
		produced(s.dial(t), r)
	}
	c := s.dial(t)
	r := fetchRequest(12, "t", record.TopicID{}, 0)
	r.MaxBytes, r.SessionEpoch = 1, epoch
	for p := int32(1); p < 3; p++ {
		one := r.Topics[0].Partitions[0]
		one.Partition = p
		r.Topics[0].Partitions = append(r.Topics[0].Partitions, one)
	}
	var turns []int32
	for range 6 {
		resp := ask[*kmsg.FetchResponse](c, r)
		for _, p := range resp.Topics[0].Partitions {
			if len(p.RecordBatches) > 0 {
				turns = append(turns, p.Partition)
			}
		}
		if epoch == 0 {
			r.SessionID, r.SessionEpoch, r.Topics = resp.SessionID, r.SessionEpoch+1, nil
		}
	}
	if fmt.Sprint(turns) != "[0 1 2 0 1 2]" {
		t.Errorf("records came from %v, want each partition in turn", turns)
	}
}

// A session does not carry on what was allowed: whoever may no longer read a
// topic is refused at the next fetch.
func TestFetchSessionForgetsADeletedTopic(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "t", 1)
	f := &fetcher{c: s.dial(t)}
	f.fetch("t", map[int32]int64{0: 0})
	if _, err := s.Propose(t.Context(), catalog.DeleteTopic{Name: "t"}); err != nil {
		t.Fatal(err)
	}
	r := f.fetch("", nil)
	if len(r.Topics) != 1 {
		t.Fatalf("%+v", r)
	}
	wantCode(t, "a deleted topic", r.Topics[0].Partitions[0].ErrorCode, kerr.UnknownTopicOrPartition)
	if r := f.fetch("t", nil, 0); r.ErrorCode != 0 || len(r.Topics) != 0 {
		t.Errorf("after it is forgotten: %+v", r)
	}
}
