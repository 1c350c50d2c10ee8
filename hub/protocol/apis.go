package protocol

// api is one API of the protocol: what is offered, how a request looks, and
// what answers it. Each is declared in the file of its number.
type api struct {
	key    int16
	name   string
	min    int16 // first version served
	max    int16 // last one
	shape  shape
	needs  [][]right // what a request needs to be allowed: of each group one
	handle handler
}

func (a *api) serves(version int16) bool   { return version >= a.min && version <= a.max }
func (a *api) flexible(version int16) bool { return a.shape.flexibleAt(version) }

// maxKey is the highest API key in the table.
const maxKey = 92

// apis is everything this server speaks. kmsg v1.15 encodes all of it.
var apis = [...]*api{
	&produceAPI,
	&fetchAPI,
	&listOffsetsAPI,
	&metadataAPI,
	&offsetCommitAPI,
	&offsetFetchAPI,
	&findCoordinatorAPI,
	&joinGroupAPI,
	&heartbeatAPI,
	&leaveGroupAPI,
	&syncGroupAPI,
	&describeGroupsAPI,
	&listGroupsAPI,
	&saslHandshakeAPI,
	&apiVersionsAPI,
	&createTopicsAPI,
	&deleteTopicsAPI,
	&deleteRecordsAPI,
	&initProducerIDAPI,
	&offsetForLeaderEpochAPI,
	&addPartitionsToTxnAPI,
	&addOffsetsToTxnAPI,
	&endTxnAPI,
	&writeTxnMarkersAPI,
	&txnOffsetCommitAPI,
	&describeACLsAPI,
	&createACLsAPI,
	&deleteACLsAPI,
	&describeConfigsAPI,
	&alterConfigsAPI,
	&alterReplicaLogDirsAPI,
	&describeLogDirsAPI,
	&saslAuthenticateAPI,
	&createPartitionsAPI,
	&deleteGroupsAPI,
	&incrementalAlterConfigsAPI,
	&electLeadersAPI,
	&alterPartitionAssignmentsAPI,
	&listPartitionReassignmentsAPI,
	&offsetDeleteAPI,
	&describeQuotasAPI,
	&alterQuotasAPI,
	&describeScramAPI,
	&alterScramAPI,
	&describeQuorumAPI,
	&describeClusterAPI,
	&describeProducersAPI,
	&describeTransactionsAPI,
	&listTransactionsAPI,
	&consumerGroupHeartbeatAPI,
	&consumerGroupDescribeAPI,
	&describeTopicPartitionsAPI,
	&shareGroupHeartbeatAPI,
	&shareGroupDescribeAPI,
	&shareFetchAPI,
	&shareAcknowledgeAPI,
	&initializeShareStateAPI,
	&readShareStateAPI,
	&writeShareStateAPI,
	&deleteShareStateAPI,
	&describeShareOffsetsAPI,
	&alterShareOffsetsAPI,
	&deleteShareOffsetsAPI,
}

var byKey = indexAPIs()

func indexAPIs() (t [maxKey + 1]*api) {
	for _, a := range apis {
		t[a.key] = a
	}
	return t
}

// lookupAPI returns nil for a key that is not served.
func lookupAPI(key int16) *api {
	if key < 0 || key > maxKey {
		return nil
	}
	return byKey[key]
}
