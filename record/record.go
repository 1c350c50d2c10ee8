// Package record is the vocabulary of the product: names of topics and
// partitions, records, Kafka v2 record batches as bytes, their checksums and
// compression, and the errors that more than one package has to tell apart.
//
// A batch is read in place and handed on as the bytes the client sent; nothing
// on the produce, fetch or mirror path decodes records. The layout is the one
// of Apache Kafka's "Record Batch" (message format v2, KIP-98).
//
// Goroutines: none.
package record

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// TopicPartition names one partition of one topic.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// String is the form people and logs read: topic-3.
func (tp TopicPartition) String() string { return fmt.Sprintf("%s-%d", tp.Topic, tp.Partition) }

// TopicID is a topic's identity (KIP-516): 16 random bytes that survive a
// rename of nothing and tell a recreated topic from the one before it. A topic
// has the same ID at all sites.
type TopicID [16]byte

// NewTopicID draws an ID from rand, as a version 4 UUID.
func NewTopicID(rand io.Reader) (TopicID, error) {
	var id TopicID
	if _, err := io.ReadFull(rand, id[:]); err != nil {
		return id, fmt.Errorf("draw topic id: %w", err)
	}
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id, nil
}

// String is Kafka's form: 22 characters of URL-safe base64 without padding.
func (id TopicID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// Hex is the form used in directory names, where base64's upper and lower case
// would collide on some file systems.
func (id TopicID) Hex() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether the ID is unset.
func (id TopicID) IsZero() bool { return id == TopicID{} }

// ParseTopicID reads what String writes.
func ParseTopicID(s string) (TopicID, error) {
	var id TopicID
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("topic id %q: want 22 characters of URL-safe base64", s)
	}
	copy(id[:], b)
	return id, nil
}

// MaxTopicName is the longest legal topic name, in bytes (Kafka's limit).
const MaxTopicName = 249

// CheckTopicName returns an error wrapping ErrInvalidTopic unless name is 1 to
// 249 characters of [a-zA-Z0-9._-] and neither "." nor "..".
func CheckTopicName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: the name is empty", ErrInvalidTopic)
	case name == "." || name == "..":
		return fmt.Errorf("%w: %q cannot be a topic name", ErrInvalidTopic, name)
	case len(name) > MaxTopicName:
		return fmt.Errorf("%w: the name has %d characters, the most is %d", ErrInvalidTopic, len(name), MaxTopicName)
	}
	if i := strings.IndexFunc(name, notTopicRune); i >= 0 {
		return fmt.Errorf("%w: %q has a character at position %d that is not one of a-z A-Z 0-9 . _ -", ErrInvalidTopic, name, i+1)
	}
	return nil
}

func notTopicRune(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	}
	return r != '.' && r != '_' && r != '-'
}

// Header is one record header. Keys may repeat; order is kept.
type Header struct {
	Key   string
	Value []byte
}

// Record is one decoded record. A nil Key or Value is Kafka's null, an empty
// one is not: a null Value is a tombstone.
type Record struct {
	Offset    int64
	Timestamp int64 // milliseconds since the Unix epoch
	Key       []byte
	Value     []byte
	Headers   []Header
}

// Header returns the value of the last header with this key, as Kafka's
// lastHeader does.
func (r *Record) Header(key string) ([]byte, bool) {
	for i := len(r.Headers) - 1; i >= 0; i-- {
		if r.Headers[i].Key == key {
			return r.Headers[i].Value, true
		}
	}
	return nil, false
}
