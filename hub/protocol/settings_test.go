package protocol

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/record"
)

// timed is a batch of keyed records with these timestamps, in ms.
func timed(t testing.TB, c record.Codec, times ...int64) record.Batch {
	t.Helper()
	b := record.NewBuilder(c)
	for i, ms := range times {
		if err := b.Append(record.Record{Timestamp: ms, Key: fmt.Append(nil, i), Value: bytes.Repeat([]byte("v"), 50)}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// siteTime is where the clock stands.
const siteTime = 1_700_000_000_000

func TestTimestampsOutOfBounds(t *testing.T) {
	cfg := quick()
	cfg.Clock = func() time.Time { return time.UnixMilli(siteTime) }
	s := startSite(t, cfg)
	bounded := s.topic(t, "bounded", 1, "message.timestamp.before.max.ms", "1000", "message.timestamp.after.max.ms", "500")
	stamped := s.topic(t, "stamped", 1, "message.timestamp.before.max.ms", "1000", "message.timestamp.after.max.ms", "500", "message.timestamp.type", "LogAppendTime")
	free := s.topic(t, "free", 1)
	c := s.dial(t)
	for _, one := range []struct {
		name  string
		times []int64
		bad   []int32
	}{
		{"just in time", []int64{siteTime - 1000, siteTime, siteTime + 500}, nil},
		{"too old", []int64{siteTime, siteTime - 1001}, []int32{1}},
		{"too new", []int64{siteTime + 501, siteTime}, []int32{0}},
		{"both", []int64{siteTime + 501, siteTime, 0}, []int32{0, 2}},
		{"none", []int64{-1}, nil},
	} {
		for _, codec := range []record.Codec{record.None, record.Zstd} {
			got := produced(c, produceRequest(9, "bounded", bounded.ID, timed(t, codec, one.times...)))
			var want *kerr.Error
			if one.bad != nil {
				want = kerr.InvalidTimestamp
			}
			wantCode(t, one.name, got.ErrorCode, want)
			var bad []int32
			for _, r := range got.ErrorRecords {
				bad = append(bad, r.RelativeOffset)
			}
			if fmt.Sprint(bad) != fmt.Sprint(one.bad) {
				t.Errorf("%s: records %v are at fault, want %v", one.name, bad, one.bad)
			}
			for _, topic := range []string{"stamped", "free"} {
				id := map[string]record.TopicID{"stamped": stamped.ID, "free": free.ID}[topic]
				wantCode(t, one.name+" to "+topic, produced(c, produceRequest(9, topic, id, timed(t, codec, one.times...))).ErrorCode, nil)
			}
		}
	}
}

func TestTopicCompresses(t *testing.T) {
	s := startSite(t, quick())
	c := s.dial(t)
	for _, want := range []string{"producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"} {
		topic := s.topic(t, want, 1, "compression.type", want)
		at := int64(0)
		for _, codec := range []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd} {
			sent := timed(t, codec, 1, 2, 3)
			wantCode(t, want, produced(c, produceRequest(9, want, topic.ID, bytes.Clone(sent))).ErrorCode, nil)
			bs, err := record.SplitBatches(fetched(c, fetchRequest(12, want, topic.ID, at)).RecordBatches)
			if err != nil || len(bs) != 1 {
				t.Fatal(err, len(bs))
			}
			target, err := record.ParseCodec(want)
			if want == "producer" {
				target, err = codec, nil
			}
			if err != nil || bs[0].Codec() != target {
				t.Errorf("%s: sent with %s it is kept with %s, %v", want, codec, bs[0].Codec(), err)
			}
			sent.SetBaseOffset(at)
			sent.SetLeaderEpoch(bs[0].LeaderEpoch())
			if same := bytes.Equal(sent, bs[0]); same != (target == codec) {
				t.Errorf("%s: sent with %s it is kept as it came: %v", want, codec, same)
			}
			n := 0
			for r, err := range bs[0].All(1 << 20) {
				if n++; err != nil || r.Timestamp != int64(n) || r.Offset != at+int64(n)-1 || len(r.Value) != 50 {
					t.Errorf("%s: %+v, %v", want, r, err)
				}
			}
			at = bs[0].NextOffset()
		}
	}
	// What does not decompress is refused, and so is what gets too large.
	broken := timed(t, record.None, 1, 2)
	broken[22] = byte(record.Gzip) // attributes: nothing of it is gzip
	broken.SetLogAppendTime(1)     // for the checksum
	topic := s.topic(t, "strict", 1, "compression.type", "zstd")
	wantCode(t, "broken", produced(c, produceRequest(9, "strict", topic.ID, broken)).ErrorCode, kerr.CorruptMessage)
	large := record.NewBuilder(record.Zstd)
	if err := large.Append(record.Record{Value: make([]byte, 5000)}); err != nil {
		t.Fatal(err)
	}
	b, err := large.Build()
	if err != nil {
		t.Fatal(err)
	}
	topic = s.topic(t, "small", 1, "compression.type", "uncompressed", "max.message.bytes", "1000")
	wantCode(t, "too large", produced(c, produceRequest(9, "small", topic.ID, b)).ErrorCode, kerr.MessageTooLarge)
}

// A name that could leave its directory, is too long or has other letters than
// Kafka's is refused wherever a topic can be named or made.
func TestTopicNames(t *testing.T) {
	cfg := quick()
	cfg.AutoCreate = true
	s := startSite(t, cfg)
	s.topic(t, "a.b_c", 1)
	c := s.dial(t)
	for _, one := range []struct {
		name string
		want *kerr.Error
	}{
		{"", kerr.InvalidTopicException}, {".", kerr.InvalidTopicException}, {"..", kerr.InvalidTopicException},
		{"../x", kerr.InvalidTopicException}, {"../../etc/passwd", kerr.InvalidTopicException}, {"a/b", kerr.InvalidTopicException},
		{`a\b`, kerr.InvalidTopicException}, {"a\x00b", kerr.InvalidTopicException}, {"a b", kerr.InvalidTopicException},
		{"größe", kerr.InvalidTopicException}, {"主题", kerr.InvalidTopicException}, {"a\xffb", kerr.InvalidTopicException},
		{strings.Repeat("x", 250), kerr.InvalidTopicException}, {strings.Repeat("x", 1000), kerr.InvalidTopicException},
		{"__meta", kerr.InvalidTopicException},
		{"a_b_c", kerr.InvalidTopicException}, {"a.b.c", kerr.InvalidTopicException}, {"a_b.c", kerr.InvalidTopicException},
		{"a.b_c", kerr.TopicAlreadyExists},
		{"a-b_c", nil}, {"a.b_cd", nil}, {strings.Repeat("x", 249), nil}, {"A.B_C", nil},
	} {
		create := kmsg.NewPtrCreateTopicsRequest()
		create.Version = 5
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = one.name, 1, 1
		create.Topics = append(create.Topics, rt)
		got := ask[*kmsg.CreateTopicsResponse](c, create).Topics[0]
		wantCode(t, fmt.Sprintf("create %.40q", one.name), got.ErrorCode, one.want)
		if one.want == nil {
			continue
		}
		m := &kmsg.MetadataRequest{Version: 9, AllowAutoTopicCreation: true, Topics: []kmsg.MetadataRequestTopic{{Topic: &one.name}}}
		if r := ask[*kmsg.MetadataResponse](c, m).Topics[0]; one.want == kerr.InvalidTopicException && r.ErrorCode == 0 {
			t.Errorf("%.40q was made by asking for it", one.name)
		}
	}
}

// What a web interface asks for: every kind of resource that has settings, with
// source, type, documentation and synonyms of each.
func TestDescribeEveryKindOfResource(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "t", 1, "retention.ms", "5")
	c := s.dial(t)
	dc := &kmsg.DescribeConfigsRequest{Version: 4, IncludeDocumentation: true, IncludeSynonyms: true}
	for _, r := range []struct {
		kind kmsg.ConfigResourceType
		name string
	}{{2, "t"}, {4, "1"}, {8, "1"}, {32, "g"}, {4, ""}, {4, "7"}, {8, "7"}, {32, ""}, {16, "m"}, {2, "none"}, {2, "a/b"}} {
		dc.Resources = append(dc.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: r.kind, ResourceName: r.name})
	}
	got := ask[*kmsg.DescribeConfigsResponse](c, dc).Resources
	want := []*kerr.Error{nil, nil, nil, nil, nil, kerr.InvalidRequest, kerr.InvalidRequest, kerr.InvalidRequest, kerr.InvalidRequest, kerr.UnknownTopicOrPartition, kerr.InvalidTopicException}
	for i, r := range got {
		wantCode(t, fmt.Sprintf("type %d %q", r.ResourceType, r.ResourceName), r.ErrorCode, want[i])
		if (len(r.Configs) > 0) != (i < 4) {
			t.Errorf("type %d %q has %d settings", r.ResourceType, r.ResourceName, len(r.Configs))
		}
		for _, k := range r.Configs {
			if k.IsSensitive || k.Documentation == nil || *k.Documentation == "" || k.ConfigType == 0 || k.Source == 0 || k.ReadOnly != (i > 0 && i < 3) {
				t.Errorf("type %d %q: %+v", r.ResourceType, r.ResourceName, k)
			}
		}
	}
	find := func(i int, name string) kmsg.DescribeConfigsResponseResourceConfig {
		t.Helper()
		for _, k := range got[i].Configs {
			if k.Name == name {
				return k
			}
		}
		t.Fatalf("no %s in %q", name, got[i].ResourceName)
		return kmsg.DescribeConfigsResponseResourceConfig{}
	}
	set := find(0, "retention.ms")
	if set.Source != kmsg.ConfigSourceDynamicTopicConfig || len(set.ConfigSynonyms) != 2 || set.ConfigSynonyms[1].Name != "log.retention.ms" ||
		*set.ConfigSynonyms[1].Value != "604800000" || set.ConfigSynonyms[1].Source != kmsg.ConfigSourceDefaultConfig {
		t.Errorf("%+v", set)
	}
	for _, name := range []string{
		"log.retention.ms", "log.retention.bytes", "log.segment.bytes", "log.roll.ms", "log.cleanup.policy", "log.cleaner.delete.retention.ms",
		"log.cleaner.min.cleanable.ratio", "log.cleaner.min.compaction.lag.ms", "log.message.timestamp.type", "message.max.bytes", "compression.type",
		"min.insync.replicas", "num.partitions", "default.replication.factor",
	} {
		find(1, name)
	}
	if l := find(2, "root"); l.Source != kmsg.ConfigSourceDynamicBrokerLoggerConfig || *l.Value != "OFF" {
		t.Errorf("%+v", l)
	}
	for name, want := range map[string]string{
		"group.consumer.session.timeout.ms": "45000", "group.consumer.min.session.timeout.ms": "45000", "group.consumer.max.session.timeout.ms": "60000",
		"group.consumer.heartbeat.interval.ms": "5000", "group.consumer.min.heartbeat.interval.ms": "5000", "group.consumer.max.heartbeat.interval.ms": "15000",
	} {
		if got := find(1, name); *got.Value != want {
			t.Errorf("%s is %s, want %s", name, *got.Value, want)
		}
	}
	if g := find(3, "consumer.session.timeout.ms"); *g.Value != "45000" || g.ConfigSynonyms[0].Name != "group.consumer.session.timeout.ms" {
		t.Errorf("%+v", g)
	}
}

// Every setting refuses what Kafka refuses, and a list takes what is added and
// taken from it.
func TestSettingsAreChecked(t *testing.T) {
	s := startSite(t, quick())
	c := s.dial(t)
	create := func(name, key, value string) int16 {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.Version = 5
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, 1, 1
		rt.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: key, Value: &value}}
		req.Topics = append(req.Topics, rt)
		return ask[*kmsg.CreateTopicsResponse](c, req).Topics[0].ErrorCode
	}
	for i, one := range []struct {
		key, value string
		ok         bool
	}{
		{"no.such.setting", "1", false}, {"Retention.ms", "1", false}, {"message.format.version", "3.0", false},
		{"cleanup.policy", "compact,delete", true}, {"cleanup.policy", "shrink", false},
		{"delete.retention.ms", "0", true}, {"delete.retention.ms", "-1", false},
		{"min.cleanable.dirty.ratio", "0.01", true}, {"min.cleanable.dirty.ratio", "1.1", false}, {"min.cleanable.dirty.ratio", "NaN", false},
		{"min.compaction.lag.ms", "1", true}, {"max.compaction.lag.ms", "0", false}, {"max.compaction.lag.ms", "1", true},
		{"message.timestamp.after.max.ms", "-1", false}, {"message.timestamp.type", "logappendtime", false},
		{"compression.type", "brotli", false}, {"compression.gzip.level", "0", false}, {"compression.gzip.level", "9", true}, {"compression.zstd.level", "23", false},
		{"max.message.bytes", "-1", false}, {"max.message.bytes", "1e6", false}, {"min.insync.replicas", "0", false}, {"min.insync.replicas", "5", true},
		{"retention.ms", "-2", false}, {"retention.ms", "-1", true}, {"segment.bytes", "1048575", false}, {"durability", "sometimes", false},
		{"remote.storage.enable", "true", false}, {"remote.storage.enable", "false", true},
		{"leader.replication.throttled.replicas", "0:1,1:2", true}, {"leader.replication.throttled.replicas", "x", false},
	} {
		var want *kerr.Error
		if !one.ok {
			want = kerr.InvalidConfig
		}
		wantCode(t, one.key+"="+one.value, create(fmt.Sprintf("t%d", i), one.key, one.value), want)
	}
	// Settings that contradict each other, in one request or one after the other.
	alter := &kmsg.IncrementalAlterConfigsRequest{Version: 1}
	set := func(key, value string) *kerr.Error {
		alter.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: 2, ResourceName: "lag", Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: key, Value: &value}}}}
		err, _ := kerr.ErrorForCode(ask[*kmsg.IncrementalAlterConfigsResponse](c, alter).Resources[0].ErrorCode).(*kerr.Error)
		return err
	}
	s.topic(t, "lag", 1, "min.compaction.lag.ms", "1000")
	for _, one := range []struct {
		key, value string
		want       *kerr.Error
	}{{"max.compaction.lag.ms", "999", kerr.InvalidConfig}, {"max.compaction.lag.ms", "1000", nil}, {"min.compaction.lag.ms", "1001", kerr.InvalidConfig}} {
		if got := set(one.key, one.value); got != one.want {
			t.Errorf("%s=%s: %v, want %v", one.key, one.value, got, one.want)
		}
	}
}

// One replica is all there are: as Kafka 4 has it, min.insync.replicas above
// that counts as all of them.
func TestMinInsyncAboveTheReplicas(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1, "min.insync.replicas", "3")
	wantCode(t, "acks=all", produced(s.dial(t), produceRequest(9, "t", topic.ID, batch(t, record.None, "v"))).ErrorCode, nil)
}

// TestTopicOfAMomentAgo: a topic that was made through another node a moment
// ago can be changed and deleted through one whose catalog is behind.
func TestTopicOfAMomentAgo(t *testing.T) {
	s := startSite(t, quick())
	c, value := s.dial(t), "3600000"
	before := s.State()
	s.topic(t, "new", 1)
	behind := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.mu.lags = before
	}
	behind()
	change := []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: &value}}
	got := ask[*kmsg.IncrementalAlterConfigsResponse](c, &kmsg.IncrementalAlterConfigsRequest{Version: 1, Resources: []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "new", Configs: change}}})
	wantCode(t, "alter", got.Resources[0].ErrorCode, nil)
	behind()
	name := "new"
	wantCode(t, "delete", ask[*kmsg.DeleteTopicsResponse](c, &kmsg.DeleteTopicsRequest{Version: 6, Topics: []kmsg.DeleteTopicsRequestTopic{{Topic: &name}}, TimeoutMillis: 1000}).Topics[0].ErrorCode, nil)
	behind()
	s.mu.Lock()
	asked := s.mu.proposed
	s.mu.Unlock()
	many := &kmsg.DeleteTopicsRequest{Version: 6, TimeoutMillis: 1000}
	for i := range 10 {
		none := fmt.Sprintf("none-%d", i)
		many.Topics = append(many.Topics, kmsg.DeleteTopicsRequestTopic{Topic: &none})
	}
	for _, one := range ask[*kmsg.DeleteTopicsResponse](c, many).Topics {
		wantCode(t, "one of many", one.ErrorCode, kerr.UnknownTopicOrPartition)
	}
	s.mu.Lock()
	asked = s.mu.proposed - asked
	s.mu.Unlock()
	if asked != 1 {
		t.Errorf("the catalog was asked %d times for one request, want once", asked)
	}
	behind()
	wantCode(t, "delete again", ask[*kmsg.DeleteTopicsResponse](c, &kmsg.DeleteTopicsRequest{Version: 6, Topics: []kmsg.DeleteTopicsRequestTopic{{Topic: &name}}, TimeoutMillis: 1000}).Topics[0].ErrorCode, kerr.UnknownTopicOrPartition)
}
