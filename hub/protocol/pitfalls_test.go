package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// The pitfalls are numbered as in the design of the protocol server.

// batch builds a batch of records with these values, keys k0 and on.
func batch(t testing.TB, codec record.Codec, values ...string) record.Batch {
	t.Helper()
	b := record.NewBuilder(codec)
	for i, v := range values {
		if err := b.Append(record.Record{Timestamp: int64(1000 + i), Key: []byte{'k', byte('0' + i)}, Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// produceRequest is a produce of records to one partition.
func produceRequest(version int16, topic string, id record.TopicID, records []byte) *kmsg.ProduceRequest {
	r := kmsg.NewPtrProduceRequest()
	r.Version, r.Acks, r.TimeoutMillis = version, -1, 10_000
	r.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, TopicID: id, Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: 0, Records: records}}}}
	return r
}

func produced(c *rawConn, r *kmsg.ProduceRequest) kmsg.ProduceResponseTopicPartition {
	c.t.Helper()
	return ask[*kmsg.ProduceResponse](c, r).Topics[0].Partitions[0]
}

// fetchRequest is a fetch of one partition.
func fetchRequest(version int16, topic string, id record.TopicID, offset int64) *kmsg.FetchRequest {
	r := kmsg.NewPtrFetchRequest()
	r.Version, r.MinBytes, r.MaxBytes, r.MaxWaitMillis = version, 1, 1<<20, 0
	p := kmsg.NewFetchRequestTopicPartition()
	p.FetchOffset, p.PartitionMaxBytes = offset, 1<<20
	r.Topics = []kmsg.FetchRequestTopic{{Topic: topic, TopicID: id, Partitions: []kmsg.FetchRequestTopicPartition{p}}}
	return r
}

func fetched(c *rawConn, r *kmsg.FetchRequest) kmsg.FetchResponseTopicPartition {
	c.t.Helper()
	resp := ask[*kmsg.FetchResponse](c, r)
	if resp.ErrorCode != 0 {
		c.t.Fatalf("fetch: %d", resp.ErrorCode)
	}
	return resp.Topics[0].Partitions[0]
}

func wantCode(t testing.TB, what string, got int16, want *kerr.Error) {
	t.Helper()
	if want == nil && got != 0 || want != nil && got != want.Code {
		t.Errorf("%s: %v, want %v", what, kerr.ErrorForCode(got), want)
	}
}

func TestPitfall1ProduceIsOfferedFromZero(t *testing.T) {
	s := startSite(t, quick())
	got := ask[*kmsg.ApiVersionsResponse](s.dial(t), &kmsg.ApiVersionsRequest{Version: 3})
	want := map[int16][2]int16{}
	for _, a := range apis {
		want[a.key] = [2]int16{a.min, a.max}
	}
	want[0] = [2]int16{0, 13}
	for _, k := range got.ApiKeys {
		if want[k.ApiKey] != [2]int16{k.MinVersion, k.MaxVersion} {
			t.Errorf("API %d: %d to %d, want %v", k.ApiKey, k.MinVersion, k.MaxVersion, want[k.ApiKey])
		}
		delete(want, k.ApiKey)
	}
	if len(want) != 0 {
		t.Errorf("not offered: %v", want)
	}
}

// The table is the design's: ranges are part of what clients rely on.
func TestVersionsServed(t *testing.T) {
	want := map[int16][2]int16{
		0: {3, 13}, 1: {4, 18}, 2: {1, 11}, 3: {0, 13}, 8: {2, 10}, 9: {1, 10}, 10: {0, 6}, 11: {0, 9}, 12: {0, 4},
		17: {0, 1}, 36: {0, 2}, 29: {1, 3}, 30: {1, 3}, 31: {1, 3}, 48: {0, 1}, 49: {0, 1}, 50: {0, 0}, 51: {0, 0},
		13: {0, 5}, 14: {0, 5}, 15: {0, 6}, 16: {0, 5}, 18: {0, 4}, 19: {2, 7}, 20: {1, 6}, 21: {0, 2}, 22: {0, 5},
		23: {2, 4}, 32: {1, 4}, 33: {0, 2}, 34: {1, 2}, 35: {1, 4}, 37: {0, 3}, 42: {0, 3}, 43: {0, 2}, 44: {0, 1}, 45: {0, 1}, 46: {0, 0}, 47: {0, 0}, 55: {0, 2}, 60: {0, 2}, 61: {0, 0}, 68: {0, 1}, 69: {0, 1},
		24: {0, 5}, 25: {0, 4}, 26: {0, 5}, 27: {1, 2}, 28: {0, 5}, 65: {0, 0}, 66: {0, 2}, 75: {0, 0},
		76: {1, 1}, 77: {1, 1}, 78: {1, 2}, 79: {1, 2}, 83: {0, 0}, 84: {0, 0}, 85: {0, 1}, 86: {0, 0}, 90: {0, 1}, 91: {0, 0}, 92: {0, 0},
	}
	for _, a := range apis {
		if want[a.key] != [2]int16{a.min, a.max} {
			t.Errorf("%s: %d to %d, want %v", a.name, a.min, a.max, want[a.key])
		}
		if name := kmsg.NameForKey(a.key); !strings.EqualFold(name, a.name) {
			t.Errorf("API %d is named %s, kmsg says %s", a.key, a.name, name)
		}
		if most := kmsg.RequestForKey(a.key).MaxVersion(); a.max > most {
			t.Errorf("%s: version %d, kmsg encodes up to %d", a.name, a.max, most)
		}
		delete(want, a.key)
	}
	if len(want) > 0 {
		t.Errorf("not served: %v", want)
	}
}

func TestPitfall2UnknownApiVersionsVersion(t *testing.T) {
	s := startSite(t, quick())
	c := s.dial(t)
	// Version 77 with a body that nobody knows.
	c.write([]byte{0, 0, 0, 14, 0, 18, 0, 77, 0, 0, 0, 5, 0xff, 0xff, 0xde, 0xad, 0xbe, 0xef})
	b, err := c.frame()
	if err != nil {
		t.Fatal(err)
	}
	if id := binary.BigEndian.Uint32(b); id != 5 {
		t.Errorf("correlation %d", id)
	}
	resp := kmsg.NewPtrApiVersionsResponse()
	if err := resp.ReadFrom(b[4:]); err != nil || resp.ErrorCode != 35 || len(resp.ApiKeys) != len(apis) {
		t.Fatalf("%v, error %d, %d APIs", err, resp.ErrorCode, len(resp.ApiKeys))
	}
	if again := resp.AppendTo(nil); !bytes.Equal(again, b[4:]) {
		t.Error("there is more in the answer than version 0 has")
	}
	// The connection goes on, and the header of a flexible answer has no tags.
	if got := ask[*kmsg.ApiVersionsResponse](c, &kmsg.ApiVersionsRequest{Version: 4}); got.ErrorCode != 0 {
		t.Errorf("v4: error %d", got.ErrorCode)
	}
}

// Answers leave in order, and produce requests are proposed without waiting
// for the commits of those before.
func TestPitfall3AnswersInOrder(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	log := s.memLog(t, "t", 0)
	log.hold()
	c := s.dial(t)
	var reqs []kmsg.Request
	for range 5 {
		reqs = append(reqs, produceRequest(9, "t", topic.ID, batch(t, record.None, "v")))
	}
	meta := kmsg.NewPtrMetadataRequest()
	meta.Version = 9
	reqs = append(reqs, meta)
	var ids []int32
	for _, r := range reqs {
		ids = append(ids, c.send(r))
	}
	eventually(t, "all five are proposed", func() bool { return log.heldAppends() == 5 })
	log.release()
	for i, r := range reqs {
		resp := c.receive(r, ids[i])
		if p, ok := resp.(*kmsg.ProduceResponse); ok {
			if got := p.Topics[0].Partitions[0]; got.ErrorCode != 0 || got.BaseOffset != int64(i) {
				t.Errorf("answer %d: %+v", i, got)
			}
		}
	}
}

func TestPitfall4TopicIDs(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	c := s.dial(t)
	unknown := record.TopicID{1}
	wantCode(t, "produce", produced(c, produceRequest(13, "", unknown, batch(t, record.None, "v"))).ErrorCode, kerr.UnknownTopicID)
	wantCode(t, "produce", produced(c, produceRequest(13, "", topic.ID, batch(t, record.None, "v"))).ErrorCode, nil)
	wantCode(t, "produce by name", produced(c, produceRequest(12, "none", topic.ID, batch(t, record.None, "v"))).ErrorCode, kerr.UnknownTopicOrPartition)
	for _, v := range []int16{13, 18} {
		wantCode(t, "fetch", fetched(c, fetchRequest(v, "", unknown, 0)).ErrorCode, kerr.UnknownTopicID)
		wantCode(t, "fetch", fetched(c, fetchRequest(v, "", topic.ID, 0)).ErrorCode, nil)
	}
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Version, commit.Group, commit.Generation = 10, "g", -1
	commit.Topics = []kmsg.OffsetCommitRequestTopic{
		{TopicID: unknown, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 1}}},
		{TopicID: topic.ID, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 1}}},
	}
	committed := ask[*kmsg.OffsetCommitResponse](c, commit)
	wantCode(t, "commit", committed.Topics[0].Partitions[0].ErrorCode, kerr.UnknownTopicID)
	wantCode(t, "commit", committed.Topics[1].Partitions[0].ErrorCode, nil)
	of := kmsg.NewPtrOffsetFetchRequest()
	of.Version = 10
	of.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "g", MemberEpoch: -1, Topics: []kmsg.OffsetFetchRequestGroupTopic{
		{TopicID: unknown, Partitions: []int32{0}}, {TopicID: topic.ID, Partitions: []int32{0}},
	}}}
	got := ask[*kmsg.OffsetFetchResponse](c, of).Groups[0]
	wantCode(t, "offset fetch", got.Topics[0].Partitions[0].ErrorCode, kerr.UnknownTopicID)
	if p := got.Topics[1].Partitions[0]; p.ErrorCode != 0 || p.Offset != 1 {
		t.Errorf("offset fetch: %+v", p)
	}
	// Sessions (fetch_session_test.go has more): going on with one that is not
	// there is refused. Clients that want none may say so with any ID: kafka-go
	// sends -1.
	r := fetchRequest(13, "", topic.ID, 0)
	if resp := ask[*kmsg.FetchResponse](c, r); resp.SessionID != 0 {
		t.Errorf("session %d", resp.SessionID)
	}
	for _, none := range [][2]int32{{-1, -1}, {5, -1}} {
		r.SessionID, r.SessionEpoch = none[0], none[1]
		if resp := ask[*kmsg.FetchResponse](c, r); resp.ErrorCode != 0 || resp.SessionID != 0 || len(resp.Topics) != 1 {
			t.Errorf("session %d, epoch %d: %+v", none[0], none[1], resp)
		}
	}
	r.SessionID, r.SessionEpoch = 5, 1
	wantCode(t, "session", ask[*kmsg.FetchResponse](c, r).ErrorCode, kerr.FetchSessionIDNotFound)
}

func TestPitfall5LeaderEpochs(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	c := s.dial(t)
	for range 3 {
		produced(c, produceRequest(9, "t", topic.ID, batch(t, record.None, "a", "b")))
	}
	log := s.memLog(t, "t", 0)
	now := log.newEpoch() // begins at 6
	produced(c, produceRequest(9, "t", topic.ID, batch(t, record.None, "c")))

	for epoch, want := range map[int32]*kerr.Error{-1: nil, now: nil, now - 1: kerr.FencedLeaderEpoch, now + 1: kerr.UnknownLeaderEpoch} {
		f := fetchRequest(12, "t", topic.ID, 0)
		f.Topics[0].Partitions[0].CurrentLeaderEpoch = epoch
		wantCode(t, "fetch", fetched(c, f).ErrorCode, want)
		lo := kmsg.NewPtrListOffsetsRequest()
		lo.Version = 6
		lo.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{CurrentLeaderEpoch: epoch, Timestamp: -1}}}}
		wantCode(t, "list offsets", ask[*kmsg.ListOffsetsResponse](c, lo).Topics[0].Partitions[0].ErrorCode, want)
		oe := kmsg.NewPtrOffsetForLeaderEpochRequest()
		oe.Version = 4
		oe.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{CurrentLeaderEpoch: epoch, LeaderEpoch: 1}}}}
		got := ask[*kmsg.OffsetForLeaderEpochResponse](c, oe).Topics[0].Partitions[0]
		wantCode(t, "offset for epoch", got.ErrorCode, want)
		if want == nil && (got.LeaderEpoch != 1 || got.EndOffset != 6) {
			t.Errorf("epoch 1 ends at %+v, want 6", got)
		}
	}
	// A client whose last record was of epoch 1 and at 7 has records that are not
	// in this log.
	f := fetchRequest(12, "t", topic.ID, 7)
	f.Topics[0].Partitions[0].LastFetchedEpoch = 1
	got := fetched(c, f)
	if d := got.DivergingEpoch; d.Epoch != 1 || d.EndOffset != 6 || len(got.RecordBatches) != 0 {
		t.Errorf("diverging: %+v", got)
	}
	f.Topics[0].Partitions[0].FetchOffset = 6
	if got := fetched(c, f); got.DivergingEpoch.Epoch != -1 || len(got.RecordBatches) == 0 {
		t.Errorf("not diverging: %+v", got.DivergingEpoch)
	}
}

func TestPitfall6AbortedTransactions(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	c := s.dial(t)
	produced(c, produceRequest(9, "t", topic.ID, batch(t, record.None, "a")))
	for v := int16(4); v <= 18; v++ {
		f := fetchRequest(v, "t", topic.ID, 0)
		if got := fetched(c, f); got.AbortedTransactions != nil || got.LastStableOffset != 1 || got.HighWatermark != 1 {
			t.Errorf("v%d read_uncommitted: %+v", v, got)
		}
		f.IsolationLevel = 1
		if got := fetched(c, f); got.AbortedTransactions == nil || len(got.RecordBatches) == 0 {
			t.Errorf("v%d read_committed: %v, %d bytes", v, got.AbortedTransactions, len(got.RecordBatches))
		}
	}
}

func TestPitfall7LogAppendTime(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1, "message.timestamp.type", "LogAppendTime")
	c := s.dial(t)
	got := produced(c, produceRequest(9, "t", topic.ID, batch(t, record.Gzip, "a")))
	if got.ErrorCode != 0 || got.LogAppendTime != 1_700_000_000_000 {
		t.Fatalf("produce: %+v", got)
	}
	bs, err := record.SplitBatches(fetched(c, fetchRequest(12, "t", topic.ID, 0)).RecordBatches)
	if err != nil || !bs[0].LogAppendTime() || bs[0].MaxTime() != 1_700_000_000_000 {
		t.Errorf("fetched: %v", err)
	}
	plain := s.topic(t, "plain", 1)
	sent := batch(t, record.Gzip, "a")
	if got := produced(c, produceRequest(9, "plain", plain.ID, sent)); got.LogAppendTime != -1 {
		t.Errorf("CreateTime: %+v", got)
	}
	back := fetched(c, fetchRequest(12, "plain", plain.ID, 0)).RecordBatches
	sent.SetBaseOffset(0)
	sent.SetLeaderEpoch(1)
	if !bytes.Equal(back, sent) {
		t.Error("a batch came back changed beyond its offset and epoch")
	}
}

func TestPitfall8CompressionAndMagic(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	c := s.dial(t)
	zstd := batch(t, record.Zstd, "aaaaaaaaaaaaaaaaaaaaaa")
	wantCode(t, "zstd at v6", produced(c, produceRequest(6, "t", topic.ID, zstd)).ErrorCode, kerr.UnsupportedCompressionType)
	wantCode(t, "zstd at v7", produced(c, produceRequest(7, "t", topic.ID, zstd)).ErrorCode, nil)
	old := batch(t, record.None, "v")
	old[16] = 1
	wantCode(t, "magic 1", produced(c, produceRequest(7, "t", topic.ID, old)).ErrorCode, kerr.InvalidRecord)
}

func TestPitfall10Metadata(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "a", 2)
	s.topic(t, "b", 1)
	c := s.dial(t)
	for v := int16(0); v <= 13; v++ {
		all := &kmsg.MetadataRequest{Version: v}
		got := ask[*kmsg.MetadataResponse](c, all)
		if len(got.Topics) != 2 || len(got.Topics[0].Partitions) != 2 {
			t.Errorf("v%d all: %d topics", v, len(got.Topics))
		}
		b := got.Brokers[0]
		if h, p := splitAddr(s.addr, nil); b.Host != h || b.Port != p || b.NodeID != 1 || v >= 1 && (got.ControllerID != 1 || *b.Rack != "r1") {
			t.Errorf("v%d: %+v", v, got)
		}
		if v >= 7 && got.Topics[0].Partitions[0].LeaderEpoch != 1 {
			t.Errorf("v%d: epoch %d", v, got.Topics[0].Partitions[0].LeaderEpoch)
		}
		if v > 0 {
			none := &kmsg.MetadataRequest{Version: v, Topics: []kmsg.MetadataRequestTopic{}}
			if got := ask[*kmsg.MetadataResponse](c, none); len(got.Topics) != 0 || len(got.Brokers) != 1 {
				t.Errorf("v%d none: %d topics", v, len(got.Topics))
			}
		}
		one := &kmsg.MetadataRequest{Version: v, Topics: []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr("no")}, {Topic: kmsg.StringPtr("bad name")}}}
		one.AllowAutoTopicCreation = true
		miss := ask[*kmsg.MetadataResponse](c, one)
		wantCode(t, "unknown", miss.Topics[0].ErrorCode, kerr.UnknownTopicOrPartition)
		wantCode(t, "invalid", miss.Topics[1].ErrorCode, kerr.InvalidTopicException)
	}
	// By ID from v12 on.
	a, _ := s.State().Topic("a")
	byID := &kmsg.MetadataRequest{Version: 12, Topics: []kmsg.MetadataRequestTopic{{TopicID: a.ID}, {TopicID: [16]byte{9}}}}
	got := ask[*kmsg.MetadataResponse](c, byID)
	if *got.Topics[0].Topic != "a" || got.Topics[0].ErrorCode != 0 {
		t.Errorf("by ID: %+v", got.Topics[0])
	}
	wantCode(t, "unknown ID", got.Topics[1].ErrorCode, kerr.UnknownTopicID)
}

func TestMetadataCreatesTopicsWhenAllowed(t *testing.T) {
	cfg := quick()
	cfg.AutoCreate, cfg.Partitions = true, 4
	s := startSite(t, cfg)
	c := s.dial(t)
	m := &kmsg.MetadataRequest{Version: 9, Topics: []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr("new")}}}
	wantCode(t, "not asked for", ask[*kmsg.MetadataResponse](c, m).Topics[0].ErrorCode, kerr.UnknownTopicOrPartition)
	m.AllowAutoTopicCreation = true
	created := ask[*kmsg.MetadataResponse](c, m).Topics[0]
	wantCode(t, "created by this very request", created.ErrorCode, kerr.LeaderNotAvailable)
	if len(created.Partitions) != 0 {
		t.Errorf("created by this very request: %+v, want no partitions yet", created)
	}
	got := ask[*kmsg.MetadataResponse](c, m).Topics[0]
	if got.ErrorCode != 0 || len(got.Partitions) != 4 || got.Partitions[0].Leader != 1 {
		t.Errorf("created: %+v", got)
	}
}

func TestPitfall11CompactedTopicsNeedKeys(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1, "cleanup.policy", "compact,delete")
	b := record.NewBuilder(record.Snappy)
	for _, key := range [][]byte{[]byte("k"), nil, []byte(""), nil} {
		if err := b.Append(record.Record{Key: key, Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
	}
	records, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	c := s.dial(t)
	got := produced(c, produceRequest(8, "t", topic.ID, records))
	wantCode(t, "no key", got.ErrorCode, kerr.InvalidRecord)
	if len(got.ErrorRecords) != 2 || got.ErrorRecords[0].RelativeOffset != 1 || got.ErrorRecords[1].RelativeOffset != 3 || got.ErrorMessage == nil {
		t.Errorf("records at fault: %+v", got.ErrorRecords)
	}
	wantCode(t, "with keys", produced(c, produceRequest(8, "t", topic.ID, batch(t, record.LZ4, "v"))).ErrorCode, nil)
}

func TestPitfall11FirstBatchIsAlwaysReturned(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	c := s.dial(t)
	first := batch(t, record.None, "a", "b", string(bytes.Repeat([]byte("x"), 5000)))
	produced(c, produceRequest(9, "t", topic.ID, first))
	produced(c, produceRequest(9, "t", topic.ID, batch(t, record.None, "c")))
	for _, limits := range [][2]int32{{1, 1}, {0, 1 << 20}, {1 << 20, 0}, {100, 100}} {
		f := fetchRequest(12, "t", topic.ID, 1) // in the middle of the first
		f.MaxBytes, f.Topics[0].Partitions[0].PartitionMaxBytes = limits[0], limits[1]
		bs, err := record.SplitBatches(fetched(c, f).RecordBatches)
		if err != nil || len(bs) != 1 || bs[0].BaseOffset() != 0 || bs[0].NextOffset() != 3 {
			t.Errorf("limits %v: %d batches, %v", limits, len(bs), err)
		}
	}
	// A second partition gets nothing when the first one has filled the answer.
	two := s.topic(t, "two", 2)
	for p := range int32(2) {
		r := produceRequest(9, "two", two.ID, batch(t, record.None, string(bytes.Repeat([]byte("x"), 5000))))
		r.Topics[0].Partitions[0].Partition = p
		produced(c, r)
	}
	f := fetchRequest(12, "two", two.ID, 0)
	f.MaxBytes = 100
	f.Topics[0].Partitions = append(f.Topics[0].Partitions, f.Topics[0].Partitions[0])
	f.Topics[0].Partitions[1].Partition = 1
	resp := ask[*kmsg.FetchResponse](c, f)
	if a, b := len(resp.Topics[0].Partitions[0].RecordBatches), len(resp.Topics[0].Partitions[1].RecordBatches); a < 5000 || b != 0 {
		t.Errorf("%d and %d bytes", a, b)
	}
}

func TestPitfall12UnknownProducerMayStartAnywhere(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	b := record.NewBuilder(record.None)
	b.ProducerID, b.ProducerEpoch, b.BaseSequence = 77, 0, 12345
	if err := b.Append(record.Record{Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	one, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	c := s.dial(t)
	if got := produced(c, produceRequest(9, "t", topic.ID, one)); got.ErrorCode != 0 || got.BaseOffset != 0 {
		t.Errorf("first: %+v", got)
	}
	if got := produced(c, produceRequest(9, "t", topic.ID, one)); got.ErrorCode != 0 || got.BaseOffset != 0 {
		t.Errorf("again: %+v", got)
	}
	b.BaseSequence = 99999
	gap, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "a gap", produced(c, produceRequest(9, "t", topic.ID, gap)).ErrorCode, kerr.OutOfOrderSequenceNumber)
}

func TestBadBatchesAreRefused(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1, "max.message.bytes", "2000")
	good := batch(t, record.None, "value")
	edit := func(at int, v byte, fix bool) []byte {
		b := bytes.Clone(good)
		b[at] = v
		if fix {
			binary.BigEndian.PutUint32(b[17:], record.CRC(b[21:]))
		}
		return b
	}
	for what, c := range map[string]struct {
		records []byte
		want    *kerr.Error
	}{
		"a flipped bit":        {edit(len(good)-2, 'X', false), kerr.CorruptMessage},
		"cut short":            {good[:len(good)-1], kerr.CorruptMessage},
		"a length beyond":      {edit(11, 0xff, false), kerr.CorruptMessage},
		"no records at all":    {nil, kerr.InvalidRecord},
		"half a header":        {good[:30], kerr.CorruptMessage},
		"two batches":          {bytes.Repeat(good, 2), kerr.InvalidRecord},
		"two records, one is":  {edit(60, 2, true), kerr.InvalidRecord},
		"a control batch":      {edit(22, 0x20, true), kerr.InvalidRecord},
		"a transactional one":  {edit(22, 0x10, true), kerr.InvalidRecord},
		"an unknown codec":     {edit(22, 7, true), kerr.UnsupportedCompressionType},
		"larger than allowed":  {batch(t, record.None, string(make([]byte, 3000))), kerr.MessageTooLarge},
		"as it should be":      {good, nil},
		"compressed otherwise": {batch(t, record.LZ4, "value"), nil},
	} {
		conn := s.dial(t)
		got := produced(conn, produceRequest(9, "t", topic.ID, c.records))
		wantCode(t, what, got.ErrorCode, c.want)
		if c.want != nil && (got.ErrorMessage == nil || got.BaseOffset != -1) {
			t.Errorf("%s: %+v", what, got)
		}
	}
	if o := s.memLog(t, "t", 0).Offsets(); o.HighWatermark != 2 {
		t.Errorf("%d records are stored, want the 2 good ones", o.HighWatermark)
	}
}

func TestProduceErrorsOfTheLog(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	log := s.memLog(t, "t", 0)
	c := s.dial(t)
	for _, e := range []struct {
		err  error
		want *kerr.Error
	}{
		{record.ErrNotLeader, kerr.NotLeaderForPartition}, {record.ErrReadOnly, kerr.PolicyViolation},
		{record.ErrDiskFull, kerr.KafkaStorageError}, {record.ErrNotEnoughReplicas, kerr.NotEnoughReplicas},
		{record.ErrProducerFenced, kerr.InvalidProducerEpoch}, {errors.New("what nobody foresaw"), kerr.UnknownServerError},
	} {
		log.refuse(e.err)
		got := produced(c, produceRequest(10, "t", topic.ID, batch(t, record.None, "v")))
		wantCode(t, e.err.Error(), got.ErrorCode, e.want)
		if e.err == record.ErrNotLeader && got.CurrentLeader.LeaderID != 1 {
			t.Errorf("the leader is not named: %+v", got)
		}
	}
}

func TestProduceTimesOut(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	log := s.memLog(t, "t", 0)
	log.hold()
	defer log.release()
	r := produceRequest(9, "t", topic.ID, batch(t, record.None, "v"))
	r.TimeoutMillis = 20
	got := produced(s.dial(t), r)
	wantCode(t, "timeout", got.ErrorCode, kerr.RequestTimedOut)
	if held := s.srv.Stats().RequestBytes; held == 0 {
		t.Error("the request's bytes were given back though the log still has them")
	}
	log.release()
	eventually(t, "the bytes are given back", func() bool { return s.srv.Stats().RequestBytes == 0 })
}

func TestAcks(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	c := s.dial(t)
	r := produceRequest(9, "t", topic.ID, batch(t, record.None, "v"))
	r.Acks = 2
	wantCode(t, "acks=2", produced(c, r).ErrorCode, kerr.InvalidRequiredAcks)
	r.Acks = 1
	wantCode(t, "acks=1", produced(c, r).ErrorCode, nil)
	// acks=0: the next answer is that of the next request.
	r.Acks = 0
	c.send(r)
	if got := ask[*kmsg.ApiVersionsResponse](c, &kmsg.ApiVersionsRequest{Version: 2}); got.ErrorCode != 0 {
		t.Error(got.ErrorCode)
	}
	eventually(t, "it is stored", func() bool { return s.memLog(t, "t", 0).Offsets().HighWatermark == 2 })
	// A fault ends the connection: there is no other way to tell.
	r.Topics[0].Topic = "none"
	c.send(r)
	if n := c.closed(); n != 0 {
		t.Errorf("%d answers to acks=0", n)
	}
}

// A long poll ends when enough bytes are there, and not before.
func TestFetchWaits(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 2)
	c, p := s.dial(t), s.dial(t)
	f := fetchRequest(12, "t", topic.ID, 0)
	f.MaxWaitMillis, f.MinBytes = 20_000, 100
	f.Topics[0].Partitions = append(f.Topics[0].Partitions, f.Topics[0].Partitions[0])
	f.Topics[0].Partitions[1].Partition = 1
	id := c.send(f)
	eventually(t, "the fetch is parked", func() bool { return s.srv.counts[1].Load() == 1 })
	produced(p, produceRequest(9, "t", topic.ID, batch(t, record.None, "v"))) // some 70 bytes
	second := produceRequest(9, "t", topic.ID, batch(t, record.None, "v"))
	second.Topics[0].Partitions[0].Partition = 1
	produced(p, second)
	resp := c.receive(f, id).(*kmsg.FetchResponse)
	for i, part := range resp.Topics[0].Partitions {
		if len(part.RecordBatches) == 0 {
			t.Errorf("partition %d is empty though 100 bytes were asked for", i)
		}
	}
	// Nothing comes: the wait ends by itself.
	f.MaxWaitMillis = 10
	f.Topics[0].Partitions[0].FetchOffset, f.Topics[0].Partitions[1].FetchOffset = 1, 1
	if got := fetched(c, f); got.ErrorCode != 0 || len(got.RecordBatches) != 0 {
		t.Errorf("empty: %+v", got)
	}
	f.Topics[0].Partitions[0].FetchOffset = 5
	f.MaxWaitMillis = 20_000
	wantCode(t, "beyond the end", fetched(c, f).ErrorCode, kerr.OffsetOutOfRange)
}

// A client that goes away while it waits for a fetch leaves nothing behind.
func TestFetchEndsWithItsClient(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	c := s.dial(t)
	f := fetchRequest(12, "t", topic.ID, 0)
	f.MaxWaitMillis = 3_600_000
	c.send(f)
	eventually(t, "the fetch is parked", func() bool { return s.srv.counts[1].Load() == 1 })
	_ = c.nc.Close()
	eventually(t, "the connection is gone", func() bool { return s.srv.Stats().Connections == 0 })
}

// Every version of Fetch decodes, with batches that are copied and batches
// that are not.
func TestFetchAnswersInEveryVersion(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	c := s.dial(t)
	var all []byte
	for i := range 20 {
		b := batch(t, record.None, string(bytes.Repeat([]byte("x"), i*200)))
		produced(c, produceRequest(9, "t", topic.ID, bytes.Clone(b)))
		b.SetBaseOffset(int64(i))
		b.SetLeaderEpoch(1)
		all = append(all, b...)
	}
	for v := int16(4); v <= 18; v++ {
		if got := fetched(c, fetchRequest(v, "t", topic.ID, 0)); !bytes.Equal(got.RecordBatches, all) {
			t.Errorf("v%d: %d bytes, want %d", v, len(got.RecordBatches), len(all))
		}
	}
	s.setAway("t", 0, true)
	got := fetched(c, fetchRequest(16, "t", topic.ID, 0))
	wantCode(t, "led elsewhere", got.ErrorCode, kerr.NotLeaderForPartition)
	s.setAway("t", 0, false)
	f := fetchRequest(16, "t", topic.ID, 0)
	f.Topics[0].Partitions[0].CurrentLeaderEpoch = 0
	resp := ask[*kmsg.FetchResponse](c, f)
	if p := resp.Topics[0].Partitions[0]; p.CurrentLeader.LeaderID != 1 || p.CurrentLeader.LeaderEpoch != 1 || len(resp.Brokers) != 1 || resp.Brokers[0].NodeID != 1 {
		t.Errorf("the leader is not named: %+v %+v", p.CurrentLeader, resp.Brokers)
	}
}

func TestListOffsets(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "t", 1)
	c := s.dial(t)
	b := record.NewBuilder(record.None)
	for _, ts := range []int64{100, 300, 200, 300, 250} {
		if err := b.Append(record.Record{Timestamp: ts}); err != nil {
			t.Fatal(err)
		}
	}
	one, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	produced(c, produceRequest(9, "t", record.TopicID{}, one))
	ask1 := func(v int16, ts int64) kmsg.ListOffsetsResponseTopicPartition {
		lo := kmsg.NewPtrListOffsetsRequest()
		lo.Version = v
		lo.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{CurrentLeaderEpoch: -1, Timestamp: ts}}}}
		return ask[*kmsg.ListOffsetsResponse](c, lo).Topics[0].Partitions[0]
	}
	for ts, want := range map[int64]int64{-1: 5, -2: 0, -3: 1, -4: 0, -5: -1, -6: -1, 0: 0, 101: 1, 300: 1, 301: -1} {
		if got := ask1(11, ts); got.ErrorCode != 0 || got.Offset != want {
			t.Errorf("time %d: %+v, want offset %d", ts, got, want)
		}
	}
	if got := ask1(11, -3); got.Timestamp != 300 {
		t.Errorf("largest time: %+v", got)
	}
	wantCode(t, "-3 at v6", ask1(6, -3).ErrorCode, kerr.UnsupportedVersion)
	wantCode(t, "-9", ask1(11, -9).ErrorCode, kerr.UnsupportedVersion)
}

// Producer IDs are those of the site: its number is in the upper bits.
func TestProducerIDsAreTheSites(t *testing.T) {
	s := startSite(t, quick())
	c := s.dial(t)
	ip := kmsg.NewPtrInitProducerIDRequest()
	ip.Version = 4
	seen := map[int64]bool{}
	for range 2 * idBlock {
		got := ask[*kmsg.InitProducerIDResponse](c, ip)
		if got.ErrorCode != 0 || got.ProducerID>>48 != 3 || seen[got.ProducerID] {
			t.Fatalf("%+v", got)
		}
		seen[got.ProducerID] = true
	}
}

// While a partition is catching up, its offsets and epochs would make a client
// believe that records are gone: it gets an error that makes it ask again.
func TestAPartitionThatCatchesUpTellsNothing(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	c := s.dial(t)
	for range 3 {
		produced(c, produceRequest(9, "t", topic.ID, batch(t, record.None, "a", "b")))
	}
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Version, commit.Group, commit.Generation = 7, "g", -1
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 4}}}}
	ask[*kmsg.OffsetCommitResponse](c, commit)
	logs := []*memLog{s.memLog(t, "t", 0), s.memLog(t, catalog.OffsetsTopic, partitionOf("g", 3))}
	for _, l := range logs {
		l.newEpoch()
		l.fallBehind(record.ErrNotLeader)
	}
	f := fetchRequest(12, "t", topic.ID, 6)
	f.Topics[0].Partitions[0].LastFetchedEpoch = 1
	if got := fetched(c, f); got.ErrorCode != kerr.NotLeaderForPartition.Code || got.DivergingEpoch.Epoch != -1 {
		t.Errorf("fetch: %+v", got)
	}
	lo := &kmsg.ListOffsetsRequest{Version: 6, Topics: []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{CurrentLeaderEpoch: -1, Timestamp: -1}}}}}
	wantCode(t, "list offsets", ask[*kmsg.ListOffsetsResponse](c, lo).Topics[0].Partitions[0].ErrorCode, kerr.NotLeaderForPartition)
	oe := &kmsg.OffsetForLeaderEpochRequest{Version: 4, Topics: []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{CurrentLeaderEpoch: -1, LeaderEpoch: 1}}}}}
	wantCode(t, "epoch end", ask[*kmsg.OffsetForLeaderEpochResponse](c, oe).Topics[0].Partitions[0].ErrorCode, kerr.NotLeaderForPartition)
	of := &kmsg.OffsetFetchRequest{Version: 7, Group: "g", Topics: []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0}}}}
	wantCode(t, "group", ask[*kmsg.OffsetFetchResponse](c, of).ErrorCode, kerr.NotCoordinator)
	for _, l := range logs {
		l.fallBehind(nil)
	}
	if got := ask[*kmsg.OffsetFetchResponse](c, of).Topics[0].Partitions[0]; got.Offset != 4 {
		t.Errorf("the offset is %d, want 4", got.Offset)
	}
	logs[1].fallBehind(record.ErrNotLeader) // in the same epoch, with the group in memory
	wantCode(t, "group", ask[*kmsg.OffsetFetchResponse](c, of).ErrorCode, kerr.NotCoordinator)
}

// A coordinator that cannot be sure to be one any more tells no offset: another one
// may have taken a higher one since. It asks once for each partition of the topic.
func TestAnOffsetIsToldByASureCoordinator(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "t", 1)
	c := s.dial(t)
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Version, commit.Group, commit.Generation = 7, "g", -1
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 4}}}}
	ask[*kmsg.OffsetCommitResponse](c, commit)
	of := &kmsg.OffsetFetchRequest{Version: 8}
	for range 2 {
		of.Groups = append(of.Groups, kmsg.OffsetFetchRequestGroup{Group: "g", Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", Partitions: []int32{0}}}})
	}
	log := s.memLog(t, catalog.OffsetsTopic, partitionOf("g", 3))
	log.doubt(fmt.Errorf("%w: nobody answers", record.ErrTimeout))
	for _, g := range ask[*kmsg.OffsetFetchResponse](c, of).Groups {
		wantCode(t, "not sure", g.ErrorCode, kerr.CoordinatorNotAvailable)
	}
	log.doubt(nil)
	asked := log.confirms()
	for _, g := range ask[*kmsg.OffsetFetchResponse](c, of).Groups {
		if g.ErrorCode != 0 || g.Topics[0].Partitions[0].Offset != 4 {
			t.Errorf("%+v", g)
		}
	}
	if n := log.confirms() - asked; n != 1 {
		t.Errorf("the others were asked %d times, want once", n)
	}
}

// read_committed ends at the last stable offset, in Fetch and in ListOffsets.
func TestPitfall6ReadCommittedEndsAtTheLastStableOffset(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	c := s.dial(t)
	for range 4 {
		produced(c, produceRequest(9, "t", topic.ID, batch(t, record.None, "a")))
	}
	log := s.memLog(t, "t", 0)
	log.mu.Lock()
	log.mu.unstable = 3
	log.mu.Unlock()
	for isolation, want := range map[int8]int64{0: 4, 1: 1} {
		f := fetchRequest(12, "t", topic.ID, 0)
		f.IsolationLevel = isolation
		bs, err := record.SplitBatches(fetched(c, f).RecordBatches)
		if err != nil || len(bs) != int(want) {
			t.Errorf("isolation %d: %d batches, want %d", isolation, len(bs), want)
		}
		lo := &kmsg.ListOffsetsRequest{Version: 6, IsolationLevel: isolation, Topics: []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{CurrentLeaderEpoch: -1, Timestamp: -1}}}}}
		if got := ask[*kmsg.ListOffsetsResponse](c, lo).Topics[0].Partitions[0]; got.Offset != want {
			t.Errorf("isolation %d: the end is %d, want %d", isolation, got.Offset, want)
		}
	}
}

// A commit between the read and the wait ends the wait.
func TestFetchMissesNoCommit(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	log := s.memLog(t, "t", 0)
	committed := make(chan struct{})
	log.mu.Lock()
	log.mu.onRead = func() { // the second read is the one after which it waits
		log.mu.Lock()
		defer log.mu.Unlock()
		log.mu.onRead = func() {
			log.Append([]record.Batch{batch(t, record.None, "v")}, func([]record.Appended, error) { close(committed) })
			<-committed
		}
	}
	log.mu.Unlock()
	f := fetchRequest(12, "t", topic.ID, 0)
	f.MaxWaitMillis = 60_000 // more than the test waits for an answer
	if got := fetched(s.dial(t), f); len(got.RecordBatches) == 0 {
		t.Error("an empty answer")
	}
}

// The address that clients are told depends on the listener they came in on;
// nodes without it they are not told of.
func TestAdvertisedAddresses(t *testing.T) {
	s := startSite(t, quick())
	for _, n := range []catalog.RegisterNode{
		{Name: "n1", Site: "here", Kafka: s.addr, Listeners: map[string]string{"inside": "n1.inside:1234"}},
		{Name: "n2", Site: "here", Kafka: "n2:9092"},
	} {
		if _, err := s.Propose(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(ask[*kmsg.MetadataResponse](s.dial(t), &kmsg.MetadataRequest{Version: 9}).Brokers); n != 2 {
		t.Errorf("%d brokers on the main listener, want both", n)
	}
	c := s.enter(t, Listener{Name: "inside"})
	bs := ask[*kmsg.MetadataResponse](c, &kmsg.MetadataRequest{Version: 9}).Brokers
	if len(bs) != 1 || bs[0].Host != "n1.inside" || bs[0].Port != 1234 {
		t.Errorf("metadata: %+v", bs)
	}
	ds := ask[*kmsg.DescribeClusterResponse](c, &kmsg.DescribeClusterRequest{}).Brokers
	if len(ds) != 1 || ds[0].Host != "n1.inside" {
		t.Errorf("cluster: %+v", ds)
	}
	fc := &kmsg.FindCoordinatorRequest{Version: 4, CoordinatorKeys: []string{"g"}}
	if b := ask[*kmsg.FindCoordinatorResponse](c, fc).Coordinators[0]; b.Host != "n1.inside" || b.Port != 1234 {
		t.Errorf("coordinator: %+v", b)
	}
	local := &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 9092}
	for addr, want := range map[string]string{"h:1": "h 1", ":9092": "10.1.2.3 9092", "0.0.0.0:5": "10.1.2.3 5", "[::]:5": "10.1.2.3 5", "noport": "noport 9092"} {
		if h, p := splitAddr(addr, local); fmt.Sprintf("%s %d", h, p) != want {
			t.Errorf("%q: %s %d, want %s", addr, h, p, want)
		}
	}
}
