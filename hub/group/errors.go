package group

import "errors"

// What a request can be refused with; each is one of Kafka's error codes.
var (
	ErrInvalidGroupID   = errors.New("invalid group id")
	ErrUnknownMember    = errors.New("the group does not know this member")
	ErrMemberIDRequired = errors.New("join again with the member id that was handed out")
	ErrFencedInstance   = errors.New("another member joined with the same group.instance.id")
	ErrIllegalGen       = errors.New("not the group's current generation")
	ErrRebalancing      = errors.New("the group is rebalancing")
	ErrInconsistent     = errors.New("the protocol type or protocols do not fit those of the group's members")
	ErrSessionTimeout   = errors.New("the session timeout is outside of the allowed range")
	ErrMaxSize          = errors.New("the group has its largest number of members")
	ErrNotEmpty         = errors.New("the group has members")
	ErrNotFound         = errors.New("the group does not exist")
	ErrSubscribed       = errors.New("the group is subscribed to the topic")
	ErrMetadataTooLarge = errors.New("the metadata of the offset is too large")
	ErrDead             = errors.New("the group is being removed")

	// Of the consumer protocol (KIP-848).
	ErrOtherProtocol       = errors.New("the group is not a consumer group")
	ErrUnsupportedAssignor = errors.New("the group coordinator has no such assignor")
	ErrUnreleasedInstance  = errors.New("the group.instance.id belongs to another member")
	ErrFencedEpoch         = errors.New("not the member's epoch")
	ErrStaleEpoch          = errors.New("the member's epoch is another one by now")
	ErrInvalidRegex        = errors.New("invalid regular expression of topic names")
	ErrOldVersion          = errors.New("members of a consumer group must use OffsetCommit v9 or OffsetFetch v9 and above")
)
