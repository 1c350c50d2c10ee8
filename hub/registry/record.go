package registry

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/entrepot-hub/entrepot/hub/registry/schema"
)

// Topic is where the schemas are kept: compacted, with one partition, and in
// the record format of Confluent's registry, so that a topic of theirs can be
// mirrored in. Keys and values are JSON; the last record of a key counts, and
// one without a value takes the key away.
const Topic = "_schemas"

// The kinds of keys, and the magic number that goes with each.
const (
	keySchema        = "SCHEMA"
	keyConfig        = "CONFIG"
	keyMode          = "MODE"
	keyDeleteSubject = "DELETE_SUBJECT"
	keyClearSubject  = "CLEAR_SUBJECT"
	keyNoop          = "NOOP"
)

// entry is one record of the topic; a nil value is a tombstone.
type entry struct{ key, value []byte }

// recordKey is any key. Compaction compares keys byte by byte, so keys are
// written by the functions below, each member in Confluent's order.
type recordKey struct {
	Keytype string  `json:"keytype"`
	Subject *string `json:"subject"`
	Version int     `json:"version"`
	Magic   int     `json:"magic"`
}

func schemaKey(subject string, version int) []byte {
	return encode(struct {
		Keytype string `json:"keytype"`
		Subject string `json:"subject"`
		Version int    `json:"version"`
		Magic   int    `json:"magic"`
	}{keySchema, subject, version, 1})
}

// subjectKey is a key of CONFIG, MODE, DELETE_SUBJECT or CLEAR_SUBJECT; no
// subject means all.
func subjectKey(keytype, subject string) []byte {
	k := struct {
		Keytype string  `json:"keytype"`
		Subject *string `json:"subject"`
		Magic   int     `json:"magic"`
	}{Keytype: keytype}
	if subject != "" {
		k.Subject = &subject
	}
	return encode(k)
}

func noopKey() []byte { return []byte(`{"keytype":"NOOP","magic":0}`) }

// schemaValue is a schema under a subject and version. Metadata and rules are
// kept and given back as they came: clients apply them.
type schemaValue struct {
	Subject    string          `json:"subject"`
	Version    int             `json:"version"`
	ID         int             `json:"id"`
	Type       schema.Type     `json:"schemaType,omitempty"` // Avro when empty
	References []Reference     `json:"references,omitempty"`
	Metadata   json.RawMessage `json:"metadata,omitempty"`
	RuleSet    json.RawMessage `json:"ruleSet,omitempty"`
	Schema     string          `json:"schema"`
	Deleted    bool            `json:"deleted"`
}

type configValue struct {
	Level     string `json:"compatibilityLevel,omitempty"`
	Normalize *bool  `json:"normalize,omitempty"`
}

type modeValue struct {
	Mode string `json:"mode"`
}

// deleteValue says that all versions of the subject up to this one are deleted.
type deleteValue struct {
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

// noopValue is ours: Confluent writes none and reads none. It keeps the highest
// ID of each context, since compaction forgets the schema that had it.
type noopValue struct {
	MaxIDs map[string]int `json:"maxIds"`
}

func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("registry: a record cannot be encoded: " + err.Error())
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// decodeKey reads a record's key; what follows the JSON, or an unknown kind, is
// an error.
func decodeKey(key []byte) (recordKey, error) {
	var k recordKey
	if err := json.Unmarshal(key, &k); err != nil {
		return k, fmt.Errorf("a key of %s that is no JSON (%.80q): %w", Topic, key, err)
	}
	switch k.Keytype {
	case keyNoop, keyConfig, keyMode:
		return k, nil
	case keyDeleteSubject, keyClearSubject:
		if k.Subject != nil {
			return k, nil
		}
	case keySchema:
		if k.Subject != nil && k.Version > 0 {
			return k, nil
		}
	}
	return k, fmt.Errorf("a key of %s that is not known: %.200q", Topic, key)
}

func (k recordKey) subject() string {
	if k.Subject == nil {
		return ""
	}
	return *k.Subject
}
