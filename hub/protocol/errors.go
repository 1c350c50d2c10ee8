package protocol

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/entrepot-hub/entrepot/hub/auth"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/hub/share"
	"github.com/entrepot-hub/entrepot/hub/txn"
	"github.com/entrepot-hub/entrepot/record"
)

// Faults of requests that have no home in another package.
var (
	errAcks           = errors.New("acks must be -1, 0 or 1")
	errLoading        = errors.New("the coordinator is still loading")
	errNotCoordinator = errors.New("this node is not the coordinator")
	errNoCoordinator  = errors.New("the coordinator is not available")
	errPolicy         = errors.New("not allowed by the settings of the topic")
	errTimestamp      = errors.New("a record's timestamp is out of the topic's bounds")
	errDuplicate      = errors.New("named twice in one request")
	errQuota          = errors.New("above the quota")
	errSASLState      = errors.New("not in this state of the login")
	errNoACLs         = errors.New("ACLs are not in use")
	errTwice          = errors.New("named twice in one request")
	errMechanism      = errors.New("the listener does not offer this SASL mechanism")
	errUnknownMode    = errors.New("unsupported by this version of the API")
	errSession        = errors.New("the connection has no such fetch session")
	errSessionEpoch   = errors.New("not the next epoch of the fetch session")
	errSessionTopicID = errors.New("the fetch session names topics in the other way, by name or by ID")
)

// codes says which Kafka error stands for which of ours; the first match counts.
var codes = []struct {
	err  error
	code *kerr.Error
}{
	{record.ErrUnknownTopicID, kerr.UnknownTopicID},
	{record.ErrUnknownTopic, kerr.UnknownTopicOrPartition},
	{record.ErrTopicExists, kerr.TopicAlreadyExists},
	{record.ErrInvalidTopic, kerr.InvalidTopicException},
	{record.ErrInvalidPartitions, kerr.InvalidPartitions},
	{record.ErrInvalidReplicas, kerr.InvalidReplicationFactor},
	{record.ErrInvalidConfig, kerr.InvalidConfig},
	{record.ErrInvalidRequest, kerr.InvalidRequest},

	{record.ErrNotLeader, kerr.NotLeaderForPartition},
	{record.ErrLeaderUnknown, kerr.LeaderNotAvailable},
	{record.ErrFencedEpoch, kerr.FencedLeaderEpoch},
	{record.ErrUnknownEpoch, kerr.UnknownLeaderEpoch},
	{record.ErrOffsetOutOfRange, kerr.OffsetOutOfRange},
	{record.ErrOffsetNotAvailable, kerr.OffsetNotAvailable},
	{record.ErrNotEnoughReplicas, kerr.NotEnoughReplicas},
	{record.ErrCorruptBatch, kerr.CorruptMessage},
	{record.ErrBatchTooLarge, kerr.MessageTooLarge},
	{record.ErrUnsupportedCodec, kerr.UnsupportedCompressionType},
	{record.ErrInvalidBatch, kerr.InvalidRecord},
	{record.ErrOutOfOrderSequence, kerr.OutOfOrderSequenceNumber},
	{record.ErrProducerFenced, kerr.InvalidProducerEpoch},
	{record.ErrTransactionState, kerr.InvalidTxnState},
	{record.ErrCoordinatorFenced, kerr.TransactionCoordinatorFenced},

	// Kafka has no code for a mirror. POLICY_VIOLATION is not retriable, and
	// its message reaches the application.
	{record.ErrReadOnly, kerr.PolicyViolation},
	{record.ErrMirrorFenced, kerr.PolicyViolation},
	{record.ErrDiskFull, kerr.KafkaStorageError},
	{record.ErrOffline, kerr.KafkaStorageError},
	{record.ErrQuarantined, kerr.KafkaStorageError},
	{record.ErrStopped, kerr.NotLeaderForPartition},
	{record.ErrTimeout, kerr.RequestTimedOut},
	{context.DeadlineExceeded, kerr.RequestTimedOut},

	{group.ErrInvalidGroupID, kerr.InvalidGroupID},
	{group.ErrUnknownMember, kerr.UnknownMemberID},
	{group.ErrMemberIDRequired, kerr.MemberIDRequired},
	{group.ErrFencedInstance, kerr.FencedInstanceID},
	{group.ErrIllegalGen, kerr.IllegalGeneration},
	{group.ErrRebalancing, kerr.RebalanceInProgress},
	{group.ErrInconsistent, kerr.InconsistentGroupProtocol},
	{group.ErrSessionTimeout, kerr.InvalidSessionTimeout},
	{group.ErrMaxSize, kerr.GroupMaxSizeReached},
	{group.ErrNotEmpty, kerr.NonEmptyGroup},
	{group.ErrNotFound, kerr.GroupIDNotFound},
	{group.ErrSubscribed, kerr.GroupSubscribedToTopic},
	{group.ErrMetadataTooLarge, kerr.OffsetMetadataTooLarge},
	{group.ErrOtherProtocol, kerr.GroupIDNotFound},
	{group.ErrUnsupportedAssignor, kerr.UnsupportedAssignor},
	{group.ErrUnreleasedInstance, kerr.UnreleasedInstanceID},
	{group.ErrFencedEpoch, kerr.FencedMemberEpoch},
	{group.ErrStaleEpoch, kerr.StaleMemberEpoch},
	{group.ErrInvalidRegex, kerr.InvalidRegularExpression},
	{group.ErrOldVersion, kerr.UnsupportedVersion},

	{share.ErrRequest, kerr.InvalidRequest},
	{share.ErrRecordState, kerr.InvalidRecordState},
	{share.ErrMember, kerr.UnknownMemberID},
	{share.ErrEpoch, kerr.FencedMemberEpoch},
	{share.ErrFull, kerr.GroupMaxSizeReached},
	{share.ErrNotEmpty, kerr.NonEmptyGroup},
	{errShareState, kerr.FencedStateEpoch},
	{errShareSession, kerr.ShareSessionNotFound},
	{errShareSessionEpoch, kerr.InvalidShareSessionEpoch},
	{errShareSessionLimit, kerr.ShareSessionLimitReached},

	{errTopicDenied, kerr.TopicAuthorizationFailed},
	{errGroupDenied, kerr.GroupAuthorizationFailed},
	{errClusterDenied, kerr.ClusterAuthorizationFailed},
	{errTxnDenied, kerr.TransactionalIDAuthorizationFailed},
	{auth.ErrFailed, kerr.SaslAuthenticationFailed},
	{errSASLState, kerr.IllegalSaslState},
	{errMechanism, kerr.UnsupportedSaslMechanism},
	{errNoACLs, kerr.SecurityDisabled},
	{errTwice, kerr.DuplicateResource},
	{record.ErrBadCredential, kerr.UnacceptableCredential},
	{record.ErrNoCredential, kerr.ResourceNotFound},

	{txn.ErrInvalidID, kerr.InvalidRequest},
	{txn.ErrTimeout, kerr.InvalidTransactionTimeout},
	{txn.ErrUnknownProducer, kerr.InvalidProducerIDMapping},
	{txn.ErrFenced, kerr.ProducerFenced},
	{txn.ErrConcurrent, kerr.ConcurrentTransactions},
	{txn.ErrState, kerr.InvalidTxnState},
	{txn.ErrNotAdded, kerr.TransactionAbortable},
	{txn.ErrNotFound, kerr.TransactionalIDNotFound},

	{errAcks, kerr.InvalidRequiredAcks},
	{errLoading, kerr.CoordinatorLoadInProgress},
	{errNotCoordinator, kerr.NotCoordinator},
	{errNoCoordinator, kerr.CoordinatorNotAvailable}, // the first of its code: see failure
	{group.ErrDead, kerr.CoordinatorNotAvailable},
	{errNoPeer, kerr.CoordinatorNotAvailable},
	{errPolicy, kerr.PolicyViolation},
	{errTimestamp, kerr.InvalidTimestamp},
	{errDuplicate, kerr.InvalidRequest},
	{errQuota, kerr.ThrottlingQuotaExceeded},
	{errUnknownMode, kerr.UnsupportedVersion},
	{errLedAlready, kerr.ElectionNotNeeded},
	{errNotEligible, kerr.PreferredLeaderNotAvailable},
	{errUnclean, kerr.EligibleLeadersNotAvailable},
	{catalog.ErrNotMoving, kerr.NoReassignmentInProgress},
	{catalog.ErrInvalidAssignment, kerr.InvalidReplicaAssignment},
	{catalog.ErrMoveSuperseded, kerr.InvalidRequest},
	{errNoLogDir, kerr.LogDirNotFound},
	{errSession, kerr.FetchSessionIDNotFound},
	{errSessionEpoch, kerr.InvalidFetchSessionEpoch},
	{errSessionTopicID, kerr.FetchSessionTopicIDError},
}

// code is the only place where errors become Kafka's codes; nil is 0. An error
// that nobody foresaw is UNKNOWN_SERVER_ERROR.
func code(err error) int16 {
	if err == nil {
		return 0
	}
	for i := range codes {
		if errors.Is(err, codes[i].err) {
			return codes[i].code.Code
		}
	}
	return kerr.UnknownServerError.Code
}

// message is the text for responses that have room for one.
func message(err error) *string {
	if err == nil {
		return nil
	}
	m := err.Error()
	return &m
}

// coordinatorError is what a client of a coordinator gets for a fault of the
// partition that keeps its group or transactional ID: never one that makes it
// believe the group or a topic of its own is gone (pitfall 9). The cause is told, and no
// longer found by errors.Is.
func coordinatorError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, record.ErrNotLeader), errors.Is(err, record.ErrStopped), errors.Is(err, record.ErrFencedEpoch):
		return fmt.Errorf("%w: %v", errNotCoordinator, err)
	case errors.Is(err, record.ErrBatchTooLarge):
		return fmt.Errorf("%w: %v", group.ErrMetadataTooLarge, err)
	}
	return fmt.Errorf("%w: %v", errNoCoordinator, err)
}

// oldFence is err for versions of a transaction API that do not know
// PRODUCER_FENCED yet: INVALID_PRODUCER_EPOCH.
func oldFence(err error) error {
	if errors.Is(err, txn.ErrFenced) {
		return fmt.Errorf("%w: %v", record.ErrProducerFenced, err)
	}
	return err
}

// oldState is err for versions that do not know TRANSACTION_ABORTABLE yet
// (KIP-890): INVALID_TXN_STATE.
func oldState(err error) error {
	if errors.Is(err, txn.ErrNotAdded) {
		return fmt.Errorf("%w: %v", txn.ErrState, err)
	}
	return err
}
