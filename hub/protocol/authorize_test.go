package protocol

import (
	"reflect"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/auth"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/share"
	"github.com/entrepot-hub/entrepot/record"
)

// samples are requests about topic t, group g, transactional ID x and the site.
func samples(t testing.TB, topic *catalog.Topic) map[int16]kmsg.Request {
	p0 := []int32{0}
	produce := produceRequest(13, "", topic.ID, batch(t, record.None, "v"))
	return map[int16]kmsg.Request{
		0: produce, 1: fetchRequest(13, "", topic.ID, 0),
		2:  &kmsg.ListOffsetsRequest{Version: 7, Topics: []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Timestamp: -1, CurrentLeaderEpoch: -1}}}}},
		3:  &kmsg.MetadataRequest{Version: 9, Topics: []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr("t")}}},
		8:  &kmsg.OffsetCommitRequest{Version: 8, Group: "g", Generation: -1, Topics: []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 1}}}}},
		9:  &kmsg.OffsetFetchRequest{Version: 8, Groups: []kmsg.OffsetFetchRequestGroup{{Group: "g", MemberEpoch: -1, Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", Partitions: p0}}}}},
		10: &kmsg.FindCoordinatorRequest{Version: 4, CoordinatorKeys: []string{"g"}},
		11: &kmsg.JoinGroupRequest{Version: 7, Group: "g", SessionTimeoutMillis: 10_000, ProtocolType: "consumer", Protocols: []kmsg.JoinGroupRequestProtocol{{Name: "range"}}},
		12: &kmsg.HeartbeatRequest{Version: 4, Group: "g", MemberID: "m"},
		13: &kmsg.LeaveGroupRequest{Version: 4, Group: "g", Members: []kmsg.LeaveGroupRequestMember{{MemberID: "m"}}},
		14: &kmsg.SyncGroupRequest{Version: 4, Group: "g", MemberID: "m"},
		15: &kmsg.DescribeGroupsRequest{Version: 5, Groups: []string{"g"}},
		16: &kmsg.ListGroupsRequest{Version: 4},
		19: &kmsg.CreateTopicsRequest{Version: 7, ValidateOnly: true, Topics: []kmsg.CreateTopicsRequestTopic{{Topic: "new", NumPartitions: 1, ReplicationFactor: 1}}},
		20: &kmsg.DeleteTopicsRequest{Version: 6, Topics: []kmsg.DeleteTopicsRequestTopic{{Topic: kmsg.StringPtr("t")}}},
		21: &kmsg.DeleteRecordsRequest{Version: 2, Topics: []kmsg.DeleteRecordsRequestTopic{{Topic: "t", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: -1}}}}},
		22: &kmsg.InitProducerIDRequest{Version: 4, ProducerID: -1, ProducerEpoch: -1},
		23: &kmsg.OffsetForLeaderEpochRequest{Version: 4, Topics: []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{CurrentLeaderEpoch: -1}}}}},
		24: &kmsg.AddPartitionsToTxnRequest{Version: 3, TransactionalID: "x", Topics: []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "t", Partitions: p0}}},
		25: &kmsg.AddOffsetsToTxnRequest{Version: 3, TransactionalID: "x", Group: "g"},
		26: &kmsg.EndTxnRequest{Version: 3, TransactionalID: "x"},
		27: &kmsg.WriteTxnMarkersRequest{Version: 1, Markers: []kmsg.WriteTxnMarkersRequestMarker{{Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: "t", Partitions: p0}}}}},
		28: &kmsg.TxnOffsetCommitRequest{Version: 3, TransactionalID: "x", Group: "g", Generation: -1, Topics: []kmsg.TxnOffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{}}}}},
		29: &kmsg.DescribeACLsRequest{Version: 2, ResourceType: 1, ResourcePatternType: 1, Operation: 1, PermissionType: 1},
		30: &kmsg.CreateACLsRequest{Version: 2, Creations: []kmsg.CreateACLsRequestCreation{{ResourceType: 2, ResourceName: "u", ResourcePatternType: 3, Principal: "User:x", Host: "*", Operation: 3, PermissionType: 3}}},
		31: &kmsg.DeleteACLsRequest{Version: 2, Filters: []kmsg.DeleteACLsRequestFilter{{ResourceType: 2, ResourceName: kmsg.StringPtr("u"), ResourcePatternType: 3, Operation: 1, PermissionType: 1}}},
		32: &kmsg.DescribeConfigsRequest{Version: 4, Resources: []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "t"}}},
		33: &kmsg.AlterConfigsRequest{Version: 2, Resources: []kmsg.AlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "t"}}},
		34: &kmsg.AlterReplicaLogDirsRequest{Version: 2, Dirs: []kmsg.AlterReplicaLogDirsRequestDir{{Dir: "data", Topics: []kmsg.AlterReplicaLogDirsRequestDirTopic{{Topic: "t", Partitions: p0}}}}},
		35: &kmsg.DescribeLogDirsRequest{Version: 4},
		37: &kmsg.CreatePartitionsRequest{Version: 3, ValidateOnly: true, Topics: []kmsg.CreatePartitionsRequestTopic{{Topic: "t", Count: 5}}},
		42: &kmsg.DeleteGroupsRequest{Version: 2, Groups: []string{"g"}},
		43: &kmsg.ElectLeadersRequest{Version: 2, Topics: []kmsg.ElectLeadersRequestTopic{{Topic: "t", Partitions: p0}}},
		44: &kmsg.IncrementalAlterConfigsRequest{Version: 1, Resources: []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "t"}}},
		45: &kmsg.AlterPartitionAssignmentsRequest{Topics: []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: "t", Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{}}}}},
		46: &kmsg.ListPartitionReassignmentsRequest{},
		47: &kmsg.OffsetDeleteRequest{Group: "g", Topics: []kmsg.OffsetDeleteRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{}}}}},
		48: &kmsg.DescribeClientQuotasRequest{Version: 1},
		49: &kmsg.AlterClientQuotasRequest{Version: 1, ValidateOnly: true, Entries: []kmsg.AlterClientQuotasRequestEntry{{Entity: []kmsg.AlterClientQuotasRequestEntryEntity{{Type: "user"}}}}},
		50: &kmsg.DescribeUserSCRAMCredentialsRequest{},
		51: &kmsg.AlterUserSCRAMCredentialsRequest{Deletions: []kmsg.AlterUserSCRAMCredentialsRequestDeletion{{Name: "nobody", Mechanism: 1}}},
		55: &kmsg.DescribeQuorumRequest{Topics: []kmsg.DescribeQuorumRequestTopic{{Topic: metadataTopic, Partitions: []kmsg.DescribeQuorumRequestTopicPartition{{}}}}},
		60: &kmsg.DescribeClusterRequest{},
		61: &kmsg.DescribeProducersRequest{Topics: []kmsg.DescribeProducersRequestTopic{{Topic: "t", Partitions: p0}}},
		65: &kmsg.DescribeTransactionsRequest{TransactionalIDs: []string{"x"}},
		66: &kmsg.ListTransactionsRequest{},
		68: &kmsg.ConsumerGroupHeartbeatRequest{Version: 1, Group: "g", MemberID: "m", MemberEpoch: 5, RebalanceTimeoutMillis: -1},
		69: &kmsg.ConsumerGroupDescribeRequest{Groups: []string{"g"}},
		76: &kmsg.ShareGroupHeartbeatRequest{Version: 1, GroupID: "s", MemberID: "m", MemberEpoch: 5},
		77: &kmsg.ShareGroupDescribeRequest{Version: 1, GroupIDs: []string{"s"}},
		78: shareFetchOf("s", "m", 0, topic.ID),
		79: shareAckOf("s", "m", -1, topic.ID, share.Ack{First: 0, Last: 0, Types: []int8{share.Accept}}), // with the session of 78
		83: &kmsg.InitializeShareGroupStateRequest{GroupID: "s", Topics: []kmsg.InitializeShareGroupStateRequestTopic{{TopicID: topic.ID, Partitions: []kmsg.InitializeShareGroupStateRequestTopicPartition{{}}}}},
		84: &kmsg.ReadShareGroupStateRequest{GroupID: "s", Topics: []kmsg.ReadShareGroupStateRequestTopic{{TopicID: topic.ID, Partitions: []kmsg.ReadShareGroupStateRequestTopicPartition{{LeaderEpoch: -1}}}}},
		85: &kmsg.WriteShareGroupStateRequest{Version: 1, GroupID: "s", Topics: []kmsg.WriteShareGroupStateRequestTopic{{TopicID: topic.ID, Partitions: []kmsg.WriteShareGroupStateRequestTopicPartition{{}}}}},
		86: &kmsg.DeleteShareGroupStateRequest{GroupID: "s", Topics: []kmsg.DeleteShareGroupStateRequestTopic{{TopicID: topic.ID, Partitions: []kmsg.DeleteShareGroupStateRequestTopicPartition{{}}}}},
		90: &kmsg.DescribeShareGroupOffsetsRequest{Version: 1, Groups: []kmsg.DescribeShareGroupOffsetsRequestGroup{{GroupID: "s", Topics: []kmsg.DescribeShareGroupOffsetsRequestGroupTopic{{Topic: "t", Partitions: p0}}}}},
		91: &kmsg.AlterShareGroupOffsetsRequest{GroupID: "s", Topics: []kmsg.AlterShareGroupOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{{}}}}},
		92: &kmsg.DeleteShareGroupOffsetsRequest{GroupID: "s", Topics: []kmsg.DeleteShareGroupOffsetsRequestTopic{{Topic: "t"}}},
		75: &kmsg.DescribeTopicPartitionsRequest{ResponsePartitionLimit: 1, Topics: []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "t"}}},
	}
}

// refused reports whether an answer has a refusal anywhere, or hides what it
// would show to others.
func refused(resp kmsg.Response) bool {
	switch l := resp.(type) {
	case *kmsg.ListGroupsResponse:
		return len(l.Groups) == 0
	case *kmsg.ListTransactionsResponse:
		return len(l.TransactionStates) == 0
	}
	return hasRefusal(reflect.ValueOf(resp))
}

func hasRefusal(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return !v.IsNil() && hasRefusal(v.Elem())
	case reflect.Slice:
		for i := range v.Len() {
			if hasRefusal(v.Index(i)) {
				return true
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name == "ErrorCode" && isRefusal(int16(v.Field(i).Int())) || v.Field(i).CanInterface() && hasRefusal(v.Field(i)) {
				return true
			}
		}
	}
	return false
}

func isRefusal(code int16) bool {
	return slices.Contains([]int16{
		kerr.TopicAuthorizationFailed.Code, kerr.GroupAuthorizationFailed.Code, kerr.ClusterAuthorizationFailed.Code, kerr.TransactionalIDAuthorizationFailed.Code,
	}, code)
}

// grant gives alice rights on everything of their types.
func (s *site) grant(t testing.TB, rights ...right) {
	t.Helper()
	if _, err := s.Propose(t.Context(), catalog.DeleteACLs{ACLs: s.State().Security().ACLs}); err != nil {
		t.Fatal(err)
	}
	for _, r := range rights {
		if _, err := s.Propose(t.Context(), catalog.CreateACLs{ACLs: []catalog.ACL{{
			Principal: "User:alice", Host: "*", Resource: r.kind, Pattern: catalog.PatternLiteral, Name: "*", Operation: r.op, Permission: catalog.PermissionAllow,
		}}}); err != nil {
			t.Fatal(err)
		}
	}
}

// watched is a site with ACLs on, whose main listener's clients are super users,
// and a connection of alice, who may do nothing yet.
func watched(t testing.TB) (*site, *rawConn) {
	t.Helper()
	cfg := guarded(t)
	cfg.Authorize = &Authorize{Supers: []auth.Principal{auth.Anonymous()}}
	s := startSite(t, cfg)
	c := dialAt(t, s.door(t, Listener{SASL: []string{auth.Plain}}))
	ask[*kmsg.SASLHandshakeResponse](c, &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: auth.Plain})
	wantCode(t, "login", ask[*kmsg.SASLAuthenticateResponse](c, &kmsg.SASLAuthenticateRequest{Version: 1, SASLAuthBytes: []byte("\x00alice\x00secret")}).ErrorCode, nil)
	return s, c
}

// Every API says what it needs, asks for that and for nothing else: without
// any of it a request is refused, with all of it not.
func TestEveryAPIAsksForWhatItSaysItNeeds(t *testing.T) {
	s, c := watched(t)
	super := s.dial(t)
	for _, a := range apis {
		topic, ok := s.State().Topic("t")
		if !ok {
			topic = s.topic(t, "t", 1)
		}
		all := samples(t, topic)
		ask[*kmsg.OffsetCommitResponse](super, all[8]) // so that there is a group
		ask[*kmsg.InitProducerIDResponse](super, &kmsg.InitProducerIDRequest{Version: 4, TransactionalID: kmsg.StringPtr("x"), TransactionTimeoutMillis: 1000, ProducerID: -1, ProducerEpoch: -1})
		req := all[a.key]
		switch {
		case a.needs == nil:
			t.Errorf("%s does not say what it needs; nothing is an answer, too", a.name)
			continue
		case a.key == apiVersionsKey || a.key == saslHandshakeKey || a.key == saslAuthenticateKey:
			continue // they come before there is anybody to ask about
		case req == nil:
			t.Errorf("%s has no sample here", a.name)
			continue
		}
		s.grant(t)
		if got := refused(c.ask(req)); got != (len(a.needs) > 0) {
			t.Errorf("%s of one who may do nothing is refused: %v, it needs %v", a.name, got, a.needs)
		}
		for left := range a.needs {
			s.grant(t, allBut(a.needs, left)...)
			if !refused(c.ask(req)) {
				t.Errorf("%s is answered to one who may do everything but %v", a.name, a.needs[left])
			}
			if _, ok := s.State().Topic("t"); !ok {
				s.topic(t, "t", 1)
			}
		}
		if len(a.needs) == 0 {
			continue
		}
		enough := false
		for i := range a.needs[0] {
			var rights []right
			for _, group := range a.needs {
				rights = append(rights, group[min(i, len(group)-1)])
			}
			s.grant(t, rights...)
			if _, ok := s.State().Topic("t"); !ok {
				s.topic(t, "t", 1)
			}
			enough = enough || !refused(c.ask(req))
		}
		if !enough {
			t.Errorf("%s is refused to one who may do all that it says, %v", a.name, a.needs)
		}
	}
}

// allBut are all rights but those of one group, what implies them, and what
// they are instead of.
func allBut(needs [][]right, left int) (all []right) {
	for _, kind := range []catalog.ResourceType{catalog.ResourceTopic, catalog.ResourceGroup, catalog.ResourceCluster, catalog.ResourceTransactionalID} {
		for _, op := range catalog.Operations(kind) {
			gives := slices.ContainsFunc(needs[left], func(r right) bool {
				if r.kind != kind {
					return false
				}
				one := []catalog.ACL{{Principal: "User:alice", Host: "*", Resource: kind, Pattern: catalog.PatternLiteral, Name: "*", Operation: op, Permission: catalog.PermissionAllow}}
				return auth.NewRules(one, nil, false).Allowed(auth.User("alice"), "h", r.op, kind, "n")
			})
			if !gives {
				all = append(all, right{op, kind})
			}
		}
	}
	return all
}

// What a client may not describe it does not see, and a refusal does not tell
// whether there is such a topic.
func TestHiddenTopics(t *testing.T) {
	s, c := watched(t)
	for _, name := range []string{"mine", "mine.too", "secret"} {
		s.topic(t, name, 1)
	}
	if _, err := s.Propose(t.Context(), catalog.CreateACLs{ACLs: []catalog.ACL{{
		Principal: "User:alice", Host: "127.0.0.1", Resource: catalog.ResourceTopic, Pattern: catalog.PatternPrefixed, Name: "mine", Operation: catalog.OpRead, Permission: catalog.PermissionAllow,
	}}}); err != nil {
		t.Fatal(err)
	}
	got := ask[*kmsg.MetadataResponse](c, &kmsg.MetadataRequest{Version: 9, IncludeTopicAuthorizedOperations: true, IncludeClusterAuthorizedOperations: true})
	if len(got.Topics) != 2 || *got.Topics[0].Topic != "mine" || *got.Topics[1].Topic != "mine.too" {
		t.Fatalf("%d topics are shown, want the two that begin with mine", len(got.Topics))
	}
	if ops := got.Topics[0].AuthorizedOperations; ops != 1<<3|1<<8 {
		t.Errorf("operations %b, want read and describe", ops)
	}
	if got.AuthorizedOperations != 0 {
		t.Errorf("operations on the site: %b", got.AuthorizedOperations)
	}
	named := ask[*kmsg.MetadataResponse](c, &kmsg.MetadataRequest{Version: 9, AllowAutoTopicCreation: true, Topics: []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr("secret")}, {Topic: kmsg.StringPtr("nowhere")}}})
	for _, o := range named.Topics {
		wantCode(t, *o.Topic, o.ErrorCode, kerr.TopicAuthorizationFailed)
	}
	secret, _ := s.State().Topic("secret")
	byID := ask[*kmsg.MetadataResponse](c, &kmsg.MetadataRequest{Version: 12, Topics: []kmsg.MetadataRequestTopic{{TopicID: secret.ID}, {TopicID: [16]byte{9}}}})
	for _, o := range byID.Topics {
		wantCode(t, "by ID", o.ErrorCode, kerr.UnknownTopicID)
	}
	if n := len(ask[*kmsg.DescribeTopicPartitionsResponse](c, &kmsg.DescribeTopicPartitionsRequest{ResponsePartitionLimit: 10}).Topics); n != 2 {
		t.Errorf("DescribeTopicPartitions shows %d topics, want 2", n)
	}
}

// ACLs are made, found and removed over the protocol, and hold at once.
func TestACLsOverTheProtocol(t *testing.T) {
	s, c := watched(t)
	s.topic(t, "t", 1)
	super := s.dial(t)
	list := &kmsg.MetadataRequest{Version: 9, Topics: []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr("t")}}}
	sees := func() bool { return ask[*kmsg.MetadataResponse](c, list).Topics[0].ErrorCode == 0 }
	rule := func(name string, pattern int8, permission int8) kmsg.CreateACLsRequestCreation {
		return kmsg.CreateACLsRequestCreation{ResourceType: 2, ResourceName: name, ResourcePatternType: kmsg.ACLResourcePatternType(pattern), Principal: "User:alice", Host: "*", Operation: 8, PermissionType: kmsg.ACLPermissionType(permission)}
	}
	made := ask[*kmsg.CreateACLsResponse](super, &kmsg.CreateACLsRequest{Version: 3, Creations: []kmsg.CreateACLsRequestCreation{
		rule("*", 3, 3), rule("t", 3, 2), {ResourceType: 2, ResourceName: "x", ResourcePatternType: 2, Principal: "User:alice", Host: "*", Operation: 8, PermissionType: 3},
		{ResourceType: 4, ResourceName: "other", ResourcePatternType: 3, Principal: "User:alice", Host: "*", Operation: 8, PermissionType: 3}, {ResourceType: 2, ResourceName: "t", ResourcePatternType: 3, Principal: "alice", Host: "*", Operation: 8, PermissionType: 3},
	}})
	for i, o := range made.Results {
		want := kerr.InvalidRequest
		if i < 2 {
			want = nil
		}
		wantCode(t, "create", o.ErrorCode, want)
	}
	if sees() {
		t.Error("a deny does not win over an allow")
	}
	match := ask[*kmsg.DescribeACLsResponse](super, &kmsg.DescribeACLsRequest{Version: 3, ResourceType: 2, ResourceName: kmsg.StringPtr("t"), ResourcePatternType: 2, Operation: 1, PermissionType: 1})
	if len(match.Resources) != 2 {
		t.Errorf("%d resources match t, want the literal one and the wildcard", len(match.Resources))
	}
	gone := ask[*kmsg.DeleteACLsResponse](super, &kmsg.DeleteACLsRequest{Version: 3, Filters: []kmsg.DeleteACLsRequestFilter{{ResourceType: 2, ResourceName: kmsg.StringPtr("t"), ResourcePatternType: 3, Operation: 1, PermissionType: 2}}})
	if len(gone.Results[0].MatchingACLs) != 1 || !sees() {
		t.Errorf("%d ACLs are removed, alice sees the topic: %v", len(gone.Results[0].MatchingACLs), sees())
	}
	off := ask[*kmsg.DescribeACLsResponse](startSite(t, quick()).dial(t), &kmsg.DescribeACLsRequest{Version: 3, ResourceType: 1, ResourcePatternType: 1, Operation: 1, PermissionType: 1})
	wantCode(t, "without ACLs", off.ErrorCode, kerr.SecurityDisabled)
}

// An expression does not stand for topics that the member may not describe.
func TestExpressionsOfGroupsLeaveOutHiddenTopics(t *testing.T) {
	s, c := watched(t)
	mine, secret := s.topic(t, "mine", 1), s.topic(t, "secret", 1)
	allow := func(kind catalog.ResourceType, name string, op catalog.Operation) {
		t.Helper()
		acl := catalog.ACL{Principal: "User:alice", Host: "*", Resource: kind, Pattern: catalog.PatternLiteral, Name: name, Operation: op, Permission: catalog.PermissionAllow}
		if _, err := s.Propose(t.Context(), catalog.CreateACLs{ACLs: []catalog.ACL{acl}}); err != nil {
			t.Fatal(err)
		}
	}
	allow(catalog.ResourceGroup, "g", catalog.OpRead)
	allow(catalog.ResourceTopic, mine.Name, catalog.OpRead)
	r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	r.Version, r.Group, r.MemberID, r.RebalanceTimeoutMillis = 1, "g", "m", 5000
	r.SubscribedTopicRegex, r.Topics = kmsg.StringPtr(".*"), []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	got := ask[*kmsg.ConsumerGroupHeartbeatResponse](c, r)
	wantCode(t, "join", got.ErrorCode, nil)
	if ts := got.Assignment.Topics; len(ts) != 1 || ts[0].TopicID != mine.ID {
		t.Errorf("assigned %v, want one partition of %v", ts, mine.ID)
	}
	// A right that comes later counts at the next heartbeat.
	allow(catalog.ResourceTopic, secret.Name, catalog.OpDescribe)
	r.MemberEpoch, r.SubscribedTopicRegex, r.Topics = got.MemberEpoch, nil, nil
	got = ask[*kmsg.ConsumerGroupHeartbeatResponse](c, r)
	wantCode(t, "heartbeat", got.ErrorCode, nil)
	if got.Assignment == nil || len(got.Assignment.Topics) != 2 {
		t.Errorf("after the right was given: %+v", got)
	}
}
