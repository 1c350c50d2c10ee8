package stream

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// CheckpointTopic is the compacted topic that holds the durable state of all
// jobs. Its keys are
//
//	source/JOB/SPLIT              how far a split is read and committed
//	dedup/JOB/SPLIT/SLOT          message IDs of a queue, in chunks
//	sink/JOB/TOPIC/PARTITION      the last plan of a partition
//	epoch/JOB                     the number of the job's last start, where no lease has it
//
// and its values JSON with a version in "v".
const CheckpointTopic = "__connect_checkpoints"

const checkpointVersion = 1

func sourceKey(job, split string) string { return "source/" + job + "/" + split }

func sinkKey(job string, tp record.TopicPartition) string {
	return fmt.Sprintf("sink/%s/%s/%d", job, tp.Topic, tp.Partition)
}

func epochKey(job string) string { return "epoch/" + job }

// sourceCheckpoint is the durable state of one split.
type sourceCheckpoint struct {
	V        int               `json:"v"`
	Position []byte            `json:"position,omitempty"` // base64; absent: nothing settled yet
	Where    string            `json:"where,omitempty"`    // the position for people
	Counters Counters          `json:"counters"`
	Ends     []partitionOffset `json:"ends"`
	Done     bool              `json:"done,omitempty"` // the split is finished for good
	// Producer is who committed this checkpoint, if nothing lay beyond it then:
	// as long as nobody has had a transaction of the split since, nothing does.
	Producer *producer `json:"producer,omitempty"`
}

// producer is a holder of a transactional ID.
type producer struct {
	ID    int64 `json:"id"`
	Epoch int16 `json:"epoch"`
}

// partitionOffset is one entry of a map, in a form that JSON can hold.
type partitionOffset struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

func offsetsList(m map[record.TopicPartition]int64) []partitionOffset {
	list := make([]partitionOffset, 0, len(m))
	for tp, o := range m {
		list = append(list, partitionOffset{tp.Topic, tp.Partition, o})
	}
	return list
}

func offsetsMap(list []partitionOffset) map[record.TopicPartition]int64 {
	m := make(map[record.TopicPartition]int64, len(list))
	for _, o := range list {
		m[record.TopicPartition{Topic: o.Topic, Partition: o.Partition}] = o.Offset
	}
	return m
}

func (p progress) checkpoint(done bool) sourceCheckpoint {
	c := sourceCheckpoint{V: checkpointVersion, Position: p.Position, Counters: p.Counters, Ends: offsetsList(p.Ends), Done: done}
	if p.Origin != (connectors.Origin{}) {
		c.Where = p.Origin.String()
	}
	return c
}

func (c sourceCheckpoint) progress() progress {
	p := progress{Counters: c.Counters, Ends: offsetsMap(c.Ends)}
	if len(c.Position) > 0 {
		p.Position = c.Position
	}
	return p
}

// sinkCheckpoint is the durable plan of one partition, made before its first
// byte is written or its first dead letter sent.
type sinkCheckpoint struct {
	V     int    `json:"v"`
	From  int64  `json:"from"`
	To    int64  `json:"to"`
	Epoch int64  `json:"epoch"`
	ID    string `json:"id"`
	// Made is when the plan was written down first, in milliseconds.
	Made int64 `json:"made,omitempty"`
	// Topic is the topic's id: a plan of a topic that was deleted is not one
	// of the topic that has its name now.
	Topic string `json:"topic_id,omitempty"`
	// Dead is where dead letters of this plan begin at the earliest.
	Dead []partitionOffset `json:"dead,omitempty"`
}

// epochCheckpoint counts the starts of a job: a later owner has a higher one.
type epochCheckpoint struct {
	V     int   `json:"v"`
	Epoch int64 `json:"epoch"`
}

func encodeCheckpoint(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode checkpoint: %w", err)
	}
	return b, nil
}

// decodeCheckpoint is strict: a checkpoint that cannot be understood stops the
// job rather than letting it begin again from nothing.
func decodeCheckpoint(key string, text []byte, into any) error {
	var version struct{ V int }
	if err := json.Unmarshal(text, &version); err != nil {
		return connectors.Fatalf("checkpoint %s in %s is not readable: %w", key, CheckpointTopic, err)
	}
	if version.V != checkpointVersion {
		return connectors.Fatalf("checkpoint %s in %s has version %d, this program knows %d", key, CheckpointTopic, version.V, checkpointVersion)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return connectors.Fatalf("checkpoint %s in %s is not readable: %w", key, CheckpointTopic, err)
	}
	return nil
}
