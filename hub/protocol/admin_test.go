package protocol

import (
	"errors"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

func wantErr(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestTopicsComeAndGo(t *testing.T) {
	cfg := quick()
	cfg.Partitions = 3
	s := startSite(t, cfg)
	ctx, adm := testContext(t), s.admin(t)
	value := "60000"
	created, err := adm.CreateTopics(ctx, -1, -1, map[string]*string{"retention.ms": &value}, "a", "b.c")
	if err != nil || created.Error() != nil {
		t.Fatal(err, created.Error())
	}
	if a := created["a"]; a.NumPartitions != 3 || a.ReplicationFactor != 1 || a.ID == (kadm.TopicID{}) || *a.Configs["retention.ms"].Value != "60000" {
		t.Errorf("created: %+v", a)
	}
	for what, c := range map[string]struct {
		name       string
		partitions int32
		replicas   int16
		configs    map[string]*string
		want       error
	}{
		"again":            {"a", 1, 1, nil, kerr.TopicAlreadyExists},
		"a bad name":       {"a b", 1, 1, nil, kerr.InvalidTopicException},
		"a collision":      {"b_c", 1, 1, nil, kerr.InvalidTopicException},
		"no partitions":    {"n", 0, 1, nil, kerr.InvalidPartitions},
		"no replicas":      {"n", 1, 0, nil, kerr.InvalidReplicationFactor},
		"too many of them": {"n", 1, 2, nil, kerr.InvalidReplicationFactor},
		"a bad setting":    {"n", 1, 1, map[string]*string{"retention.ms": kmsg.StringPtr("soon")}, kerr.InvalidConfig},
		"an unknown one":   {"n", 1, 1, map[string]*string{"retention.sm": &value}, kerr.InvalidConfig},
		"one without":      {"n", 1, 1, map[string]*string{"retention.ms": nil}, kerr.InvalidConfig},
	} {
		r, _ := adm.CreateTopic(ctx, c.partitions, c.replicas, c.configs, c.name)
		wantErr(t, what, r.Err, c.want)
		if r.ErrMessage == "" {
			t.Errorf("%s: no message", what)
		}
	}
	valid, err := adm.ValidateCreateTopics(ctx, 5, 1, nil, "only-validated")
	if err != nil || valid.Error() != nil || valid["only-validated"].NumPartitions != 5 {
		t.Errorf("validate: %v %v", err, valid)
	}
	if topics, err := adm.ListTopics(ctx); err != nil || len(topics) != 2 {
		t.Errorf("topics: %v, %v", topics.Names(), err)
	}
	byName, err := adm.DeleteTopics(ctx, "a", "none")
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, "delete", byName["a"].Err, nil)
	wantErr(t, "delete", byName["none"].Err, kerr.UnknownTopicOrPartition)
	c := s.dial(t)
	id, _ := s.State().Topic("b.c")
	del := &kmsg.DeleteTopicsRequest{Version: 6, TimeoutMillis: 1000, Topics: []kmsg.DeleteTopicsRequestTopic{{TopicID: id.ID}, {TopicID: [16]byte{5}}}}
	got := ask[*kmsg.DeleteTopicsResponse](c, del)
	wantCode(t, "by ID", got.Topics[0].ErrorCode, nil)
	wantCode(t, "by ID", got.Topics[1].ErrorCode, kerr.UnknownTopicID)
	if *got.Topics[0].Topic != "b.c" || len(s.State().Topics()) != 0 {
		t.Errorf("deleted %v, left %d", got.Topics[0].Topic, len(s.State().Topics()))
	}
	assigned := kmsg.NewCreateTopicsRequestTopic()
	assigned.Topic, assigned.NumPartitions, assigned.ReplicationFactor = "assigned", -1, -1
	assigned.ReplicaAssignment = []kmsg.CreateTopicsRequestTopicReplicaAssignment{{Partition: 1, Replicas: []int32{1}}, {Partition: 0, Replicas: []int32{1}}}
	gap := assigned
	gap.Topic, gap.ReplicaAssignment = "gap", assigned.ReplicaAssignment[:1]
	cr := &kmsg.CreateTopicsRequest{Version: 7, TimeoutMillis: 1000, Topics: []kmsg.CreateTopicsRequestTopic{assigned, gap, {Topic: "twice", NumPartitions: 1, ReplicationFactor: 1}, {Topic: "twice", NumPartitions: 1, ReplicationFactor: 1}}}
	made := ask[*kmsg.CreateTopicsResponse](c, cr).Topics
	if made[0].ErrorCode != 0 || made[0].NumPartitions != 2 {
		t.Errorf("assigned: %+v", made[0])
	}
	wantCode(t, "gap", made[1].ErrorCode, kerr.InvalidReplicationFactor)
	wantCode(t, "twice", made[2].ErrorCode, kerr.InvalidRequest)
}

// A group's offsets of a deleted topic are gone: a topic of the same name that
// comes later begins at its start.
func TestDeletedTopicsLoseTheirOffsets(t *testing.T) {
	s := startSite(t, quick())
	ctx, adm := testContext(t), s.admin(t)
	for _, name := range []string{"t", "u"} {
		s.topic(t, name, 1)
		var o kadm.Offsets
		o.Add(kadm.Offset{Topic: name, At: 42, LeaderEpoch: -1})
		if err := adm.CommitAllOffsets(ctx, "g", o); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := adm.DeleteTopics(ctx, "t"); err != nil {
		t.Fatal(err)
	}
	s.topic(t, "t", 1)
	eventually(t, "the offset is gone", func() bool {
		got, err := adm.FetchOffsets(ctx, "g")
		if err != nil {
			t.Fatal(err)
		}
		_, t0 := got.Lookup("t", 0)
		u, u0 := got.Lookup("u", 0)
		return !t0 && u0 && u.At == 42
	})
}

func TestSettings(t *testing.T) {
	s := startSite(t, quick())
	ctx, adm := testContext(t), s.admin(t)
	s.topic(t, "t", 1, "cleanup.policy", "delete", "retention.ms", "1000")
	alter := func(what string, want error, as ...kadm.AlterConfig) {
		t.Helper()
		r, err := adm.AlterTopicConfigs(ctx, as, "t")
		if err != nil {
			t.Fatal(err)
		}
		wantErr(t, what, r[0].Err, want)
	}
	value := func(v string) *string { return &v }
	alter("set and delete", nil, kadm.AlterConfig{Op: kadm.SetConfig, Name: "segment.bytes", Value: value("2097152")}, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "retention.ms"})
	alter("append", nil, kadm.AlterConfig{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: value("compact")})
	alter("append to a number", kerr.InvalidConfig, kadm.AlterConfig{Op: kadm.AppendConfig, Name: "retention.ms", Value: value("1")})
	alter("all or none", kerr.InvalidConfig, kadm.AlterConfig{Op: kadm.SetConfig, Name: "retention.ms", Value: value("5")}, kadm.AlterConfig{Op: kadm.SetConfig, Name: "no.such", Value: value("5")})
	alter("twice", kerr.InvalidRequest, kadm.AlterConfig{Op: kadm.SetConfig, Name: "retention.ms", Value: value("5")}, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "retention.ms"})
	topic, _ := s.State().Topic("t")
	if got := topic.Config["cleanup.policy"]; got != "delete,compact" || topic.Config["segment.bytes"] != "2097152" || topic.Config["retention.ms"] != "" {
		t.Errorf("settings: %v", topic.Config)
	}
	alter("subtract", nil, kadm.AlterConfig{Op: kadm.SubtractConfig, Name: "cleanup.policy", Value: value("delete")})
	if topic, _ = s.State().Topic("t"); topic.Config["cleanup.policy"] != "compact" {
		t.Errorf("settings: %v", topic.Config)
	}

	described, err := adm.DescribeTopicConfigs(ctx, "t", "none")
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, "describe", described[1].Err, kerr.UnknownTopicOrPartition)
	if len(described[0].Configs) != len(catalog.Keys()) {
		t.Errorf("%d settings, want all %d", len(described[0].Configs), len(catalog.Keys()))
	}
	for _, c := range described[0].Configs {
		switch c.Key {
		case "segment.bytes":
			if *c.Value != "2097152" || c.Source != kmsg.ConfigSourceDynamicTopicConfig || len(c.Synonyms) != 2 || *c.Synonyms[1].Value != "134217728" {
				t.Errorf("%+v", c)
			}
		case "retention.ms":
			if *c.Value != "604800000" || c.Source != kmsg.ConfigSourceDefaultConfig || len(c.Synonyms) != 1 {
				t.Errorf("%+v", c)
			}
		}
	}
	// A replacement puts everything else back.
	if r, err := adm.AlterTopicConfigsState(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: value("7")}}, "t"); err != nil || r[0].Err != nil {
		t.Fatal(err, r)
	}
	if topic, _ = s.State().Topic("t"); len(topic.Config) != 1 || topic.Config["retention.ms"] != "7" {
		t.Errorf("settings: %v", topic.Config)
	}

	broker, err := adm.DescribeBrokerConfigs(ctx, 1)
	if err != nil || broker[0].Err != nil {
		t.Fatal(err, broker)
	}
	at := slices.IndexFunc(broker[0].Configs, func(c kadm.Config) bool { return c.Key == "message.max.bytes" })
	if at < 0 || *broker[0].Configs[at].Value != "1048588" {
		t.Errorf("broker settings: %+v", broker[0].Configs)
	}
	r, err := adm.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "num.partitions", Value: value("7")}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, "broker", r[0].Err, kerr.InvalidRequest)
	// Only the names asked for, with their documentation.
	dc := &kmsg.DescribeConfigsRequest{Version: 4, IncludeDocumentation: true, Resources: []kmsg.DescribeConfigsRequestResource{{
		ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "t", ConfigNames: []string{"mirror.to"},
	}}}
	got := ask[*kmsg.DescribeConfigsResponse](s.dial(t), dc).Resources[0]
	if len(got.Configs) != 1 || got.Configs[0].ConfigType != kmsg.ConfigTypeList || got.Configs[0].Name != "mirror.to" || *got.Configs[0].Documentation == "" {
		t.Errorf("%+v", got)
	}
}

func TestPartitionsRecordsAndDirectories(t *testing.T) {
	s := startSite(t, quick())
	ctx, adm := testContext(t), s.admin(t)
	s.topic(t, "t", 1)
	produceN(t, s, "t", 0, 10)
	if r, err := adm.UpdatePartitions(ctx, 4, "t"); err != nil || r["t"].Err != nil {
		t.Fatal(err, r)
	}
	r, err := adm.UpdatePartitions(ctx, 4, "t", "none")
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, "no more than before", r["t"].Err, kerr.InvalidPartitions)
	wantErr(t, "unknown", r["none"].Err, kerr.UnknownTopicOrPartition)

	var o kadm.Offsets
	o.Add(kadm.Offset{Topic: "t", At: 4})
	deleted, err := adm.DeleteRecords(ctx, o)
	if err != nil || deleted["t"][0].Err != nil || deleted["t"][0].LowWatermark != 4 {
		t.Fatal(err, deleted)
	}
	starts, err := adm.ListStartOffsets(ctx, "t")
	if err != nil || starts["t"][0].Offset != 4 {
		t.Error(err, starts)
	}
	o = kadm.Offsets{"t": {0: {Topic: "t", At: 400}}}
	deleted, err = adm.DeleteRecords(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, "beyond the end", deleted["t"][0].Err, kerr.OffsetOutOfRange)
	o = kadm.Offsets{"t": {0: {Topic: "t", At: -1}}}
	if deleted, err = adm.DeleteRecords(ctx, o); err != nil || deleted["t"][0].LowWatermark != 10 {
		t.Error(err, deleted)
	}

	dirs, err := adm.DescribeAllLogDirs(ctx, nil)
	if err != nil || len(dirs[1]["data"].Topics["t"]) != 4 {
		t.Error(err, dirs)
	}
	produceN(t, s, "t", 10, 10)
	producers, err := adm.DescribeProducers(ctx, kadm.TopicsSet{"t": {0: {}, 1: {}, 2: {}, 3: {}}})
	n := 0
	for p, d := range producers["t"].Partitions {
		wantErr(t, "producers", d.Err, nil)
		for _, pr := range d.ActiveProducers {
			if n++; pr.ProducerID>>48 != 3 || pr.Partition != p {
				t.Errorf("%+v", pr)
			}
		}
	}
	if err != nil || n == 0 || len(producers["t"].Partitions) != 4 {
		t.Errorf("%v: %d producers in %d partitions", err, n, len(producers["t"].Partitions))
	}
	md, err := adm.BrokerMetadata(ctx)
	if err != nil || md.Controller != 1 || md.Cluster != "entrepot" || len(md.Brokers) != 1 {
		t.Error(err, md)
	}
	cluster := ask[*kmsg.DescribeClusterResponse](s.dial(t), &kmsg.DescribeClusterRequest{Version: 1, EndpointType: 2})
	wantCode(t, "controllers", cluster.ErrorCode, kerr.MismatchedEndpointType)
	cluster = ask[*kmsg.DescribeClusterResponse](s.dial(t), &kmsg.DescribeClusterRequest{Version: 2, EndpointType: 1})
	if cluster.ErrorCode != 0 || cluster.ClusterID != "entrepot" || len(cluster.Brokers) != 1 {
		t.Errorf("%+v", cluster)
	}
}

func TestGroupsAreListedAndDeleted(t *testing.T) {
	s := startSite(t, quick())
	ctx, adm := testContext(t), s.admin(t)
	if gs, err := adm.ListGroups(ctx); err != nil || len(gs) != 0 {
		t.Fatal(err, gs)
	}
	s.topic(t, "work", 2)
	produceN(t, s, "work", 0, 10)
	ms := &members{seen: map[string]int{}}
	cl := ms.run(t, s, "work", "busy")
	eventually(t, "all seen", func() bool { return ms.count() == 10 })
	var o kadm.Offsets
	o.Add(kadm.Offset{Topic: "work", At: 3, LeaderEpoch: -1})
	o.Add(kadm.Offset{Topic: "work", Partition: 1, At: 4, LeaderEpoch: -1})
	if err := adm.CommitAllOffsets(ctx, "idle", o); err != nil {
		t.Fatal(err)
	}
	gs, err := adm.ListGroups(ctx)
	if err != nil || gs["busy"].State != "Stable" || gs["busy"].ProtocolType != "consumer" || gs["idle"].State != "Empty" {
		t.Errorf("%v %+v", err, gs)
	}
	if gs, err = adm.ListGroups(ctx, "empty"); err != nil || len(gs) != 1 {
		t.Errorf("filtered: %v %+v", err, gs)
	}
	gone, err := adm.DeleteOffsets(ctx, "idle", kadm.TopicsSet{"work": {0: {}}})
	if err != nil || gone["work"][0] != nil {
		t.Errorf("delete offsets: %v %v", err, gone)
	}
	left, err := adm.FetchOffsets(ctx, "idle")
	if _, there := left.Lookup("work", 0); err != nil || there || left["work"][1].At != 4 {
		t.Errorf("left: %v %v", err, left)
	}
	gone, err = adm.DeleteOffsets(ctx, "busy", kadm.TopicsSet{"work": {0: {}}})
	wantErr(t, "offsets in use", errors.Join(err, gone["work"][0]), kerr.GroupSubscribedToTopic)
	deleted, err := adm.DeleteGroups(ctx, "idle", "busy", "none")
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, "idle", deleted["idle"].Err, nil)
	wantErr(t, "busy", deleted["busy"].Err, kerr.NonEmptyGroup)
	wantErr(t, "none", deleted["none"].Err, kerr.GroupIDNotFound)
	cl.Close()
	ms.wg.Wait()
	eventually(t, "the last one can go too", func() bool {
		d, err := adm.DeleteGroup(ctx, "busy")
		return err == nil && d.Err == nil
	})
	// Deleted is deleted, also after a load.
	for p := range int32(3) {
		s.memLog(t, catalog.OffsetsTopic, p).newEpoch()
	}
	if gs, err := adm.ListGroups(ctx); err != nil || len(gs) != 0 {
		t.Errorf("after the load: %v %+v", err, gs)
	}
	wantCode(t, "describe v6", ask[*kmsg.DescribeGroupsResponse](s.dial(t), &kmsg.DescribeGroupsRequest{Version: 6, Groups: []string{"none"}}).Groups[0].ErrorCode, kerr.GroupIDNotFound)
	if g := ask[*kmsg.DescribeGroupsResponse](s.dial(t), &kmsg.DescribeGroupsRequest{Version: 5, Groups: []string{"none"}}).Groups[0]; g.ErrorCode != 0 || g.State != "Dead" {
		t.Errorf("%+v", g)
	}
}

func TestDescribeTopicPartitionsInPages(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "a", 3)
	s.topic(t, "b", 3)
	c := s.dial(t)
	req := &kmsg.DescribeTopicPartitionsRequest{ResponsePartitionLimit: 2}
	var pages [][]string
	for {
		resp := ask[*kmsg.DescribeTopicPartitionsResponse](c, req)
		var page []string
		for _, topic := range resp.Topics {
			for _, p := range topic.Partitions {
				page = append(page, *topic.Topic+string(rune('0'+p.Partition)))
				if p.EligibleLeaderReplicas == nil || p.LastKnownELR == nil {
					t.Errorf("%s-%d: lists of replicas are null, which Java's client cannot read", *topic.Topic, p.Partition)
				}
			}
		}
		pages = append(pages, page)
		if resp.NextCursor == nil {
			break
		}
		req.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: resp.NextCursor.Topic, Partition: resp.NextCursor.Partition}
	}
	if got := slices.Concat(pages...); !slices.Equal(got, []string{"a0", "a1", "a2", "b0", "b1", "b2"}) || len(pages) != 3 {
		t.Errorf("%v", pages)
	}
	wantCode(t, "unknown", ask[*kmsg.DescribeTopicPartitionsResponse](c, &kmsg.DescribeTopicPartitionsRequest{ResponsePartitionLimit: 5, Topics: []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "none"}}}).Topics[0].ErrorCode, kerr.UnknownTopicOrPartition)
}

// A mirrored topic is read-only, and the refusal says where to write.
func TestMirroredTopicsAreReadOnly(t *testing.T) {
	s := startSite(t, quick())
	cmd, err := s.srv.newTopic("m", 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Mirror = &catalog.Mirror{Source: "east", Link: "l", State: catalog.MirrorActive}
	if _, err := s.Propose(t.Context(), cmd); err != nil {
		t.Fatal(err)
	}
	cl := s.client(t, kgo.DefaultProduceTopic("m"))
	wantErr(t, "produce", cl.ProduceSync(testContext(t), kgo.StringRecord("v")).FirstErr(), kerr.PolicyViolation)
	got := produced(s.dial(t), produceRequest(9, "m", cmd.ID, batch(t, 0, "v")))
	if got.ErrorMessage == nil || *got.ErrorMessage != `the partition is a mirror and read-only here: topic "m" is written at site "east"` {
		t.Errorf("%v", *got.ErrorMessage)
	}
	d, err := s.admin(t).DeleteRecords(testContext(t), kadm.Offsets{"m": {0: {Topic: "m", At: -1}}})
	wantErr(t, "delete records", errors.Join(err, d["m"][0].Err), kerr.PolicyViolation)
}
