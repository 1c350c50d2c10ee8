package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/entrepot-hub/entrepot/record"
)

// Command is one change of the catalog. The types below are all there are.
type Command interface{ kind() byte }

// The kinds of commands on disk. Numbers are never used twice.
const (
	kindSiteInit byte = iota + 1
	kindRegisterNode
	kindCreateTopic
	kindDeleteTopic
	kindAlterTopicConfig
	kindCreatePartitions
	kindAllocateProducerIDs
	kindSetJob
	kindSetMirror
	kindCreateACLs
	kindDeleteACLs
	kindAlterScram
	kindAlterQuota
	kindAlterGroupConfig
	kindGrantLease
	kindReleaseLease
	kindSetConnector
	kindDeleteConnector
	kindAlterPartitionReassignments
	kindCompleteMove
	kindDrainNode
	kindDecommissionNode
	kindReplaceNode
	kindRemoveNode
)

// CreateTopic makes a topic. Result: *Topic.
type CreateTopic struct {
	Name       string
	ID         record.TopicID    // drawn by the proposer; of a mirrored topic the source's
	Partitions int32             // ignored when Assignment is given
	Replicas   int32             // ignored when Assignment is given
	Assignment [][]int32         `json:",omitempty"` // nodes of each partition; nil: spread over the site
	Config     map[string]string `json:",omitempty"`
	Mirror     *Mirror           `json:",omitempty"`
	Created    int64             // milliseconds since the Unix epoch
}

// DeleteTopic removes a topic. Result: *Topic as it was.
type DeleteTopic struct{ Name string }

// AlterTopicConfig sets and removes keys of a topic, all or none. Result: the
// new *Topic.
type AlterTopicConfig struct {
	Name   string
	Set    map[string]string `json:",omitempty"`
	Remove []string          `json:",omitempty"` // back to the default
}

// CreatePartitions raises the number of partitions to Count. Result: the new
// *Topic.
type CreatePartitions struct {
	Name       string
	Count      int32
	Assignment [][]int32 `json:",omitempty"` // nodes of the new partitions
	Link       string    `json:",omitempty"` // the link that follows its source; nobody else may grow a mirror
}

// AllocateProducerIDs reserves a block of producer IDs. Result: ProducerIDs.
type AllocateProducerIDs struct{ Count int32 }

// ProducerIDs is a block of IDs that no other node and no other site will use.
type ProducerIDs struct {
	First int64 // site ID << 48 | counter
	Count int32
}

// SetJob says what the operator wants of a job: JobRunning, JobPaused or
// JobStopped.
type SetJob struct{ Name, Desired string }

// The desired states of a job.
const (
	JobRunning = "running"
	JobPaused  = "paused"
	JobStopped = "stopped"
)

// SetMirror begins, stops or ends (Mirror nil: the topic becomes writable) the
// mirror relation of a topic. A Mirror's epoch must be greater than the one
// before. Result: the new *Topic.
type SetMirror struct {
	Name   string
	Mirror *Mirror
}

func (CreateTopic) kind() byte         { return kindCreateTopic }
func (DeleteTopic) kind() byte         { return kindDeleteTopic }
func (AlterTopicConfig) kind() byte    { return kindAlterTopicConfig }
func (CreatePartitions) kind() byte    { return kindCreatePartitions }
func (AllocateProducerIDs) kind() byte { return kindAllocateProducerIDs }
func (SetJob) kind() byte              { return kindSetJob }
func (SetMirror) kind() byte           { return kindSetMirror }

// commandVersion is the first byte of an encoded command. A node refuses a
// command of another version rather than guess.
const commandVersion = 1

// Encode writes a command: the version, the kind, and its fields as JSON, so
// that a dump of the log can be read. There is one encoding of each command.
func Encode(c Command) ([]byte, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode catalog command %d: %w", c.kind(), err)
	}
	return append([]byte{commandVersion, c.kind()}, body...), nil
}

// Decode reads what Encode wrote and nothing else: another version, an unknown
// kind or field, a second spelling of the same command are errors.
func Decode(b []byte) (Command, error) {
	if len(b) < 2 {
		return nil, fmt.Errorf("decode catalog command: %d bytes, want a version, a kind and a body", len(b))
	}
	if b[0] != commandVersion {
		return nil, fmt.Errorf("decode catalog command: version %d, this node reads version %d", b[0], commandVersion)
	}
	c, err := decodeBody(b[1], b[2:])
	if err != nil {
		return nil, fmt.Errorf("decode catalog command of kind %d: %w", b[1], err)
	}
	again, err := Encode(c)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("decode catalog command of kind %d: not in the one form that is written", b[1])
	}
	return c, nil
}

func decodeBody(kind byte, body []byte) (Command, error) {
	switch kind {
	case kindSiteInit:
		return into[SiteInit](body)
	case kindRegisterNode:
		return into[RegisterNode](body)
	case kindCreateTopic:
		return into[CreateTopic](body)
	case kindDeleteTopic:
		return into[DeleteTopic](body)
	case kindAlterTopicConfig:
		return into[AlterTopicConfig](body)
	case kindCreatePartitions:
		return into[CreatePartitions](body)
	case kindAllocateProducerIDs:
		return into[AllocateProducerIDs](body)
	case kindSetJob:
		return into[SetJob](body)
	case kindSetMirror:
		return into[SetMirror](body)
	case kindCreateACLs:
		return into[CreateACLs](body)
	case kindDeleteACLs:
		return into[DeleteACLs](body)
	case kindAlterScram:
		return into[AlterScram](body)
	case kindAlterQuota:
		return into[AlterQuota](body)
	case kindAlterGroupConfig:
		return into[AlterGroupConfig](body)
	case kindGrantLease:
		return into[GrantLease](body)
	case kindReleaseLease:
		return into[ReleaseLease](body)
	case kindSetConnector:
		return into[SetConnector](body)
	case kindDeleteConnector:
		return into[DeleteConnector](body)
	case kindAlterPartitionReassignments:
		return into[AlterPartitionReassignments](body)
	case kindCompleteMove:
		return into[CompleteMove](body)
	case kindDrainNode:
		return into[DrainNode](body)
	case kindDecommissionNode:
		return into[DecommissionNode](body)
	case kindReplaceNode:
		return into[ReplaceNode](body)
	case kindRemoveNode:
		return into[RemoveNode](body)
	}
	return nil, fmt.Errorf("unknown kind")
}

func into[C Command](body []byte) (Command, error) {
	var c C
	if err := json.Unmarshal(body, &c); err != nil {
		return nil, err
	}
	return c, nil
}

// A topic ID is written as Kafka shows it rather than as sixteen numbers: the
// outer ID hides the embedded one.

type plainCreate CreateTopic

type wireCreate struct {
	ID string
	plainCreate
}

// MarshalJSON implements json.Marshaler.
func (c CreateTopic) MarshalJSON() ([]byte, error) {
	return json.Marshal(wireCreate{c.ID.String(), plainCreate(c)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *CreateTopic) UnmarshalJSON(b []byte) error {
	var w wireCreate
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	id, err := record.ParseTopicID(w.ID)
	*c = CreateTopic(w.plainCreate)
	c.ID = id
	return err
}

type plainTopic Topic

type wireTopic struct {
	ID string
	plainTopic
}

// MarshalJSON implements json.Marshaler.
func (t Topic) MarshalJSON() ([]byte, error) {
	return json.Marshal(wireTopic{t.ID.String(), plainTopic(t)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Topic) UnmarshalJSON(b []byte) error {
	var w wireTopic
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	id, err := record.ParseTopicID(w.ID)
	*t = Topic(w.plainTopic)
	t.ID = id
	return err
}
